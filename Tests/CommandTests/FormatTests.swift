import Foundation
import TestSupport
import Testing

/// Formats through the program, as the README shows them.
@Suite struct FormatTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func run(_ arguments: String...) throws -> Command.Result {
    try Command.run(arguments)
  }

  /// Safetensors → F32 GGUF → safetensors, and → HDF5 → safetensors: the same tensors, bit for bit.
  @Test func roundTrips() throws {
    for suffix in ["gguf", "h5", "npz"] {
      let file = folder.file("m." + suffix)
      let there = try run("convert", Samples.quickstart, file)
      #expect(there.status == 0 && there.output.contains("wrote \(file)"), "\(there.error)")
      let back = folder.file("back-" + suffix)
      #expect(try run("convert", file, back, "--quiet").status == 0)
      let diff = try run("diff", Samples.quickstart, back)
      #expect(diff.status == 0, "\(diff.output)")
      #expect(!diff.output.contains("different") && !diff.output.contains("only in"))
    }
    let rounded = folder.file("half.safetensors")
    #expect(
      try run("convert", Samples.quickstart, rounded, "--dtype", "f16", "--quiet").status == 0)
    let diff = try run("diff", Samples.quickstart, rounded)
    #expect(diff.status == 1 && diff.output.contains("different") && diff.error.isEmpty)
    #expect(try run("convert", Samples.quickstart, rounded).status == 73)
  }

  @Test func aFileTypeFromQuantizeToEval() throws {
    let quantized = folder.file("q"), gguf = folder.file("m.gguf")
    let result = try run(
      "quantize", Samples.quickstart, quantized, "--method", "rtn", "--encoding", "Q4_K_M")
    #expect(result.status == 0, "\(result.error)")
    #expect(result.output.contains("Q6_K") && result.output.contains("Q4_K "))
    let packed = try run("pack", quantized, folder.file("m"), "--format", "condensed,gguf")
    #expect(packed.status == 0, "\(packed.error)")
    // The same weights in both files, and in the folder.
    for other in [gguf, folder.file("m.condensed")] {
      #expect(try run("diff", quantized, other).status == 0)
    }
    let inspected = try run("inspect", gguf)
    #expect(inspected.output.contains("GGUF file") && inspected.output.contains("rtn"))
    // Quantizing again says what is lost twice.
    let again = try run(
      "quantize", gguf, folder.file("again"), "--method", "rtn", "--encoding", "int4-g32")
    #expect(again.status == 0 && again.error.contains("quantized before, as"), "\(again.error)")
    #expect(again.error.contains("Q4_K") && !again.error.contains("Q8_0"))
  }

  /// Entropy-coded weights hit the asked bits, survive packing, and go on in GGUF as floats only.
  @Test func entropyCodedFromQuantizeToBundle() throws {
    let quantized = folder.file("q"), bundle = folder.file("m.condensed")
    let good = try run(
      "quantize", Samples.quickstart, quantized, "--method", "ec", "--bits", "3.25",
      "--rates", "equal", "--calibration",
      Samples.calibration, "--tokens", "8192", "--encoding", "lm_head=int8-g32")
    #expect(good.status == 0, "\(good.error)")
    let rows = good.output.split(separator: "\n").filter { $0.contains(" ec ") }
    #expect(rows.count == 42)
    for row in rows {
      let bits = try #require(row.split(separator: " ").dropFirst(3).first.flatMap { Double($0) })
      #expect(abs(bits - 3.25) < 0.0105, "\(row)")
    }
    #expect(try run("pack", quantized, bundle, "--quiet").status == 0)
    #expect(try run("verify", bundle, "--quiet").status == 0)
    #expect(try run("diff", quantized, bundle).status == 0)
    #expect(try run("pack", quantized, folder.file("m.gguf"), "--format", "gguf").status == 65)
    let without = try run(
      "quantize", Samples.quickstart, folder.file("x"), "--method", "ec", "--calibration",
      Samples.calibration)
    #expect(without.status == 64 && without.error.contains("--bits"))
  }

  /// Options that a format or an encoding has no use for are refused, not ignored.
  @Test func optionsThatDoNothing() throws {
    for name in ["m.h5", "m.npz", "m.condensed", "m.safetensors"] {
      let result = try run(
        "convert", Samples.quickstart, folder.file(name), "--max-shard-size", "1MB")
      #expect(result.status == 65 && result.error.contains("--max-shard-size"), "\(result.error)")
      #expect(!Samples.exists(folder.file(name)))
    }
    for option in [["--grid", "minmax"], ["--no-act-order"]] {
      let result = try Command.run(
        [
          "quantize", Samples.quickstart, folder.file("q"), "--calibration", Samples.calibration,
          "--encoding", "Q4_K_M",
        ] + option)
      #expect(result.status == 64 && result.error.contains("does nothing"), "\(result.error)")
    }
  }

  @Test func patternsNameTypes() throws {
    let quantized = folder.file("q")
    let result = try run(
      "quantize", Samples.quickstart, quantized, "--method", "rtn", "--encoding", "Q4_0",
      "*.v_proj=Q8_0", "*.o_proj=f16", "*.gate_proj=copy")
    #expect(result.status == 0, "\(result.error)")
    let inspected = try run("inspect", quantized, "--json")
    #expect(inspected.output.contains("\"encoding\": \"Q8_0\""))
    #expect(inspected.output.contains("\"encoding\": \"f16\""))
    let unknown = try run(
      "quantize", Samples.quickstart, folder.file("x"), "--method", "rtn", "--encoding", "Q4_K_X")
    #expect(unknown.status == 64 && unknown.error.contains("Q4_K_"))
  }

  @Test func whatAFormatCannotHoldIsAnError() throws {
    let quantized = folder.file("q")
    #expect(
      try run(
        "quantize", Samples.quickstart, quantized, "--method", "rtn", "--encoding", "int8-g32",
        "--quiet"
      ).status == 0)
    let gguf = folder.file("m.gguf")
    let refused = try run("pack", quantized, gguf, "--format", "gguf")
    #expect(refused.status == 65 && refused.error.contains("--decode"), "\(refused.error)")
    #expect(refused.error.split(separator: "\n").count == 1 && !Samples.exists(gguf))
    #expect(try run("pack", quantized, gguf, "--format", "gguf", "--decode").status == 0)
    #expect(
      try run("pack", quantized, folder.file("x"), "--format", "onnx").error.contains("onnx"))
  }

  /// A pickle that calls `os.system` is an error that names it, and the call does not happen.
  @Test func noPickleRuns() throws {
    let marker = folder.file("ran")
    var bytes: [UInt8] = [
      0x80, 2, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50,
    ]
    bytes += [0x19, 0x2E, 0x80, 2, 0x4D, 0xE9, 0x03, 0x2E, 0x80, 2, 0x7D, 0x2E, 0x80, 2]
    bytes += Array("cposix\nsystem\n(S'touch \(marker)'\ntR.".utf8)
    let file = folder.file("evil.pt")
    try Data(bytes).write(to: URL(filePath: file))
    for command in [
      ["inspect", file], ["convert", file, folder.file("out")], ["diff", file, file],
    ] {
      let result = try Command.run(command)
      #expect(result.status == 65 && result.error.contains("posix.system"), "\(result.error)")
      #expect(result.error.split(separator: "\n").count == 1)
    }
    #expect(!Samples.exists(marker) && !Samples.exists(folder.file("out")))
  }

  /// One damaged file a format: status 65 and one line.
  @Test(
    arguments: [
      "gguf/small-llama.gguf", "pytorch/views.pt", "pytorch/views-legacy.pt", "hdf5/keras-model.h5",
    ]) func damagedFiles(_ name: String) throws
  {
    let source = TestData.fixtures + "/" + name
    try #require(Samples.exists(source))
    let data = try Samples.bytes(source)
    let file = folder.file(FilePathName.last(name))
    for part in [1, 5, 9, 13] {
      try data.prefix(data.count * part / 16).write(to: URL(filePath: file))
      let result = try run("inspect", file)
      #expect(result.status == 65, "\(part)/16: \(result.error)")
      #expect(result.error.split(separator: "\n").count == 1)
    }
  }

  @Test func otherFilesSayWhatTheyAre() throws {
    let tokenizer = try run("inspect", Samples.quickstart + "/tokenizer.json")
    #expect(tokenizer.status == 0 && tokenizer.output.contains("tokenizer of 4096 tokens"))
    let configuration = try run("inspect", Samples.quickstart + "/config.json")
    #expect(configuration.output.contains("configuration of a llama model"))
    let unknown = folder.file("noise")
    try Data([1, 2, 3, 0, 255, 254]).write(to: URL(filePath: unknown))
    let result = try run("inspect", unknown)
    #expect(result.status == 65 && result.error.contains("01 02 03 00 ff fe"))
  }
}

private enum FilePathName {
  static func last(_ path: String) -> String { String(path.split(separator: "/").last ?? "") }
}
