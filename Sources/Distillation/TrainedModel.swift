// A network in training: which of its tensors are trained and how, and the observer that gives each its gradient.

public import Checkpoints
public import Encodings
public import Networks
public import Tensors

/// Which parameters of a student are trained.
public enum TrainedParts: String, Sendable, CaseIterable {
  /// Every float of the model.
  case all
  /// Thin factors beside the frozen matrices of the branches.
  case adapters
  /// Steps and zero points of codes, norms and biases; codes stay.
  case scales
  /// The codes, through latent floats (quantization-aware training), and every float beside them.
  case quantized
}

/// A network whose parameters change.
public final class TrainedModel: GradientObserver {
  /// The network.
  public let network: any Network
  /// The trained matrices, in the order of the network.
  public let weights: [any TrainedWeight]
  /// Every parameter, matrices first.
  public let parameters: [TrainedParameter]
  private let vectors: [(vector: VectorParameter, parameter: TrainedParameter)]
  private let byName: [String: Int]
  private let vectorByName: [String: Int]

  /// A model.
  ///
  /// - Parameters:
  ///   - weights: Trained matrices.
  ///   - vectors: Norms and biases that are trained.
  public init(
    _ network: any Network, weights: [any TrainedWeight], vectors trained: [VectorParameter]
  ) {
    self.network = network
    self.weights = weights
    vectors = trained.map { vector in
      (
        vector,
        TrainedParameter(
          vector.name, .vector, rows: 1, columns: vector.values.count, values: vector.values)
      )
    }
    parameters = weights.flatMap { $0.parameters } + vectors.map(\.parameter)
    byName = Dictionary(
      weights.enumerated().map { ($1.layer.weightName, $0) }, uniquingKeysWith: { a, _ in a })
    vectorByName = Dictionary(
      vectors.enumerated().map { ($1.vector.name, $0) }, uniquingKeysWith: { a, _ in a })
  }

  /// Numbers that are trained.
  public var parameterCount: Int { parameters.reduce(0) { $0 + $1.values.count } }

  /// Whether a parameter is trained.
  public func wants(_ parameter: String) -> Bool {
    byName[parameter] != nil || vectorByName[parameter] != nil
  }

  /// Adds a part of a parameter's gradient.
  public func receive(_ parameter: String, _ gradient: ParameterGradient) {
    if let index = byName[parameter] { return weights[index].receive(gradient) }
    guard let index = vectorByName[parameter], case .vector(let values) = gradient else { return }
    vectors[index].parameter.addGradient(values)
  }

  /// Puts the present parameters into the network.
  public func attach() {
    for weight in weights { weight.attach() }
    for (vector, parameter) in vectors { vector.values = parameter.values }
  }

  /// Takes the parameters out of the network, so that they change in place.
  public func detach() {
    for weight in weights { weight.detach() }
  }

  /// Turns what was received into the parameters' gradients.
  public func finishGradients() {
    for weight in weights { weight.finishGradients() }
  }

  /// Forgets the gradients.
  public func clearGradients() {
    for parameter in parameters { parameter.gradient = [] }
  }

  /// What is to be stored: matrices and vectors by their names in the checkpoint.
  public func result() -> (tensors: [String: TrainedTensor], vectors: [String: [Float]]) {
    (
      Dictionary(
        weights.map { ($0.layer.weightName, $0.result()) }, uniquingKeysWith: { a, _ in a }),
      Dictionary(
        vectors.map { ($0.vector.name, $0.parameter.values) }, uniquingKeysWith: { a, _ in a })
    )
  }

  /// Every parameter's values, to come back to.
  public func snapshot() -> [[Float]] { parameters.map(\.values) }

  /// Goes back to the values of a snapshot.
  public func restore(_ values: [[Float]]) {
    precondition(values.count == parameters.count)
    for (parameter, own) in zip(parameters, values) {
      precondition(own.count == parameter.values.count, parameter.name)
      parameter.values = own
    }
  }
}

/// Why a student cannot be trained as asked.
public enum DistillationError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A weight in codes where floats are trained.
  case encodedWeight(name: String, encoding: String)
  /// A student without any codes whose grids could be trained.
  case nothingEncoded
  /// An encoding whose codes cannot be trained.
  case untrainableEncoding(name: String, encoding: String)
  /// A student and a teacher, or a log, over different vocabularies.
  case vocabularyMismatch(student: Int, teacher: Int)
  /// A student and a teacher, or a log, that give other numbers for a sample.
  case outputMismatch(student: Int, teacher: Int)
  /// The loss is no number any more.
  case diverged(step: Int)
  /// A log or a text holds fewer windows than one batch and the validation need.
  case tooFewWindows(found: Int, needed: Int)
  /// The same of samples.
  case tooFewSamples(found: Int, needed: Int)
  /// A loss that needs the teacher itself, or something that the log does not hold.
  case needsTeacher(what: String)
  /// Training has nowhere improved on the input.
  case noImprovement(input: Double, best: Double)
  /// A layer to compare that a network does not have.
  case noSuchLayer(asked: Int, layers: Int)
  /// A network that does not predict tokens.
  case notALanguageModel(family: String)

  /// One line without a full stop.
  public var description: String {
    switch self {
    case .encodedWeight(let name, let encoding):
      "tensor '\(name)' is stored as \(encoding): --train all changes floats; use --train scales, quantized or adapters"
    case .nothingEncoded:
      "no weight of the student is in codes: --train scales needs a quantized checkpoint (condense quantize), "
        + "--train quantized one or --encoding"
    case .untrainableEncoding(let name, let encoding):
      "tensor '\(name)' is stored as \(encoding), whose codes cannot be trained (intB-gN, intB-channel, TQ1_0 and TQ2_0 can)"
    case .vocabularyMismatch(let student, let teacher):
      "the student has \(student) tokens, the teacher \(teacher): distributions cannot be compared"
    case .outputMismatch(let student, let teacher):
      "the student gives \(student) numbers for a sample, the teacher \(teacher): they cannot be compared"
    case .diverged(let step):
      "the loss is not finite at step \(step): use a smaller --learning-rate"
    case .tooFewWindows(let found, let needed):
      "\(found) windows are too few: a batch and the validation need \(needed); give more text or a smaller --batch"
    case .tooFewSamples(let found, let needed):
      "\(found) samples are too few: a batch and the validation need \(needed); give more of them, or a smaller --batch and "
        + "--validation-windows"
    case .needsTeacher(let what): what
    case .noImprovement(let input, let best):
      "training did not improve the student: validation \(best), the input has \(input); nothing was written"
    case .noSuchLayer(let asked, let layers):
      "layer \(asked) does not exist: the network has \(layers), counted from 0"
    case .notALanguageModel(let family):
      "a \(family) model does not predict tokens from text alone: logits cannot be distilled into it"
    }
  }
}

/// How a network is made trainable.
public struct TrainingPlan: Sendable {
  /// What is trained.
  public var parts: TrainedParts
  /// Of adapters.
  public var rank = 16
  /// Of adapters: α.
  public var alpha: Float = 16
  /// Of the adapters' random start.
  public var seed: UInt64 = 0
  /// Weights that are zero stay zero, wherever they are stored as floats.
  public var keepsZeros = false
  /// Of products with trained matrices.
  public var precision = ProductPrecision.float32
  /// Whether stored zero points are trained with the steps.
  public var trainsZeros = true

  /// A plan with the defaults.
  public init(_ parts: TrainedParts) { self.parts = parts }

  /// Makes the network of a checkpoint trainable.
  ///
  /// - Parameters:
  ///   - codes: Matrices to be trained in codes that the checkpoint stores otherwise, by name.
  ///   - floats: The weight before it was quantized, by name, where it is known.
  public func model(
    _ network: any Network, of checkpoint: any Checkpoint, codes: [String: EncodedMatrix] = [:],
    floats: (String) -> Matrix? = { _ in nil }
  ) throws -> TrainedModel {
    var weights: [any TrainedWeight] = []
    let head = (network as? any LanguageModel)?.head.weightName
    let branches = Set(network.linearLayers.map(\.weightName))
    for layer in network.matrices {
      let name = layer.weightName, entry = checkpoint.manifest[name]
      let isTable = !branches.contains(name)
      let kind: ParameterKind = isTable || name == head ? .embedding : .matrix
      let stored = try codes[name] ?? entry.map { try checkpoint.encodedMatrix($0) }
      let isFloat = stored.map { $0.encoding is PlainFloats || Self.isSparseFloat($0) } ?? true
      switch parts {
      case .all:
        guard isFloat else {
          throw DistillationError.encodedWeight(name: name, encoding: entry?.encoding.name ?? "")
        }
        weights.append(full(layer, kind, stored))
      case .adapters:
        if isTable { continue }
        let repairable = stored.flatMap { Repaired.canRepair($0.encoding) ? $0 : nil }
        guard isFloat || repairable != nil else {
          throw DistillationError.untrainableEncoding(
            name: name, encoding: stored?.encoding.name ?? "")
        }
        weights.append(
          AdaptedWeight(layer, encoded: repairable, rank: rank, alpha: alpha, seed: seed))
      case .scales:
        guard let stored, !isFloat else { continue }
        guard let grid = WeightGrid(stored) else {
          throw DistillationError.untrainableEncoding(name: name, encoding: stored.encoding.name)
        }
        weights.append(
          ScaledWeight(
            layer, grid: grid, trainsZeros: trainsZeros, precision: precision))
      case .quantized:
        if let stored, !isFloat {
          guard let grid = WeightGrid(stored) else {
            throw DistillationError.untrainableEncoding(name: name, encoding: stored.encoding.name)
          }
          weights.append(
            FakeQuantizedWeight(
              layer, grid: grid, floats: floats(name), precision: precision))
        } else {
          weights.append(full(layer, kind, stored))
        }
      }
    }
    let hasCodes = weights.contains { $0 is ScaledWeight || $0 is FakeQuantizedWeight }
    if parts == .scales || parts == .quantized, !hasCodes { throw DistillationError.nothingEncoded }
    return TrainedModel(
      network, weights: weights, vectors: parts == .adapters ? [] : network.vectors)
  }

  private static func isSparseFloat(_ matrix: EncodedMatrix) -> Bool {
    if let sparse = matrix.encoding as? SparseEncoding {
      sparse.dense is PlainFloats
    } else {
      false
    }
  }

  private func full(
    _ layer: Linear, _ kind: ParameterKind, _ stored: EncodedMatrix?
  ) -> FullWeight {
    guard let stored, let sparse = stored.encoding as? SparseEncoding,
      let floats = sparse.dense as? PlainFloats
    else { return FullWeight(layer, kind: kind, keepsZeros: keepsZeros, precision: precision) }
    return FullWeight(layer, kind: kind, keepsZeros: true, precision: precision) { matrix in
      let dense = floats.encode(matrix)
      return .encoded(SparseEncoding.packed(dense, pattern: sparse.pattern) ?? dense)
    }
  }
}
