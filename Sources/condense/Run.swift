import Drift
import ArgumentParser
import Checkpoints
import Glibc
import JSONDocuments
import Pipeline

/// What `run` and `plan` read.
struct RecipeOptions: ParsableArguments {
  @Argument(help: "A recipe, docs/recipes.md.") var recipe: String
  @Option(help: "The checkpoint to start from, instead of the recipe's.") var model: String?
  @Option(
    name: .customLong("set"),
    help: ArgumentHelp("Replaces a parameter or, with dots, any value.", valueName: "key=value"))
  var settings: [String] = []

  func read(output: String?) throws -> Recipe {
    var all: [RecipeSetting] = []
    for setting in settings { all.append(try RecipeSetting(set: setting)) }
    if let model { all.append(.model(model)) }
    if let output { all.append(.output(output)) }
    return try Recipe.read(recipe, settings: all)
  }
}

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a recipe: stage after stage, each measured and gated.",
    discussion: """
      The output folder gets the results, drift.json, report.md, report.html and the recipe as it was \
      resolved. Finished stages are kept in the cache and reused when nothing they depend on changed.
      """)

  @OptionGroup var recipe: RecipeOptions
  @Option(help: "The folder for results, instead of the recipe's.") var output: String?
  @Option(help: ArgumentHelp("The folder of finished stages.", valueName: "dir"))
  var cache: String?
  @Flag(help: "Write into an output folder that holds something else.") var force = false
  @Flag(help: "Print the report as one JSON document.") var json = false
  @OptionGroup(title: "Common") var common: CommonOptions

  func run() throws {
    let progress = common.start()
    let recipe = try recipe.read(output: output)
    guard let output = recipe.output?.value else {
      throw ValidationError("the recipe names no output; give --output DIR")
    }
    guard let cachePath = cache ?? StageCache.standardPath else {
      throw ValidationError("HOME is not set; give --cache DIR")
    }
    let isQuiet = common.quiet || json
    let table = LayerTable(isQuiet: isQuiet)
    let observer = RunObserver(
      progress: progress.show,
      stage: { index, count, name in
        guard !isQuiet else { return }
        Terminal.print("stage \(index) of \(count): \(name)")
      },
      layer: { table.add($0, seconds: $1) },
      note: { if !isQuiet { Terminal.print($0) } })
    let run = try RecipeRun(
      recipe: recipe, output: output, cache: StageCache(path: cachePath), observer: observer)
    let outcome = try run.run(current: Self.currentFolder, force: force)
    if json {
      Terminal.print(outcome.report.json.indentedText)
    } else if !common.quiet {
      Terminal.print("")
      DriftTable.lines(of: outcome.report).forEach(Terminal.print)
      Terminal.print("")
      for result in outcome.results {
        let size = FilePath.kind(of: result) == .file ? FilePath.byteCount(of: result) : nil
        Terminal.print("wrote \(result)" + (size.map { ": \($0) bytes" } ?? ""))
      }
      Terminal.print("wrote \(FilePath.join(outcome.output, "report.html"))")
    }
    if let failed = outcome.failedStage {
      Terminal.printError("stage '\(failed)': a gate failed; the run stopped there")
      throw ExitCode(ExitStatus.answerIsNo)
    }
    if outcome.report.verdict == .undecided {
      Terminal.printError("a gate is undecided: the validation text is too short to say")
      throw ExitCode(ExitStatus.undecided)
    }
  }

  static var currentFolder: String {
    guard let path = unsafe getcwd(nil, 0) else { return "." }
    defer { unsafe free(path) }
    return unsafe String(cString: path)
  }
}

struct Plan: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Say what a recipe will do, and the bytes of its results, without doing it: exact, or what they are an estimate of."
  )

  @OptionGroup var recipe: RecipeOptions
  @Flag(help: "Print one JSON document.") var json = false
  @OptionGroup(title: "Common") var common: CommonOptions

  func run() throws {
    _ = common.start()
    let plan = try RunPlan(try recipe.read(output: nil))
    if json {
      Terminal.print(plan.json.indentedText)
      return
    }
    Terminal.print("model: \(plan.sourceBytes) bytes of tensors")
    for (index, stage) in plan.stages.enumerated() {
      let size =
        (stage.estimate == nil ? "" : "about ") + "\(stage.byteCount) bytes"
        + (stage.estimate.map { " (\($0))" } ?? "")
      Terminal.print(
        "\(index + 1). \(stage.name) (\(stage.kind)): "
          + (stage.fileName.map { "\($0), \(size)" } ?? "model.safetensors, \(size)"))
      for hit in stage.hits {
        Terminal.print("   \(hit.rule) → \(hit.target): \(hit.tensors.count) tensors")
        for tensor in hit.tensors.prefix(common.quiet ? 0 : 8) { Terminal.print("     \(tensor)") }
        if hit.tensors.count > 8, !common.quiet {
          Terminal.print("     … and \(hit.tensors.count - 8) more (--json lists all)")
        }
      }
    }
  }
}

/// The drift of a run, stage by stage, as `run` prints it.
enum DriftTable {
  static func lines(of report: RunReport) -> [String] {
    let kinds = report.driftKinds
    let header = ["stage", "bytes", "bpw"] + kinds.flatMap(titles) + ["gates"]
    let rows = report.stages.flatMap { stage -> [[String]] in
      let whole =
        [stage.name, "\(stage.bytes)", Figures.text(stage.bitsPerWeight, 3)]
        + figures(stage.referenceDrift, kinds) + [stage.verdict?.rawValue ?? "-"]
      // Towers are measured one by one, and the whole is not.
      guard stage.referenceDrift == nil else { return [whole] }
      return [whole]
        + stage.slices.map { ["  " + $0.name, "", ""] + figures($0.drift, kinds) + [""] }
    }
    let all = [header] + rows
    let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
    return all.map { row in
      zip(row, widths).enumerated().map { index, cell in
        let padding = String(repeating: " ", count: cell.1 - cell.0.count)
        return index == 0 ? cell.0 + padding : padding + cell.0
      }.joined(separator: "  ")
    }
  }

  private static func titles(_ kind: DriftKind) -> [String] {
    switch kind {
    case .decoder: ["perplexity", "ratio", "KL mean", "KL 99 %", "top-1 %"]
    case .encoder: ["cosine", "min", "neighbours %", "Spearman"]
    case .samples: ["accuracy %", "agreement %", "KL mean", "output error"]
    case .speech: ["WER %", "to reference %", "KL mean", "top-1 %"]
    }
  }

  /// The figures of a drift under the titles of its kind, and none under the others.
  private static func figures(_ drift: DriftSummary?, _ kinds: [DriftKind]) -> [String] {
    func text(_ value: Double?, _ digits: Int) -> String {
      value.map { Figures.text($0, digits) } ?? "-"
    }
    return kinds.flatMap { kind -> [String] in
      switch (kind, drift) {
      case (.decoder, .decoder(let drift)?):
        return [
          Figures.text(drift.perplexity, 4), Figures.text(drift.perplexityRatio, 5),
          Figures.text(drift.kl.mean, 6), Figures.text(drift.kl.p99, 5),
          Figures.text(drift.top1 * 100, 2),
        ]
      case (.encoder, .encoder(let drift)?):
        return [
          Figures.text(drift.cosine.mean, 6), Figures.text(drift.cosine.min, 5),
          text(drift.neighbours.map { 100 * $0.mean }, 1), text(drift.spearman, 2),
        ]
      case (.samples, .samples(let drift)?):
        return [
          text(drift.accuracy.map { 100 * $0 }, 2), text(drift.agreement.map { 100 * $0 }, 2),
          text(drift.divergence?.mean, 6), text(drift.outputError, 6),
        ]
      case (.speech, .speech(let drift)?):
        return [
          text(drift.wordErrorRate.map { 100 * $0.rate }, 2),
          text(drift.toReference.map { 100 * $0.rate }, 2), text(drift.divergence?.mean, 6),
          text(drift.top1.map { 100 * $0 }, 2),
        ]
      default: return [String](repeating: "-", count: titles(kind).count)
      }
    }
  }
}
