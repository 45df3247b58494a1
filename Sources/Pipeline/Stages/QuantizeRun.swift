// The stage `quantize`: walks the model, quantizes each matrix with inputs from what is quantized already,
// and writes a checkpoint folder.

import Calibration
public import Checkpoints
import CondenseInference
import Encodings
import JSONDocuments
import LinearAlgebra
import Networks
import Pruning
public import Quantization
import Tensors

/// What the stage is asked to do.
public struct QuantizeRequest: Sendable, Equatable {
  /// How codes are found.
  public var method: QuantizationMethod
  /// Which tensors become what.
  public var rules: [EncodingRule]
  /// What the whole model is to become; nil when encodings alone decide.
  public var goal: ModelGoal?
  /// ec: how the tensors' rates follow from the goal.
  public var rates = RateChoice.measured
  /// ec: outputs count by the loss's curvature, or all alike; nil is yes for language models, and no for encoders, whose
  /// pooling gives all tokens of a sequence the same gradient: inputs and gradients are far from independent.
  public var usesCurvature: Bool?
  /// Tensors that read the same inputs share an encoding, where one is chosen from a list.
  public var tiesGroups = false
  /// Whether each layer's distance to the rate–distortion limit is told: eigenvalues of its second-moment matrix.
  public var measuresLimit = false
  /// A file that holds the sensitivities of the model's tensors, or will.
  public var sensitivities: String?
  /// GPTQ: this share of H's mean diagonal is added to the diagonal.
  public var damping = 0.01
  /// GPTQ: columns updated at once.
  public var blockSize = 128
  /// GPTQ: columns with the largest activations first.
  public var actOrder = true
  /// SmoothQuant: the share of the activations' range that goes into the weights.
  public var smoothing = 0.5
  /// What is rotated before anything is quantized.
  public var rotation: Rotation?
  /// Of the rotations' signs.
  public var rotationSeed = 0
  /// How grids are chosen.
  public var search = GridSearch.mse
  /// Each group of layers sees inputs from the groups before it as they are now; otherwise the groups of a
  /// branch see the branch as it was.
  public var trueSequential = true
  /// Nil for methods without calibration.
  public var calibration: CalibrationRequest?
  /// gptq: weights become zero in the same pass, before those that stay are rounded.
  public var pruning: WeightPruning?
  /// gptq, qronos: what is zero stays zero; nil is yes for a checkpoint that was pruned, where the encoding can.
  public var keepsZeros: Bool?
  /// The rank of the factors beside each matrix of codes, which take up the largest part of its error; nil for none.
  public var repairRank: Int?
  /// A file of llama-imatrix with the mean squares of the layers' inputs, in place of calibration text.
  public var imatrix: String?

  /// A request with the usual options.
  public init(
    method: QuantizationMethod, rules: [EncodingRule], calibration: CalibrationRequest?
  ) {
    self.method = method
    self.rules = rules
    self.calibration = calibration
  }

  /// The quantizer of a matrix.
  ///
  /// - Parameters:
  ///   - keepsZeros: Whether zeros of the weight stay.
  ///   - goal: The rate that was chosen for an entropy-coded matrix; nil when it follows from the request.
  func quantizer(
    for item: EncodingAssignment.Item, onto encoding: any WeightEncoding,
    keepsZeros: Bool = false, goal rate: EntropyCodedGPTQ.Goal?, _ knowledge: LayerKnowledge
  ) -> any WeightQuantizer {
    let gptq = GPTQ(
      damping: damping, blockSize: blockSize, actOrder: actOrder, search: search,
      keepsZeros: keepsZeros)
    return switch item.method(asked: method) {
    case .rtn: RTN(search: search)
    case .awq: AWQ(search: search)
    case .smoothquant: SmoothQuant(search: search)
    case .ec:
      EntropyCodedGPTQ(
        goal: rate ?? ownGoal, outputs: knowledge.outputs, keepsZeros: keepsZeros)
    case .gptq: gptq
    case .qronos: Qronos(gptq)
    }
  }

  /// Whether the original model's inputs are measured too.
  var readsOriginalInputs: Bool {
    method.readsOriginalInputs || pruning?.readsOriginalInputs == true
  }

  /// Whether zeros stay on an encoding, as far as the request says; nil when that follows from the input.
  func keepsZeros(on encoding: any WeightEncoding, wasPruned: Bool) -> Bool {
    guard method == .gptq || method == .qronos || method == .ec else { return false }
    return keepsZeros ?? (wasPruned && (Self.isGrid(encoding) || encoding is EntropyCoded))
  }

  /// The goal of an entropy-coded matrix for itself.
  private var ownGoal: EntropyCodedGPTQ.Goal {
    switch goal {
    case .bits(let bits): .bits(bits)
    case .error(let error): .error(error)
    case .budget, .drift, nil: .bits(4)
    }
  }

  /// Whether the rates or encodings of tensors follow from a goal for the whole model.
  public var isAllocated: Bool {
    let chooses = rules.contains { if case .choose = $0.target { true } else { false } }
    switch goal {
    case .bits: return chooses || (method == .ec && rates == .measured)
    case .budget, .drift: return true
    case .error, nil: return false
    }
  }

  /// Whether any weight goes onto group grids, whose search and order of columns can be chosen: ggml's blocks
  /// and entropy-coded weights have their own.
  public var usesGrids: Bool {
    rules.contains { rule in
      switch rule.target {
      case .encode(let encoding): return Self.isGrid(encoding)
      case .choose(let encodings): return encodings.contains(where: Self.isGrid)
      case .copy, .mix: return false
      }
    }
  }

  static func isGrid(_ encoding: any WeightEncoding) -> Bool {
    let encoding = (encoding as? Repaired)?.base ?? encoding
    return encoding is GroupIntegers || encoding is LevelGroups || encoding is W8A8
  }

  /// The options that the result depends on, for the lineage.
  var json: JSONValue {
    var object = JSONObject()
    object["method"] = .string(method.rawValue)
    object["encoding"] = .array(
      rules.map { .string(($0.pattern.map { $0 + "=" } ?? "") + $0.target.name) })
    if usesGrids { object["grid"] = .string(search.rawValue) }
    switch goal {
    case .bits(let bits): object["bits"] = .number(bits)
    case .budget(let bytes): object["budget"] = .integer(bytes)
    case .drift(let drift): object["max-drift"] = .number(drift)
    case .error(let error): object["max-error"] = .number(error)
    case nil: break
    }
    if method == .ec { object["rates"] = .string(isAllocated ? "measured" : "equal") }
    if let usesCurvature { object["curvature"] = .bool(usesCurvature) }
    if tiesGroups { object["tie-groups"] = true }
    if let rotation {
      object["rotate"] = .string(rotation.rawValue)
      object["rotation-seed"] = .integer(rotationSeed)
    }
    if method == .smoothquant { object["smoothing"] = .number(smoothing) }
    if measuresLimit { object["limit"] = true }
    if method == .gptq || method == .qronos {
      object["damping"] = .number(damping)
      object["block-size"] = .integer(blockSize)
      if usesGrids { object["act-order"] = .bool(actOrder) }
    }
    if let pruning {
      object["pruning"] = .object(pruning.json(isCalibrated: false))
    }
    if let keepsZeros { object["keep-zeros"] = .bool(keepsZeros) }
    if let repairRank { object["repair-rank"] = .integer(repairRank) }
    if let imatrix { object["imatrix"] = .string(FilePath.name(of: imatrix)) }
    if calibration != nil { object["true-sequential"] = .bool(trueSequential) }
    return .object(object)
  }
}

/// What a stage did.
public struct StageResult: Sendable {
  /// The layer table, in the order of the work.
  public let layers: [LayerRecord]
  /// Calibration tokens, or samples, that were asked for and used; nil without calibration.
  public var calibration: (asked: Int, used: Int, unit: String)?
  /// Layers that an interrupted run had finished already.
  public let resumedLayers: Int
  /// Weights that were no floats before, with the encoding they had: its loss stays in them.
  public let requantized: [(tensor: String, encoding: String)]
  /// How a goal for the whole model was met; nil without one.
  public var allocation: AllocationOutcome?
  /// Bytes of a head of its own, which a model has after a rotation that it shared with the embedding; nil otherwise.
  public var untiedBytes: Int?
  /// What structured pruning made of the model; nil for other stages.
  public var structure: StructureOutcome?
  /// What the pruning of filters made of it; nil for other stages.
  public var filters: FilterOutcome?
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
    let input = try planned()
    let network =
      FamilyRegistry.family(of: input) == nil ? nil : try FamilyRegistry.network(of: input)
    return try EncodingAssignment(
      request.rules, to: network.map { MatrixSite.all(of: $0) } ?? MatrixSite.all(of: input),
      halved: network?.halvedTensors ?? [],
      isCalibrated: request.calibration != nil || request.imatrix != nil
    ).repaired(rank: request.repairRank)
  }

  /// Weights that are encoded already and will be encoded again.
  func requantized(_ assignment: EncodingAssignment) -> [(tensor: String, encoding: String)] {
    assignment.items.compactMap { item in
      guard case .encode = item.target, let entry = input.manifest[item.site.name],
        entry.encoding.exactFloats == nil
      else { return nil }
      return (item.site.name, entry.encoding.name)
    }
  }

  /// What the lineage says of the work.
  func work(_ layers: [LayerRecord], _ assignment: EncodingAssignment) -> JSONValue {
    var object = JSONObject()
    object["layers"] = .array(layers.map { $0.json })
    let again = requantized(assignment)
    if !again.isEmpty {
      object["requantized"] = .array(
        again.map { ["tensor": .string($0.tensor), "was": .string($0.encoding)] })
    }
    return .object(object)
  }

  /// Refuses what cannot work, before any work.
  func check() throws {
    guard FamilyRegistry.family(of: input) != nil || !request.method.needsCalibration else {
      throw CheckpointError(
        path: input.path,
        .unsupported(
          "\(request.method.rawValue) on an unknown architecture (rtn needs no forward pass)"))
    }
    if request.imatrix != nil, request.calibration != nil || request.method != .rtn {
      throw CheckpointError(
        path: request.imatrix ?? "",
        .unsupported(
          "an importance matrix with \(request.method.rawValue) or with calibration text (it is for rtn alone)"
        ))
    }
    guard FamilyRegistry.family(of: input) != nil || request.rotation == nil else {
      throw CheckpointError(
        path: input.path, .unsupported("rotating a model of an unknown architecture"))
    }
    if request.rotation != nil, request.imatrix != nil {
      throw CheckpointError(
        path: request.imatrix ?? "",
        .unsupported(
          "an importance matrix with --rotate (its channels are not those of the rotated model)"))
    }
    if request.method.needsCalibration, request.calibration == nil {
      throw QuantizationError.needsStatistics(method: request.method.rawValue)
    }
    try checkPruning()
    try checkRepair()
    let chooses = request.rules.contains { if case .choose = $0.target { true } else { false } }
    if chooses, !request.isAllocated {
      throw AllocationError(
        description:
          "a list of encodings needs a goal to choose by: --bits, --budget or --max-kl")
    }
    if request.isAllocated {
      guard request.method == .ec || chooses else {
        throw AllocationError(
          description:
            "a goal for the whole model needs --method ec, or a list of encodings to choose from, such as "
            + "--encoding int3-g64,int4-g64")
      }
      guard FamilyRegistry.family(of: input) != nil, request.calibration != nil else {
        throw AllocationError(
          description:
            "a goal for the whole model needs --calibration FILE and a known architecture"
        )
      }
    }
  }

  /// Does the work and writes the folder `output`.
  ///
  /// - Parameters:
  ///   - inputHash: The input's content hash, when the caller knows it.
  ///   - hasDrift: Whether `complete` adds the drift, which takes room in the packed file.
  ///   - complete: Called with the complete folder before it gets its name, to add files to it.
  ///   - progress: Called with what is done and the share.
  ///   - finished: Called with each finished layer and the seconds it took.
  public func run(
    output path: String, force: Bool = false, inputHash: String? = nil, hasDrift: Bool = false,
    complete: (String) throws -> Void = { _ in },
    progress: @escaping (String, Double) -> Void = { _, _ in },
    finished: @escaping (LayerRecord, Double) -> Void = { _, _ in }
  ) throws -> StageResult {
    let assignment = try assignment()
    try check()
    let loaded = try loadCalibration(progress: progress)
    let imatrix = try request.imatrix.map { try ImportanceFile(path: $0, for: input) }
    let inputHash = try inputHash ?? contentHash(of: input)
    let calibration = loaded?.json ?? imatrix?.json ?? .null
    let key = key(inputHash: inputHash, calibration: calibration)
    return try work(output: path, key: key, force: force, complete: complete) { output in
      let source = try ModelTransform(input: input, request: request, progress: progress).run(
        assignment, set: loaded?.set)
      let search = GoalSearch(
        stage: QuantizeRun(input: source, request: request), assignment: assignment, output: output,
        loaded: loaded, imatrix: imatrix,
        inputHash: inputHash, calibration: calibration, hasDrift: hasDrift, progress: progress,
        finished: finished)
      let result = try search.run()
      let lineage = lineage(
        result.layers, result.assignment, calibration: calibration, inputHash: inputHash,
        parent: try Lineage.parent(of: input))
      try FolderPlan(
        source: source, assignment: result.assignment, request: request,
        found: result.layers.map { ($0.record.tensor, $0.encoded.encoding) }
      ).write(
        to: output.resultPath, layers: result.layers, lineage: lineage)
      return StageResult(
        layers: result.layers.map { $0.record },
        calibration: loaded.map { ($0.set.tokensAsked, $0.set.tokensUsed, $0.set.unit) },
        resumedLayers: result.resumedLayers, requantized: requantized(result.assignment),
        allocation: result.allocation, untiedBytes: untiedBytes(source, result.assignment))
    }
  }

  /// The entry of the lineage.
  func lineage(
    _ layers: [FinishedLayer], _ assignment: EncodingAssignment, calibration: JSONValue,
    inputHash: String, parent: JSONValue
  ) -> JSONValue {
    lineage(
      inputHash: inputHash, calibration: calibration,
      work: work(layers.map { $0.record }, assignment), parent: parent)
  }
}

/// The calibration of a stage.
struct LoadedCalibration {
  let set: CalibrationSet
  /// Text that the set leaves out.
  let rest: CalibrationSet?
  /// What the lineage says of it.
  let json: JSONValue
}
