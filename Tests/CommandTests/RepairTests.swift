import Foundation
import JSONDocuments
import TestSupport
import Testing

/// `condense quantize --repair-rank` as a user runs it.
@Suite struct RepairTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func quantize(_ output: String, _ options: [String]) throws -> Command.Result {
    try Command.run(["quantize", Samples.quickstart, folder.file(output)] + options)
  }

  private func json(_ path: String) throws -> JSONValue {
    try JSONValue(parsing: Array(try Samples.bytes(folder.file(path))))
  }

  private func drift(_ name: String) throws -> Double {
    let result = try Command.run([
      "eval", folder.file(name), "--reference", Samples.quickstart, "--text", Samples.validation,
      "--windows", "16", "--json",
    ])
    #expect(result.status == 0, "\(result.error)")
    return try #require(
      try JSONValue(parsing: Array(result.output.utf8))["kl"]?["mean"]?.number)
  }

  /// Every matrix of codes gets factors, the drift falls, a bundle holds all of it, and exports that cannot refuse it.
  @Test func repairedModel() throws {
    let calibrated = [
      "--calibration", Samples.calibration, "--tokens", "8192", "--encoding", "int2-g64",
    ]
    let plain = try quantize("plain", calibrated + ["--quiet"])
    #expect(plain.status == 0, "\(plain.error)")
    let repaired = try quantize("repaired", calibrated + ["--repair-rank", "16", "--quiet"])
    #expect(repaired.status == 0, "\(repaired.error)")
    let lineage = try json("repaired/lineage.json")
    #expect(lineage["options"]?["repair-rank"]?.integer == 16)
    let layers = lineage["work"]?["layers"]?.array ?? []
    let before = try json("plain/lineage.json")["work"]?["layers"]?.array ?? []
    #expect(layers.count == before.count && !layers.isEmpty)
    #expect(layers.allSatisfy { $0["encoding"]?.string == "int2-g64+r16-f16" })
    // Two bits are rounded otherwise by every BLAS kernel; at rank 16 the gain is far larger than that.
    let ratio = try drift("repaired") / drift("plain")
    #expect(ratio < 0.9, "\(ratio)")

    let packed = try Command.run([
      "pack", folder.file("repaired"), folder.file("r.condensed"), "--quiet",
    ])
    #expect(packed.status == 0, "\(packed.error)")
    let verified = try Command.run(["verify", folder.file("r.condensed")])
    #expect(verified.status == 0, "\(verified.error)")
    #expect(try drift("r.condensed") == drift("repaired"))
    let refused = try Command.run([
      "pack", folder.file("repaired"), folder.file("r.gguf"), "--format", "gguf",
    ])
    #expect(refused.status == 65, "\(refused.error)")
    #expect(refused.error.contains("int2-g64+r16-f16 has no equal in GGUF"), "\(refused.error)")
  }

  /// A name does what the option does, one tensor at a time; rounding needs no text.
  @Test func namedEncodings() throws {
    let result = try quantize(
      "named",
      [
        "--method", "rtn", "--encoding", "copy", "*layers.0.mlp.down_proj*=int3-g64+r4-f16",
        "--quiet",
      ])
    #expect(result.status == 0, "\(result.error)")
    let layers = try json("named/lineage.json")["work"]?["layers"]?.array ?? []
    #expect(layers.compactMap { $0["encoding"]?.string } == ["int3-g64+r4-f16"])
  }

  /// Every method that a repair goes with, and a file type of llama.cpp.
  @Test(arguments: [
    ["--method", "awq", "--encoding", "int4-g32"], ["--method", "qronos", "--encoding", "nf4-g64"],
    ["--encoding", "Q4_K_S"],
  ])
  func methods(_ options: [String]) throws {
    let result = try quantize(
      "m",
      options + ["--calibration", Samples.calibration, "--tokens", "1024", "--repair-rank", "2"])
    #expect(result.status == 0, "\(result.error)")
    let layers = try json("m/lineage.json")["work"]?["layers"]?.array ?? []
    #expect(layers.count { $0["encoding"]?.string?.hasSuffix("+r2-f16") == true } >= 42)
  }

  @Test func refusals() throws {
    let rtn = ["--method", "rtn", "--encoding"]
    let text = ["--calibration", Samples.calibration]
    for (options, part) in [
      (rtn + ["int3-g64", "--repair-rank", "0"], "it must be 1 to"),
      (rtn + ["int3-g64", "--repair-rank", "-3"], "repair-rank"),
      (rtn + ["int3-g64", "--repair-rank", "5000"], "helps"),
      (rtn + ["int3-g64+r5000-f16"], "helps"),
      (rtn + ["f16", "--repair-rank", "8"], "does nothing here"),
      (text + ["--method", "ec", "--bits", "3", "--repair-rank", "8"], "does nothing with"),
      (
        text + ["--method", "smoothquant", "--encoding", "w8a8", "--repair-rank", "8"],
        "does nothing with"
      ),
      (
        text + ["--encoding", "int3-g64,int4-g64", "--bits", "3.5", "--repair-rank", "8"],
        "cannot be repaired"
      ),
      (
        text + ["--encoding", "int3-g64,int4-g64+r8-f16", "--bits", "3.5"],
        "cannot stand in a list"
      ),
      (
        text + [
          "--encoding", "int3-g64,int4-g64", "*down_proj*=int3-g64+r8-f16", "--bits", "3.5",
        ], "cannot stand beside a goal"
      ),
      (text + ["--encoding", "int4-g64", "--pattern", "2:4", "--repair-rank", "8"], "fills zeros"),
    ] {
      let result = try quantize("refused", options)
      #expect(result.status == 64, "\(options) \(result.error)")
      #expect(result.error.contains(part), "\(result.error)")
      #expect(!Samples.exists(folder.file("refused")))
    }
  }

  /// Factors fill zeros, which stay unless the user says otherwise.
  @Test func prunedModels() throws {
    let pruned = try Command.run([
      "prune", Samples.quickstart, folder.file("pruned"), "--method", "magnitude", "--sparsity",
      "0.3", "--quiet",
    ])
    #expect(pruned.status == 0, "\(pruned.error)")
    let options = [
      "--calibration", Samples.calibration, "--tokens", "2048", "--encoding", "int4-g64",
      "--repair-rank", "4", "--quiet",
    ]
    let refused = try Command.run(
      ["quantize", folder.file("pruned"), folder.file("q")] + options)
    #expect(refused.status == 65 && refused.error.contains("--no-keep-zeros"), "\(refused.error)")
    #expect(!Samples.exists(folder.file("q")))
    let filled = try Command.run(
      ["quantize", folder.file("pruned"), folder.file("q"), "--no-keep-zeros"] + options)
    #expect(filled.status == 0, "\(filled.error)")
  }
}
