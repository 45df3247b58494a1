// Measures a sensitivity table: each tensor alone at several rates with the inputs of the original model, and the
// drift of the model with one of them in place.

import Calibration
import Checkpoints
import Drift
import Encodings
import LinearAlgebra
import Networks
import Quantization
import Tensors

/// One walk over the original model.
struct SensitivityMeasurement {
  let assignment: EncodingAssignment
  let request: QuantizeRequest
  let network: any Network
  let calibration: CalibrationSet
  let probe: CalibrationSet
  let knowledge: ModelKnowledge
  let isHeldOut: Bool
  let path: String
  let progress: (String, Double) -> Void

  /// Entropy-coded rates at which errors are measured; drift follows them in a straight line on a logarithmic scale.
  static let rates = [2.0, 4.0]
  /// The model is run with the choice whose relative error is nearest to this: far above rounding of floats, and where
  /// drift is still in proportion to the error.
  private static let probedError = 0.01
  /// Rows that tell the error of a choice.
  private static let sampledRows = 512

  /// Measures.
  func table(key: String) throws -> SensitivityTable {
    var entries: [SensitivityTable.Entry] = []
    let drifts = DriftProbe(network: network, set: probe)
    let stream = LayerStream(network: network, set: calibration)
    var group = 1
    for (index, sublayer) in network.sublayers.enumerated() {
      progress("sensitivities", Double(index) / Double(network.sublayers.count))
      for (place, linears) in sublayer.groups.enumerated() {
        let open = linears.filter { isOpen($0) }
        guard !open.isEmpty else { continue }
        let statistics = InputStatistics.moment(stream.inputs(ofGroup: place).mean())
        for linear in open {
          entries.append(
            try entry(
              linear, knowledge.layer(linear.weightName, statistics), group: group
            ) { try drifts.drift() })
        }
        group += 1
      }
      stream.advance()
      drifts.advance()
    }
    var ends: [SensitivityTable.Entry] = []
    let model = network as? any TokenPredictor
    let head = model.map { stream.headInputs(of: $0).mean() }
    for table in network.embeddings where isOpen(table) {
      let isTied = model?.isTied ?? false
      let own =
        network is any TokenNetwork
        ? knowledge.embedding(head: isTied ? head : nil) : LayerKnowledge(statistics: .none)
      ends.append(try entry(table, own, group: 0) { try drifts.driftOfWhole() })
    }
    if let model, !model.isTied, isOpen(model.head) {
      entries.append(
        try entry(
          model.head, knowledge.head(head.map { .moment($0) } ?? .none), group: group
        ) { try drifts.drift() })
    }
    return SensitivityTable(
      key: key, probeTokens: drifts.tokens, isHeldOut: isHeldOut, entries: ends + entries)
  }

  /// Whether the rate of a layer is to be chosen.
  private func isOpen(_ linear: Linear) -> Bool {
    guard let target = assignment[linear.weightName]?.target else { return false }
    switch target {
    case .choose: return true
    case .encode(let encoding): return encoding is EntropyCoded
    case .copy, .mix: return false
    }
  }

  private func entry(
    _ linear: Linear, _ knowledge: LayerKnowledge, group: Int, drift: () throws -> Double
  ) throws -> SensitivityTable.Entry {
    guard let item = assignment[linear.weightName] else {
      preconditionFailure("no rule for \(linear.weightName)")
    }
    let original = linear.matrix
    let weight = original.decoded()
    let stride = max(1, weight.rows / Self.sampledRows)
    let rows = Array(Swift.stride(from: 0, to: weight.rows, by: stride))
    let sample = stride > 1 ? Matrix.stack(rows.map { weight.rows($0..<$0 + 1) }) : weight
    let sampledKnowledge = stride > 1 ? knowledge.rows(rows) : knowledge
    do {
      var points: [SensitivityTable.Point] = []
      let choices = Self.choices(item)
      for choice in choices {
        let result = try choice.quantize(sample, sampledKnowledge, item, request)
        points.append(
          .init(
            encoding: choice.name,
            bits: choice.bits(outputs: weight.rows, inputs: weight.columns, of: result),
            error: result.relativeError))
      }
      let order = points.indices.sorted { (points[$0].bits, $0) < (points[$1].bits, $1) }
      points = order.map { points[$0] }
      let probed =
        points.indices.min {
          Self.distance(points[$0].error) < Self.distance(points[$1].error)
        } ?? 0
      let whole = try choices[order[probed]].quantize(weight, knowledge, item, request)
      points[probed] = .init(
        encoding: points[probed].encoding, bits: points[probed].bits, error: whole.relativeError)
      linear.matrix = whole.encoded.matrix
      defer { linear.matrix = original }
      return SensitivityTable.Entry(
        tensor: linear.weightName, weights: weight.values.count, group: group, points: points,
        probed: probed, drift: try drift())
    } catch let error as QuantizationError {
      throw LayerError(path: path, tensor: linear.weightName, error)
    }
  }

  private static func distance(_ error: Double) -> Double {
    abs(_log(max(error, 1e-12) / probedError))
  }

  /// A choice of a tensor.
  private enum Choice {
    case encoding(any WeightEncoding)
    case rate(Double)

    var name: String {
      switch self {
      case .encoding(let encoding): encoding.name
      case .rate: "ec"
      }
    }

    func quantize(
      _ weight: Matrix, _ knowledge: LayerKnowledge, _ item: EncodingAssignment.Item,
      _ request: QuantizeRequest
    ) throws -> QuantizedWeight {
      switch self {
      case .encoding(let encoding):
        try request.quantizer(for: item, onto: encoding, goal: nil, knowledge)
          .quantize(weight, statistics: knowledge.statistics, encoding: encoding)
      case .rate(let bits):
        try request.quantizer(
          for: item, onto: EntropyCoded(), goal: .bits(bits, within: 0.5), knowledge
        ).quantize(weight, statistics: knowledge.statistics, encoding: EntropyCoded())
      }
    }

    func bits(outputs: Int, inputs: Int, of result: QuantizedWeight) -> Double {
      switch self {
      case .encoding(let encoding): encoding.bitsPerWeight(outputs: outputs, inputs: inputs)
      case .rate: result.encoded.matrix.bitsPerWeight
      }
    }
  }

  private static func choices(_ item: EncodingAssignment.Item) -> [Choice] {
    if case .choose(let encodings) = item.target { return encodings.map { .encoding($0) } }
    return rates.map { .rate($0) }
  }
}
