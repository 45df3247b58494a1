import Foundation
import JSONDocuments
import TestSupport
import Testing

/// A tiny speech recognizer through the program: from sounds to transcripts, and what compression does to them.
@Suite struct TranscribeTests {
  static let folder = TestData.fixtures + "/whisper/"
  static let model = folder + "words", recordings = folder + "recordings"
  static let transcripts = recordings + "/transcripts.tsv"
  let work: TemporaryFolder

  init() throws { work = try TemporaryFolder() }

  private func json(_ arguments: [String]) throws -> JSONValue {
    let result = try Command.run(arguments)
    #expect(result.status == 0, "\(arguments): \(result.error)")
    return try JSONValue(parsing: result.output)
  }

  private func measure(_ model: String, _ more: String...) throws -> JSONValue {
    try json(
      [
        "eval", model, "--reference", Self.model, "--audio", Self.recordings, "--transcripts",
        Self.transcripts, "--json",
      ] + more)
  }

  @Test func recordingsAreTranscribed() throws {
    let result = try Command.run("transcribe", Self.model, Self.recordings)
    #expect(result.status == 0, "\(result.error)")
    // What is printed is what --transcripts reads; files of a folder come by name.
    let lines = try String(contentsOfFile: Self.transcripts, encoding: .utf8)
      .split(separator: "\n").sorted()
    #expect(result.output.split(separator: "\n") == lines)
    let document = try json([
      "transcribe", Self.model, Self.recordings + "/one-two.wav", "--language", "en", "--json",
    ])
    let first = try #require(document["transcripts"]?.array?.first)
    #expect(first["text"]?.string == "one two" && first["language"]?.string == "en")
    #expect(first["complete"]?.bool == true && first["name"]?.string == "one-two.wav")
    #expect(first["windows"]?.array?.first?["ids"]?.array?.count == 2)
  }

  @Test func aModelIsItself() throws {
    let drift = try measure(Self.model)
    #expect(drift["recordings"]?.integer == 4 && drift["tokens"]?.integer == 8 + 4)
    #expect(drift["wer"]?.number == 0 && drift["reference_wer"]?.number == 0)
    #expect(drift["wer_to_reference"]?.number == 0 && drift["top1"]?.number == 1)
    #expect(drift["kl"]?["max"]?.number == 0)
    #expect(try json(["inspect", Self.model, "--json"])["architecture"]?.string == "whisper")
    // Without a reference: the words alone.
    let alone = try json([
      "eval", Self.model, "--audio", Self.recordings, "--transcripts", Self.transcripts, "--json",
    ])
    #expect(alone["wer"]?.number == 0 && alone["kl"] == nil && alone["tokens"] == nil)
  }

  /// The chain with every method: eight bits (two, entropy-coded) keep every word, and the bundle transcribes.
  @Test(arguments: ["gptq", "awq", "smoothquant", "qronos", "ec", "rtn"])
  func methodsKeepEveryWord(_ method: String) throws {
    let output = work.file("q"), bundle = work.file("q.condensed")
    var arguments = ["quantize", Self.model, output, "--method", method, "--json", "--quiet"]
    arguments +=
      method == "ec"
      ? ["--bits", "2"] : ["--encoding", method == "smoothquant" ? "w8a8" : "int8-g32"]
    if method != "rtn" { arguments += ["--calibration", Self.recordings, "--samples", "3"] }
    let done = try json(arguments)
    // Encoder: 6 matrices; decoder: 10, with those of the attention to the encoder; a goal for all takes the embedding too.
    #expect(done["layers"]?.array?.count == (method == "ec" ? 17 : 16))
    if method != "rtn" { #expect(done["calibration"]?["samples_used"]?.integer == 3) }
    let packed = try Command.run("pack", output, bundle)
    #expect(packed.status == 0, "\(packed.error)")
    #expect(try Command.run("verify", bundle).status == 0)
    let drift = try measure(bundle)
    #expect(drift["wer"]?.number == 0 && drift["wer_to_reference"]?.number == 0)
    #expect(try #require(drift["kl"]?["mean"]?.number) > 0)
    #expect(try #require(drift["kl"]?["mean"]?.number) < 0.05)
    let text = try Command.run("transcribe", bundle, Self.recordings + "/four.wav")
    #expect(text.output == "four.wav\tfour\n")
  }

  @Test func brutalRoundingLosesWords() throws {
    let output = work.file("q")
    let result = try Command.run(
      "quantize", Self.model, output, "--method", "rtn", "--encoding", "int2-channel", "--encoding",
      "*embed_tokens*=int2-channel", "--quiet")
    #expect(result.status == 0, "\(result.error)")
    let drift = try measure(output)
    #expect(try #require(drift["wer"]?.number) > 0.1)
    #expect(try #require(drift["wer_to_reference"]?.number) == drift["wer"]?.number)
    #expect(try #require(drift["top1"]?.number) < 1)
    #expect(try #require(drift["kl"]?["mean"]?.number) > 0.1)
  }

  /// Calibration sees the inputs of each group: less error where it does, with transcripts given, written by the model,
  /// or out of an array.
  @Test func calibrationReadsRecordingsAndArrays() throws {
    let array = work.file("features.npy")
    #expect(
      try Command.run("prepare-audio", Self.recordings, "--seconds", "2", "-o", array).status == 0)
    let rounded = work.file("rtn")
    #expect(
      try Command.run(
        "quantize", Self.model, rounded, "--method", "rtn", "--encoding", "int3-g32", "--quiet"
      ).status == 0)
    let before = try #require(try measure(rounded)["kl"]?["mean"]?.number)
    for (name, calibration) in [
      ("own", ["--calibration", Self.recordings]), ("array", ["--calibration", array]),
      ("given", ["--calibration", Self.recordings, "--transcripts", Self.transcripts]),
    ] {
      let output = work.file(name)
      let result = try Command.run(
        ["quantize", Self.model, output, "--method", "gptq", "--encoding", "int3-g32", "--quiet"]
          + calibration)
      #expect(result.status == 0, "\(result.error)")
      let after = try #require(try measure(output)["kl"]?["mean"]?.number)
      #expect(after < before / 2, "\(name): \(before) to \(after)")
    }
    let own = try Samples.bytes(work.file("own/model.safetensors"))
    let given = try Samples.bytes(work.file("given/model.safetensors"))
    // The model writes what is said, so that all calibrations are the same; only their files differ, which the lineage says.
    #expect(own == given)
    #expect(try own == Samples.bytes(work.file("array/model.safetensors")))
  }

  @Test func pruningReadsRecordings() throws {
    let output = work.file("p")
    let result = try Command.run([
      "prune", Self.model, output, "--method", "sparsegpt", "--sparsity", "0.3", "--calibration",
      Self.recordings, "--quiet",
    ])
    #expect(result.status == 0, "\(result.error)")
    #expect(try #require(try measure(output)["kl"]?["mean"]?.number) < 1)
  }

  @Test func aRecipeMeasuresAndGates() throws {
    func recipe(_ name: String, _ stage: String, _ gate: String) throws -> String {
      let path = work.file(name + ".yaml")
      try """
      condense: 1
      model: \(Self.model)
      output: \(work.file(name))
      calibration:
        audio: [\(Self.recordings)]
        transcripts: \(Self.transcripts)
        samples: 4
      validation:
        audio: [\(Self.recordings)]
        transcripts: \(Self.transcripts)
        language: en
      stages:
        - \(stage)
            gate: {\(gate)}
        - pack: {}
      """.write(toFile: path, atomically: true, encoding: .utf8)
      return path
    }
    let cache = ["--cache", work.file("cache")]
    let both = try recipe(
      "good", "quantize:\n      method: gptq\n      encoding: int8-g32",
      "max-wer-increase: 0, max-wer-to-reference: 0.01")
    let plan = try Command.run(["plan", both, "--json"])
    #expect(plan.status == 0, "\(plan.error)")
    let good = try Command.run(["run", both] + cache)
    #expect(good.status == 0, "\(good.error)\(good.output)")
    #expect(good.output.contains("WER %"))
    let report = try String(contentsOfFile: work.file("good/drift.json"), encoding: .utf8)
    #expect(report.contains("max-wer-to-reference") && report.contains("wer_to_reference"))
    let bad = try Command.run(
      [
        "run",
        try recipe(
          "bad", "prune:\n      method: magnitude\n      sparsity: 0.8", "max-wer-increase: 0.05"),
      ] + cache)
    #expect(bad.status == 1, "\(bad.error)\(bad.output)")
  }

  @Test func whatDoesNotFitIsRefused() throws {
    func refuses(_ arguments: [String], _ status: Int32, _ part: String) throws {
      let result = try Command.run(arguments)
      #expect(result.status == status, "\(arguments): \(result.error)")
      #expect(result.error.contains(part), "\(result.error)")
    }
    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
      try Data(bytes).write(to: URL(filePath: work.file(name)))
      return work.file(name)
    }
    let sound = Self.recordings + "/four.wav"
    let whole = Array(try Samples.bytes(sound))
    let empty = try write("empty.wav", Array(whole[..<40]) + [0, 0, 0, 0])
    try refuses(["transcribe", Self.model, empty], 65, "no samples")
    try refuses(["transcribe", Self.model, Self.transcripts], 65, "WAV")
    try refuses(["transcribe", Self.model, work.file("none.wav")], 66, "none.wav")
    try refuses(["transcribe", Self.model, sound, "--language", "fr"], 64, "en, de, haw")
    try refuses(["transcribe", Samples.quickstart, sound], 65, "transcribing speech")
    try refuses(["generate", Self.model, "--prompt", "x"], 65, "generating text")
    try refuses(["eval", Self.model, "--audio", sound], 64, "--reference")
    try refuses(
      ["eval", Self.model, "--text", Samples.calibration, "--reference", Self.model], 65, "WAV")
    try refuses(["eval", Self.model, "--text", sound, "--transcripts", sound], 64, "--audio")
    for options in [[], ["--teacher", Self.model, "--blockwise"]] {
      try refuses(
        [
          "distill", Self.model, work.file("q"), "--text", Samples.calibration, "--context", "24",
        ] + options, 65, "from text alone")
    }
    try refuses(
      [
        "quantize", Self.model, work.file("q"), "--method", "ec", "--bits", "2", "--curvature",
        "--calibration", Self.recordings,
      ], 65, "curvature in a whisper model")
    // Transcripts.
    let lines = Array("four.wav\tfour\nfour.wav\tfive\n".utf8)
    try refuses(
      ["eval", Self.model, "--audio", sound, "--transcripts", try write("twice.tsv", lines)], 65,
      "twice.tsv:2")
    try refuses(
      [
        "eval", Self.model, "--audio", sound, "--transcripts",
        try write("blank.tsv", Array("four.wav four\n".utf8)),
      ], 65, "blank.tsv:1")
    try refuses(
      [
        "eval", Self.model, "--audio", sound, "--transcripts",
        try write("other.tsv", Array("five.wav\tfive\n".utf8)),
      ], 65, "four.wav")
    let long = "four.wav\t" + String(repeating: "four ", count: 40)
    try refuses(
      [
        "quantize", Self.model, work.file("q"), "--method", "gptq", "--encoding", "int8-g32",
        "--calibration", sound, "--transcripts", try write("long.tsv", Array(long.utf8)),
      ], 65, "24 positions")
    try refuses(
      [
        "quantize", Self.model, work.file("q"), "--method", "gptq", "--encoding", "int8-g32",
        "--calibration", "self",
      ], 65, "its own recordings")
    // Features of another number of bands.
    let array = work.file("bands.npy")
    #expect(
      try Command.run("prepare-audio", sound, "--bands", "40", "-o", array).status == 0)
    try refuses(["transcribe", Self.model, array], 65, "200 x 80")
    // A checkpoint that lacks a file, a tensor, or has one too many.
    let copy = work.file("copy")
    try Samples.copy(Self.model, to: copy)
    try FileManager.default.removeItem(atPath: copy + "/tokenizer.json")
    try refuses(["transcribe", copy, sound], 65, "tokenizer.json")
    let text = try String(contentsOfFile: copy + "/config.json", encoding: .utf8)
    for (layers, part) in [("2", "layers.1"), ("0", "encoder_layers")] {
      try text.replacingOccurrences(
        of: "\"encoder_layers\": 1", with: "\"encoder_layers\": \(layers)"
      ).write(toFile: copy + "/config.json", atomically: true, encoding: .utf8)
      try refuses(["transcribe", copy, sound], 65, part)
    }
    #expect(!Samples.exists(work.file("q")))
  }
}
