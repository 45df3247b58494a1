import Encodings
import Tensors
import TestSupport
import Testing

@testable import Checkpoints

/// The damage that is natural to GGUF.
@Suite struct GGUFHostileTests {
  /// A file of one tensor `a`, F32 [2, 3], with places to lie at.
  struct Parts {
    var magic: [UInt8] = GGUFHeader.magic
    var version: UInt32 = 3
    var tensorCount: UInt64 = 1
    var valueCount: UInt64 = 1
    var key: [UInt8] = Array("general.architecture".utf8)
    var keyLength: UInt64?
    var valueType: UInt32 = 8
    var value: [UInt8] = [1, 0, 0, 0, 0, 0, 0, 0, 0x78]
    var nameLength: UInt64?
    var rank: UInt32 = 2
    var dimensions: [UInt64] = [3, 2]
    var type: UInt32 = 0
    var offset: UInt64 = 0
    var data = 32

    var bytes: [UInt8] {
      var bytes = magic
      func add<Integer: FixedWidthInteger & UnsignedInteger>(_ value: Integer) {
        for byte in 0..<MemoryLayout<Integer>.size {
          bytes.append(UInt8(truncatingIfNeeded: value >> Integer(8 * byte)))
        }
      }
      add(version)
      add(tensorCount)
      add(valueCount)
      add(keyLength ?? UInt64(key.count))
      bytes += key
      add(valueType)
      bytes += value
      add(nameLength ?? 1)
      bytes.append(0x61)
      add(rank)
      for dimension in dimensions { add(dimension) }
      add(type)
      add(offset)
      while bytes.count % 32 != 0 { bytes.append(0) }
      return bytes + [UInt8](repeating: 0, count: data)
    }
  }

  private func problem(_ parts: Parts) throws -> CheckpointError.Problem? {
    try problem(parts.bytes)
  }

  private func problem(_ bytes: [UInt8]) throws -> CheckpointError.Problem? {
    let folder = try TemporaryFolder()
    try FileMutations.replaceFile(at: folder.file("a.gguf"), with: bytes)
    do {
      let file = try GGUFCheckpoint(path: folder.file("a.gguf"))
      for name in file.tensorNames { _ = file.tensor(name) }
      return nil
    } catch let error as CheckpointError {
      #expect(!error.description.contains("\n"))
      return error.problem
    }
  }

  @Test func theFileItselfIsGood() throws { #expect(try problem(Parts()) == nil) }

  @Test func wrongBeginnings() throws {
    #expect(try problem([UInt8]()) != nil)
    var parts = Parts()
    parts.magic = Array("GGML".utf8)
    #expect(
      try problem(parts) == .badValue(found: "other first bytes", expected: "'GGUF'"))
    for version: UInt32 in [0, 1, 4, 3 << 24] {
      parts = Parts()
      parts.version = version
      guard case .unsupported = try problem(parts) else {
        Issue.record("version \(version)")
        continue
      }
    }
  }

  @Test(arguments: [2, 1 << 20, 1 << 60, UInt64.max]) func lyingCounts(_ count: UInt64) throws {
    var parts = Parts()
    parts.tensorCount = count
    #expect(try problem(parts) != nil)
    parts = Parts()
    parts.valueCount = count
    #expect(try problem(parts) != nil)
    parts = Parts()
    parts.keyLength = max(count, 40)
    #expect(try problem(parts) != nil)
    parts = Parts()
    parts.nameLength = max(count, 1 << 20)
    #expect(try problem(parts) != nil)
    // A string and arrays that claim more than there is.
    for type: UInt32 in [8, 9] {
      parts = Parts()
      parts.valueType = type
      parts.value =
        (type == 9 ? [4, 0, 0, 0] : [])
        + (0..<8).map { UInt8(truncatingIfNeeded: max(count, 1 << 20) >> (8 * UInt64($0))) }
      #expect(try problem(parts) != nil)
    }
  }

  @Test func impossibleTensors() throws {
    var parts = Parts()
    for rank: UInt32 in [5, 1000, .max] {
      parts.rank = rank
      #expect(
        try problem(parts) == .badValue(found: "\(rank) dimensions", expected: "at most 4"))
    }
    parts = Parts()
    for dimension: UInt64 in [1 << 31, 1 << 63, .max] {
      parts.dimensions = [dimension, 2]
      #expect(try problem(parts) != nil)
    }
    parts = Parts()
    parts.dimensions = [1 << 30, 1 << 30]
    #expect(try problem(parts) != nil)
    for type: UInt32 in [4, 5, 9, 15, 31, 43, 1000, .max] {
      parts = Parts()
      parts.type = type
      #expect(try problem(parts) == .unknownType("ggml type \(type)"))
    }
    parts = Parts()
    parts.type = 12
    #expect(try problem(parts) == .raggedColumns(encoding: "Q4_K", columns: 3, multiple: 256))
    for offset: UInt64 in [1, 31, 16] {
      parts = Parts()
      parts.data = 128
      parts.offset = offset
      #expect(
        try problem(parts)
          == .badValue(found: "data at offset \(offset)", expected: "a multiple of 32"))
    }
    for offset: UInt64 in [32, 1 << 40, .max - 31] {
      parts = Parts()
      parts.offset = offset
      guard case .truncated = try problem(parts) else {
        Issue.record("offset \(offset)")
        continue
      }
    }
  }

  @Test func wrongAlignments() throws {
    for alignment: UInt32 in [0, 3, 48, 1 << 21, .max] {
      var parts = Parts()
      parts.key = Array("general.alignment".utf8)
      parts.valueType = 4
      parts.value = (0..<4).map { UInt8(truncatingIfNeeded: alignment >> (8 * UInt32($0))) }
      guard case .badValue = try problem(parts) else {
        Issue.record("alignment \(alignment)")
        continue
      }
    }
  }

  @Test func arraysInArraysEnd() throws {
    var value: [UInt8] = []
    for _ in 0..<1000 { value += [9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0] }
    var parts = Parts()
    parts.valueType = 9
    parts.value = value
    #expect(try problem(parts) != nil)
  }

  @Test func truncatedAnywhere() throws {
    let whole = try FilePath.read(GGUFTests.folder + "small-llama.gguf")
    for part in 0..<16 {
      #expect(try problem(Array(whole[..<(whole.count * part / 16)])) != nil, "\(part)/16")
    }
    #expect(try problem(Array(whole.dropLast())) != nil)
  }

  @Test func splitFilesMustAgree() throws {
    let folder = try TemporaryFolder()
    func write(_ name: String, number: Int, count: Int, tensors: Int, item: String) throws {
      var metadata = GGUFMetadata()
      metadata["general.architecture"] = GGUFValue("x")
      metadata["split.no"] = .integer(number, .uint16)
      metadata["split.count"] = .integer(count, .uint16)
      metadata["split.tensors.count"] = .integer(tensors, .int32)
      let layout = GGUFLayout(
        items: [.init(name: item, type: .plain(.float32), shape: [1])], metadata: metadata)
      var writer = try GGUFWriter(path: folder.file(name), layout: layout)
      try writer.write(Tensor(.float32, shape: [1], copying: [Float(number)]))
      try writer.finish()
    }
    let first = "m-00001-of-00002.gguf", second = "m-00002-of-00002.gguf"
    try write(first, number: 0, count: 2, tensors: 2, item: "a")
    #expect(throws: CheckpointError(path: folder.file(first), .missingShard(second))) {
      try GGUFCheckpoint(path: folder.file(first))
    }
    try write(second, number: 1, count: 2, tensors: 2, item: "b")
    let whole = try GGUFCheckpoint(path: folder.file(first))
    #expect(whole.tensorNames == ["a", "b"] && whole.tensor("b")?.floats() == [1])
    #expect(throws: CheckpointError.self) { try GGUFCheckpoint(path: folder.file(second)) }
    try write(second, number: 1, count: 2, tensors: 2, item: "a")
    #expect(throws: CheckpointError.self) { try GGUFCheckpoint(path: folder.file(first)) }
    try write(second, number: 0, count: 2, tensors: 2, item: "b")
    #expect(throws: CheckpointError.self) { try GGUFCheckpoint(path: folder.file(first)) }
    try write(second, number: 1, count: 2, tensors: 2, item: "b")
    try write(first, number: 0, count: 2, tensors: 3, item: "a")
    #expect(throws: CheckpointError.self) { try GGUFCheckpoint(path: folder.file(first)) }
  }
}
