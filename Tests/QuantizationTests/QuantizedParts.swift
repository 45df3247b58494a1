import Encodings
import LinearAlgebra
import Quantization
import Tensors
import TestSupport

/// The stored numbers of a quantized weight, unpacked bit by bit.
struct QuantizedParts {
  let rows: Int
  let columns: Int
  /// Columns of a group; the last group of a row may be shorter.
  let groupSize: Int
  let groups: Int
  let top: Double
  /// `[rows, columns]`.
  let codes: [Int]
  /// `[rows, groups]`.
  let scales: [Double]
  let zeros: [Double]

  init(_ quantized: QuantizedWeight, _ encoding: GroupIntegers) {
    let encoded = quantized.encoded
    rows = encoded.outputs
    columns = encoded.inputs
    groupSize = encoding.groupSize(inputs: columns)
    groups = encoding.groups(inputs: columns)
    top = Double(encoding.top)
    codes = Self.unpack(encoded.parts[0], bits: encoding.bits, rows: rows, columns: columns)
    scales = encoded.parts[1].floats().map { Double($0) }
    zeros =
      encoding.isSymmetric
      ? [Double](repeating: Double(encoding.middle), count: rows * groups)
      : Self.unpack(encoded.parts[2], bits: encoding.bits, rows: rows, columns: groups)
        .map { Double($0) }
  }

  private static func unpack(_ tensor: Tensor, bits: Int, rows: Int, columns: Int) -> [Int] {
    let bytes = tensor.withBytes { $0.withUnsafeBytes { [UInt8]($0) } }
    return (0..<rows * columns).map { index in
      let start = index / columns * tensor.columns * 8 + index % columns * bits
      return (0..<bits).reduce(0) { code, bit in
        code | Int(bytes[(start + bit) / 8] >> ((start + bit) % 8) & 1) << bit
      }
    }
  }

  func scale(_ row: Int, _ column: Int) -> Double { scales[row * groups + column / groupSize] }
  func zero(_ row: Int, _ column: Int) -> Double { zeros[row * groups + column / groupSize] }

  /// Where a value lies on its grid: between 0 and top.
  func position(_ value: Double, _ row: Int, _ column: Int) -> Double {
    let scale = scale(row, column)
    let position = (scale == 0 ? 0 : value / scale) + zero(row, column)
    return min(max(position, 0), top)
  }

  /// The value of a code.
  func point(_ row: Int, _ column: Int) -> Double {
    scale(row, column) * (Double(codes[row * columns + column]) - zero(row, column))
  }
}

/// A second moment of inputs that depend on each other, as a layer's do; some columns are much larger.
func correlatedMoment(_ size: Int, samples: Int? = nil, name: String = "moment") -> DoubleMatrix {
  var stream = RandomStream(test: name)
  let samples = samples ?? 2 * size + 7
  let sizes = (0..<size).map { _ in exp2(stream.normal()) }
  var h = DoubleMatrix(size: size)
  for _ in 0..<samples {
    var last = 0.0
    let x = (0..<size).map { index -> Double in
      last = 0.8 * last + 0.6 * stream.normal()
      return last * sizes[index]
    }
    for i in 0..<size { for j in 0..<size { h.values[i * size + j] += x[i] * x[j] } }
  }
  for index in h.values.indices { h.values[index] /= Double(samples) }
  return h
}

private func exp2(_ x: Double) -> Double {
  // Close enough: a size for a column, always positive.
  x < 0 ? 1 / (1 - x) : 1 + x
}
