// The changes that bring a model into an equivalent form before its matrices are quantized, by the request's method.
//
// All of them are found on the model as it is given, in one walk with its own inputs, and leave its function as it is;
// the walk that quantizes then sees the changed model as if it had been given.
//
// Cost     every tensor that changes is held in memory as float32 until the stage has written its folder

import Calibration
import Checkpoints
import Encodings
import JSONDocuments
import LinearAlgebra
import Networks
import Quantization
import Tensors

/// The equivalent form of a stage's input.
struct ModelTransform {
  let input: any Checkpoint
  let request: QuantizeRequest
  let progress: (String, Double) -> Void

  /// The input in the form that the request asks for; itself where it asks for none.
  func run(_ assignment: EncodingAssignment, set: CalibrationSet?) throws -> any Checkpoint {
    let rotated = try rotated(input, assignment)
    guard request.scalesChannels, let set else { return rotated }
    return try scaled(rotated, assignment, set)
  }

  /// The input as it will be stored, with tensors of the right types and shapes and no meaning.
  static func planned(_ input: any Checkpoint, _ request: QuantizeRequest) throws -> any Checkpoint
  {
    guard request.isTransformed, FamilyRegistry.family(of: input) != nil else { return input }
    let network = try FamilyRegistry.network(of: input)
    let rotation = request.modelRotation
    let stream = try rotation?.stream(network, path: input.path)
    var vectors: Set<String> = []
    for source in network.sublayers.flatMap(\.sources) {
      if case .norm(let name) = source, request.scalesChannels { vectors.insert(name) }
      if let linear = source.layer?.linear, linear.bias != nil,
        request.scalesChannels || rotation != nil
      {
        vectors.insert(linear.biasName)
      }
    }
    var changed: [String: Tensor] = [:]
    var isUntied = false
    if let stream {
      vectors.formUnion(stream.readers.map(\.norm) + [stream.finalNorm])
      vectors.formUnion(stream.writers.filter { $0.bias != nil }.map(\.biasName))
      isUntied = (network as? any LanguageModel)?.isTied == true
    }
    for name in vectors {
      let count = input.tensorType(name)?.shape.reduce(1, *) ?? 0
      changed[name] = Tensor(
        .float32, shape: [count], copying: [Float](repeating: 0, count: count))
    }
    guard isUntied, let network = network as? any TokenNetwork else {
      return TransformedCheckpoint(input, changed: changed)
    }
    let head = ModelRotation.headName + ".weight"
    let embedding = network.embedding
    changed[head] =
      input.tensor(embedding.weightName)
      ?? Tensor(
        .float32, shape: [embedding.matrix.outputs, embedding.matrix.inputs],
        copying: embedding.matrix.decoded().values)
    return TransformedCheckpoint(
      input, changed: changed, added: input.holds(head) ? [] : [head],
      configuration: [(ModelRotation.tieKey, false)])
  }

  /// The input with its channels mixed.
  private func rotated(
    _ input: any Checkpoint, _ assignment: EncodingAssignment
  ) throws -> any Checkpoint {
    guard let rotation = request.modelRotation else { return input }
    progress("rotate", 0)
    var edits = TensorEdits(input)
    try rotation.apply(
      to: try FamilyRegistry.network(of: input), path: input.path, &edits)
    let encoded = assignment.items.filter { $0.target != .copy }.map(\.site.name)
    return edits.checkpoint(encoding: Set(encoded))
  }

  /// Factors of the channels of every group whose source takes them.
  private func scaled(
    _ input: any Checkpoint, _ assignment: EncodingAssignment, _ set: CalibrationSet
  ) throws -> any Checkpoint {
    let network = try FamilyRegistry.network(of: input)
    var encodings: [String: any WeightEncoding] = [:]
    for item in assignment.items {
      guard item.method(asked: request.method) != .rtn else { continue }
      switch item.target {
      // What is repaired is first rounded onto its base.
      case .encode(let encoding):
        encodings[item.site.name] = (encoding as? Repaired)?.base ?? encoding
      // Factors are for one encoding; they hardly differ between those that a goal chooses from.
      case .choose(let list): encodings[item.site.name] = list.first
      case .copy, .mix: break
      }
    }
    var edits = TensorEdits(input)
    let stream = LayerStream(network: network, set: set)
    for (index, sublayer) in network.sublayers.enumerated() {
      progress(request.method.rawValue, Double(index) / Double(network.sublayers.count))
      for (group, source) in sublayer.sources.enumerated() {
        let layers = sublayer.groups[group]
        let encoded = layers.compactMap { linear in
          encodings[linear.weightName].map { (weight: edits.weight(linear), encoding: $0) }
        }
        if case .fixed = source { continue }
        guard !encoded.isEmpty else {
          try edits.keep(source)
          continue
        }
        do {
          let factors = try factors(encoded, stream, group, sources: source.layer?.rows)
          try edits.scaleInputs(of: layers, from: source, by: factors)
        } catch let error as QuantizationError {
          throw LayerError(path: input.path, tensor: layers[0].weightName, error)
        }
      }
      stream.advance()
    }
    return edits.checkpoint(encoding: Set(encodings.keys))
  }

  private func factors(
    _ layers: [(weight: Matrix, encoding: any WeightEncoding)], _ stream: LayerStream, _ group: Int,
    sources: [Int]?
  ) throws(QuantizationError) -> [Float] {
    if request.method == .smoothquant {
      return Smoothing.factors(
        for: layers.map(\.weight), largest: stream.largestInputs(ofGroup: group),
        exponent: request.smoothing, sources: sources)
    }
    return try ActivationScaling(search: request.search).choose(
      for: layers, moment: stream.inputs(ofGroup: group).mean(), sources: sources
    ).factors
  }
}

extension QuantizeRequest {
  /// Whether factors are moved from channel to channel before anything is rounded.
  var scalesChannels: Bool { method == .awq || method == .smoothquant }

  /// The rotations; nil where nothing is rotated.
  var modelRotation: ModelRotation? {
    rotation.map { ModelRotation(rotation: $0, seed: UInt64(rotationSeed)) }
  }

  /// Whether the model is brought into an equivalent form before it is quantized.
  var isTransformed: Bool { scalesChannels || rotation != nil }
}

extension QuantizeRun {
  /// The input with the types and shapes that its tensors have once the model is in the form that the request asks
  /// for; what they hold means nothing.
  func planned() throws -> any Checkpoint { try ModelTransform.planned(input, request) }

  /// Bytes of the head that the transformed model has and the input has not.
  func untiedBytes(
    _ source: any Checkpoint, _ assignment: EncodingAssignment
  ) -> Int? {
    let name = ModelRotation.headName + ".weight"
    guard request.rotation == .all,
      !input.holds(name) || input.configuration[ModelRotation.tieKey]?.bool == true,
      let tensor = source.tensor(name), let columns = tensor.shape.last
    else { return nil }
    guard case .encode(let encoding) = assignment[name]?.target else { return tensor.byteCount }
    return encoding.byteCount(outputs: tensor.rows, inputs: columns)
  }
}
