import ArgumentParser
import Bundles
import Checkpoints
import JSONDocuments
import Pipeline
import Tensors

struct Convert: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a checkpoint in another format.",
    discussion: """
      The output's name says the format: NAME.gguf, NAME.h5, NAME.npz, NAME.safetensors, NAME.condensed, or a \
      checkpoint folder for any other name. NAME.h5 of a Keras model is one that Keras loads, as NAME.keras is of an \
      archive. Weights in encodings that the format lacks are decoded, and \
      each such case is named.
      """)

  @Argument(help: "Any checkpoint: a folder, a bundle or another program's file.") var input: String
  @Argument(help: "The file or folder to write.") var output: String
  @OptionGroup(title: "Format") var format: ExportArguments
  @OptionGroup(title: "Input") var source: InputOptions
  @Flag(help: "Make batch norms part of the convolutions before them.") var foldNorms = false
  @Option(
    help: ArgumentHelp(
      "Length of what the inputs of a Keras model leave open, such as steps of time.",
      valueName: "count"))
  var steps: Int?
  @Flag(help: "Replace an existing output.") var force = false
  @OptionGroup(title: "Common") var common: CommonOptions

  func validate() throws {
    if let steps, !(1...1 << 20).contains(steps) {
      throw ValidationError("--steps is \(steps); it must be 1 to 1048576")
    }
  }

  func run() throws {
    _ = common.start()
    var checkpoint = try source.open(input)
    if let steps { checkpoint = try KerasSteps.fixed(checkpoint, steps: steps) }
    let result = try ExportRun(
      input: foldNorms ? try NormFolding.folded(checkpoint) : checkpoint,
      formats: [ExportRun.formatName(ofOutput: output, from: checkpoint)],
      options: try format.options(decodes: true), pack: PackRequest(dtype: format.type),
      stage: "convert"
    ).run(output: output, force: force)
    guard !common.quiet else { return }
    Pack.print(result)
  }
}

/// What a checkpoint may lack.
struct InputOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A tokenizer.json or SentencePiece model for an input that has none.", valueName: "file"))
  var tokenizer: String?
  @Option(
    help: ArgumentHelp(
      "Of a model with several towers, the one to work on: vision or text. The others stay as they are.",
      valueName: "name"))
  var tower: String?

  func open(_ path: String) throws -> any Checkpoint {
    try AnyCheckpoint.open(path, tokenizer: tokenizer, tower: tower)
  }
}

/// What the writers of all formats understand.
struct ExportArguments: ParsableArguments {
  @Option(
    help: "Type of the floats that are not encoded: f32, f16 or bf16; as they are by default.")
  var dtype: String?
  @Option(
    help: ArgumentHelp(
      "Split the weights into files of at most this size, such as 500MB.", valueName: "size"))
  var maxShardSize: String?

  static let types: [String: DType] = ["f32": .float32, "f16": .float16, "bf16": .bfloat16]

  /// The type of `--dtype`.
  var type: DType? { dtype.flatMap { Self.types[$0] } }

  func validate() throws {
    if let dtype, Self.types[dtype] == nil {
      throw ValidationError("--dtype is '\(dtype)'; it must be f32, f16 or bf16")
    }
    _ = try shardBytes()
  }

  private func shardBytes() throws -> Int? {
    guard let maxShardSize else { return nil }
    guard let bytes = ByteSize.parse(maxShardSize), bytes > 0 else {
      throw ValidationError(
        "--max-shard-size is '\(maxShardSize)'; it must be a size such as 500MB, 2GiB or 1048576")
    }
    return bytes
  }

  func options(decodes: Bool) throws -> ExportOptions {
    ExportOptions(dtype: type, shardBytes: try shardBytes(), decodes: decodes)
  }
}

struct Diff: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compare the tensors of two checkpoints of any formats.",
    discussion: """
      Names, shapes and values are compared; encoded weights as the numbers that they stand for. Status 1 \
      says that something differs.
      """)

  @Argument(help: "A checkpoint.") var first: String
  @Argument(help: "Another one.") var second: String
  @Option(help: "List at most this many tensors.") var limit = 20
  @Flag(help: "Print one JSON document, with every difference.") var json = false
  @OptionGroup(title: "Common") var common: CommonOptions

  func validate() throws {
    guard limit >= 0 else { throw ValidationError("--limit is \(limit); it must not be negative") }
  }

  func run() throws {
    _ = common.start()
    let diff = try CheckpointDiff(try AnyCheckpoint.open(first), try AnyCheckpoint.open(second))
    if json {
      Terminal.print(diff.json.indentedText)
    } else if !common.quiet {
      show(diff)
    }
    if !diff.isEmpty { throw ExitCode(ExitStatus.answerIsNo) }
  }

  private func show(_ diff: CheckpointDiff) {
    Terminal.print(
      "equal      \(diff.equal) tensors"
        + (diff.storedOtherwise > 0 ? ", \(diff.storedOtherwise) of them stored otherwise" : ""))
    for (label, names) in [
      ("only in \(first)", diff.onlyFirst), ("only in \(second)", diff.onlySecond),
    ]
    where !names.isEmpty {
      Terminal.print("\(label): \(names.count)")
      for name in names.prefix(limit) { Terminal.print("  \(name)") }
    }
    guard !diff.differences.isEmpty else { return }
    Terminal.print("different  \(diff.differences.count) tensors")
    for item in diff.differences.prefix(limit) {
      let values =
        item.shapes[0] == item.shapes[1]
        ? "\(item.different) of \(item.total) values, at most \(item.largest), "
          + "relative error \(Figures.text(item.relative, 8))"
        : "shape \(item.shapes[0]) and \(item.shapes[1])"
      Terminal.print(
        "  " + LayerTable.pad(item.name, 46)
          + LayerTable.pad(Set(item.encodings).sorted().joined(separator: " / "), 18) + values)
    }
    if diff.differences.count > limit {
      Terminal.print("  … and \(diff.differences.count - limit) more (--limit or --json)")
    }
  }
}
