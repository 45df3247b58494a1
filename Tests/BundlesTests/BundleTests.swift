import Checkpoints
import JSONDocuments
import Tensors
import TestSupport
import Testing

@testable import Bundles

/// A bundle in a folder that goes with it.
private struct WrittenBundle {
  let folder: TemporaryFolder
  let source: CheckpointFolder
  let path: String

  init(_ family: String, dtype: DType? = nil, selfTest: BundleManifest.SelfTest? = nil) throws {
    folder = try TemporaryFolder()
    source = try CheckpointFolder(path: TestData.fixtures + "/families/" + family)
    path = folder.file("m.condensed")
    let contents = try BundleContents(of: source, dtype: dtype)
    try contents.checkNumbers()
    let manifest = contents.bundleManifest(
      hashes: contents.hashes(), lineage: ["stage": "pack"], drift: .null, selfTest: selfTest)
    try contents.write(to: path, manifest: manifest)
  }

  /// The bundle after a change of its metadata.
  func changed(_ change: (inout JSONObject) throws -> Void) throws -> String {
    let bytes = try FilePath.read(path)
    let start = try SafetensorsFile(path: path).header.dataStart
    var header = try #require(try JSONValue(parsing: Array(bytes[8..<start])).object)
    var metadata = try #require(header["__metadata__"]?.object)
    try change(&metadata)
    header["__metadata__"] = .object(metadata)
    let text = Array(JSONValue.object(header).compactText.utf8)
    let length = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }
    let path = folder.file("changed.condensed")
    try OutputFile.write(length + text + Array(bytes[start...]), to: path)
    return path
  }

  /// The bundle after a change of its manifest.
  func changedManifest(_ change: (inout JSONObject) throws -> Void) throws -> String {
    try changed { metadata in
      let text = try #require(metadata["manifest"]?.string)
      var manifest = try #require(try JSONValue(parsing: text).object)
      try change(&manifest)
      metadata["manifest"] = .string(JSONValue.object(manifest).compactText)
    }
  }
}

private func bytes(_ tensor: Tensor) -> [UInt8] {
  tensor.withBytes { $0.withUnsafeBytes { [UInt8]($0) } }
}

@Suite struct BundleTests {
  @Test(arguments: ["llama", "llama-bf16", "llama-sharded", "bert-mean"])
  func whatIsWrittenIsRead(_ family: String) throws {
    let selfTest = BundleManifest.SelfTest(
      inputIds: [1, 2], indices: [0, 7], values: [0.5, -0.1], tolerance: 1e-3)
    let written = try WrittenBundle(family, selfTest: selfTest)
    let bundle = try ModelBundle(path: written.path)
    try bundle.verifyHashes()
    #expect(bundle.tensorNames == written.source.tensorNames)
    for name in written.source.tensorNames {
      let tensor = try #require(bundle.tensor(name)),
        expected = try #require(written.source.tensor(name))
      #expect(tensor.dtype == expected.dtype && tensor.shape == expected.shape)
      #expect(bytes(tensor) == bytes(expected))
    }
    let weights = Set(written.source.sideFileNames.filter { $0.hasSuffix(".safetensors") })
    #expect(weights == ["expected.safetensors"])
    #expect(bundle.sideFileNames == written.source.sideFileNames.filter { !weights.contains($0) })
    for name in bundle.sideFileNames {
      #expect(try bundle.sideFile(name) == written.source.sideFile(name), "\(name)")
    }
    #expect(bundle.configuration == written.source.configuration)
    #expect(bundle.bundleManifest.selfTest == selfTest)
    #expect(bundle.bundleManifest.lineage == ["stage": "pack"])
    #expect(bundle.byteCount == FilePath.byteCount(of: written.path))
    #expect(try FilePath.names(in: written.folder.path) == ["m.condensed"])
    let names = try SafetensorsFile(path: written.path).tensorNames.filter {
      $0.hasPrefix("file:") || $0.hasPrefix("pad:")
    }
    #expect(names.allSatisfy { bundle.tensor($0) == nil })
    #expect(throws: CheckpointError(path: written.path, .missingFile("none"))) {
      try bundle.sideFile("none")
    }
  }

  @Test(arguments: [DType.float16, .bfloat16, .float32]) func floatsAreConverted(
    _ dtype: DType
  ) throws {
    let written = try WrittenBundle("bert-mean", dtype: dtype)
    let bundle = try ModelBundle(path: written.path)
    try bundle.verifyHashes()
    for name in bundle.tensorNames {
      let expected = try #require(written.source.tensor(name))
      let tensor = try #require(bundle.tensor(name))
      #expect(tensor.dtype == (expected.dtype.isFloat ? dtype : expected.dtype))
      #expect(
        bytes(tensor) == bytes(expected.dtype.isFloat ? expected.converted(to: dtype) : expected))
    }
  }

  @Test(arguments: ["llama", "bert-mean"]) func everyTensorIsAligned(_ family: String) throws {
    let written = try WrittenBundle(family)
    let file = try SafetensorsFile(path: written.path)
    #expect(file.header.dataStart % 64 == 0)
    for entry in file.header.entries where !entry.name.hasPrefix("pad:") {
      #expect(entry.range.lowerBound % 64 == 0, "\(entry.name)")
    }
    for entry in file.header.entries where entry.name.hasPrefix("pad:") {
      let pad = try #require(file.tensor(entry.name))
      #expect(bytes(pad).allSatisfy { $0 == 0 } && entry.range.count < 64)
    }
  }

  @Test func theSameContentsGiveTheSameBytes() throws {
    let first = try WrittenBundle("bert-mean"), second = try WrittenBundle("bert-mean")
    #expect(try FilePath.read(first.path) == FilePath.read(second.path))
  }

  /// One bit anywhere in the data of a tensor or a side file.
  @Test(arguments: ["llama", "bert-mean"]) func flippedBitsAreFound(_ family: String) throws {
    let written = try WrittenBundle(family)
    var content = try FilePath.read(written.path)
    let file = try SafetensorsFile(path: written.path)
    var stream = RandomStream(test: "flips")
    var found = 0, tried = 0
    for entry in file.header.entries where !entry.name.hasPrefix("pad:") && !entry.range.isEmpty {
      let inside = entry.range.lowerBound + stream.integer(below: entry.range.count)
      for offset in [entry.range.lowerBound, inside, entry.range.upperBound - 1] {
        let position = file.header.dataStart + offset
        let bit = UInt8(1) << UInt8(stream.integer(below: 8))
        content[position] ^= bit
        try OutputFile.write(content, to: written.folder.file("flipped"))
        content[position] ^= bit
        let bundle = try ModelBundle(path: written.folder.file("flipped"))
        tried += 1
        do throws(CheckpointError) {
          try bundle.verifyHashes()
        } catch {
          guard error.tensor == entry.name, case .hashMismatch = error.problem else { continue }
          found += 1
        }
      }
    }
    #expect(found == tried && tried > 30)
  }

  @Test func damagedMetadata() throws {
    let written = try WrittenBundle("bert-mean")
    let cases: [(String, JSONValue?, CheckpointError.Problem)] = [
      ("format", nil, .missing(key: "__metadata__.format", expected: "condense-bundle")),
      ("format", "other", .missing(key: "__metadata__.format", expected: "condense-bundle")),
      (
        "version", "2",
        .unsupported("version 2 of the bundle format (this program reads 1)")
      ),
      (
        "version", nil,
        .unsupported("version none of the bundle format (this program reads 1)")
      ),
      ("manifest", nil, .badHeader(JSONError(.truncated, offset: 0))),
      ("manifest", "{", .badHeader(JSONError(.truncated, offset: 1))),
    ]
    for (key, value, problem) in cases {
      let path = try written.changed { $0[key] = value }
      #expect(throws: CheckpointError(path: path, problem)) { try ModelBundle(path: path) }
    }
    let plain = TestData.fixtures + "/families/llama/model.safetensors"
    #expect(throws: CheckpointError.self) { try ModelBundle(path: plain) }
  }

  @Test func damagedManifests() throws {
    let written = try WrittenBundle("bert-mean")
    let sideFile = "manifest.side_files.a"
    let selfTest = CheckpointError.Problem.missing(
      key: "manifest.self_test", expected: "input_ids, indices, as many values, and tolerance")
    let cases: [(String, JSONValue?, CheckpointError.Problem)] = [
      ("config", nil, .missing(key: "manifest.config", expected: "an object")),
      ("config", [], .missing(key: "manifest.config", expected: "an object")),
      ("weights", nil, .missing(key: "manifest.weights", expected: "an object")),
      ("weights", [:], .missing(key: "condense.version", expected: "an integer")),
      ("side_files", nil, .missing(key: "manifest.side_files", expected: "an object")),
      ("side_files", ["a": [:]], .missing(key: sideFile, expected: "'bytes' and 'deflated'")),
      (
        "side_files", ["a": ["bytes": -1, "deflated": true]],
        .missing(key: sideFile, expected: "'bytes' and 'deflated'")
      ),
      (
        "side_files", ["a": ["bytes": 1, "deflated": 1]],
        .missing(key: sideFile, expected: "'bytes' and 'deflated'")
      ),
      ("sha256", nil, .missing(key: "manifest.sha256", expected: "an object")),
      (
        "sha256", ["a": "12"],
        .missing(key: "manifest.sha256.a", expected: "64 hexadecimal digits")
      ),
      ("self_test", [:], selfTest), ("self_test", 3, selfTest),
      (
        "self_test", ["input_ids": [1], "indices": [0, 1], "values": [1], "tolerance": 1], selfTest
      ),
      (
        "self_test", ["input_ids": [1], "indices": [-1], "values": [1], "tolerance": 1], selfTest
      ),
      ("self_test", ["input_ids": [1], "indices": [0], "values": [1]], selfTest),
    ]
    for (key, value, problem) in cases {
      let path = try written.changedManifest { $0[key] = value }
      #expect(throws: CheckpointError(path: path, problem), "\(key) \(value as Any)") {
        try ModelBundle(path: path)
      }
    }
  }

  /// Side files are unpacked under their names: none may lead out of the folder.
  @Test(arguments: ["../x", "/etc/x", "a/../../x", "..", ""])
  func namesThatLeaveTheFolder(_ name: String) throws {
    let written = try WrittenBundle("bert-mean")
    let path = try written.changedManifest { manifest in
      manifest["side_files"] = .object(
        JSONObject([.init(key: name, value: ["bytes": 1, "deflated": false])]))
    }
    #expect(
      throws: CheckpointError(
        path: path, .badValue(found: "the side file '\(name)'", expected: "a relative path"))
    ) { try ModelBundle(path: path) }
  }

  @Test func manifestsThatDoNotFitTheFile() throws {
    let written = try WrittenBundle("bert-mean")
    let absent = try written.changedManifest { manifest in
      manifest["side_files"] = ["absent": ["bytes": 1, "deflated": false]]
    }
    #expect(throws: CheckpointError(path: absent, tensor: "file:absent", .tensorNotFound)) {
      try ModelBundle(path: absent)
    }
    // A tensor without a hash, and a hash without a tensor.
    let name = try #require(written.source.tensorNames.first)
    let unlisted = try written.changedManifest { manifest in
      var hashes = try #require(manifest["sha256"]?.object)
      hashes[name] = nil
      manifest["sha256"] = .object(hashes)
    }
    #expect(
      throws: CheckpointError(
        path: unlisted, tensor: name, .missing(key: "manifest.sha256.\(name)", expected: "a hash"))
    ) { try ModelBundle(path: unlisted).verifyHashes() }
    let extra = try written.changedManifest { manifest in
      var hashes = try #require(manifest["sha256"]?.object)
      hashes["none"] = .string(String(repeating: "0", count: 64))
      manifest["sha256"] = .object(hashes)
    }
    #expect(throws: CheckpointError(path: extra, tensor: "none", .tensorNotFound)) {
      try ModelBundle(path: extra).verifyHashes()
    }
  }

  /// A side file that claims another size than its stream has, up to all of memory.
  @Test(arguments: [-1, 1, 1 << 30, 1 << 40, .max / 2] as [Int]) func lyingSizes(_ more: Int) throws
  {
    let written = try WrittenBundle("bert-mean")
    let path = try written.changedManifest { manifest in
      var files = try #require(manifest["side_files"]?.object)
      var file = try #require(files["tokenizer.json"]?.object)
      #expect(file["deflated"]?.bool == true)
      let count = try #require(file["bytes"]?.integer)
      file["bytes"] = .integer(count + more)
      files["tokenizer.json"] = .object(file)
      manifest["side_files"] = .object(files)
    }
    let bundle = try ModelBundle(path: path)
    #expect(
      throws: CheckpointError(
        path: path, tensor: "file:tokenizer.json", .unsupported("a damaged zlib stream"))
    ) { try bundle.sideFile("tokenizer.json") }
  }

  @Test func weightsThatAreNoNumbers() throws {
    let folder = try TemporaryFolder()
    try OutputFile.write("{}", to: folder.file("config.json"))
    let layout = SafetensorsLayout(
      items: [.init(name: "a", dtype: .float32, shape: [2])], metadata: [])
    var writer = try SafetensorsWriter(path: folder.file("model.safetensors"), layout: layout)
    try writer.write(Tensor(.float32, shape: [2], copying: [1, 70000] as [Float]))
    try writer.finish()
    let source = try CheckpointFolder(path: folder.path)
    try BundleContents(of: source, dtype: nil).checkNumbers()
    // Beyond what a half holds.
    #expect(
      throws: CheckpointError(path: folder.path, tensor: "a", .notFinite(count: 1, total: 2))
    ) { try BundleContents(of: source, dtype: .float16).checkNumbers() }
  }

  /// Two files whose names differ only in how an accent is written.
  @Test func sideFilesOfEqualNames() throws {
    let folder = try TemporaryFolder()
    try OutputFile.write("{}", to: folder.file("config.json"))
    try OutputFile.write("1", to: folder.file("\u{E9}.txt"))
    try OutputFile.write("2", to: folder.file("e\u{301}.txt"))
    let layout = SafetensorsLayout(items: [], metadata: [])
    try SafetensorsWriter(path: folder.file("model.safetensors"), layout: layout).finish()
    let source = try CheckpointFolder(path: folder.path)
    #expect(source.sideFileNames.count == 3)
    let error = #expect(throws: CheckpointError.self) { try BundleContents(of: source, dtype: nil) }
    #expect(error?.problem == .duplicateTensor(other: "\u{E9}.txt"))
  }
}
