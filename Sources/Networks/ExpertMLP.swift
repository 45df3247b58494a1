// Mixture of experts: a router sends each token to a few of many gated MLPs.
//
// Source   Shazeer et al., arXiv:1701.06538; Jiang et al., "Mixtral of Experts", arXiv:2401.04088; shared experts:
//          Qwen Team, "Qwen1.5-MoE", 2024, as in transformers
// Given    the router's logits in float32; of equal ones the first experts
// Result   Σ over the chosen experts of p · expert(x) (+ sigmoid(s x) · shared(x))
// Cost     An expert multiplies the tokens that it is sent, no others; its calibration sees no others either
// Checked  FamilyFixtureTests; NetworkGradientTests

import Checkpoints
import Foundation
import JSONDocuments
import Tensors

/// What a configuration says of experts.
struct ExpertConfiguration: Equatable {
  /// Experts that a token can be sent to.
  let count: Int
  /// Experts that it is sent to.
  let chosen: Int
  /// Whether the chosen experts' shares are divided by their sum.
  let normalizesShares: Bool
  /// Channels inside an expert.
  let innerWidth: Int
  /// Channels inside the expert that sees every token; nil without one.
  let sharedWidth: Int?
  /// Before the names of the router, and of an expert's matrices in the order gate, up, down.
  let prefix: String
  let matrixNames: [String]

  /// nil for members of the family without experts.
  init?(
    _ reader: ConfigurationReader, _ member: DecoderConfiguration.Member
  ) throws(CheckpointError) {
    // transformers 5 writes Mixtral's key for Qwen 3 too.
    let countKey = reader.value("num_experts") == nil ? "num_local_experts" : "num_experts"
    switch member {
    case .mixtral:
      normalizesShares = true
      innerWidth = try reader.size("intermediate_size")
      sharedWidth = nil
      (prefix, matrixNames) = ("block_sparse_moe.", ["w1", "w3", "w2"])
    case .qwen2Experts, .qwen3Experts:
      normalizesShares = try reader.flag("norm_topk_prob", default: false)
      innerWidth = try reader.size("moe_intermediate_size")
      sharedWidth =
        member == .qwen2Experts ? try reader.size("shared_expert_intermediate_size") : nil
      (prefix, matrixNames) = ("mlp.", ["gate_proj", "up_proj", "down_proj"])
    default: return nil
    }
    count = try reader.size(countKey)
    chosen = try reader.size("num_experts_per_tok")
    guard chosen <= count else {
      throw reader.wrong(
        "num_experts_per_tok", .integer(chosen), expected: "at most \(count) experts")
    }
  }
}

/// The branch of an MLP that consists of experts.
final class ExpertMLP: Sublayer {
  private var norm: RMSNorm
  private let router: Linear
  private let experts: [GatedMLP]
  private let shared: GatedMLP?
  private let sharedGate: Linear?
  private let choice: ExpertConfiguration

  init(
    _ c: DecoderConfiguration, _ choice: ExpertConfiguration, _ prefix: String,
    _ parts: inout PartReader
  ) throws(CheckpointError) {
    self.choice = choice
    norm = try parts.rmsNorm(
      prefix + "post_attention_layernorm", c.width, epsilon: c.epsilon, offset: c.normOffset)
    let name = prefix + choice.prefix
    router = try parts.linear(name + "gate", choice.count, c.width, bias: false)
    func mlp(
      _ name: String, _ names: [String], _ width: Int, _ parts: inout PartReader
    ) throws(CheckpointError) -> GatedMLP {
      GatedMLP(
        inner: [
          try parts.linear(name + names[0], width, c.width, bias: false),
          try parts.linear(name + names[1], width, c.width, bias: false),
        ],
        down: try parts.linear(name + names[2], c.width, width, bias: false),
        activation: c.activation)
    }
    var experts: [GatedMLP] = []
    for expert in 0..<choice.count {
      experts.append(
        try mlp(name + "experts.\(expert).", choice.matrixNames, choice.innerWidth, &parts))
    }
    self.experts = experts
    shared = try choice.sharedWidth.map { (width) throws(CheckpointError) in
      try mlp(name + "shared_expert.", choice.matrixNames, width, &parts)
    }
    sharedGate =
      choice.sharedWidth == nil
      ? nil : try parts.linear(name + "shared_expert_gate", 1, c.width, bias: false)
  }

  /// The MLPs in the order in which they run: two groups each.
  private var all: [GatedMLP] { (shared.map { [$0] } ?? []) + experts }

  var groups: [[Linear]] { all.flatMap { [$0.inner, [$0.down]] } }
  // The router reads what the experts read.
  var sources: [InputSource] { all.flatMap { [.fixed, $0.source] } }
  var vectors: [VectorParameter] { [VectorParameter(norm.weightName, self, \.norm.weight)] }
  var keptLayers: [Linear] { [router] + (sharedGate.map { [$0] } ?? []) }

  func isRouted(_ group: Int) -> Bool { expert(ofGroup: group) != nil }

  /// nil for the shared expert.
  private func expert(ofGroup group: Int) -> Int? {
    let place = group / 2 - (shared == nil ? 0 : 1)
    return place < 0 ? nil : place
  }

  // A state carries: what all experts read [tokens, width]; the shares [tokens, experts]; the sum so far [tokens, width].

  func start(_ hidden: Matrix, _ batch: TokenBatch, cache: KeyValueCache?) -> BranchState {
    let x = norm.applied(to: hidden)
    let sum = Matrix(rows: x.rows, columns: x.columns)
    return read(group: 0, BranchState(x, carried: [x, shares(router.apply(x)), sum]))
  }

  func step(
    toGroup group: Int, from previous: BranchState, _ batch: TokenBatch, cache: KeyValueCache?
  ) -> BranchState {
    var state = previous
    if group % 2 == 1 {
      state.input = all[group / 2].inside(state.input)
      return state
    }
    add(group: group - 1, to: &state)
    return read(group: group, state)
  }

  func finish(_ last: BranchState, hidden: Matrix) -> Matrix {
    var state = last
    add(group: groups.count - 1, to: &state)
    var result = state.carried[2]
    result.add(hidden)
    return result
  }

  /// What the first matrices of an expert read.
  private func read(group: Int, _ state: BranchState) -> BranchState {
    var state = state
    state.input =
      expert(ofGroup: group).map { state.carried[0].gathered(rows(of: $0, in: state)) }
      ?? state.carried[0]
    return state
  }

  /// Adds what an expert makes of its tokens to the sum.
  private func add(group: Int, to state: inout BranchState) {
    let result = all[group / 2].down.apply(state.input)
    if let expert = expert(ofGroup: group) {
      state.carried[2].add(
        result, toRows: rows(of: expert, in: state), weights: state.carried[1], column: expert)
    } else if let sharedGate {
      let open = sigmoid(sharedGate.apply(state.carried[0]))
      state.carried[2].add(result, toRows: Array(0..<result.rows), weights: open, column: 0)
    }
  }

  /// The tokens of an expert.
  private func rows(of expert: Int, in state: BranchState) -> [Int] {
    let shares = state.carried[1]
    return (0..<shares.rows).filter { shares.values[$0 * shares.columns + expert] > 0 }
  }

  /// From the router's logits to the experts' shares, zero for experts that a token is not sent to.
  private func shares(_ logits: Matrix) -> Matrix {
    var shares = logits.unrecorded
    // Without normalization the probabilities over all experts, of which some are dropped.
    var probabilities = shares
    let columns = logits.columns
    for row in 0..<logits.rows {
      let values = logits.row(row)
      let order = values.indices.sorted { (values[$1], $0) < (values[$0], $1) }
      let picked = Set(order.prefix(choice.chosen))
      let largest = values.max() ?? 0
      let all = values.map { exp(Double($0 - largest)) }
      let kept = values.indices.map {
        choice.normalizesShares && !picked.contains($0) ? 0 : all[$0]
      }
      let sum = kept.reduce(0, +)
      for index in values.indices {
        let share = Float(kept[index] / sum)
        probabilities.values[row * columns + index] = share
        // A token that is sent somewhere arrives, however small its share.
        shares.values[row * columns + index] =
          picked.contains(index) ? max(share, .leastNormalMagnitude) : 0
      }
    }
    if let record = logits.record {
      shares.record = GradientRecord(of: [record]) { [probabilities, shares] gradient, _ in
        var gradient = gradient
        for row in 0..<gradient.rows {
          let range = gradient.range(ofRow: row)
          var along = 0.0
          for index in range {
            if shares.values[index] == 0 { gradient.values[index] = 0 }
            along += Double(gradient.values[index]) * Double(probabilities.values[index])
          }
          for index in range {
            gradient.values[index] =
              probabilities.values[index] * (gradient.values[index] - Float(along))
          }
        }
        return [gradient]
      }
    }
    return shares
  }

  private func sigmoid(_ x: Matrix) -> Matrix {
    var result = x.unrecorded
    for index in result.values.indices {
      result.values[index] = 1 / (1 + exp(-result.values[index]))
    }
    if let record = x.record {
      result.record = GradientRecord(of: [record]) { [result] gradient, _ in
        var gradient = gradient
        for index in gradient.values.indices {
          let value = result.values[index]
          gradient.values[index] *= value * (1 - value)
        }
        return [gradient]
      }
    }
    return result
  }
}
