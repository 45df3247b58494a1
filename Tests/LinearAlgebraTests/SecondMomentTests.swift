import LinearAlgebra
import Tensors
import TestSupport
import Testing

@Suite(.serialized) struct SecondMomentTests {
  /// Widths around the 128 rows and samples around the 256 that are computed at once. A block of 256 is summed
  /// in float32, so each element is off by at most 256 roundings of the sum of sizes.
  @Test(arguments: [1, 5, 127, 128, 129, 260], [1, 255, 256, 257, 700])
  func equalsTheSumInDouble(_ width: Int, _ samples: Int) {
    var stream = RandomStream(test: "second moment")
    let x = stream.matrix(rows: samples, columns: width)
    var moment = SecondMoment(width: width)
    withThreads(2) { moment.add(x) }
    #expect(moment.samples == samples)
    let mean = moment.mean()
    var sum = [Double](repeating: 0, count: width * width), size = sum
    for sample in 0..<samples {
      let row = x.row(sample)
      for i in 0..<width {
        for j in i..<width {
          let product = Double(row[i]) * Double(row[j])
          sum[i * width + j] += product
          size[i * width + j] += abs(product)
        }
      }
    }
    let n = Double(samples)
    var wrong = 0
    for i in 0..<width {
      for j in i..<width {
        let allowed = 256 * 0x1p-24 * size[i * width + j] / n
        if !(abs(mean[i, j] - sum[i * width + j] / n) <= allowed) { wrong += 1 }
        if mean[i, j] != mean[j, i] { wrong += 1 }
      }
    }
    #expect(wrong == 0)
  }

  /// Blocks of 256 samples are summed alone, so that cuts between them and threads change no bit.
  @Test func threadsAndBatchesChangeNoBit() {
    var stream = RandomStream(test: "batches")
    let x = stream.matrix(rows: 900, columns: 300)
    func mean(threads: Int, cuts: [Int]) -> DoubleMatrix {
      withThreads(threads) {
        var moment = SecondMoment(width: 300)
        for (from, to) in zip([0] + cuts, cuts + [900]) { moment.add(x.rows(from..<to)) }
        return moment.mean()
      }
    }
    let expected = mean(threads: 1, cuts: [])
    #expect(mean(threads: 2, cuts: []) == expected)
    #expect(mean(threads: 1, cuts: [256]) == expected)
    #expect(mean(threads: 2, cuts: [256, 768]) == expected)
  }

  /// Small integers have no roundings, so that no cut and no order changes anything.
  @Test func exactSumsDoNotDependOnTheOrder() {
    var stream = RandomStream(test: "integers")
    let values = (0..<500 * 130).map { _ in Float(stream.integer(below: 17)) - 8 }
    let x = Matrix(rows: 500, columns: 130, values: values)
    func mean(_ parts: [Range<Int>]) -> DoubleMatrix {
      var moment = SecondMoment(width: 130)
      for part in parts { moment.add(x.rows(part)) }
      return moment.mean()
    }
    let expected = mean([0..<500])
    #expect(mean([100..<500, 0..<100]) == expected)
    #expect(mean([499..<500, 0..<0, 0..<499]) == expected)
  }

  @Test func nothingAdded() {
    let moment = SecondMoment(width: 3)
    #expect(moment.samples == 0)
    #expect(moment.mean() == DoubleMatrix(size: 3))
  }
}
