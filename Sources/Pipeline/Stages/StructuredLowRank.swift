// The walk that replaces a model's matrices by products of two thin ones.

import Calibration
import Checkpoints
import Encodings
import JSONDocuments
import LinearAlgebra
import Networks
public import Pruning
import Tensors

/// Everything that `prune` can do with single matrices.
public enum PruneMethod: String, Sendable, CaseIterable {
  /// Methods that make weights zero.
  case magnitude, wanda, sparsegpt, alps
  /// Products of two thin matrices.
  case svd

  /// The method of zeros; nil for `svd`.
  public var zeros: PruningMethod? { PruningMethod(rawValue: rawValue) }
  /// Whether there is nothing to do without calibration text.
  public var needsCalibration: Bool { zeros?.needsCalibration ?? true }
}

/// How matrices become products of thin ones.
public struct LowRankPruning: Sendable, Equatable {
  /// How many singular values stay.
  public var rule: RankRule
  /// Of the fit to the original model's outputs: this share of the moment's mean diagonal is added to its diagonal.
  public var damping = 0.01

  /// - Throws: `LowRankError` for a share that is none.
  public init(energy: Double?, ratio: Double?, budget: Int? = nil) throws(LowRankError) {
    switch (energy, ratio, budget) {
    case (let share?, nil, nil): rule = .energy(share)
    case (nil, let share?, nil): rule = .ratio(share)
    case (nil, nil, let bytes?):
      rule = .budget(bytes)
      return
    default: throw .oneRule
    }
    let share = energy ?? ratio ?? 0
    guard share > 0, share < 1 else {
      throw .badShare(name: energy == nil ? "rank-ratio" : "energy", share: share)
    }
  }

  /// The options that the result depends on.
  var json: JSONValue {
    var object: JSONObject = JSONObject([.init(key: "method", value: "svd")])
    switch rule {
    case .energy(let share): object["energy"] = .number(share)
    case .ratio(let share): object["rank-ratio"] = .number(share)
    case .budget(let bytes): object["budget"] = .integer(bytes)
    }
    object["damping"] = .number(damping)
    return .object(object)
  }
}

/// Why ranks cannot be chosen.
public enum LowRankError: Error, Sendable, Equatable, CustomStringConvertible {
  /// None or two of the rules.
  case oneRule
  /// A share that is not between none and all.
  case badShare(name: String, share: Double)
  /// A matrix whose numbers are codes.
  case encoded(tensor: String, encoding: String)
  /// Fewer bytes than the model has with every matrix at rank 1.
  case smallBudget(bytes: Int, least: Int)

  /// One line without a full stop.
  public var description: String {
    switch self {
    case .oneRule: "svd needs one of energy, rank-ratio and budget"
    case .encoded(let tensor, let encoding):
      "'\(tensor)' is stored as \(encoding): make matrices thin first, then quantize"
    case .smallBudget(let bytes, let least):
      "budget: \(bytes) bytes are fewer than the \(least) of the weights when every matrix has rank 1"
    case .badShare(let name, let share):
      "\(name): \(share) is the share that stays; it must be greater than 0 and less than 1"
    }
  }
}

/// The walk over the linear layers of a model's branches; embeddings and heads stay.
final class LowRankWalk {
  private let request: LowRankPruning
  private let checkpoint: any Checkpoint
  private let output: StageOutput
  private let progress: (String, Double) -> Void
  private let finished: (LayerRecord, Double) -> Void
  /// What is done, matrices that stayed as they were included.
  private(set) var layers: [FinishedLayer] = []
  private(set) var resumedLayers = 0
  /// The ranks that a budget gives, by weight; beyond the largest useful one a matrix stays.
  private var ranks: [String: Int] = [:]

  init(
    _ request: LowRankPruning, checkpoint: any Checkpoint, output: StageOutput,
    progress: @escaping (String, Double) -> Void,
    finished: @escaping (LayerRecord, Double) -> Void
  ) {
    self.request = request
    self.checkpoint = checkpoint
    self.output = output
    self.progress = progress
    self.finished = finished
  }

  /// The float type of the factors: the weight's own.
  static func dtype(of name: String, in checkpoint: any Checkpoint) -> DType {
    let stored = checkpoint.floatType(of: name)
    return stored == .float64 ? .float32 : stored
  }

  /// Factorizes all matrices, each with the inputs that the matrices before leave it.
  func run(_ network: any Network, _ set: CalibrationSet) throws -> [FinishedLayer] {
    if case .budget(let bytes) = request.rule {
      ranks = try RankBudget(checkpoint, network, set, progress: progress).ranks(bytes: bytes)
    }
    let stream = LayerStream(
      network: network, set: set, keepsOriginal: true,
      originalEmbeddings: network.embeddings.map(\.matrix))
    try BranchWalk(
      trueSequential: true, isChanged: { _ in true },
      statistics: { stream, group in
        let (moment, cross) = stream.pairedInputs(ofGroup: group).means()
        return .asymmetric(moment: moment, cross: cross)
      },
      change: { linear, inputs in
        linear.matrix = try self.finish(linear) { inputs().statistics }.encoded.matrix
      }
    ).run(network, stream) { progress("svd", $0) }
    progress("svd", 1)
    return layers
  }

  private func finish(
    _ linear: Linear, statistics: () -> InputStatistics
  ) throws -> FinishedLayer {
    let name = linear.weightName, path = output.layerPath(layers.count)
    let start = ContinuousClock.now
    if let layer = try FinishedLayer.read(path, tensor: name) {
      layers.append(layer)
      resumedLayers += 1
      finished(layer.record, 0)
      return layer
    }
    let weight = linear.matrix.decoded(), known = statistics()
    let encoded: EncodedMatrix
    do throws(PruningError) {
      encoded = try factorize(
        weight, known, Self.dtype(of: name, in: checkpoint), rank: ranks[name])
    } catch {
      throw LayerError(path: checkpoint.path, tensor: name, error)
    }
    let record = LayerRecord.fitted(
      name, encoding: encoded.encoding.name, method: "svd",
      bitsPerWeight: encoded.encoding.bitsPerWeight(
        outputs: encoded.outputs, inputs: encoded.inputs),
      relativeError: relativeError(weight, encoded.matrix.decoded(), statistics: known),
      deadInputs: known.diagonal?.count { $0 == 0 } ?? 0)
    let layer = FinishedLayer(record: record, encoded: encoded)
    try layer.write(to: path)
    layers.append(layer)
    finished(record, (ContinuousClock.now - start) / .seconds(1))
    return layer
  }

  /// The factors where they are smaller than the matrix, otherwise the matrix as it is.
  private func factorize(
    _ weight: Matrix, _ statistics: InputStatistics, _ dtype: DType, rank chosen: Int?
  ) throws(PruningError) -> EncodedMatrix {
    guard let moment = statistics.moment, let cross = statistics.cross else {
      throw .needsStatistics(method: "svd")
    }
    // What gives the original outputs from the inputs as they are by now: t = W x, C = W E[x yᵀ].
    let n = weight.columns
    let targets = BLAS.product(
      weight.values.map(Double.init), cross.values, rows: weight.rows, depth: n, columns: n)
    let fitted: Matrix
    do throws(FactorizationError) {
      fitted = try LeastSquaresRepair(damping: request.damping).fit(
        weight, moment: moment, targets: targets)
    } catch {
      throw .badStatistics
    }
    let spectrum = try WhitenedSpectrum(fitted, moment: moment)
    let rank = chosen ?? spectrum.rank(request.rule)
    guard rank <= LowRank.largestUsefulRank(outputs: weight.rows, inputs: n) else {
      return PlainFloats(dtype).encode(weight)
    }
    let factors = spectrum.factors(rank: rank)
    return LowRank(rank: rank, dtype: dtype).encode(left: factors.left, right: factors.right)
  }

  /// What a matrix will be, nil for as it is: exact for a share of the rank; for the other rules it is planned as if
  /// nothing became smaller.
  static func planned(
    _ request: LowRankPruning, _ linear: Linear, _ checkpoint: any Checkpoint
  ) -> LowRank? {
    let outputs = linear.matrix.outputs, inputs = linear.matrix.inputs
    guard case .ratio(let ratio) = request.rule else { return nil }
    let rank = max(1, Int((ratio * Double(min(outputs, inputs))).rounded()))
    guard rank <= LowRank.largestUsefulRank(outputs: outputs, inputs: inputs) else { return nil }
    return LowRank(rank: rank, dtype: Self.dtype(of: linear.weightName, in: checkpoint))
  }
}
