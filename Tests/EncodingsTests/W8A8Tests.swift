import CKernels
import Encodings
import Tensors
import TestSupport
import Testing

/// Weights and activations of eight bits, multiplied in integers.
@Suite struct W8A8Tests {
  private struct Sample {
    let codes: [UInt8]
    let scales: [Float]
    let matrix: any LinearOperator
    let x: Matrix

    init(outputs: Int, inputs: Int, tokens: Int) {
      var stream = RandomStream(test: "w8a8 \(outputs) \(inputs) \(tokens)")
      let codes = (0..<outputs * inputs).map { _ in UInt8(truncatingIfNeeded: stream.next()) }
      let scales = (0..<outputs).map { _ in Float16(0.001 + 0.01 * stream.unit()) }
      self.codes = codes
      self.scales = scales.map { Float($0) }
      x = stream.matrix(rows: tokens, columns: inputs, deviation: 3)
      matrix = W8A8().matrix(
        outputs: outputs, inputs: inputs,
        parts: [
          Tensor(.uint8, shape: [outputs, inputs], copying: codes),
          Tensor(.float16, shape: [outputs, 1], copying: scales.map(\.bitPattern)),
        ])
    }
  }

  /// The product as the document says it: inputs rounded to 127ths of their largest, an integer sum, two factors.
  private static func product(_ sample: Sample, bias: [Float]? = nil) -> [Float] {
    let inputs = sample.x.columns
    return (0..<sample.x.rows).flatMap { token -> [Float] in
      let row = sample.x.row(token), largest = row.reduce(0) { max($0, abs($1)) }
      let rounded = row.map { value in
        largest == 0 ? 0 : Int((value * (127 / largest)).rounded(.toNearestOrEven))
      }
      return sample.scales.enumerated().map { output, scale in
        let sum = (0..<inputs).reduce(0) {
          $0 + rounded[$1] * (Int(sample.codes[output * inputs + $1]) - 128)
        }
        return Float(sum) * (largest / 127 * scale) + (bias?[output] ?? 0)
      }
    }
  }

  /// Few tokens and many, ragged rows and panels: every bit as the definition has it.
  @Test(
    arguments: [1, 3, 8, 12, 29, 250], [(1, 1), (33, 7), (64, 64), (31, 130), (70, 258)]
  ) func productsAreExact(_ tokens: Int, _ size: (outputs: Int, inputs: Int)) {
    let sample = Sample(outputs: size.outputs, inputs: size.inputs, tokens: tokens)
    let expected = Self.product(sample)
    for threads in [1, 2] {
      let found = withThreads(threads) { sample.matrix.apply(to: sample.x) }
      #expect(found.values == expected)
    }
    let bias = (0..<size.outputs).map { Float($0) / 3 }
    #expect(
      sample.matrix.apply(to: sample.x, bias: bias).values == Self.product(sample, bias: bias))
  }

  /// The largest sums: all codes and all activations at their ends.
  @Test(arguments: [1, 16]) func theLargestSumsFit(_ tokens: Int) {
    for (inputs, code) in [(65536, UInt8(255)), (65536, 0), (65540, 255), (131_072, 0)] {
      let x = Matrix(
        rows: tokens, columns: inputs, values: [Float](repeating: 1, count: tokens * inputs))
      let matrix = W8A8().matrix(
        outputs: 2, inputs: inputs,
        parts: [
          Tensor(.uint8, shape: [2, inputs], copying: [UInt8](repeating: code, count: 2 * inputs)),
          Tensor(
            .float16, shape: [2, 1], copying: [Float16(1).bitPattern, Float16(1).bitPattern]),
        ])
      let expected = Float(127 * inputs * (Int(code) - 128)) * (1 / 127 * 1 as Float)
      #expect(matrix.apply(to: x).values.allSatisfy { $0 == expected })
    }
  }

  /// Zeros stay zeros, infinite and NaN inputs give NaN in their own row alone, and the tiniest are rounded like others.
  @Test(arguments: [4, 16]) func oddRows(_ tokens: Int) {
    var x = Matrix(rows: tokens, columns: 8)
    x.values[8] = .infinity
    x.values[17] = .nan
    for i in 24..<32 { x.values[i] = Float(bitPattern: 7) }
    let matrix = W8A8().matrix(
      outputs: 3, inputs: 8,
      parts: [
        Tensor(.uint8, shape: [3, 8], copying: [UInt8](repeating: 130, count: 24)),
        Tensor(
          .float16, shape: [3, 1], copying: [UInt16](repeating: Float16(1).bitPattern, count: 3)),
      ])
    let result = matrix.apply(to: x)
    #expect(result.row(0) == [0, 0, 0])
    #expect(result.row(1).allSatisfy(\.isNaN) && result.row(2).allSatisfy(\.isNaN))
    #expect(result.row(3).allSatisfy { $0.isFinite && $0 >= 0 })
  }

  /// Weights alone decode as group integers of one group a row do.
  @Test func weightsAreThoseOfInt8() {
    let sample = Sample(outputs: 5, inputs: 9, tokens: 1)
    let decoded = sample.matrix.decoded()
    for (index, value) in decoded.values.enumerated() {
      #expect(value == sample.scales[index / 9] * Float(Int(sample.codes[index]) - 128))
    }
    #expect(W8A8.named("w8a8") != nil && W8A8.named("w8a8-g64") == nil)
    #expect(sample.matrix.storedBits == 8 * 45 + 16 * 5)
  }
}
