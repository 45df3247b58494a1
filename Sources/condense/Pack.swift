import ArgumentParser
import Bundles
import Checkpoints
import Pipeline
import Tensors

struct Pack: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a checkpoint as one bundle, or in the formats that other engines load.",
    discussion: """
      Encoded weights stay as they are: pack never quantizes. With several formats OUTPUT is a stem: \
      NAME.condensed, NAME.gguf, the folders NAME.compressed-tensors and NAME.safetensors.
      """)

  @Argument(help: "Any checkpoint: a folder, a bundle or another program's file.") var input: String
  @Argument(help: "The bundle to write, NAME.condensed, or another format's file or folder.")
  var output: String
  @Option(
    name: .customLong("format"),
    help: ArgumentHelp(
      "One or several of \(ExportRun.formatNames.joined(separator: ", ")), with commas.",
      valueName: "formats"))
  var formats = "condensed"
  @OptionGroup(title: "Input") var source: InputOptions
  @OptionGroup(title: "Format") var format: ExportArguments
  @Flag(help: "Write weights in encodings that a format lacks as floats.") var decode = false
  @Flag(inversion: .prefixedNo, help: "Carry a self-test in the bundle.") var selfTest = true
  @Flag(help: "Replace an existing output.") var force = false
  @OptionGroup(title: "Common") var common: CommonOptions

  private var formatNames: [String] { formats.split(separator: ",").map(String.init) }

  func validate() throws {
    let known = ExportRun.formatNames
    if let wrong = formatNames.first(where: { !known.contains($0) }) {
      throw ValidationError(
        "--format names '\(wrong)'; it must be one of \(known.joined(separator: ", "))")
    }
    guard !formatNames.isEmpty, Set(formatNames).count == formatNames.count else {
      throw ValidationError("--format must name each format once")
    }
    if formatNames == ["condensed"], decode || format.maxShardSize != nil {
      throw ValidationError("--decode and --max-shard-size are not for bundles alone")
    }
  }

  func run() throws {
    _ = common.start()
    let result = try ExportRun(
      input: try source.open(input), formats: formatNames,
      options: try format.options(decodes: decode),
      pack: PackRequest(dtype: format.type, selfTest: selfTest), stage: "pack"
    ).run(output: output, force: force)
    guard !common.quiet else { return }
    Self.print(result)
  }

  /// What was written, and what was not.
  static func print(_ result: [ExportedOutput]) {
    for output in result {
      for note in output.report.notes { Terminal.print(note) }
      let files = output.report.files.count
      Terminal.print(
        "wrote \(output.path): \(output.report.byteCount) bytes"
          + (files > 1 ? " in \(files) files" : ""))
    }
  }
}

struct Verify: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check a bundle: the hash of every tensor, and the self-test.")

  @Argument(help: "A bundle.") var bundle: String
  @OptionGroup(title: "Common") var common: CommonOptions

  func run() throws {
    _ = common.start()
    let report = try BundleCheck.verify(try ModelBundle(path: bundle))
    guard !common.quiet else { return }
    Terminal.print("hashes      \(report.tensors) tensors as the manifest says")
    if let test = report.selfTest {
      Terminal.print("self-test   differs by \(test.difference), \(test.tolerance) is allowed")
    } else {
      Terminal.print("self-test   none in this bundle")
    }
  }
}
