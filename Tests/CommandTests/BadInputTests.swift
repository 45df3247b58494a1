import Foundation
import TestSupport
import Testing

/// Wrong input through the program: the status, one line that says what and where, and nothing left behind.
@Suite struct BadInputTests {
  let folder: TemporaryFolder
  let model: String
  let output: String

  init() throws {
    folder = try TemporaryFolder()
    model = folder.file("model")
    output = folder.file("output")
  }

  private func expect(
    _ result: Command.Result, status: Int32, _ parts: String...,
    location: SourceLocation = #_sourceLocation
  ) {
    #expect(result.status == status, "\(result.error)", sourceLocation: location)
    let lines = result.error.split(separator: "\n")
    #expect(lines.count == 1 || status == 64, "\(result.error)", sourceLocation: location)
    for part in parts {
      #expect(result.error.contains(part), "\(result.error)", sourceLocation: location)
    }
    for left in [output, output + ".partial", output + ".unproved"] {
      #expect(!Samples.exists(left), "left behind: \(left)", sourceLocation: location)
    }
  }

  private func fixture(_ name: String) throws {
    try Samples.copy(TestData.fixtures + "/families/" + name, to: model)
  }

  private var weights: String { model + "/model.safetensors" }

  private func changeWeights(_ change: (inout Data) -> Void) throws {
    var data = try Samples.bytes(weights)
    change(&data)
    try data.write(to: URL(filePath: weights))
  }

  /// The JSON header, changed as text, with its length.
  private func changeHeader(_ change: (inout String) -> Void) throws {
    try changeWeights { data in
      let length = data.prefix(8).enumerated().reduce(0) { $0 + Int($1.element) << (8 * $1.offset) }
      var header = String(decoding: data[8..<8 + length], as: UTF8.self)
      change(&header)
      let bytes = Array(header.utf8)
      data =
        Data((0..<8).map { UInt8(truncatingIfNeeded: bytes.count >> (8 * $0)) }) + bytes
        + data[(8 + length)...]
    }
  }

  private func changeConfig(_ from: String, _ to: String) throws {
    let path = model + "/config.json"
    let text = try String(contentsOfFile: path, encoding: .utf8)
    #expect(text.contains(from))
    try text.replacingOccurrences(of: from, with: to)
      .write(toFile: path, atomically: true, encoding: .utf8)
  }

  private func quantize() throws -> Command.Result {
    try Command.run("quantize", model, output, "--method", "rtn", "--encoding", "int4-g32")
  }

  @Test func aTruncatedShard() throws {
    try fixture("llama-sharded")
    let shard = try #require(
      FileManager.default.contentsOfDirectory(atPath: model).filter {
        $0.hasSuffix(".safetensors") && $0.contains("-of-")
      }
      .sorted().last)
    let path = model + "/" + shard
    try (try Samples.bytes(path)).dropLast(100).write(to: URL(filePath: path))
    expect(try quantize(), status: 65, shard, "do not lie in")
  }

  @Test func aMissingShard() throws {
    try fixture("llama-sharded")
    let shard = try #require(
      FileManager.default.contentsOfDirectory(atPath: model).filter { $0.contains("-of-") }.min())
    try FileManager.default.removeItem(atPath: model + "/" + shard)
    expect(try quantize(), status: 65, "model.safetensors.index.json", shard)
  }

  @Test func aHeaderLongerThanTheFile() throws {
    try fixture("llama")
    try changeWeights { $0.replaceSubrange(0..<8, with: [0, 0, 0, 5, 0, 0, 0, 0]) }
    expect(try quantize(), status: 65, "model.safetensors", "truncated")
  }

  @Test func aHeaderOfTwoToThe63Bytes() throws {
    try fixture("llama")
    try changeWeights { $0.replaceSubrange(0..<8, with: [0, 0, 0, 0, 0, 0, 0, 0x80]) }
    expect(try quantize(), status: 65, "model.safetensors", "9223372036854775808")
  }

  @Test func overlappingAndOutOfRangeOffsets() throws {
    try fixture("llama")
    let original = try Samples.bytes(weights)
    // The second tensor starts where the first does: found as an overlap, by name.
    try changeHeader { header in
      let ranges = header.matches(of: /"data_offsets":\s*\[(\d+),\s*(\d+)\]/)
        .sorted { (Int($0.1) ?? 0) < (Int($1.1) ?? 0) }
      let second = ranges[1]
      let size = (Int(second.2) ?? 0) - (Int(second.1) ?? 0)
      header.replaceSubrange(second.range, with: "\"data_offsets\":[4,\(4 + size)]")
    }
    expect(try quantize(), status: 65, "overlaps with")
    try original.write(to: URL(filePath: weights))
    try changeHeader { header in
      if let match = header.firstMatch(of: /"data_offsets":\s*\[(\d+),/) {
        header.replaceSubrange(match.range, with: "\"data_offsets\":[999999999,")
      }
    }
    expect(try quantize(), status: 65, "data offsets 999999999")
  }

  @Test func aWrongDtypeSizeDuplicateKeysAndNamesThatAreNotUTF8() throws {
    try fixture("llama")
    let original = try Samples.bytes(weights)
    try changeHeader { $0 = $0.replacing("\"F32\"", with: "\"F64\"", maxReplacements: 1) }
    expect(try quantize(), status: 65, "needs", "bytes, the offsets give")
    try original.write(to: URL(filePath: weights))
    try changeHeader { header in
      header = header.replacing("k_proj", with: "q_proj", maxReplacements: 1)
    }
    expect(try quantize(), status: 65, "stands twice")
    try original.write(to: URL(filePath: weights))
    try changeWeights { data in
      if let name = data.range(of: Data("k_proj".utf8)) { data[name.lowerBound] = 0xFF }
    }
    expect(try quantize(), status: 65, "not UTF-8")
  }

  @Test func aConfigThatContradictsTheTensors() throws {
    try fixture("llama")
    try changeConfig("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3")
    expect(try quantize(), status: 65, "model.layers.2.")
    try changeConfig("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 1")
    expect(try quantize(), status: 65, "model.layers.1.", "does not use")
    try changeConfig("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2")
    try changeConfig("\"intermediate_size\": 40", "\"intermediate_size\": 48")
    expect(try quantize(), status: 65, "has shape", "the configuration says")
  }

  @Test func aNaNInAWeight() throws {
    try fixture("llama")
    try changeWeights { data in
      data.replaceSubrange(data.count - 4..<data.count, with: [0, 0, 0xC0, 0x7F])
    }
    let packed = try Command.run("pack", model, output)
    expect(packed, status: 65, "1 of", "infinite or NaN")
    // Every matrix gets one, so that whichever is quantized first is refused.
    try changeWeights { data in
      let start =
        8 + data.prefix(8).enumerated().reduce(0) { $0 + Int($1.element) << (8 * $1.offset) }
      for offset in stride(from: start, to: data.count - 4, by: 4) {
        data.replaceSubrange(offset..<offset + 4, with: [0, 0, 0xC0, 0x7F])
      }
    }
    expect(try quantize(), status: 65, ".weight'", "infinite or NaN")
  }

  @Test func aTokenizerWithAMergeOfUnknownTokens() throws {
    try Samples.copy(Samples.quickstart, to: model)
    let path = model + "/tokenizer.json"
    var text = try String(contentsOfFile: path, encoding: .utf8)
    let merges = try #require(text.range(of: "\"merges\""))
    let first = try #require(text[merges.upperBound...].range(of: "\"Ġ\""))
    text.replaceSubrange(first, with: "\"nosuchtoken\"")
    try text.write(toFile: path, atomically: true, encoding: .utf8)
    expect(
      try Command.run("eval", model, "--text", Samples.validation), status: 65, "tokenizer.json",
      "nosuchtoken")
  }

  @Test func anEmptyTextAndOneShorterThanAWindow() throws {
    let text = folder.file("text.txt")
    try "".write(toFile: text, atomically: true, encoding: .utf8)
    let eval = ["eval", Samples.quickstart, "--text", text]
    expect(try Command.run(eval), status: 65, "text.txt", "empty")
    try "Only a few words.".write(toFile: text, atomically: true, encoding: .utf8)
    expect(try Command.run(eval), status: 65, "text.txt", "one window needs 256")
    expect(
      try Command.run(
        "quantize", Samples.quickstart, output, "--encoding", "int4-g32", "--calibration", text),
      status: 65, "text.txt", "one window needs 256")
  }

  @Test func aTextThatIsNotUTF8AndOneThatIsNotThere() throws {
    let text = folder.file("text.txt")
    try Data([0x61, 0xFF, 0x62]).write(to: URL(filePath: text))
    expect(
      try Command.run("eval", Samples.quickstart, "--text", text), status: 65, "text.txt", "UTF-8")
    expect(
      try Command.run("eval", Samples.quickstart, "--text", folder.file("none.txt")), status: 66,
      "none.txt", "no such file")
    expect(
      try Command.run("eval", folder.file("no-model"), "--text", Samples.validation), status: 66,
      "no-model", "no such file")
  }

  @Test func anExistingOutput() throws {
    try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: false)
    try "mine".write(toFile: output + "/file", atomically: true, encoding: .utf8)
    for arguments in [
      ["quantize", Samples.quickstart, output, "--method", "rtn", "--encoding", "int4-g32"],
      ["pack", Samples.quickstart, output],
      [
        "run", TestData.root + "recipes/quickstart.yaml", "--output", output, "--cache",
        folder.file("cache"),
      ],
    ] {
      let result = try Command.run(arguments)
      #expect(result.status == 73, "\(result.error)")
      #expect(result.error.contains("exists already"))
      #expect(try String(contentsOfFile: output + "/file", encoding: .utf8) == "mine")
      #expect(!Samples.exists(output + ".partial"))
    }
  }

  @Test func wrongUsage() throws {
    expect(
      try Command.run(
        "quantize", Samples.quickstart, output, "--method", "rtn", "--encoding", "int4-g31"),
      status: 64, "int4-g31", "did you mean")
    expect(
      try Command.run(
        "quantize", Samples.quickstart, output, "--method", "rtn", "--encoding", "int4-g32",
        "lm_haed=int8-g32"), status: 64, "lm_haed", "lm_head")
    expect(
      try Command.run("quantize", Samples.quickstart, output, "--encoding", "int4-g32"), status: 64,
      "--calibration")
    expect(try Command.run("eval", Samples.quickstart), status: 64, "--text")
    expect(try Command.run("qantize"), status: 64, "qantize")
  }

  @Test func aRecipeWithATypo() throws {
    let recipe = folder.file("recipe.yaml")
    try """
    condense: 1
    model: \(Samples.quickstart)
    calibraton: {text: [\(Samples.calibration)]}
    stages: [{quantize: {encoding: int4-g32}}]
    """.write(toFile: recipe, atomically: true, encoding: .utf8)
    expect(
      try Command.run("run", recipe, "--output", output), status: 78, "recipe.yaml:3:1",
      "calibraton", "did you mean 'calibration'")
    try """
    condense: 1
    model: \(Samples.quickstart)
    stages:
      - quantize:
          method: rtn
          encoding: int4-g32
          overrides: {lm_haed: int8-g32}
    """.write(toFile: recipe, atomically: true, encoding: .utf8)
    expect(
      try Command.run("run", recipe, "--output", output), status: 78, "recipe.yaml:7:19", "lm_haed")
  }

  @Test func aRecipeThatIsNotThere() throws {
    expect(
      try Command.run("run", folder.file("none.yaml"), "--output", output), status: 66, "none.yaml")
  }

  /// A folder on a small or a read-only file system, when this user may mount one.
  private func mounted(_ options: String, _ body: (String) throws -> Void) throws {
    let disk = folder.file("disk")
    try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: false)
    func shell(_ line: String) throws -> Int32 {
      let process = Process()
      process.executableURL = URL(filePath: "/bin/sh")
      process.arguments = ["-c", line]
      process.standardError = FileHandle.nullDevice
      try process.run()
      process.waitUntilExit()
      return process.terminationStatus
    }
    guard try shell("mount -t tmpfs -o \(options) tmpfs '\(disk)'") == 0 else {
      print("skipped: this user may not mount a file system")
      return
    }
    defer { _ = try? shell("umount '\(disk)'") }
    try body(disk)
    #expect(try FileManager.default.contentsOfDirectory(atPath: disk).isEmpty)
  }

  @Test func aFullDisk() throws {
    try mounted("size=1m") { disk in
      for arguments in [
        [
          "quantize", Samples.quickstart, disk + "/out", "--method", "rtn", "--encoding",
          "int4-g32",
        ],
        ["pack", Samples.quickstart, disk + "/out"],
      ] {
        let result = try Command.run(arguments)
        #expect(result.status == 74, "\(result.error)")
        #expect(result.error.contains("no space left"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: disk).isEmpty)
      }
    }
  }

  @Test func aReadOnlyDisk() throws {
    try mounted("ro,size=1m") { disk in
      for arguments in [
        [
          "quantize", Samples.quickstart, disk + "/out", "--method", "rtn", "--encoding",
          "int4-g32",
        ],
        ["pack", Samples.quickstart, disk + "/out"],
      ] {
        let result = try Command.run(arguments)
        #expect(result.status == 73, "\(result.error)")
        #expect(result.error.contains("read-only"))
      }
    }
  }

  /// An option that would do nothing is refused.
  @Test(
    arguments: [
      ["--damping", "0.1"], ["--block-size", "64"], ["--no-act-order"], ["--tokens", "100"],
      ["--seed", "1"], ["--no-true-sequential"],
    ]) func unusedOptions(_ option: [String]) throws
  {
    try fixture("llama")
    let result = try Command.run(
      ["quantize", model, output, "--method", "rtn", "--encoding", "int8-channel"] + option)
    #expect(result.status == 64 && result.error.contains("does nothing"), "\(result.error)")
    #expect(!Samples.exists(output))
  }
}
