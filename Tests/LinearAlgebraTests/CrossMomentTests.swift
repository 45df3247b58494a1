import LinearAlgebra
import Tensors
import TestSupport
import Testing

@Suite(.serialized) struct CrossMomentTests {
  /// Widths around the 128 rows and samples around the 256 that are computed at once. A difference is rounded once; a
  /// block of 256 is summed in float32, so each element is off by at most 257 roundings of the sum of sizes.
  @Test(arguments: [1, 5, 128, 129, 260], [1, 256, 257, 700])
  func equalsTheSumInDouble(_ width: Int, _ samples: Int) {
    var stream = RandomStream(test: "cross moment")
    let y = stream.matrix(rows: samples, columns: width)
    var x = y
    for i in x.values.indices { x.values[i] += 0.01 * Float(stream.normal()) }
    var moment = CrossMoment(width: width)
    withThreads(2) {
      moment.add(original: x.rows(0..<samples / 2), current: y.rows(0..<samples / 2))
      moment.add(original: x.rows(samples / 2..<samples), current: y.rows(samples / 2..<samples))
    }
    #expect(moment.samples == samples)
    let mean = moment.mean()
    var sum = [Double](repeating: 0, count: width * width), size = sum
    for sample in 0..<samples {
      let x = x.row(sample), y = y.row(sample)
      for i in 0..<width {
        for j in 0..<width {
          let product = (Double(x[i]) - Double(y[i])) * Double(y[j])
          sum[i * width + j] += product
          size[i * width + j] += abs(product)
        }
      }
    }
    let n = Double(samples)
    let wrong = sum.indices.count {
      !(abs(mean.values[$0] - sum[$0] / n) <= 257 * 0x1p-24 * size[$0] / n)
    }
    #expect(wrong == 0)
  }

  @Test func threadsChangeNoBit() {
    var stream = RandomStream(test: "cross threads")
    let x = stream.matrix(rows: 600, columns: 300), y = stream.matrix(rows: 600, columns: 300)
    let means = [1, 2].map { threads in
      withThreads(threads) {
        var moment = CrossMoment(width: 300)
        moment.add(original: x, current: y)
        return moment.mean()
      }
    }
    #expect(means[0] == means[1])
    #expect(CrossMoment(width: 2).mean() == DoubleMatrix(size: 2))
  }
}
