import Checkpoints
import Foundation
import JSONDocuments
import Tensors
import TestSupport
import Testing

@Suite struct CheckpointFolderTests {
  /// A folder of text files and of safetensors files with one-byte tensors.
  private static func folder(
    _ texts: [String: String], shards: [String: [String]] = [:]
  ) throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    for (name, text) in texts { try OutputFile.write(text, to: folder.file(name)) }
    for (name, tensors) in shards {
      let layout = SafetensorsLayout(
        items: tensors.map { .init(name: $0, dtype: .uint8, shape: [1]) }, metadata: [])
      var writer = try SafetensorsWriter(path: folder.file(name), layout: layout)
      for _ in tensors { try writer.write(Tensor(.uint8, shape: [1], copying: [9] as [UInt8])) }
      try writer.finish()
    }
    return folder
  }

  private static let index = CheckpointFolder.indexName

  private static func error(_ folder: TemporaryFolder) -> CheckpointError? {
    #expect(throws: CheckpointError.self) { try CheckpointFolder(path: folder.path) }
  }

  @Test func filesThatAreMissing() throws {
    let empty = try Self.folder([:])
    #expect(
      Self.error(empty) == CheckpointError(path: empty.path, .missingFile("config.json")))
    let noWeights = try Self.folder(["config.json": "{}"])
    #expect(
      Self.error(noWeights)
        == CheckpointError(path: noWeights.path, .missingFile("model.safetensors")))
    let noShard = try Self.folder(
      [
        "config.json": "{}",
        Self.index: #"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#,
      ],
      shards: ["1.safetensors": ["a"]])
    #expect(
      Self.error(noShard)
        == CheckpointError(path: noShard.file(Self.index), .missingShard("2.safetensors")))
    #expect(throws: FileError(path: "/no/such/folder", operation: "open", code: ENOENT)) {
      try CheckpointFolder(path: "/no/such/folder/")
    }
  }

  @Test func shardsThatDisagree() throws {
    let absent = try Self.folder(
      [
        "config.json": "{}",
        Self.index:
          #"{"weight_map":{"a":"1.safetensors","z":"1.safetensors","y":"1.safetensors"}}"#,
      ], shards: ["1.safetensors": ["a"]])
    #expect(
      Self.error(absent)
        == CheckpointError(
          path: absent.file(Self.index), tensor: "y", .notInShard("1.safetensors")))
    let twice = try Self.folder(
      [
        "config.json": "{}",
        Self.index: #"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#,
      ],
      shards: ["1.safetensors": ["a"], "2.safetensors": ["b", "a"]])
    #expect(
      Self.error(twice)
        == CheckpointError(
          path: twice.file("2.safetensors"), tensor: "a",
          .duplicateTensor(other: twice.file("1.safetensors"))))
  }

  @Test func textsThatAreNoJSON() throws {
    let config = try Self.folder(["config.json": "{\"a\":1,}", "model.safetensors": ""])
    #expect(
      Self.error(config)
        == CheckpointError(
          path: config.file("config.json"),
          .badHeader(
            JSONError(.unexpected(byte: 0x7D, expected: "a key in quotes"), offset: 7))))
    let index = try Self.folder(["config.json": "{}", Self.index: ""])
    #expect(
      Self.error(index)
        == CheckpointError(
          path: index.file(Self.index), .badHeader(JSONError(.truncated, offset: 0))))
    for text in ["{}", "[]", #"{"weight_map":[]}"#, #"{"weight_map":{}}"#] {
      let folder = try Self.folder(["config.json": "{}", Self.index: text])
      #expect(
        Self.error(folder)
          == CheckpointError(
            path: folder.file(Self.index),
            .missing(key: "weight_map", expected: "an object")))
    }
  }

  /// An index never leads out of its folder.
  @Test(arguments: ["\"../x\"", "\"/etc/passwd\"", "\"..\"", "\"a/b\"", "3", "null"])
  func indexEntriesThatLeaveTheFolder(_ entry: String) throws {
    let folder = try Self.folder(
      ["config.json": "{}", Self.index: #"{"weight_map":{"w":\#(entry)}}"#])
    #expect(
      Self.error(folder)
        == CheckpointError(
          path: folder.file(Self.index), tensor: "w",
          .missing(key: "weight_map", expected: "the name of a file in this folder")))
  }

  @Test(arguments: ["", ".", "config.json/", ".hidden"])
  func indexEntriesThatNameNoFile(_ entry: String) throws {
    let folder = try Self.folder(
      ["config.json": "{}", Self.index: #"{"weight_map":{"w":"\#(entry)"}}"#, ".hidden": "x"])
    let error = try #require(Self.error(folder))
    #expect(error.path == folder.file(Self.index))
  }

  @Test func damagedWeightsAreNamed() throws {
    let folder = try Self.folder(["config.json": "{}", "model.safetensors": ""])
    #expect(
      Self.error(folder)
        == CheckpointError(
          path: folder.file("model.safetensors"), .truncated(needed: 8, available: 0)))
  }

  @Test func whatBelongsToAFolder() throws {
    let folder = try Self.folder(
      [
        "config.json": #"{"x":1}"#, "tokenizer.json": "{}", ".git": "", "lineage.json": "{}",
        "drift.json": "{}", "old.partial": "", Self.index: #"{"weight_map":{"a":"s1","b":"s2"}}"#,
      ], shards: ["s1": ["a"], "s2": ["b"]])
    try FilePath.makeFolder(folder.file("1_Pooling/deep"))
    try OutputFile.write("p", to: folder.file("1_Pooling/config.json"))
    let checkpoint = try CheckpointFolder(path: folder.path + "//")
    #expect(checkpoint.path == folder.path)
    #expect(checkpoint.sideFileNames == ["1_Pooling/config.json", "config.json", "tokenizer.json"])
    #expect(checkpoint.tensorNames == ["a", "b"])
    #expect(checkpoint.tensor("b")?.integers() == [9] && checkpoint.tensor("c") == nil)
    #expect(try checkpoint.sideFile("1_Pooling/config.json") == Array("p".utf8))
    #expect(checkpoint.configuration["x"]?.integer == 1)
    #expect(checkpoint.weightFilePaths.count == 2)
  }
}
