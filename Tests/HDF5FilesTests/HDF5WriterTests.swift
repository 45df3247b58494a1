import Checkpoints
import Foundation
import JSONDocuments
import Tensors
import TestSupport
import Testing

@testable import HDF5Files

@Suite struct HDF5WriterTests {
  private static func write(
    _ tensors: [(name: String, tensor: Tensor)], to path: String, options: HDF5Writer.Options,
    configuration: JSONValue? = nil, files: [(String, [UInt8])] = []
  ) throws {
    var writer = try HDF5Writer(path: path, configuration: configuration, options: options)
    for (name, tensor) in tensors { try writer.write(name, tensor) }
    for (name, bytes) in files { try writer.writeFile(name, bytes) }
    try writer.finish()
  }

  /// safetensors → HDF5 → safetensors: the same file, byte for byte.
  @Test(arguments: [nil, 6] as [UInt32?]) func roundTrip(_ level: UInt32?) throws {
    let source = try SafetensorsFile(path: TestData.fixtures + "/safetensors/all-types.safetensors")
    let folder = try TemporaryFolder()
    let tensors = source.tensorNames.compactMap { name in source.tensor(name).map { (name, $0) } }
    try Self.write(tensors, to: folder.file("m.h5"), options: .init(deflateLevel: level))
    let found = try HDF5Format.open(folder.file("m.h5"))
    #expect(found.tensorNames == source.tensorNames)
    let expected = Dictionary(uniqueKeysWithValues: tensors)
    try #require(differences(found, expected) == [])
    let layout = SafetensorsLayout(
      items: source.header.entries.map { .init(name: $0.name, dtype: $0.dtype, shape: $0.shape) },
      metadata: source.header.metadata.map { ($0.key, $0.value) })
    var first = try SafetensorsWriter(path: folder.file("a"), layout: layout)
    for (_, tensor) in tensors { try first.write(tensor) }
    try first.finish()
    var second = try SafetensorsWriter(path: folder.file("b"), layout: layout)
    for name in found.tensorNames { try second.write(try #require(found.tensor(name))) }
    try second.finish()
    #expect(try FilePath.read(folder.file("a")) == FilePath.read(folder.file("b")))
    #expect(try FilePath.names(in: folder.path) == ["a", "b", "m.h5"])
  }

  /// Every name comes back, also those that HDF5 would take apart.
  @Test func names() throws {
    let folder = try TemporaryFolder()
    let names = [
      "a", "a/b", "a/b/", "/", "//x", ".", "..", "%", "%2F", "", "condense_files", "ü 名", "a\nb",
      "W:codes", String(repeating: "long", count: 250),
    ]
    let tensors = names.enumerated().map {
      ($1, Tensor(.int32, shape: [], copying: [Int32($0)]))
    }
    try Self.write(
      tensors, to: folder.file("m.h5"), options: .init(),
      configuration: ["model_type": "llama", "text": "ü \"quoted\""],
      files: [("tokenizer.json", Array("{}".utf8)), ("folder/empty", [])])
    let found = try HDF5Format.open(folder.file("m.h5"))
    #expect(found.tensorNames == names)
    for (index, name) in names.enumerated() {
      #expect(found.tensor(name)?.integers() == [index], "\(name)")
    }
    #expect(found.configuration == ["model_type": "llama", "text": "ü \"quoted\""])
    #expect(found.sideFileNames == ["folder/empty", "tokenizer.json"])
    #expect(try found.sideFile("tokenizer.json") == Array("{}".utf8))
    #expect(try found.sideFile("folder/empty") == [])
  }

  /// An attribute holds 64 KB in the old format; a configuration may be larger.
  @Test func largeConfigurations() throws {
    let folder = try TemporaryFolder()
    let configuration: JSONValue = ["text": .string(String(repeating: "x", count: 300_000))]
    let tensor = Tensor(.uint8, shape: [1], copying: [UInt8(3)])
    try Self.write(
      [("t", tensor)], to: folder.file("m.h5"), options: .init(), configuration: configuration)
    #expect(try HDF5Format.open(folder.file("m.h5")).configuration == configuration)
  }

  @Test func chunks() {
    #expect(HDF5Writing.chunkShape([100, 30], elements: 65) == [2, 30])
    #expect(HDF5Writing.chunkShape([100, 30], elements: 7) == [1, 7])
    #expect(HDF5Writing.chunkShape([3], elements: 10) == [3])
    #expect(HDF5Writing.chunkShape([2, 1000, 1000], elements: 4000) == [1, 4, 1000])
  }

  /// Two tensors of one name are an error with the name, and nothing is left of the file.
  @Test func failures() throws {
    let folder = try TemporaryFolder()
    let tensor = Tensor(.uint8, shape: [1], copying: [UInt8(3)])
    var message = ""
    do {
      try Self.write([("t", tensor), ("t", tensor)], to: folder.file("m.h5"), options: .init())
    } catch let error as CheckpointError {
      message = error.description
    }
    #expect(message.contains("'t': the HDF5 library says: "), "\(message)")
    #expect(try FilePath.names(in: folder.path) == [])
    #expect(throws: CheckpointError.self) {
      try Self.write([], to: folder.file("none/m.h5"), options: .init())
    }
  }
}
