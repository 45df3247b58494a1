// Runs a recipe: stage after stage, each measured and gated, with finished stages taken from the cache.

import Bundles
import Checkpoints
import CondenseInference
import Drift
import JSONDocuments
import Networks
import Quantization
import Tensors

/// What the caller of a run hears while it goes on.
public struct RunObserver {
  /// A task and how much of it is done.
  public var progress: (String, Double) -> Void
  /// A stage begins: its place from 1, how many there are, and its name.
  public var stage: (Int, Int, String) -> Void
  /// A layer is finished, with its seconds.
  public var layer: (LayerRecord, Double) -> Void
  /// A line to show.
  public var note: (String) -> Void

  /// An observer.
  public init(
    progress: @escaping (String, Double) -> Void, stage: @escaping (Int, Int, String) -> Void,
    layer: @escaping (LayerRecord, Double) -> Void, note: @escaping (String) -> Void
  ) {
    self.progress = progress
    self.stage = stage
    self.layer = layer
    self.note = note
  }
}

/// How a run ended.
public struct RunOutcome: Sendable {
  /// Everything that was measured.
  public let report: RunReport
  /// The stage whose gate failed, after which the run stopped; nil when all ran.
  public let failedStage: String?
  /// The results that stand in the output folder.
  public let results: [String]
  /// Where the results and the report are.
  public let output: String
}

/// A run of a recipe.
public final class RecipeRun {
  private let recipe: Recipe
  private let output: String
  private let cache: StageCache
  private let observer: RunObserver
  private let original: any Checkpoint
  private let originalHash: String
  private let measurements: RunMeasurements
  private var report: RunReport
  private var results: [String] = []

  /// Prepares a run: opens the model and the texts, and checks every option against the model.
  ///
  /// - Parameter output: The folder for results.
  public init(
    recipe: Recipe, output: String, cache: StageCache, observer: RunObserver
  ) throws {
    self.recipe = recipe
    self.output = FilePath.withoutTrailingSlash(output)
    self.cache = cache
    self.observer = observer
    original = try AnyCheckpoint.open(recipe.model.value)
    originalHash = try contentHash(of: original)
    try RunPlan.check(recipe, original: original)
    try InputHashes.check(recipe)
    try cache.prepare()
    measurements = try RunMeasurements(
      recipe: recipe, original: original, originalHash: originalHash, cache: cache,
      progress: observer.progress)
    report = RunReport(
      toolVersion: toolVersion, model: FilePath.name(of: recipe.model.value),
      architecture: original.configuration["model_type"]?.string ?? "unknown",
      referenceBytes: original.byteCount, stages: [])
  }

  /// Runs all stages, or all up to the first whose gate fails.
  public func run(current: String, force: Bool) throws -> RunOutcome {
    let resolved = try resolvedRecipe(current: current)
    try claimOutput(resolved: resolved, force: force)
    var input = original, inputHash = originalHash
    var failed: String?
    for (index, entry) in recipe.stages.enumerated() {
      observer.stage(index + 1, recipe.stages.count, entry.name.value)
      let start = ContinuousClock.now
      let step = try run(entry, input: input, inputHash: inputHash)
      var stage = step.report
      stage.gates = GateCheck.results(
        entry.gate, drift: step.drift, slices: step.slices, layers: stage.layers,
        original: measurements.originalSpearman)
      stage.seconds = (ContinuousClock.now - start) / .seconds(1)
      report.stages.append(stage)
      if stage.verdict == .failed {
        failed = entry.name.value
        break
      }
      let others = try step.commit()
      if let result = step.result { results.append(result) }
      results += others
      // A bundle is a side product: the next stage goes on from what was packed.
      guard let folder = step.folder else { continue }
      input = folder
      inputHash = stage.outputHash
    }
    if failed == nil, let last = recipe.stages.last, last.kind != PackStageOptions.kind {
      results.append(try keepFolder(input, name: last.name.value))
    }
    try OutputFile.write(resolved, to: FilePath.join(output, Self.resolvedName))
    try report.write(to: output)
    return RunOutcome(report: report, failedStage: failed, results: results, output: output)
  }

  /// The name of the recipe as it ran.
  static let resolvedName = "recipe.resolved.yaml"

  private func resolvedRecipe(current: String) throws -> String {
    var copy = recipe
    copy.inputs = try InputHashes.all(of: recipe)
    copy.output = nil
    return copy.resolvedYAML(in: output, current: current)
  }

  /// The output folder must be new, or hold an earlier run of the same recipe.
  private func claimOutput(resolved: String, force: Bool) throws {
    let marker = FilePath.join(output, Self.resolvedName)
    if FilePath.kind(of: output) != nil, !force {
      let isOwn =
        (try? FilePath.read(marker)).map { String(decoding: $0, as: UTF8.self) == resolved }
        ?? false
      let isEmpty = (try? FilePath.names(in: output).isEmpty) ?? false
      guard isOwn || isEmpty else { throw CheckpointError(path: output, .outputExists) }
    }
    try FilePath.makeFolder(output)
    try OutputFile.write(resolved, to: marker)
  }

  /// What a stage gave.
  private struct Step {
    var report: StageReport
    /// What the next stage reads; nil for stages that only make a file.
    let folder: (any Checkpoint)?
    let drift: MeasuredDrift?
    let slices: [(name: String, drift: MeasuredDrift)]
    /// The file in the output folder, for stages that make one.
    let result: String?
    /// Gives the result its name, once the gates have passed, and writes what stands beside it.
    let commit: () throws -> [String]
  }

  private func run(
    _ entry: StageEntry, input: any Checkpoint, inputHash: String
  ) throws -> Step {
    let recipe = recipe.seen(by: entry), input = try entry.seen(input)
    switch entry.options {
    case let options as QuantizeStageOptions:
      let asked = QuantizeRun(input: input, request: try options.request(recipe))
      let calibration = try asked.loadCalibration()
      let stage = QuantizeRun(
        input: input,
        request: cache.keepingSensitivities(
          of: asked, inputHash: inputHash, calibration: calibration?.json ?? .null))
      return try writeFolder(
        entry, stage, calibration?.json ?? .null, input: input, inputHash: inputHash)
    case let options as PruneStageOptions:
      let stage = PruneRun(input: input, request: try options.request(recipe))
      return try writeFolder(
        entry, stage, try stage.loadCalibration()?.json ?? .null, input: input,
        inputHash: inputHash)
    case let options as DistillStageOptions:
      let stage = DistillRun(input: input, request: try options.request())
      return try writeFolder(
        entry, stage, try stage.sources(), input: input, inputHash: inputHash)
    case let options as PackStageOptions:
      return try pack(
        entry, options.request, also: options.also, input: input, inputHash: inputHash)
    default:
      preconditionFailure("no runner for the stage kind '\(entry.kind)'")
    }
  }

  private func writeFolder(
    _ entry: StageEntry, _ stage: any FolderStage, _ calibration: JSONValue,
    input: any Checkpoint, inputHash: String
  ) throws -> Step {
    let key = stage.key(inputHash: inputHash, calibration: calibration)
    let path = cache.stagePath(key)
    var seconds: [String: Double] = [:]
    if FilePath.kind(of: path) == .folder {
      observer.note("\(entry.name.value): finished before, reused")
      for member in cache.figures(key + "-seconds")?.object?.members ?? [] {
        seconds[member.key] = member.value.number
      }
    } else {
      _ = try stage.run(
        output: path, force: false, inputHash: inputHash, hasDrift: false, complete: { _ in },
        progress: observer.progress,
        finished: { [observer] record, time in
          seconds[record.tensor] = time
          observer.layer(record, time)
        })
      try cache.store(
        .object(
          JSONObject(
            seconds.sorted { $0.key < $1.key }.map {
              .init(key: $0.key, value: .number($0.value))
            })), key: key + "-seconds")
    }
    let folder = try CheckpointFolder(path: path)
    let lineage = try Lineage.parent(of: folder)
    let records = lineage["work"]?["layers"]?.array?.compactMap { LayerRecord(json: $0) } ?? []
    let outputHash = try contentHash(of: folder)
    let measured = try measurements.measure(
      folder, hash: outputHash, input: input, inputHash: inputHash)
    var report = stageReport(entry, stage.options, inputHash, outputHash, folder, measured)
    report.curve = try DistillRun.curve(of: folder)
    report.layers = records.map { $0.result(seconds: seconds[$0.tensor] ?? 0) }
    for unit in ["tokens", "samples"] {
      guard let asked = calibration[unit + "_asked"]?.integer,
        let used = calibration[unit + "_used"]?.integer
      else { continue }
      report.calibration = CalibrationUse(asked: asked, used: used, unit: unit)
    }
    return Step(
      report: report, folder: folder, drift: measured.reference, slices: measured.slices,
      result: nil, commit: { [] })
  }

  private func pack(
    _ entry: StageEntry, _ request: PackRequest, also: [PackedFormat], input: any Checkpoint,
    inputHash: String
  ) throws -> Step {
    let path = FilePath.join(output, RunPlan.bundleName(of: entry, in: recipe))
    let stage = PackRun(input: input, request: request)
    let contents = try stage.contents()
    // The bundle's numbers are those of its contents: it is measured before a byte is written, and says
    // of itself what was measured.
    var hash = ContentHash()
    hash.update(inputHash)
    hash.update(request.json.compactText)
    let measured = try measurements.measure(
      contents, hash: hash.digits, input: input, inputHash: inputHash)
    let (manifest, byteCount) = try stage.manifest(
      of: contents, drift: measured.json, inputHash: inputHash)
    var report = stageReport(entry, request.json, inputHash, hash.digits, contents, measured)
    report.bytes = byteCount
    return Step(
      report: report, folder: nil, drift: measured.reference, slices: measured.slices,
      result: path,
      commit: {
        try stage.write(contents, manifest, to: path)
        return try also.map { try Self.write($0, beside: path, request, input) }
      })
  }

  /// Writes another engine's file of the same weights.
  private static func write(
    _ format: PackedFormat, beside bundle: String, _ request: PackRequest, _ input: any Checkpoint
  ) throws -> String {
    let stem = String(bundle.dropLast(".condensed".count))
    let suffix = ExportFormats.named(format.rawValue)?.suffix ?? ""
    let run = ExportRun(
      input: input, formats: [format.rawValue], options: ExportOptions(dtype: request.dtype),
      pack: request, stage: "pack")
    let path = stem + (suffix.isEmpty ? "." + format.rawValue : suffix)
    return try run.run(output: path, force: true).first?.path ?? path
  }

  private func stageReport(
    _ entry: StageEntry, _ options: JSONValue, _ inputHash: String, _ outputHash: String,
    _ output: any Checkpoint, _ measured: RunMeasurements.Result
  ) -> StageReport {
    let tensors = output.logicalTensors
    let bits = 8 * tensors.reduce(0) { $0 + $1.byteCount }
    let weights = tensors.reduce(0) { $0 + $1.shape.reduce(1, *) }
    var report = StageReport(
      name: entry.name.value, kind: entry.kind, options: options, inputHash: inputHash,
      outputHash: outputHash, bytes: output.byteCount,
      bitsPerWeight: Double(bits) / Double(max(1, weights)), seconds: 0)
    report.referenceDrift = measured.reference?.summary
    report.inputDrift = measured.input?.summary
    report.slices = measured.slices.compactMap { slice in
      slice.drift.summary.map { SliceDrift(name: slice.name, drift: $0) }
    }
    return report
  }

  /// The last stage's folder, when no pack follows: a copy in the output.
  private func keepFolder(_ checkpoint: any Checkpoint, name: String) throws -> String {
    let target = FilePath.join(output, name), partial = target + ".partial"
    try FilePath.remove(partial)
    guard let folder = checkpoint as? CheckpointFolder else { return target }
    for file in try folder.allFiles() {
      let path = FilePath.join(partial, file)
      try FilePath.makeFolder(FilePath.folder(of: path))
      try FilePath.copy(FilePath.join(folder.path, file), to: path)
    }
    try FilePath.remove(target)
    try FilePath.rename(partial, to: target)
    return target
  }
}

extension LayerRecord {
  /// The row of the report.
  func result(seconds: Double) -> LayerResult {
    LayerResult(
      tensor: tensor, encoding: encoding, method: method, bitsPerWeight: bitsPerWeight,
      relativeOutputError: isOutputError ? relativeError : nil, seconds: seconds,
      fallbacks: fallbacks, bitsAboveLimit: extras.bitsAboveLimit ?? nil,
      predictedDrift: extras.predictedDrift, sparsity: extras.zeros?.share)
  }
}
