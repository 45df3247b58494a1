import LinearAlgebra
import Tensors
import TestSupport
import Testing

@Suite(.serialized) struct ProductMomentTests {
  /// Sizes around the 64 rows and the 256 samples that are computed at once. A block of 256 is summed in float32, so that
  /// each element is off by at most 256 roundings of the sum of sizes.
  @Test(arguments: [(1, 3), (64, 5), (65, 129), (7, 260)], [1, 256, 257, 600])
  func equalsTheSumInDouble(_ size: (outputs: Int, inputs: Int), _ samples: Int) {
    var stream = RandomStream(test: "product moment")
    let t = stream.matrix(rows: samples, columns: size.outputs)
    let y = stream.matrix(rows: samples, columns: size.inputs)
    var moment = ProductMoment(outputs: size.outputs, inputs: size.inputs)
    withThreads(2) {
      moment.add(targets: t.rows(0..<samples / 2), inputs: y.rows(0..<samples / 2))
      moment.add(targets: t.rows(samples / 2..<samples), inputs: y.rows(samples / 2..<samples))
    }
    #expect(moment.samples == samples)
    let mean = moment.mean()
    var wrong = 0
    for i in 0..<size.outputs {
      for j in 0..<size.inputs {
        var sum = 0.0, sizes = 0.0
        for sample in 0..<samples {
          let product =
            Double(t.values[sample * size.outputs + i]) * Double(y.values[sample * size.inputs + j])
          sum += product
          sizes += abs(product)
        }
        let n = Double(samples)
        if abs(mean[i * size.inputs + j] - sum / n) > 256 * 0x1p-24 * sizes / n { wrong += 1 }
      }
    }
    #expect(wrong == 0)
  }

  @Test func nothingAddedIsZero() {
    #expect(ProductMoment(outputs: 2, inputs: 3).mean() == [Double](repeating: 0, count: 6))
  }
}
