// What this reader decodes against what `Tests/interop/read_bundle.py` decodes, a reader in another language
// that was written from docs/bundle-format.md alone.

import Bundles
import Checkpoints
import Encodings
import Foundation
import Tensors
import TestSupport
import Testing

@Suite struct BundleInteropTests {
  /// `mixed.condensed` holds 2 to 8 bits, groups and channels, both kinds of grids, FP8 and NF4, rows that end
  /// inside a group and inside a byte, and plain floats; `mixed.npy` is all of them as the other reader sees them.
  @Test func decodesLikeTheReaderWrittenFromTheDocument() throws {
    let folder = TestData.fixtures + "/bundle"
    let bundle = try ModelBundle(path: folder + "/mixed.condensed")
    let expected = try Self.array(folder + "/mixed.npy")
    #expect(Set(bundle.manifest.entries.map { $0.encoding.name }).count >= 34)
    var position = 0
    for tensor in bundle.logicalTensors {
      let values = try Self.decoded(tensor, of: bundle)
      try #require(position + values.count <= expected.count)
      let other = expected[position..<position + values.count]
      // Bit patterns: the format promises the same floats, not near ones.
      #expect(
        values.map(\.bitPattern) == other.map(\.bitPattern), "\(tensor.name) \(tensor.encoding)")
      position += values.count
    }
    #expect(position == expected.count)
  }

  /// The row of the worked example in the document.
  @Test func decodesTheWorkedExample() {
    let encoding = GroupIntegers(bits: 3, grouping: .columns(16), isSymmetric: false)
    let codes: [UInt8] = [0x88, 0xC6, 0xFA, 0x88, 0xC6, 0xFA, 0x77, 0x01]
    let matrix = encoding.matrix(
      outputs: 1, inputs: 19,
      parts: [
        Tensor(.uint8, shape: [1, 8], copying: codes),
        Tensor(.float16, shape: [1, 2], copying: [0x3800, 0xB400] as [UInt16]),
        Tensor(.uint8, shape: [1, 1], copying: [0x23] as [UInt8]),
      ])
    let ramp: [Float] = [-1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2]
    #expect(matrix.decoded().values == ramp + ramp + [-0.75, -0.5, -0.25])
  }

  /// For comparing whole models: `CONDENSE_DUMP=FOLDER` writes, beside each bundle of the folder, a line a
  /// tensor: name, shape, SHA-256 of the decoded float32 values. `read_bundle.py --hashes` writes the same.
  @Test(.enabled(if: Self.dumpFolder != nil, "CONDENSE_DUMP names no folder of bundles"))
  func dumpsHashes() throws {
    let folder = try #require(Self.dumpFolder)
    for name in try FilePath.names(in: folder) where name.hasSuffix(".condensed") {
      let bundle = try ModelBundle(path: FilePath.join(folder, name))
      var text = ""
      for tensor in bundle.logicalTensors {
        let values = try Self.decoded(tensor, of: bundle)
        var hash = ContentHash()
        hash.update(values.span.bytes)
        let shape = tensor.shape.map(String.init).joined(separator: "x")
        text += "\(tensor.name)\t\(shape)\t\(hash.digits)\n"
      }
      try OutputFile.write(text, to: FilePath.join(folder, name + ".swift.txt"))
    }
  }

  static let dumpFolder = ProcessInfo.processInfo.environment["CONDENSE_DUMP"]

  static func decoded(_ tensor: LogicalTensor, of bundle: ModelBundle) throws -> [Float] {
    if let entry = bundle.manifest[tensor.name] {
      return try bundle.encodedMatrix(entry).matrix.decoded().values
    }
    return try #require(bundle.tensor(tensor.name)).floats()
  }

  /// The values of a one-dimensional float32 `.npy` file, version 1.
  static func array(_ path: String) throws -> [Float] {
    let bytes = try FilePath.read(path)
    let start = 10 + Int(bytes[8]) + Int(bytes[9]) << 8
    let header = String(decoding: bytes[10..<start], as: UTF8.self)
    try #require(header.contains("'<f4'") && header.contains("False"))
    return stride(from: start, to: bytes.count, by: 4).map { offset in
      Float(bitPattern: (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << (8 * UInt32($1)) })
    }
  }
}
