// The smallest file of a recipe within a drift: walks over its rate, each measured on the validation text, and the front
// that they make.

import Checkpoints
import CondenseInference
import Drift
import Glibc
public import JSONDocuments
import Networks
import Quantization
import Tensors

/// A limit on the drift of a file.
public enum DriftLimit: Sendable, Equatable {
  /// Mean KL divergence in nats, for language models.
  case kl(Double)
  /// Mean cosine, for encoders.
  case cosine(Double)

  /// What must not be exceeded: the KL divergence, or 1 less the cosine.
  var drift: Double {
    switch self {
    case .kl(let value): value
    case .cosine(let value): 1 - value
    }
  }

  /// The same figure of a measurement; nil when the model is of the other kind.
  func value(_ drift: MeasuredDrift) -> Double? {
    switch (self, drift) {
    case (.kl, .language(let drift)): drift.divergence?.mean
    case (.kl, .samples(let drift)): drift.divergence?.mean
    case (.kl, .speech(let drift)): drift.divergence?.mean
    case (.cosine, .encoder(let drift)): drift.cosine.map { 1 - $0.mean }
    default: nil
    }
  }
}

/// One walk of a search.
public struct FrontPoint: Sendable {
  /// The goal that was set: stored bits over the weights that are encoded.
  public let goalBits: Double
  /// Bytes of the packed file.
  public let bytes: Int
  /// Stored bits over weights of all tensors.
  public let bitsPerWeight: Double
  /// On the validation text.
  public let drift: MeasuredDrift
  /// The figure that is limited.
  public let limited: Double
  /// Whether no other walk is smaller and drifts less.
  public internal(set) var isOnFront = false

  /// For `--json`.
  public var json: JSONValue {
    [
      "goal_bits": .number(goalBits), "bytes": .integer(bytes),
      "bits_per_weight": .number(bitsPerWeight), "on_front": .bool(isOnFront),
      "drift": drift.json,
    ]
  }
}

/// A search over the rate of a recipe's quantize stage.
public struct FrontSearch {
  private let recipe: Recipe
  private let cache: StageCache
  private let observer: RunObserver
  private let limit: DriftLimit
  private let walks: Int

  /// Rates that are tried.
  private static let range = 1.0...8.0
  /// A drift of at least this share of the limit is near enough.
  private static let nearness = 0.96

  /// A search.
  public init(
    recipe: Recipe, limit: DriftLimit, walks: Int, cache: StageCache, observer: RunObserver
  ) {
    self.recipe = recipe
    self.limit = limit
    self.walks = walks
    self.cache = cache
    self.observer = observer
  }

  /// Walks, each heard of as it ends, and returns them by size.
  ///
  /// - Returns: The points, and the index of the smallest within the limit; nil when there is none.
  public func run(
    walked: (FrontPoint) -> Void
  ) throws -> (points: [FrontPoint], best: Int?, folder: String?) {
    guard
      let entry = recipe.stages.first(where: { $0.options is QuantizeStageOptions }),
      let options = entry.options as? QuantizeStageOptions,
      recipe.stages.count(where: { $0.options is QuantizeStageOptions }) == 1
    else {
      throw AllocationError(description: "a search needs a recipe with one quantize stage")
    }
    guard let validation = recipe.validation else {
      throw AllocationError(description: "a search needs a recipe with 'validation'")
    }
    let original = try AnyCheckpoint.open(recipe.model.value)
    let originalHash = try contentHash(of: original)
    try cache.prepare()
    let model = try Model(original)
    let measurement = try Measurement(
      validation.text(of: validation.files), tokenizedFor: model, reference: model)
    var request = try options.request(recipe)
    var points: [(point: FrontPoint, folder: String)] = []
    var bits = 4.0
    while points.count < walks {
      request.goal = .bits(bits)
      let stage = QuantizeRun(input: original, request: request)
      try stage.check()
      guard request.isAllocated else {
        throw AllocationError(
          description: "a search needs method ec, or a list of encodings to choose from")
      }
      observer.stage(points.count + 1, walks, "\(Figures.text(bits, 3)) bits")
      let (folder, bytes, bitsPerWeight) = try walk(stage, inputHash: originalHash)
      let drift = try measurement.drift(of: try Model(path: folder)) {
        observer.progress("measure", $0)
      }
      guard let value = limit.value(drift) else {
        throw AllocationError(
          description:
            "the limit is of another kind than the model: --max-kl is for language models, --min-cosine for "
            + "encoders")
      }
      let point = FrontPoint(
        goalBits: bits, bytes: bytes, bitsPerWeight: bitsPerWeight, drift: drift, limited: value)
      walked(point)
      points.append((point, folder))
      guard let next = next(points.map(\.point)) else { break }
      bits = next
    }
    points.sort { ($0.point.bytes, $0.point.limited) < ($1.point.bytes, $1.point.limited) }
    var least = Double.infinity
    for index in points.indices where points[index].point.limited < least {
      points[index].point.isOnFront = true
      least = points[index].point.limited
    }
    let best = points.firstIndex { $0.point.limited <= limit.drift }
    return (points.map(\.point), best, best.map { points[$0].folder })
  }

  /// The next rate: from a line through the logarithms of the two nearest walks; nil when there is nothing to win.
  private func next(_ points: [FrontPoint]) -> Double? {
    let limit = limit.drift
    let within = points.filter { $0.limited <= limit }.min { $0.goalBits < $1.goalBits }
    let beyond = points.filter { $0.limited > limit }.max { $0.goalBits < $1.goalBits }
    if let within, within.limited >= Self.nearness * limit { return nil }
    let bits: Double
    switch (within, beyond) {
    case (let within?, let beyond?):
      guard within.goalBits - beyond.goalBits > 0.01 else { return nil }
      // Aims a little below the limit, and away from both ends.
      let aim = log2(0.98 * limit)
      let low = log2(max(within.limited, 1e-12)), high = log2(max(beyond.limited, 1e-12))
      let share = min(max((aim - high) / min(low - high, -1e-9), 0.1), 0.95)
      bits = beyond.goalBits + share * (within.goalBits - beyond.goalBits)
    case (let within?, nil):
      // Drift rises about fourfold a bit.
      bits = within.goalBits - max(0.1, log2(limit / max(within.limited, 1e-12)) / 2)
    case (nil, let beyond?):
      bits = beyond.goalBits + max(0.1, log2(beyond.limited / (0.98 * limit)) / 2)
    case (nil, nil): return nil
    }
    let next = min(max(bits, Self.range.lowerBound), Self.range.upperBound)
    return points.contains { abs($0.goalBits - next) < 0.005 } ? nil : next
  }

  /// One walk of the model, or what the cache has of it.
  private func walk(
    _ stage: QuantizeRun, inputHash: String
  ) throws -> (folder: String, bytes: Int, bitsPerWeight: Double) {
    var stage = stage
    let calibration = try stage.loadCalibration()?.json ?? .null
    stage = QuantizeRun(
      input: stage.input,
      request: cache.keepingSensitivities(
        of: stage, inputHash: inputHash, calibration: calibration))
    let path = cache.stagePath(stage.key(inputHash: inputHash, calibration: calibration))
    if FilePath.kind(of: path) != .folder {
      _ = try stage.run(
        output: path, inputHash: inputHash, progress: observer.progress,
        finished: observer.layer)
    }
    let folder = try CheckpointFolder(path: path)
    let pack = PackRun(input: folder, request: PackRequest())
    let contents = try pack.contents()
    let (_, bytes) = try pack.manifest(of: contents, drift: .null, inputHash: inputHash)
    let tensors = folder.logicalTensors
    let bits = 8 * tensors.reduce(0) { $0 + $1.byteCount }
    let weights = tensors.reduce(0) { $0 + $1.shape.reduce(1, *) }
    return (path, bytes, Double(bits) / Double(max(1, weights)))
  }
}

extension StageCache {
  /// The request with a place in the cache for the sensitivities, so that other rates reuse them.
  func keepingSensitivities(
    of stage: QuantizeRun, inputHash: String, calibration: JSONValue
  ) -> QuantizeRequest {
    var request = stage.request
    guard request.isAllocated, request.sensitivities == nil else { return request }
    request.sensitivities = figuresPath(
      stage.sensitivityKey(inputHash: inputHash, calibration: calibration) + "-sensitivities")
    return request
  }
}
