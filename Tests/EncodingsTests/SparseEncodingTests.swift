import CKernels
@testable import Encodings
import TestSupport
import Tensors
import Testing

@Suite struct SparseEncodingTests {
  /// Random floats that are exact in float16, with zeros as a pattern asks.
  static func weights(
    _ rows: Int, _ columns: Int, _ pattern: SparsityPattern, density: Double = 0.5
  ) -> Matrix {
    var stream = RandomStream(test: "sparse \(rows) \(columns) \(pattern.name)")
    var matrix = Matrix(rows: rows, columns: columns)
    for row in 0..<rows {
      switch pattern {
      case .unstructured:
        for column in 0..<columns where stream.unit() < density {
          matrix.values[row * columns + column] = Float(stream.integer(below: 999) - 499) / 64
        }
      case .groups(let kept, let size):
        for start in stride(from: 0, to: columns, by: size) {
          for place in stream.permutation(size).prefix(kept) {
            matrix.values[row * columns + start + place] =
              Float(stream.integer(below: 999) - 499) / 64
          }
        }
      case .blocks(let size):
        for start in stride(from: 0, to: columns, by: size) where stream.unit() < density {
          for place in 0..<size {
            matrix.values[row * columns + start + place] =
              Float(stream.integer(below: 999) - 499) / 64
          }
        }
      }
    }
    return matrix
  }

  static let cases: [(SparsityPattern, SparseEncoding.Places, Int)] = [
    (.unstructured, .bitmap(block: 1), 83), (.unstructured, .bitmap(block: 1), 16),
    (.groups(kept: 2, of: 4), .groups(kept: 2, of: 4), 100),
    (.groups(kept: 4, of: 8), .groups(kept: 4, of: 8), 96),
    (.groups(kept: 1, of: 4), .groups(kept: 1, of: 4), 64),
    (.groups(kept: 3, of: 5), .groups(kept: 3, of: 5), 35),
    (.groups(kept: 8, of: 16), .groups(kept: 8, of: 16), 48),
    (.blocks(16), .bitmap(block: 16), 160), (.blocks(4), .bitmap(block: 4), 36),
  ]

  static let dense: [any WeightEncoding] = [
    PlainFloats(.float32), PlainFloats(.float16), PlainFloats(.bfloat16),
    GroupIntegers(bits: 4, grouping: .columns(16), isSymmetric: false),
    GroupIntegers(bits: 3, grouping: .columns(32), isSymmetric: true),
    GroupIntegers(bits: 8, grouping: .channel, isSymmetric: false),
  ]

  /// A dense matrix in an encoding, whose zeros are those of `weights`.
  static func encode(_ weights: Matrix, _ encoding: any WeightEncoding) -> EncodedMatrix {
    if let floats = encoding as? PlainFloats { return floats.encode(weights) }
    guard let integers = encoding as? GroupIntegers else { fatalError("\(encoding.name)") }
    var stream = RandomStream(test: "grids")
    let groups = integers.groups(inputs: weights.columns)
    let count = weights.rows * groups
    let zeros = (0..<count).map { _ in
      integers.isSymmetric
        ? UInt8(integers.middle) : UInt8(stream.integer(below: integers.top + 1))
    }
    let size = integers.groupSize(inputs: weights.columns)
    let codes = weights.values.indices.map { index -> UInt8 in
      let (row, column) = index.quotientAndRemainder(dividingBy: weights.columns)
      let zero = zeros[row * groups + column / size]
      guard weights.values[index] != 0 else { return zero }
      let code = UInt8(stream.integer(below: integers.top))
      return code >= zero ? code + 1 : code
    }
    return integers.encode(
      outputs: weights.rows, inputs: weights.columns, codes: codes,
      scales: (0..<count).map { _ in UInt16(0x2C00 + stream.integer(below: 1024)) }, zeros: zeros)
  }

  /// Every weight comes back, from rows in any order, and products are those of the dense matrix.
  @Test(arguments: cases.indices, dense.indices) func packs(_ index: Int, _ base: Int) throws {
    let (pattern, places, columns) = Self.cases[index]
    let rows = 37
    let dense = Self.encode(Self.weights(rows, columns, pattern), Self.dense[base])
    let expected = dense.matrix.decoded()
    let values: SparseEncoding.Values =
      if let floats = Self.dense[base] as? PlainFloats { .floats(floats) } else {
        .integers(try #require(Self.dense[base] as? GroupIntegers))
      }
    let packed = try #require(
      SparseEncoding.packed(dense, expected, places: places, values: values))
    #expect(
      packed.encoding.problem(outputs: rows, inputs: columns, parts: packed.parts) == nil)
    let again = try #require(EncodingRegistry.encoding(named: packed.encoding.name))
    #expect(again.name == packed.encoding.name)
    #expect(
      again.parts(outputs: rows, inputs: columns)
        == packed.encoding.parts(outputs: rows, inputs: columns))
    #expect(packed.matrix.decoded().values == expected.values)
    #expect(packed.matrix.storedBits == 8 * packed.parts.reduce(0) { $0 + $1.byteCount })
    let gathered = packed.matrix.gather([36, 0, 5, 5])
    #expect(gathered.row(2) == expected.row(5) && gathered.row(0) == expected.row(36))
    var stream = RandomStream(test: "sparse products")
    for tokens in [1, 3, 7] {
      let x = stream.matrix(rows: tokens, columns: columns)
      let found = packed.matrix.apply(to: x)
      for token in 0..<tokens {
        for row in 0..<rows {
          let terms = (0..<columns).map {
            Double(x.values[token * columns + $0]) * Double(expected.values[row * columns + $0])
          }
          let size = terms.reduce(1e-6) { $0 + abs($1) }
          #expect(
            abs(Double(found.values[token * rows + row]) - terms.reduce(0, +)) <= 2e-6 * size)
        }
      }
    }
  }

  /// What the document says of positions, digit by digit.
  @Test func positionsAreDigits() throws {
    let weights = Self.weights(3, 52, .groups(kept: 2, of: 4))
    let f16 = PlainFloats(.float16)
    let packed = try #require(
      SparseEncoding.packed(
        f16.encode(weights), weights, places: .groups(kept: 2, of: 4), values: .floats(f16)))
    #expect(packed.encoding.name == "2:4-f16")
    let masks: [[Bool]] = [
      [true, true, false, false], [true, false, true, false], [false, true, true, false],
      [true, false, false, true], [false, true, false, true], [false, false, true, true],
    ]
    let words = try #require(packed.parts[0].integers())
    #expect(packed.parts[0].shape == [3, 2])
    for row in 0..<3 {
      for group in 0..<13 {
        var word = words[row * 2 + group / 12]
        for _ in 0..<group % 12 { word /= 6 }
        let mask = masks[word % 6]
        for place in 0..<4 where !mask[place] {
          #expect(weights.values[row * 52 + group * 4 + place] == 0)
        }
      }
    }
  }

  /// The smallest form is taken, and none where none is smaller.
  @Test func smallest() throws {
    func bytes(_ matrix: EncodedMatrix) -> Int { matrix.parts.reduce(0) { $0 + $1.byteCount } }
    let half = Self.weights(64, 96, .groups(kept: 2, of: 4))
    let f16 = PlainFloats(.float16).encode(half)
    let grouped = try #require(SparseEncoding.packed(f16, pattern: .groups(kept: 2, of: 4)))
    let free = try #require(SparseEncoding.packed(f16, pattern: .unstructured))
    #expect(grouped.encoding.name == "2:4-f16")
    #expect(free.encoding.name == "bitmap-f16-\(bytes(free) - 64 * 12)")
    // 8 + 2/3 and at most 9 bits of 16.
    #expect(bytes(grouped) < bytes(free) && 16 * bytes(free) <= 9 * bytes(f16))
    let full = Self.weights(64, 96, .unstructured, density: 1)
    #expect(
      SparseEncoding.packed(PlainFloats(.float16).encode(full), pattern: .unstructured) == nil)
    let nearlyEmpty = Self.weights(64, 96, .unstructured, density: 0.02)
    let empty = try #require(
      SparseEncoding.packed(
        PlainFloats(.float16).encode(nearlyEmpty), pattern: .groups(kept: 2, of: 4)))
    #expect(empty.encoding.name.hasPrefix("bitmap"))
    // Zeros that do not keep to the pattern.
    #expect(
      SparseEncoding.packed(
        PlainFloats(.float16).encode(full), full, places: .groups(kept: 2, of: 4),
        values: .floats(PlainFloats(.float16))) == nil)
  }

  /// Names that are no encodings.
  @Test(arguments: [
    "2:4", "2:4-", "4:4-f16", "0:4-f16", "3:2-f16", "9:17-f16", "bitmap-f16", "bitmap-f16--1",
    "bitmap-f16-01", "1x1-f16-8", "2:4-f16-12", "2:4-q4", "bitmap-f64-8", "1x16-int4-8", "02:4-f16",
    "bitmap-ec-99",
  ])
  func badNames(_ name: String) { #expect(SparseEncoding.named(name) == nil) }

  /// Places that make no sense are told, and give some finite matrix without a crash.
  @Test func damage() throws {
    let weights = Self.weights(9, 50, .unstructured)
    let f16 = PlainFloats(.float16).encode(weights)
    let bitmap = try #require(SparseEncoding.packed(f16, pattern: .unstructured))
    let groups = try #require(
      SparseEncoding.packed(
        PlainFloats(.float16).encode(Self.weights(9, 48, .groups(kept: 2, of: 4))),
        pattern: .groups(kept: 2, of: 4)))
    let int4 = GroupIntegers(bits: 4, grouping: .columns(16), isSymmetric: true)
    let codes = try #require(
      SparseEncoding.packed(
        Self.encode(Self.weights(9, 64, .unstructured, density: 0.2), int4),
        pattern: .unstructured))
    var stream = RandomStream(test: "damage of masks")
    for matrix in [bitmap, groups, codes] {
      var told = 0
      for _ in 0..<60 {
        var bytes = matrix.parts[0].withBytes { span in
          (0..<span.byteCount).map { span.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
        }
        for _ in 0..<1 + stream.integer(below: 3) {
          bytes[stream.integer(below: bytes.count)] = UInt8(stream.integer(below: 256))
        }
        let words = stride(from: 0, to: bytes.count, by: 4).map { start in
          (0..<min(4, bytes.count - start)).reduce(UInt32(0)) {
            $0 | UInt32(bytes[start + $1]) << UInt32(8 * $1)
          }
        }
        let first =
          matrix.parts[0].dtype == .uint32
          ? Tensor(.uint32, shape: matrix.parts[0].shape, copying: words)
          : Tensor(.uint8, shape: matrix.parts[0].shape, copying: bytes)
        let parts = [first] + matrix.parts.dropFirst()
        let problem = matrix.encoding.problem(
          outputs: matrix.outputs, inputs: matrix.inputs, parts: parts)
        told += problem == nil ? 0 : 1
        let damaged = matrix.encoding.matrix(
          outputs: matrix.outputs, inputs: matrix.inputs, parts: parts)
        let isFinite = damaged.decoded().values.allSatisfy { $0.isFinite }
        #expect(isFinite)
        _ = damaged.apply(to: Matrix(rows: 1, columns: matrix.inputs))
      }
      #expect(told > 10)
    }
  }
}
