import Foundation
import JSONDocuments
import TestSupport
import Testing

/// Keras models over sequences and of several inputs through the program, from Keras's file to Keras's file.
@Suite struct KerasCommandTests {
  static let folder = TestData.fixtures + "/keras/"
  let work: TemporaryFolder

  init() throws { work = try TemporaryFolder() }

  private func json(_ arguments: String...) throws -> JSONValue {
    let result = try Command.run(arguments)
    #expect(result.status == 0, "\(arguments): \(result.error)")
    return try JSONValue(parsing: result.output)
  }

  /// Every matrix of a recurrent model is a layer of the walk, the embedding where a rule names it.
  @Test(arguments: ["gptq", "qronos", "smoothquant"])
  func recurrentModelsAreQuantized(_ method: String) throws {
    let model = Self.folder + "text.h5", ids = Self.folder + "text.npz"
    let output = work.file("q"), bundle = work.file("q.condensed")
    var arguments = [
      "quantize", model, output, "--method", method, "--calibration", ids, "--json", "--quiet",
    ]
    arguments += ["--encoding", method == "smoothquant" ? "w8a8" : "int8-g16"]
    if method == "gptq" { arguments += ["--encoding", "words*=int8-g16"] }
    let result = try Command.run(arguments)
    #expect(result.status == 0, "\(result.error)")
    let layers = try JSONValue(parsing: result.output)["layers"]?.array ?? []
    #expect(layers.count == (method == "gptq" ? 9 : 8))
    #expect(
      layers.contains {
        $0["tensor"]?.string == "ways/ways/forward_both/lstm_cell/recurrent_kernel"
      }, "\(layers.compactMap { $0["tensor"]?.string })")
    #expect(try Command.run("pack", output, bundle).status == 0)
    let verified = try Command.run("verify", bundle)
    #expect(verified.status == 0, "\(verified.error)")
    let drift = try json(
      "eval", bundle, "--images", ids, "--reference", model, "--json")
    #expect(try #require(drift["label_agreement"]?.number) == 1)
    #expect(try #require(drift["kl"]?["mean"]?.number) < 0.01)
    #expect(try #require(drift["output_error"]?.number) > 0)
  }

  @Test func recurrentModelsArePruned() throws {
    let output = work.file("p"), ids = Self.folder + "text.npz"
    let result = try Command.run([
      "prune", Self.folder + "text.keras", output, "--method", "sparsegpt", "--sparsity", "0.3",
      "--calibration", ids, "--quiet",
    ])
    #expect(result.status == 0, "\(result.error)")
    let drift = try json(
      "eval", output, "--images", ids, "--reference", Self.folder + "text.h5", "--json")
    #expect(try #require(drift["output_error"]?.number) < 0.5)
  }

  /// Several inputs in one archive, several results with a name each and their mean.
  @Test func severalInputsAndResults() throws {
    let model = Self.folder + "pairs.keras", samples = Self.folder + "pairs.npz"
    let output = work.file("q"), bundle = work.file("q.condensed")
    let result = try Command.run([
      "quantize", model, output, "--method", "gptq", "--calibration", samples, "--encoding",
      "int4-g16", "--quiet",
    ])
    #expect(result.status == 0, "\(result.error)")
    #expect(try Command.run("pack", output, bundle).status == 0)
    #expect(try Command.run("verify", bundle).status == 0)
    let drift = try json("eval", bundle, "--images", samples, "--reference", model, "--json")
    let outputs = drift["outputs"]?.array ?? []
    #expect(outputs.map { $0["name"]?.string } == ["label", "score"])
    #expect(outputs[0]["label_agreement"]?.number == drift["label_agreement"]?.number)
    #expect(outputs[1]["label_agreement"] == nil)
    let errors = outputs.compactMap { $0["output_error"]?.number }
    let mean = try #require(drift["output_error"]?.number)
    #expect(errors.count == 2 && abs((errors[0] + errors[1]) / 2 - mean) < 1e-12 && mean > 0)
    let graph = try json("inspect", bundle, "--json")["graph"]?.string ?? ""
    #expect(graph.hasPrefix("reads 'left' (5), 'right' (5), 'extra' (3); "), "\(graph)")
    #expect(graph.contains("1 LSTM") && graph.hasSuffix("gives 'label', 'score'"))
    let shown = try Command.run("eval", bundle, "--images", samples, "--reference", model)
    #expect(shown.output.contains("'score': output error"))
  }

  /// After compression the file that Keras loads has the layers, the names and the order of the original's.
  @Test(arguments: ["text.h5", "text-keras2.h5", "pairs.h5"])
  func kerasFilesAreWritten(_ name: String) throws {
    let model = Self.folder + name, output = work.file("q"), file = work.file("q.h5")
    #expect(
      try Command.run(
        "quantize", model, output, "--method", "rtn", "--encoding", "int8-g16", "--quiet"
      ).status == 0)
    let written = try Command.run("convert", output, file)
    #expect(written.status == 0, "\(written.error)")
    #expect(written.output.contains("decoded"))
    let before = try json("inspect", model, "--json"), after = try json("inspect", file, "--json")
    #expect(before["graph"] == after["graph"] && before["architecture"] == after["architecture"])
    func names(_ inspection: JSONValue) -> [String] {
      inspection["tensors"]?.array?.compactMap { $0["name"]?.string } ?? []
    }
    #expect(names(before) == names(after) && !names(after).isEmpty)
    let difference = try json("diff", output, file, "--json")
    #expect(difference["different"]?.array?.isEmpty == true)
    let samples = Self.folder + (name.hasPrefix("pairs") ? "pairs.npz" : "text.npz")
    let drift = try json("eval", file, "--images", samples, "--reference", output, "--json")
    #expect(try #require(drift["output_error"]?.number) < 1e-10)
    // Our own layout where it is asked for by name.
    let own = try Command.run("pack", model, work.file("own.h5"), "--format", "hdf5")
    #expect(own.status == 0, "\(own.error)")
    #expect(try json("inspect", work.file("own.h5"), "--json")["format"]?.string == "HDF5 file")
  }

  /// An archive's weights go back into an archive.
  @Test func kerasArchivesAreWritten() throws {
    let model = Self.folder + "pairs.keras", output = work.file("q"), file = work.file("q.keras")
    #expect(
      try Command.run(
        "quantize", model, output, "--method", "rtn", "--encoding", "int8-g16", "--quiet"
      ).status == 0)
    let written = try Command.run("convert", output, file)
    #expect(written.status == 0, "\(written.error)")
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: work.path).sorted() == ["q", "q.keras"])
    let found = try json("inspect", file, "--json"), before = try json("inspect", model, "--json")
    #expect(found["format"]?.string == "Keras archive" && found["graph"] == before["graph"])
    #expect(try json("diff", output, file, "--json")["different"]?.array?.isEmpty == true)
    let drift = try json(
      "eval", file, "--images", Self.folder + "pairs.npz", "--reference", output, "--json")
    #expect(try #require(drift["output_error"]?.number) < 1e-10)
  }

  /// What needs no forward pass works on models that cannot be run; what does says why.
  @Test func unknownLayersAreRounded() throws {
    let model = Self.folder + "unknown.keras", output = work.file("q")
    let rounded = try Command.run(
      "quantize", model, output, "--method", "rtn", "--encoding", "int8-g16", "--quiet")
    #expect(rounded.status == 0, "\(rounded.error)")
    #expect(try Command.run("pack", output, work.file("q.condensed")).status == 0)
    let graph = try json("inspect", model, "--json")["graph"]?.string
    #expect(graph == "not run: a Keras model with layers of the kinds UpSampling1D")
    let measured = try Command.run("eval", model, "--images", Self.folder + "variants.npz")
    #expect(measured.status == 65 && measured.error.contains("UpSampling1D"), "\(measured.error)")
    let other = try Command.run("pack", model, work.file("q.h5"), "--format", "keras-h5")
    #expect(other.status != 0 && other.error.contains("no weights of a Keras .h5"))
    let archive = try Command.run(
      "pack", Self.folder + "text.h5", work.file("q.keras"), "--format", "keras")
    #expect(archive.status != 0 && archive.error.contains("NAME.h5"))
  }

  /// Inputs of open length get one; data-free stages need none.
  @Test func openLengthsAreClosed() throws {
    let model = Self.folder + "open.keras", closed = work.file("closed")
    let samples = Self.folder + "open.npz"
    let graph = try json("inspect", model, "--json")["graph"]?.string ?? ""
    #expect(graph.contains("leaves a size open, [null,null,3]"), "\(graph)")
    let measured = try Command.run("eval", model, "--images", samples)
    #expect(measured.status == 65 && measured.error.contains("--steps N"), "\(measured.error)")
    let rounded = try Command.run(
      "quantize", model, work.file("r"), "--method", "rtn", "--encoding", "int8-g16", "--quiet")
    #expect(rounded.status == 0, "\(rounded.error)")
    let converted = try Command.run("convert", model, closed, "--steps", "6")
    #expect(converted.status == 0, "\(converted.error)")
    #expect(try json("eval", closed, "--images", samples, "--json")["samples"]?.integer == 4)
    let result = try Command.run([
      "quantize", closed, work.file("q"), "--method", "gptq", "--calibration", samples,
      "--encoding", "int8-g16", "--quiet",
    ])
    #expect(result.status == 0, "\(result.error)")
    let nothing = try Command.run("convert", closed, work.file("again"), "--steps", "6")
    #expect(nothing.status != 0 && nothing.error.contains("does nothing"), "\(nothing.error)")
  }

  /// Gradients go through time: a model that lost in rounding learns from what it was.
  @Test func roundedModelsLearn() throws {
    let model = Self.folder + "pairs.keras", samples = Self.folder + "pairs.npz"
    let rounded = work.file("r"), trained = work.file("t")
    #expect(
      try Command.run(
        "quantize", model, rounded, "--method", "rtn", "--encoding", "int2-g16", "--quiet"
      ).status == 0)
    let result = try Command.run([
      "distill", rounded, trained, "--train", "scales", "--teacher", model, "--images", samples,
      "--epochs", "60", "--batch", "2", "--learning-rate", "0.01", "--validation-windows", "2",
      "--quiet",
    ])
    #expect(result.status == 0, "\(result.error)")
    func error(_ path: String) throws -> Double {
      try #require(
        try json("eval", path, "--images", samples, "--reference", model, "--json")[
          "output_error"]?.number)
    }
    #expect(try error(trained) < error(rounded))
  }

  @Test func badSamplesAreRefused() throws {
    let pairs = Self.folder + "pairs.h5"
    func refuses(_ arguments: [String], _ part: String) throws {
      let result = try Command.run(arguments)
      #expect(result.status == 65, "\(arguments): \(result.error)")
      #expect(result.error.contains(part), "\(result.error)")
    }
    try refuses(["eval", pairs, "--images", Self.folder + "text.npz"], "'left' is missing")
    try refuses(
      ["eval", pairs, "--images", TestData.fixtures + "/images/labels.npy"], "an archive (.npz)")
    try refuses(
      [
        "eval", pairs, "--images", Self.folder + "pairs.npz", "--labels",
        TestData.fixtures + "/images/labels.npy",
      ], "labels for a network of 2 results")
  }
}
