import CKernels
import Foundation
import Tensors
import TestSupport
import Testing

@testable import Encodings

/// The encoder: against llama.cpp's errors, against the definition of a local optimum, and at its limits.
@Suite struct GGUFEncodingTests {
  static let types = GGUFBlockType.allCases

  /// Σ a (x - q)², in Double.
  private static func error(
    _ weight: Matrix, _ encoded: EncodedMatrix, importance: [Float]?
  ) -> Double {
    let decoded = encoded.matrix.decoded()
    var sum = 0.0
    for (index, value) in decoded.values.enumerated() {
      let difference = Double(weight.values[index]) - Double(value)
      sum += Double(importance?[index % weight.columns] ?? 1) * difference * difference
    }
    return sum
  }

  private static func bytes(_ encoded: EncodedMatrix) -> [UInt8] {
    encoded.parts[0].withBytes { $0.withUnsafeBytes { [UInt8]($0) } }
  }

  private static let folder = TestData.fixtures + "/gguf-blocks/"

  private static func fixtureWeights() throws -> (weight: Matrix, importance: [Float]) {
    let halves = try Data(contentsOf: URL(filePath: folder + "weights.f16"))
    let importance = try Data(contentsOf: URL(filePath: folder + "importance.f32"))
    let weight = Tensor(.float16, shape: [24, 512], copying: [UInt8](halves)).floats()
    return (
      Matrix(rows: 24, columns: 512, values: weight),
      Tensor(.float32, shape: [512], copying: [UInt8](importance)).floats()
    )
  }

  /// With and without importance, no worse than llama.cpp's quantizer on the same weights.
  @Test func noWorseThanLlamaCpp() throws {
    let (weight, importance) = try Self.fixtureWeights()
    let lines = try String(contentsOfFile: Self.folder + "errors.txt", encoding: .utf8)
      .split(separator: "\n").map { $0.split(separator: " ") }
    #expect(lines.count == 23)
    for line in lines {
      let type = try #require(GGUFBlockType.named(String(line[0])))
      for (used, reference) in [(nil, line[1]), (importance, line[2])] {
        let error = Self.error(
          weight, GGUFBlocks(type).encode(weight, importance: used), importance: used)
        #expect(try error <= #require(Double(reference)), "\(line[0]), \(used == nil)")
      }
    }
  }

  /// Bytes that are taken apart and put together again are the same bytes.
  @Test(arguments: types) func packingIsTheInverseOfUnpacking(_ type: GGUFBlockType) throws {
    let bytes = [UInt8](
      try Data(contentsOf: URL(filePath: Self.folder + type.name + ".blocks")))
    for start in stride(from: 0, to: bytes.count, by: type.blockBytes) {
      let block = Array(bytes[start..<start + type.blockBytes])
      var codes = kernel_gguf_codes()
      var packed = [UInt8](repeating: 0xAA, count: type.blockBytes)
      kernel_gguf_unpack(type.rawValue, block, &codes)
      kernel_gguf_pack(type.rawValue, &codes, &packed)
      guard type == .tq1_0 else {
        #expect(packed == block)
        continue
      }
      // 256 bytes stand for 243 numbers: the same codes, if not the same bytes.
      var again = kernel_gguf_codes()
      kernel_gguf_unpack(type.rawValue, packed, &again)
      #expect(
        withUnsafeBytes(of: &again.level) { [UInt8]($0) }
          == withUnsafeBytes(of: &codes.level) { [UInt8]($0) })
    }
  }

  /// Codes that a column of each format can take.
  private static func codeCount(_ type: GGUFBlockType) -> Int? {
    switch type {
    case .q1_0: 2
    case .tq1_0, .tq2_0: 3
    case .q2_K, .q2_0: 4
    case .q3_K: 8
    case .q4_0, .q4_1, .q4_K, .iq4_nl, .iq4_xs, .mxfp4, .nvfp4: 16
    case .q5_0, .q5_1, .q5_K: 32
    case .q6_K: 64
    case .q8_0: 256
    default: nil
    }
  }

  /// No other code of any column, given the block's scales, is nearer than the size's restoration, a share of the
  /// weight, explains.
  @Test(arguments: types.filter { codeCount($0) != nil })
  func everyCodeIsTheNearest(_ type: GGUFBlockType) throws {
    let count = try #require(Self.codeCount(type))
    var stream = RandomStream(test: "nearest \(type)")
    let columns = type.blockColumns
    let weight = stream.matrix(rows: 17, columns: columns, deviation: 0.03)
    let bytes = Self.bytes(GGUFBlocks(type).encode(weight, importance: nil))
    for row in 0..<weight.rows {
      var codes = kernel_gguf_codes()
      kernel_gguf_unpack(
        type.rawValue, Array(bytes[row * type.blockBytes..<(row + 1) * type.blockBytes]), &codes)
      var values = [Float](repeating: 0, count: columns)
      kernel_gguf_values(type.rawValue, &codes, nil, &values)
      let x = weight.row(row)
      let lost = zip(x, values).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      let restored = 2.5 * lost / x.reduce(0) { $0 + $1 * $1 } + 0x1p-11
      let largest = x.map { abs($0) }.max() ?? 0
      var others = codes
      for code in 0..<count {
        withUnsafeMutableBytes(of: &others.level) { level in
          for column in 0..<columns { level[column] = UInt8(code) }
        }
        var alternative = [Float](repeating: 0, count: columns)
        kernel_gguf_values(type.rawValue, &others, nil, &alternative)
        for column in 0..<columns {
          // Ties and the rounding of x / scale: a few ulps.
          let best = abs(x[column] - values[column]), other = abs(x[column] - alternative[column])
          #expect(best <= other * (1 + 1e-5) + restored * largest + 1e-9)
        }
      }
    }
  }

  /// A row of one value, zeros, one-sided rows, sizes that a half cannot hold.
  @Test(arguments: types) func limits(_ type: GGUFBlockType) throws {
    let columns = 256
    var stream = RandomStream(test: "limits")
    let normal = stream.floats(columns)
    let rows: [(name: String, values: [Float])] = [
      ("zeros", normal.map { _ in 0 }), ("ones", normal.map { _ in 1 }),
      ("minus", normal.map { _ in -0.37 }), ("positive", normal.map { 1 + abs($0) }),
      ("negative", normal.map { -1 - abs($0) }), ("one", (0..<columns).map { $0 == 77 ? 3 : 0 }),
      ("huge", normal.map { $0 * 1e30 }), ("largest", normal.map { $0 < 0 ? -3.4e38 : 3.4e38 }),
      ("tiny", normal.map { $0 * 1e-30 }), ("subnormal", normal.map { $0 * 1e-20 * 1e-20 }),
      ("small", normal.map { $0 * 1e-5 }), ("normal", normal),
    ]
    let weight = Matrix(rows: rows.count, columns: columns, values: rows.flatMap(\.values))
    for importance in [nil, [Float](repeating: 0, count: columns), normal.map { abs($0) * 1e30 }] {
      let encoded = GGUFBlocks(type).encode(weight, importance: importance)
      let values = encoded.matrix.decoded()
      #expect(values.values.allSatisfy { $0.isFinite })
      #expect(values.row(0).allSatisfy { $0 == 0 } || type == .q1_0)
      let scale = type == .mxfp4 ? Float.infinity : 1e9
      for (row, (name, x)) in rows.enumerated() {
        // Never larger than what is asked for by much, and of the right sign where the format is able to.
        let largest = x.map { abs($0) }.max() ?? 0
        let found = values.row(row).map { abs($0) }.max() ?? 0
        #expect(found <= min(largest * 1.75, scale) + 1e-7, "\(name)")
      }
      // Where halves are enough, most of the row is kept, importance or not.
      for name in ["ones", "minus", "positive", "negative", "one", "normal"] where importance == nil
      {
        let row = try #require(rows.firstIndex { $0.name == name })
        let error = zip(values.row(row), rows[row].values).reduce(0) {
          $0 + ($1.0 - $1.1) * ($1.0 - $1.1)
        }
        let size = rows[row].values.reduce(0) { $0 + $1 * $1 }
        let allowed: Float = name != "one" ? 0.5 : type == .q1_0 ? 1 : 0.85
        #expect(error <= allowed * size, "\(name): \(error) of \(size)")
      }
    }
  }

  /// Threads, the other rows of a matrix and the CPU change nothing.
  @Test(arguments: types) func bytesAreReproducible(_ type: GGUFBlockType) {
    var stream = RandomStream(test: "threads")
    let weight = stream.matrix(rows: 37, columns: 512, deviation: 0.02)
    let importance = stream.floats(512).map { $0 * $0 }
    let encoding = GGUFBlocks(type)
    let once = withThreads(1) { Self.bytes(encoding.encode(weight, importance: importance)) }
    let twice = withThreads(2) { Self.bytes(encoding.encode(weight, importance: importance)) }
    #expect(once == twice)
    let rowBytes = encoding.rowBytes(inputs: 512)
    for row in [0, 20, 36] {
      let alone = encoding.encode(weight.rows(row..<row + 1), importance: importance)
      #expect(Self.bytes(alone) == Array(once[row * rowBytes..<(row + 1) * rowBytes]))
    }
    for level in 0..<kernel_gguf_levels() {
      let bytes = encoding.encode(weight, importance: importance, level: level)
      #expect(Self.bytes(bytes) == once, "level \(level)")
    }
  }

  /// What a format can store exactly is stored exactly.
  @Test func exactValues() {
    let ternary = (0..<512).map { Float([0.25, -0.25, 0][$0 % 3]) }
    for type in [GGUFBlockType.tq1_0, .tq2_0, .q2_0, .mxfp4] {
      let weight = Matrix(rows: 2, columns: 256, values: ternary)
      let values = GGUFBlocks(type).encode(weight, importance: nil).matrix.decoded().values
      #expect(values == ternary, "\(type)")
    }
    let signs = (0..<256).map { Float($0 % 5 == 0 ? -0.75 : 0.75) }
    let weight = Matrix(rows: 1, columns: 256, values: signs)
    #expect(GGUFBlocks(.q1_0).encode(weight, importance: nil).matrix.decoded().values == signs)
  }

  /// A scale is stored as the nearest half, ties to even.
  @Test(arguments: [Float(0.3), 0.7001, 1.0005, 3e-5, 1e-7, 1.00048828125, 1.00146484375])
  func scalesAreTheNearestHalves(_ size: Float) {
    let weight = Matrix(
      rows: 1, columns: 128, values: (0..<128).map { $0 % 3 == 0 ? size : -size })
    let values = GGUFBlocks(.q1_0).encode(weight, importance: nil).matrix.decoded().values
    #expect(values[0] == Float(Float16(size)) && values[1] == -Float(Float16(size)))
  }

  @Test func noRows() {
    let encoded = GGUFBlocks(.q4_K).encode(Matrix(rows: 0, columns: 256), importance: nil)
    #expect(encoded.outputs == 0 && encoded.parts[0].byteCount == 0)
  }
}
