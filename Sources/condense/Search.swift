import Drift
import ArgumentParser
import Checkpoints
import JSONDocuments
import Pipeline

struct Search: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Find the smallest file of a recipe within a drift, and print the front that was walked.",
    discussion: """
      The recipe's quantize stage runs at several rates (method ec, or a list of encodings), each measured on \
      the recipe's validation text. Sensitivities and walks are kept in the cache, and `run` reuses them.
      """)

  @OptionGroup var recipe: RecipeOptions
  @Option(
    name: .customLong("max-kl"),
    help: ArgumentHelp(
      "The largest mean KL divergence on the validation text.", valueName: "nats"))
  var maxKL: Double?
  @Option(help: "For encoders: the least mean cosine on the validation text.")
  var minCosine: Double?
  @Option(help: "Walks over the model at most.") var walks = 6
  @Option(
    help: ArgumentHelp("Pack the smallest file within the limit.", valueName: "file.condensed"))
  var output: String?
  @Option(help: ArgumentHelp("The folder of finished stages.", valueName: "dir"))
  var cache: String?
  @Flag(help: "Replace an existing output.") var force = false
  @Flag(help: "Print one JSON document.") var json = false
  @OptionGroup(title: "Common") var common: CommonOptions

  func validate() throws {
    guard (maxKL == nil) != (minCosine == nil) else {
      throw ValidationError("give --max-kl for a language model, or --min-cosine for an encoder")
    }
    if let maxKL, !(maxKL > 0 && maxKL.isFinite) {
      throw ValidationError("--max-kl is \(maxKL); it must be greater than 0")
    }
    if let minCosine, !(minCosine > -1 && minCosine < 1) {
      throw ValidationError("--min-cosine is \(minCosine); it must lie between -1 and 1")
    }
    guard (1...100).contains(walks) else {
      throw ValidationError("--walks is \(walks); it must be 1 to 100")
    }
  }

  func run() throws {
    let progress = common.start()
    let recipe = try recipe.read(output: nil)
    guard let cachePath = cache ?? StageCache.standardPath else {
      throw ValidationError("HOME is not set; give --cache DIR")
    }
    if let output, !force, FilePath.kind(of: output) != nil {
      throw CheckpointError(path: output, .outputExists)
    }
    let isQuiet = common.quiet || json
    let search = FrontSearch(
      recipe: recipe, limit: maxKL.map { .kl($0) } ?? .cosine(minCosine ?? 0), walks: walks,
      cache: StageCache(path: cachePath),
      observer: RunObserver(
        progress: progress.show, stage: { _, _, _ in }, layer: { _, _ in }, note: { _ in }))
    var isFirst = true
    let (points, best, folder) = try search.run { point in
      guard !isQuiet else { return }
      if isFirst { Terminal.print(Self.heading(point)) }
      isFirst = false
      Terminal.print(Self.row(point))
    }
    var written: Int?
    if let output, let folder {
      written = try PackRun(input: try AnyCheckpoint.open(folder), request: PackRequest())
        .run(output: output, force: force).byteCount
    }
    if json {
      Terminal.print(Self.json(points, best: best).indentedText)
    } else if !common.quiet {
      Terminal.print("")
      Terminal.print("the front, from the smallest file:")
      if let first = points.first { Terminal.print(Self.heading(first)) }
      for point in points where point.isOnFront { Terminal.print(Self.row(point)) }
      if let best {
        Terminal.print(
          "smallest within the limit: \(points[best].bytes) bytes, at --bits "
            + Figures.text(points[best].goalBits, 3))
      }
      if let output, let written { Terminal.print("wrote \(output): \(written) bytes") }
    }
    guard best != nil else {
      Terminal.printError(
        "no walk of \(points.count) is within the limit; allow more --walks or drift")
      throw ExitCode(ExitStatus.answerIsNo)
    }
  }

  private static func heading(_ point: FrontPoint) -> String {
    let columns =
      switch point.drift {
      case .language: ["KL", "perplexity", "top-1 %"]
      case .encoder: ["cosine", "least"]
      case .samples: ["KL", "accuracy %", "agreement %"]
      case .speech: ["KL", "WER %", "to ref. %"]
      }
    return (["goal", "bytes", "bpw"] + columns).map { LayerTable.pad($0, 12) }.joined()
  }

  private static func row(_ point: FrontPoint) -> String {
    var columns = [
      Figures.text(point.goalBits, 3), "\(point.bytes)", Figures.text(point.bitsPerWeight, 3),
    ]
    switch point.drift {
    case .language(let drift):
      columns += [
        Figures.text(drift.divergence?.mean ?? 0, 6), Figures.text(drift.perplexity, 3),
        Figures.text(100 * (drift.top1 ?? 0), 2),
      ]
    case .encoder(let drift):
      columns += [
        Figures.text(drift.cosine?.mean ?? 0, 6), Figures.text(drift.cosine?.min ?? 0, 6),
      ]
    case .samples(let drift):
      columns += [
        Figures.text(drift.divergence?.mean ?? 0, 6),
        drift.accuracy.map { Figures.text(100 * $0, 2) } ?? "-",
        Figures.text(100 * (drift.agreement ?? 0), 2),
      ]
    case .speech(let drift):
      columns += [
        Figures.text(drift.divergence?.mean ?? 0, 6),
        drift.wordErrorRate.map { Figures.text(100 * $0.rate, 2) } ?? "-",
        Figures.text(100 * (drift.toReference?.rate ?? 0), 2),
      ]
    }
    return columns.map { LayerTable.pad($0, 12) }.joined()
  }

  private static func json(_ points: [FrontPoint], best: Int?) -> JSONValue {
    [
      "schema": 1, "walks": .array(points.map(\.json)),
      "best": best.map { .integer($0) } ?? .null,
    ]
  }
}
