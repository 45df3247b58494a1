import ArgumentParser
import Bundles
import Checkpoints
import JSONDocuments
import Pipeline

struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what a checkpoint is: architecture, tensors, encodings, sizes, lineage, drift.",
    discussion: "Reads headers only: no weight is touched.")

  @Argument(help: "A checkpoint folder, a bundle or a teacher log.") var input: String
  @Option(help: "List at most this many tensors.") var limit = 20
  @Flag(help: "Print one JSON document, with every tensor.") var json = false
  @OptionGroup(title: "Common") var common: CommonOptions

  func validate() throws {
    guard limit >= 0 else { throw ValidationError("--limit is \(limit); it must not be negative") }
  }

  func run() throws {
    _ = common.start()
    if let log = try TeacherLogInspection(path: input) {
      Terminal.print(json ? log.json.indentedText : log.text)
      return
    }
    if let log = try SampleLogSummary(path: input) {
      Terminal.print(json ? log.json.indentedText : log.text)
      return
    }
    let checkpoint: any Checkpoint
    do {
      checkpoint = try AnyCheckpoint.open(input)
    } catch let error as CheckpointError {
      // Files beside the weights have no tensors to list; what they are is worth a line.
      guard case .unknownFormat = error.problem,
        let what = try SideFileInspection.description(of: input)
      else { throw error }
      let line: JSONValue = ["schema": 1, "format": .string(what), "tensors": .array([])]
      Terminal.print(json ? line.indentedText : "format        \(what)")
      return
    }
    let inspection = try Inspection(checkpoint)
    if json {
      Terminal.print(inspection.json.indentedText)
      return
    }
    Terminal.print("format        \(inspection.format)")
    Terminal.print("architecture  \(inspection.architecture ?? "unknown")")
    if !inspection.towers.isEmpty {
      Terminal.print("towers        " + inspection.towers.joined(separator: ", "))
    }
    if let graph = inspection.graph { Terminal.print("graph         \(graph)") }
    Terminal.print("parameters    \(inspection.parameters)")
    Terminal.print(
      "tensors       \(inspection.tensorBytes) bytes, "
        + "\(Figures.text(inspection.bitsPerWeight, 3)) bits a weight")
    Terminal.print("on disk       \(inspection.byteCount) bytes")
    if !inspection.stages.isEmpty {
      Terminal.print("lineage       " + inspection.stages.reversed().joined(separator: " → "))
    }
    let reference = inspection.drift["reference"] ?? inspection.drift
    if let kl = reference["kl"]?["mean"]?.number {
      Terminal.print("drift         KL \(Figures.text(kl, 6))")
    } else if let cosine = reference["cosine"]?["mean"]?.number {
      Terminal.print("drift         cosine \(Figures.text(cosine, 6))")
    }
    Terminal.print("encodings")
    for row in inspection.encodings {
      Terminal.print(
        "  " + LayerTable.pad(row.name, 16) + "\(row.tensors) tensors, \(row.parameters) weights, "
          + "\(row.bytes) bytes")
    }
    Terminal.print("side files    " + inspection.sideFiles.joined(separator: ", "))
    for tensor in inspection.tensors.prefix(limit) {
      Terminal.print(
        "  " + LayerTable.pad(tensor.name, 46) + LayerTable.pad(tensor.encoding, 16)
          + LayerTable.pad("\(tensor.shape)", 16) + Figures.text(tensor.bitsPerWeight, 3)
          + (tensor.method.map { "  " + $0 } ?? ""))
    }
    if inspection.tensors.count > limit {
      Terminal.print("  … and \(inspection.tensors.count - limit) more (--limit or --json)")
    }
  }
}

struct Report: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write the Markdown summary or the HTML page of a run again, from its drift.json.")

  @Argument(help: "The drift.json of a run.") var drift: String
  @Option(name: .shortAndLong, help: "Where to write; - is standard output.") var output = "-"
  @Option(help: "markdown or html.") var format = "markdown"
  @OptionGroup(title: "Common") var common: CommonOptions

  func validate() throws {
    guard format == "markdown" || format == "html" else {
      throw ValidationError("--format is '\(format)'; it must be markdown or html")
    }
  }

  func run() throws {
    let report = try RunReport.read(drift)
    let text = format == "html" ? report.html : report.markdown
    if output == "-" {
      Terminal.write(text, to: 1)
    } else {
      try OutputFile.write(text, to: output)
    }
  }
}
