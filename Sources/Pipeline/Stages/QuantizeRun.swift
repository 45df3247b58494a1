// The stage `quantize`: walks the model, quantizes each matrix with inputs from what is quantized already,
// and writes a checkpoint folder.

import Calibration
public import Checkpoints
import CondenseInference
import Encodings
import JSONDocuments
import LinearAlgebra
import Networks
public import Quantization
import Tensors

/// What the stage is asked to do.
public struct QuantizeRequest: Sendable, Equatable {
  /// How codes are found.
  public var method: QuantizationMethod
  /// Which tensors become what.
  public var rules: [EncodingRule]
  /// GPTQ: this share of H's mean diagonal is added to the diagonal.
  public var damping = 0.01
  /// GPTQ: columns updated at once.
  public var blockSize = 128
  /// GPTQ: columns with the largest activations first.
  public var actOrder = true
  /// How grids are chosen.
  public var search = GridSearch.mse
  /// Each group of layers sees inputs from the groups before it as they are now; otherwise the groups of a
  /// branch see the branch as it was.
  public var trueSequential = true
  /// Nil for methods without calibration.
  public var calibration: CalibrationRequest?

  /// A request with the usual options.
  public init(
    method: QuantizationMethod, rules: [EncodingRule], calibration: CalibrationRequest?
  ) {
    self.method = method
    self.rules = rules
    self.calibration = calibration
  }

  /// The quantizer that the request names.
  var quantizer: any WeightQuantizer {
    switch method {
    case .rtn: RTN(search: search)
    case .gptq:
      GPTQ(damping: damping, blockSize: blockSize, actOrder: actOrder, search: search)
    }
  }

  /// The options that the result depends on, for the lineage.
  var json: JSONValue {
    var object = JSONObject()
    object["method"] = .string(method.rawValue)
    object["encoding"] = .array(
      rules.map { .string(($0.pattern.map { $0 + "=" } ?? "") + $0.target.name) })
    object["grid"] = .string(search.rawValue)
    if method == .gptq {
      object["damping"] = .number(damping)
      object["block-size"] = .integer(blockSize)
      object["act-order"] = .bool(actOrder)
    }
    if calibration != nil { object["true-sequential"] = .bool(trueSequential) }
    return .object(object)
  }
}

/// What a stage did.
public struct StageResult: Sendable {
  /// The layer table, in the order of the work.
  public let layers: [LayerRecord]
  /// Calibration tokens that were asked for and used; nil without calibration.
  public let calibration: (asked: Int, used: Int)?
  /// Layers that an interrupted run had finished already.
  public let resumedLayers: Int
}

/// Runs `quantize`.
public struct QuantizeRun {
  let input: any Checkpoint
  let request: QuantizeRequest

  /// The stage on a checkpoint.
  public init(input: any Checkpoint, request: QuantizeRequest) {
    self.input = input
    self.request = request
  }

  /// What becomes of every matrix; throws before any work when a rule is wrong.
  public func assignment() throws -> EncodingAssignment {
    let sites =
      FamilyRegistry.family(of: input) == nil
      ? MatrixSite.all(of: input) : MatrixSite.all(of: try FamilyRegistry.network(of: input))
    return try EncodingAssignment(request.rules, to: sites)
  }

  /// The hash of everything that the result depends on.
  ///
  /// - Parameter inputHash: The input's content hash.
  func key(inputHash: String, calibration: JSONValue) -> String {
    var hash = ContentHash()
    for part in [
      toolVersion, "quantize", BLAS.description, inputHash, request.json.compactText,
      calibration.compactText,
    ] { hash.update(part) }
    return hash.digits
  }

  /// Loads the calibration set, for architectures that are known.
  func loadCalibration() throws -> (set: CalibrationSet, json: JSONValue)? {
    guard let calibration = request.calibration, FamilyRegistry.family(of: input) != nil else {
      return nil
    }
    let loaded = try calibration.load(for: try Model(input))
    return (
      loaded.set, calibration.json(used: loaded.set.tokensUsed, hashes: loaded.hashes)
    )
  }

  /// Refuses what cannot work, before any work.
  func check() throws {
    guard FamilyRegistry.family(of: input) != nil || request.method == .rtn else {
      throw CheckpointError(
        path: input.path,
        .unsupported(
          "\(request.method.rawValue) on an unknown architecture (rtn needs no forward pass)"))
    }
    if request.method == .gptq, request.calibration == nil {
      throw QuantizationError.needsStatistics(method: request.method.rawValue)
    }
  }

  /// Does the work and writes the folder `output`.
  ///
  /// - Parameters:
  ///   - inputHash: The input's content hash, when the caller knows it.
  ///   - complete: Called with the complete folder before it gets its name, to add files to it.
  ///   - progress: Called with what is done and the share.
  ///   - finished: Called with each finished layer and the seconds it took.
  public func run(
    output path: String, force: Bool = false, inputHash: String? = nil,
    complete: (String) throws -> Void = { _ in },
    progress: @escaping (String, Double) -> Void = { _, _ in },
    finished: @escaping (LayerRecord, Double) -> Void = { _, _ in }
  ) throws -> StageResult {
    let assignment = try assignment()
    try check()
    let loaded = try loadCalibration()
    let inputHash = try inputHash ?? contentHash(of: input)
    let calibration = loaded?.json ?? .null
    let key = key(inputHash: inputHash, calibration: calibration)
    guard let output = try StageOutput(path: path, key: key, force: force) else {
      return StageResult(layers: [], calibration: nil, resumedLayers: 0)
    }
    do {
      let network = FamilyRegistry.family(of: input) == nil ? nil : try Model(input).network
      let walk = QuantizeWalk(
        assignment: assignment, request: request, output: output, checkpoint: input,
        progress: progress, finished: finished)
      let layers = try walk.run(network: network, set: loaded?.set)
      let lineage = Lineage.entry(
        stage: "quantize", options: request.json, seed: request.calibration?.seed ?? 0,
        inputName: FilePath.name(of: input.path), inputHash: inputHash, calibration: calibration,
        work: ["layers": .array(layers.map { $0.record.json })],
        parent: try Lineage.parent(of: input))
      try FolderPlan(source: input, assignment: assignment, method: request.method).write(
        to: output.resultPath, layers: layers, lineage: lineage)
      try ReadBack.check(output.resultPath)
      try complete(output.resultPath)
      try output.finish(force: force)
      return StageResult(
        layers: layers.map { $0.record },
        calibration: loaded.map { ($0.set.tokensAsked, $0.set.tokensUsed) },
        resumedLayers: walk.resumedLayers)
    } catch {
      // Only an interruption leaves work to resume; an error of the input would come again.
      output.abandon()
      throw error
    }
  }
}

/// The walk over the matrices of a model.
private final class QuantizeWalk {
  private let assignment: EncodingAssignment
  private let request: QuantizeRequest
  private let output: StageOutput
  private let checkpoint: any Checkpoint
  private let progress: (String, Double) -> Void
  private let finished: (LayerRecord, Double) -> Void
  private var layers: [FinishedLayer] = []
  private(set) var resumedLayers = 0

  init(
    assignment: EncodingAssignment, request: QuantizeRequest, output: StageOutput,
    checkpoint: any Checkpoint, progress: @escaping (String, Double) -> Void,
    finished: @escaping (LayerRecord, Double) -> Void
  ) {
    self.assignment = assignment
    self.request = request
    self.output = output
    self.checkpoint = checkpoint
    self.progress = progress
    self.finished = finished
  }

  func run(network: (any Network)?, set: CalibrationSet?) throws -> [FinishedLayer] {
    guard let network else { return try runUnknown() }
    try quantizeEmbedding(network, set)
    if let set {
      var stream = LayerStream(network: network, set: set)
      for (index, sublayer) in network.sublayers.enumerated() {
        progress("quantize", Double(index) / Double(network.sublayers.count))
        try quantize(sublayer, stream)
        stream.advance()
      }
      if let model = network as? any LanguageModel, !model.isTied, isEncoded(model.head) {
        try quantize(model.head, moment: { stream.headInputs(of: model).mean() })
      }
    } else {
      for linear in network.linearLayers { try quantize(linear, moment: nil) }
      if let model = network as? any LanguageModel, !model.isTied {
        try quantize(model.head, moment: nil)
      }
    }
    progress("quantize", 1)
    return layers
  }

  private func isEncoded(_ linear: Linear) -> Bool {
    guard case .encode = assignment[linear.weightName]?.target else { return false }
    return true
  }

  /// One branch, group by group.
  private func quantize(_ sublayer: any Sublayer, _ stream: LayerStream) throws {
    let groups = sublayer.groups
    var early: [Int: DoubleMatrix] = [:]
    let needed = groups.indices.filter { groups[$0].contains(where: isEncoded) }
    if !request.trueSequential {
      // All of them before the first layer changes, in a resumed run too: the bytes must be the same.
      for group in needed {
        early[group] = stream.inputs(ofGroup: group).mean()
      }
    }
    for group in needed {
      var moment = early[group]
      for linear in groups[group] {
        try quantize(linear) {
          let current = moment ?? stream.inputs(ofGroup: group).mean()
          moment = current
          return current
        }
      }
    }
  }

  /// The embedding comes first, so that all branches see it as it will be. As a tied head it is measured
  /// with the head's inputs in the original model; alone, each row is read by one token, and there is no
  /// other column to push an error onto: then it is rounded.
  private func quantizeEmbedding(_ network: any Network, _ set: CalibrationSet?) throws {
    guard isEncoded(network.embedding) else { return }
    guard let model = network as? any LanguageModel, model.isTied, let set else {
      let role = assignment[network.embedding.weightName]?.site.method(asked: request.method)
      try quantize(
        network.embedding, moment: nil,
        quantizer: role == .rtn ? RTN(search: request.search) : nil)
      return
    }
    try quantize(network.embedding) {
      var stream = LayerStream(network: network, set: set)
      for index in network.sublayers.indices {
        self.progress("head statistics", Double(index) / Double(network.sublayers.count))
        stream.advance()
      }
      return stream.headInputs(of: model).mean()
    }
  }

  /// One layer: from an earlier run, or by the method.
  private func quantize(
    _ linear: Linear, moment: (() -> DoubleMatrix)?, quantizer: (any WeightQuantizer)? = nil
  ) throws {
    guard case .encode(let encoding) = assignment[linear.weightName]?.target else { return }
    let weight = linear.matrix
    linear.matrix = try finish(linear.weightName) {
      try (quantizer ?? request.quantizer).quantize(
        weight.decoded(), moment: moment?(), encoding: encoding)
    }.matrix
  }

  private func finish(
    _ name: String, _ work: () throws -> QuantizedWeight
  ) throws -> EncodedMatrix {
    let path = output.layerPath(layers.count)
    let start = ContinuousClock.now
    if let layer = try FinishedLayer.read(path, tensor: name) {
      layers.append(layer)
      resumedLayers += 1
      finished(layer.record, 0)
      return layer.encoded
    }
    let result: QuantizedWeight
    do {
      result = try work()
    } catch let error as QuantizationError {
      throw LayerError(path: checkpoint.path, tensor: name, error)
    }
    let layer = FinishedLayer(
      record: LayerRecord(result, name: name),
      encoded: result.encoded)
    try layer.write(to: path)
    layers.append(layer)
    finished(layer.record, (ContinuousClock.now - start) / .seconds(1))
    return layer.encoded
  }

  /// The matrices of a checkpoint without a known architecture, each for itself.
  private func runUnknown() throws -> [FinishedLayer] {
    for (index, item) in assignment.items.enumerated() {
      guard case .encode(let encoding) = item.target else { continue }
      progress("quantize", Double(index) / Double(assignment.items.count))
      let weight = try checkpoint.weight(
        item.site.name, outputs: item.site.outputs, inputs: item.site.inputs)
      _ = try finish(item.site.name) {
        try request.quantizer.quantize(weight.decoded(), moment: nil, encoding: encoding)
      }
    }
    return layers
  }
}

/// A quantization error with the tensor and the checkpoint it is about.
public struct LayerError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The checkpoint.
  public let path: String
  /// The weight.
  public let tensor: String
  /// What is wrong.
  public let problem: QuantizationError

  init(path: String, tensor: String, _ problem: QuantizationError) {
    self.path = path
    self.tensor = tensor
    self.problem = problem
  }

  /// One line without a full stop.
  public var description: String { "\(path): '\(tensor)': \(problem)" }
}
