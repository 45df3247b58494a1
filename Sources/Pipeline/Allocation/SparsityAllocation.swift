// How many zeros each tensor gets when only their sum is given: by the outliers of each layer, or by what the model
// was measured to feel of each tensor.
//
// The tensors that share are those of the default goal; a tensor with a rule of its own keeps it. The walk is over the
// original model. Errors of ALPS are measured with SparseGPT, which orders tensors alike and takes a tenth of the time.

import Calibration
import Checkpoints
import Drift
import Encodings
import JSONDocuments
import LinearAlgebra
import Networks
import Pruning
import Tensors

/// How tensors share the zeros of a goal for the whole model.
public enum SparsityAllocation: String, Sendable, CaseIterable {
  /// All tensors alike.
  case uniform
  /// OWL: layers with more outliers keep more.
  case owl
  /// The least drift that is predicted from errors of each tensor and what the model feels of them.
  case measured
}

/// Shares the zeros.
struct SparsityPlanning {
  let weights: WeightPruning
  let assignment: PruneAssignment
  let network: any Network
  let calibration: CalibrationSet
  /// Text that the drift of single tensors is measured on.
  let probe: CalibrationSet
  let path: String
  let progress: (String, Double) -> Void

  /// Rows that tell the error of a sparsity.
  private static let sampledRows = 256
  /// Sparsities of a tensor around the mean at which its error is measured.
  private static let offsets = [-0.3, -0.15, 0.0, 0.12, 0.24]
  /// No tensor gets less or more.
  private static let range = 0.02...0.97

  /// The goals with their shares.
  func shared() throws -> PruneAssignment {
    let zeros: [String: Int]
    switch weights.allocation {
    case .uniform: return assignment
    case .owl: zeros = try byOutliers()
    case .measured: zeros = try bySensitivity()
    }
    return assignment.sharing(zeros)
  }

  private var open: [PruneAssignment.Item] { assignment.items.filter(\.isShared) }

  private func exact(_ zeros: [Double], _ items: [PruneAssignment.Item]) -> [String: Int] {
    let goals = items.compactMap(\.goal)
    let counts = SparsitySharing.exact(
      zeros, weights: goals.map { $0.outputs * $0.inputs },
      blocks: goals.map(\.pattern.columnMultiple), total: goals.reduce(0) { $0 + $1.zeros })
    return Dictionary(
      zip(items.map(\.site.name), counts), uniquingKeysWith: { first, _ in first })
  }

  /// Layers are the blocks of the model: what stands before the first number in a name, and the number.
  private func byOutliers() throws -> [String: Int] {
    let items = open
    let names = Set(items.map(\.site.name))
    var layers: [(name: String, matrices: [(weight: Matrix, inputSquares: [Double])])] = []
    var profiles: [String: OutlierProfile] = [:]
    var stream = LayerStream(network: network, set: calibration)
    func finish() {
      guard let last = layers.last else { return }
      profiles[last.name] = OutlierProfile(of: last.matrices)
      layers = []
    }
    for (index, sublayer) in network.sublayers.enumerated() {
      progress("outliers", Double(index) / Double(network.sublayers.count))
      for (place, linears) in sublayer.groups.enumerated() {
        let own = linears.filter { names.contains($0.weightName) }
        guard let first = own.first else { continue }
        let squares = stream.inputs(ofGroup: place).mean().diagonal
        let name = Self.layer(of: first.weightName)
        if layers.last?.name != name {
          finish()
          layers.append((name, []))
        }
        layers[0].matrices += own.map { ($0.matrix.decoded(), squares) }
      }
      stream.advance()
    }
    finish()
    var order: [String] = []
    var totals: [String: Int] = [:]
    for item in items {
      let name = Self.layer(of: item.site.name)
      if totals[name] == nil { order.append(name) }
      totals[name, default: 0] += item.site.outputs * item.site.inputs
    }
    let sparsities = OutlierProfile.sparsities(
      order.map { (profiles[$0]?.share ?? 0, totals[$0] ?? 0) }, sparsity: weights.sparsity)
    let byLayer = Dictionary(zip(order, sparsities), uniquingKeysWith: { first, _ in first })
    return exact(
      items.map {
        (byLayer[Self.layer(of: $0.site.name)] ?? weights.sparsity)
          * Double($0.site.outputs * $0.site.inputs)
      }, items)
  }

  /// `model.layers.3` of `model.layers.3.mlp.up_proj.weight`; the name itself where it has no number.
  static func layer(of tensor: String) -> String {
    let parts = tensor.split(separator: ".")
    guard
      let number = parts.firstIndex(where: { $0.utf8.allSatisfy { (0x30...0x39).contains($0) } })
    else { return tensor }
    return parts[...number].joined(separator: ".")
  }

  private func bySensitivity() throws -> [String: Int] {
    let items = open
    let goals = Dictionary(
      items.compactMap { item in item.goal.map { (item.site.name, $0) } },
      uniquingKeysWith: { first, _ in first })
    var curves: [String: SparsitySharing.Curve] = [:]
    let drifts = DriftProbe(network: network, set: probe)
    var stream = LayerStream(network: network, set: calibration)
    for (index, sublayer) in network.sublayers.enumerated() {
      progress("sensitivities", Double(index) / Double(network.sublayers.count))
      for (place, linears) in sublayer.groups.enumerated() {
        let own = linears.filter { goals[$0.weightName] != nil }
        guard !own.isEmpty else { continue }
        let statistics = InputStatistics.moment(stream.inputs(ofGroup: place).mean())
        for linear in own {
          guard let goal = goals[linear.weightName] else { continue }
          curves[linear.weightName] = try curve(linear, goal, statistics) { try drifts.drift() }
        }
      }
      stream.advance()
      drifts.advance()
    }
    let known = items.compactMap { curves[$0.site.name] }
    let total = goals.values.reduce(0) { $0 + $1.zeros }
    guard known.count == items.count, let zeros = SparsitySharing.zeros(known, total: total) else {
      throw AllocationError(
        description:
          "\(path): a sparsity of \(weights.sparsity) leaves nothing to share among tensors")
    }
    return Dictionary(
      zip(items.map(\.site.name), zeros), uniquingKeysWith: { first, _ in first })
  }

  /// What sparsities of a tensor cost: its errors, and the drift of the model at one of them.
  private func curve(
    _ linear: Linear, _ goal: SparsityGoal, _ statistics: InputStatistics,
    drift: () throws -> Double
  ) throws -> SparsitySharing.Curve {
    var method = weights
    if method.method == .alps { method.method = .sparsegpt }
    let original = linear.matrix, weight = original.decoded()
    let stride = max(1, weight.rows / Self.sampledRows)
    let sample = Matrix.stack(
      Swift.stride(from: 0, to: weight.rows, by: stride).map { weight.rows($0..<$0 + 1) })
    do {
      let sparsities = Set(
        Self.offsets.map {
          min(max(weights.sparsity + $0, Self.range.lowerBound), Self.range.upperBound)
        }
      ).sorted()
      let errors = try sparsities.map { sparsity in
        let own = try SparsityGoal(
          goal.pattern, sparsity: sparsity, outputs: sample.rows, inputs: sample.columns)
        return try method.pruner.prune(sample, statistics: statistics, goal: own).relativeError
      }
      let whole = try method.pruner.prune(weight, statistics: statistics, goal: goal)
      linear.matrix = FloatMatrix(whole.weight)
      defer { linear.matrix = original }
      let perError = max(try drift(), 0) / max(whole.relativeError, 1e-12)
      return SparsitySharing.Curve(
        weights: weight.values.count, block: goal.pattern.columnMultiple,
        points: zip(sparsities, errors).map { ($0, $1 * perError) })
    } catch let error as PruningError {
      throw LayerError(path: path, tensor: linear.weightName, error)
    }
  }
}
