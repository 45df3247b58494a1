import Foundation
import Tensors
import TestSupport
import Testing

@testable import Encodings

/// Decoding against blocks that numpy wrote and PyPI's gguf decoded; see Fixtures/gguf-blocks.
@Suite struct GGUFDecodingTests {
  /// The 32-bit FNV-1a hash of the values' bytes.
  private static func hash(_ values: ArraySlice<Float>) -> UInt32 {
    var hash: UInt32 = 2_166_136_261
    for value in values {
      for shift in stride(from: 0, to: 32, by: 8) {
        hash = (hash ^ (value.bitPattern >> UInt32(shift) & 255)) &* 16_777_619
      }
    }
    return hash
  }

  @Test(arguments: GGUFBlockType.allCases) func everyBlockAsGGUFDecodesIt(_ type: GGUFBlockType)
    throws
  {
    let folder = TestData.fixtures + "/gguf-blocks/"
    let bytes = [UInt8](
      try Data(contentsOf: URL(filePath: folder + type.name + ".blocks")))
    let hashes = try String(contentsOfFile: folder + type.name + ".hash", encoding: .utf8)
      .split(separator: "\n").map { UInt32($0, radix: 16) }
    try #require(bytes.count == hashes.count * type.blockBytes && !hashes.isEmpty)
    let columns = type.blockColumns
    let encoding = GGUFBlocks(type)
    // One block a row, at addresses of every alignment.
    let tensor = Tensor(
      .uint8, shape: [hashes.count, type.blockBytes], copying: bytes)
    let matrix = encoding.matrix(outputs: hashes.count, inputs: columns, parts: [tensor])
    let values = matrix.decoded().values
    for (block, hash) in hashes.enumerated() {
      #expect(Self.hash(values[block * columns..<(block + 1) * columns]) == hash, "block \(block)")
    }
    // The same bytes as one long row, and rows by index.
    let row = encoding.matrix(
      outputs: 1, inputs: hashes.count * columns,
      parts: [Tensor(.uint8, shape: [1, bytes.count], copying: bytes)])
    #expect(row.decoded().values.map(\.bitPattern) == values.map(\.bitPattern))
    let last = Int32(hashes.count - 1)
    #expect(
      matrix.gather([last, 0]).values.map(\.bitPattern)
        == (values.suffix(columns) + values.prefix(columns)).map(\.bitPattern))
  }

  @Test(arguments: GGUFBlockType.allCases) func namesAndLayout(_ type: GGUFBlockType) throws {
    let encoding = try #require(EncodingRegistry.encoding(named: type.name) as? GGUFBlocks)
    #expect(encoding == GGUFBlocks(type))
    #expect(encoding.name == type.name && encoding.columnMultiple == type.blockColumns)
    let inputs = 3 * type.blockColumns
    #expect(
      encoding.parts(outputs: 5, inputs: inputs) == [
        EncodedPart(suffix: ":blocks", dtype: .uint8, shape: [5, 3 * type.blockBytes])
      ])
    #expect(
      encoding.bitsPerWeight(outputs: 5, inputs: inputs)
        == Double(8 * type.blockBytes) / Double(type.blockColumns))
    #expect(GGUFBlockType(rawValue: type.rawValue) == type)
  }

  /// The bits a weight that llama.cpp's own documentation of the formats gives.
  @Test(arguments: [
    ("Q4_0", 2, 4.5), ("Q5_1", 7, 6), ("Q8_0", 8, 8.5), ("Q2_K", 10, 2.625), ("Q3_K", 11, 3.4375),
    ("Q4_K", 12, 4.5), ("Q5_K", 13, 5.5), ("Q6_K", 14, 6.5625), ("IQ2_XXS", 16, 2.0625),
    ("IQ2_XS", 17, 2.3125), ("IQ3_XXS", 18, 3.0625), ("IQ1_S", 19, 1.5625), ("IQ3_S", 21, 3.4375),
    ("IQ2_S", 22, 2.5625), ("IQ4_XS", 23, 4.25), ("IQ1_M", 29, 1.75), ("TQ1_0", 34, 1.6875),
    ("TQ2_0", 35, 2.0625), ("MXFP4", 39, 4.25), ("NVFP4", 40, 4.5),
  ])
  func numbersAndSizes(_ name: String, _ number: UInt32, _ bits: Double) throws {
    let type = try #require(GGUFBlockType.named(name))
    #expect(type.rawValue == number)
    #expect(GGUFBlocks(type).bitsPerWeight(outputs: 1, inputs: 256) == bits)
  }

  @Test(arguments: ["q4_k", "Q4_k", "Q4K", "Q8_K", "Q8_1", "IQ2", "IQ2_XXS ", "q4_0", "F16", "I8"])
  func otherNamesAreRefused(_ name: String) {
    #expect(EncodingRegistry.encoding(named: name) == nil)
  }
}
