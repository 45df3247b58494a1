// The stage `distill`: trains a checkpoint on what a teacher said, keeps the best state, and writes a folder of the same
// layout.

import Calibration
public import Checkpoints
import CondenseInference
public import Distillation
import Encodings
import HDF5Files
public import JSONDocuments
import LinearAlgebra
import Networks
import Quantization
import Tensors

/// Runs `distill`.
public struct DistillRun {
  let input: any Checkpoint
  let request: DistillRequest

  /// The stage on a student.
  public init(input: any Checkpoint, request: DistillRequest) {
    self.input = input
    self.request = request
  }

  /// The file of the loss curve, beside the lineage.
  static let curveName = "training.json"

  /// What the work is done on: the input, or its model with fewer layers.
  func student() throws -> any Checkpoint {
    guard let path = request.studentConfiguration else { return input }
    return try StudentConfiguration(path: path).checkpoint(of: input)
  }

  /// Hashes of logs, texts and teacher.
  func sources() throws -> JSONValue {
    var object = JSONObject()
    func hashes(_ paths: [String]) throws -> JSONValue {
      .array(
        try paths.map {
          [
            "name": .string(FilePath.name(of: $0)), "sha256": .string(try ContentHash.of(file: $0)),
          ]
        })
    }
    if !request.logs.isEmpty { object["logs"] = try hashes(request.logs) }
    if !request.text.isEmpty { object["text"] = try hashes(request.text) }
    if !request.images.isEmpty { object["images"] = try hashes(request.images) }
    if !request.labels.isEmpty { object["labels"] = try hashes(request.labels) }
    if let teacher = request.teacher {
      object["teacher"] = [
        "name": .string(FilePath.name(of: teacher)),
        "sha256": .string(try contentHash(of: try AnyCheckpoint.open(teacher))),
      ]
    }
    if let path = request.studentConfiguration {
      object["student_configuration"] = .string(try ContentHash.of(file: path))
    }
    return .object(object)
  }

  /// Does the work and writes the folder `output`.
  ///
  /// - Parameters:
  ///   - complete: Called with the complete folder before it gets its name, to add files to it.
  ///   - progress: Called with what is done and the share.
  ///   - trained: Called after each step.
  ///   - finished: Called after each block that was tuned by itself.
  /// - Returns: nil when an interrupted run of this work had finished.
  public func run(
    output path: String, force: Bool = false, inputHash: String? = nil,
    complete: (String) throws -> Void = { _ in },
    progress: @escaping (String, Double) -> Void = { _, _ in },
    trained: (TrainingProgress) throws -> Void = { _ in },
    finished: (BlockOutcome) -> Void = { _ in }
  ) throws -> DistillResult? {
    try request.check()
    let student = try student()
    let inputHash = try inputHash ?? contentHash(of: input)
    let sources = try sources()
    let key = key(inputHash: inputHash, calibration: sources)
    guard let output = try StageOutput(path: path, key: key, force: force) else { return nil }
    do {
      let codes = try startingCodes(student)
      let plan = trainingPlan
      let teacher = try request.teacher.map {
        try Model(try AnyCheckpoint.open($0, tower: input.tower))
      }
      let network = try FamilyRegistry.network(of: student)
      let floats = teacher?.checkpoint
      let model = try plan.model(network, of: student, codes: codes) { name in
        guard let floats, floats.manifest[name] == nil, let tensor = floats.tensor(name),
          tensor.shape.count == 2, tensor.dtype.isFloat
        else { return nil }
        return Matrix(rows: tensor.shape[0], columns: tensor.shape[1], values: tensor.floats())
      }
      if request.start == .random {
        guard !(network is any SampleNetwork) else {
          throw DistillRequestError.fixedStatistics(family: network.family)
        }
        RandomStart(student.configuration, seed: request.training.seed).apply(to: model)
      }
      let work: DistillWork
      if let options = request.blocks, let teacher {
        work = .blocks(
          try blocks(
            model, teacher: teacher.network, options, student, output, progress: progress,
            finished: finished))
      } else {
        work = .training(
          try train(model, student, teacher: teacher, output, trained))
      }
      let (checkpoint, layers) = try trainedCheckpoint(student, model, codes)
      let lineage = Lineage.entry(
        stage: "distill", options: request.json, seed: Int(request.training.seed),
        input: input, inputHash: inputHash, calibration: sources,
        work: work.lineage(layers.map { $0.record.json }), parent: try Lineage.parent(of: input))
      let folder = FolderPlan(
        source: checkpoint,
        replaced: layers.map { ($0.record.tensor, $0.encoded.encoding, $0.record.method) },
        layouts: FolderPlan.layouts(network))
      try folder.write(to: output.resultPath, layers: layers, lineage: lineage)
      if case .training(let outcome) = work {
        try OutputFile.write(
          outcome.document.indentedText + "\n",
          to: FilePath.join(output.resultPath, Self.curveName))
      }
      try ReadBack.check(output.resultPath)
      try complete(output.resultPath)
      try output.finish(force: force)
      return DistillResult(
        work: work, layers: layers.map(\.record), parameters: model.parameterCount)
    } catch {
      // Only an interruption leaves work to resume; an error of the input would come again.
      output.abandon()
      throw error
    }
  }

  private func train(
    _ model: TrainedModel, _ student: any Checkpoint, teacher: Model?,
    _ output: StageOutput, _ trained: (TrainingProgress) throws -> Void
  ) throws -> TrainingOutcome {
    let store = TrainingStore(path: output.notePath("training.safetensors"))
    let trainer =
      request.images.isEmpty
      ? try Trainer(
        model, source: try source(student, model.network), teacher: try teacher?.languageModel(),
        options: request.training, store: store)
      : try Trainer(
        model, task: try sampleTask(model.network, teacher: teacher), options: request.training,
        store: store)
    let outcome = try trainer.run(progress: trained)
    guard outcome.bestStep > 0 else {
      func score(_ point: ValidationPoint) -> Double { Trainer.score(point, request.training) }
      let best = outcome.curve.compactMap { $0.validation }.map(score).min()
      throw DistillationError.noImprovement(
        input: score(outcome.first), best: best ?? score(outcome.first))
    }
    return outcome
  }

  private func blocks(
    _ model: TrainedModel, teacher: any Network, _ options: BlockOptions,
    _ student: any Checkpoint, _ output: StageOutput, progress: (String, Double) -> Void,
    finished: (BlockOutcome) -> Void
  ) throws -> [BlockOutcome] {
    let tokenizer = try Model(student).requiredTokenizer()
    let windows = try TextWindows(
      texts: try request.text.map { ($0, try FilePath.read($0)) }, tokenizer: tokenizer,
      context: request.context, network: try tokenNetwork(model.network))
    let set = CalibrationSet(windows: windows, tokens: request.blockTokens, seed: options.seed)
    let outcomes = try BlockReconstruction(
      model, teacher: teacher, windows: set.sequences, options: options,
      store: { TrainingStore(path: output.notePath("block-\($0).safetensors")) }
    ).run(progress: { progress("block \($0)", $1) }, finished: finished)
    guard outcomes.contains(where: { $0.after < $0.before }) else {
      let before = outcomes.reduce(0.0) { $0 + $1.before } / Double(max(1, outcomes.count))
      throw DistillationError.noImprovement(input: before, best: before)
    }
    return outcomes
  }

  private func tokenNetwork(_ network: any Network) throws -> any TokenNetwork {
    guard let network = network as? any TokenNetwork else {
      throw DistillationError.notALanguageModel(family: network.family)
    }
    return network
  }

  private var trainingPlan: TrainingPlan {
    var plan = TrainingPlan(request.parts)
    plan.rank = request.rank
    plan.alpha = Float(request.alpha ?? Double(request.rank))
    plan.seed = request.training.seed
    plan.precision = request.training.precision
    plan.keepsZeros = request.keepsZeros
    return plan
  }

  /// Codes of float weights that are to be trained in an encoding: rounded to nearest on searched grids.
  private func startingCodes(_ student: any Checkpoint) throws -> [String: EncodedMatrix] {
    guard let name = request.encoding else { return [:] }
    guard let encoding = EncodingRegistry.encoding(named: name), WeightGrid.canTrain(encoding)
    else {
      throw DistillRequestError.encoding(name)
    }
    var codes: [String: EncodedMatrix] = [:]
    for layer in try FamilyRegistry.network(of: student).linearLayers
    where student.manifest[layer.weightName].map({ !($0.encoding is PlainFloats) }) != true {
      codes[layer.weightName] = try RTN().quantize(
        layer.matrix.decoded(), statistics: .none, encoding: encoding
      ).encoded
    }
    return codes
  }

  private func source(
    _ student: any Checkpoint, _ network: any Network
  ) throws -> any TrainingSource {
    let weights = request.training.sourceWeights
    let network = try tokenNetwork(network)
    let vocabulary = network.vocabularySize
    func weight(_ index: Int) -> Double { weights.isEmpty ? 1 : weights[index] }
    if !request.logs.isEmpty {
      let hash = tokenizerHash(
        try Model(student).requiredTokenizer(), vocabulary: vocabulary)
      return LogSource(
        try request.logs.enumerated().map { index, path in
          let log = try TeacherLog(path: path)
          try log.requireMatch(tokenizerHash: hash, vocabulary: vocabulary)
          return (log, weight(index))
        })
    }
    let tokenizer = try Model(student).requiredTokenizer()
    return TextSource(
      try request.text.enumerated().map { index, path in
        let windows = try TextWindows(
          texts: [(path, try FilePath.read(path))], tokenizer: tokenizer,
          context: request.context, network: network)
        return (windows.windows, weight(index))
      })
  }

  /// The student with its trained tensors: floats in the types that they had, codes as layers of their own.
  private func trainedCheckpoint(
    _ student: any Checkpoint, _ model: TrainedModel, _ codes: [String: EncodedMatrix]
  ) throws -> (checkpoint: TransformedCheckpoint, layers: [FinishedLayer]) {
    let (tensors, vectors) = model.result()
    var changed: [String: Tensor] = [:], layers: [FinishedLayer] = []
    for layer in model.network.matrices {
      let name = layer.weightName
      guard let tensor = tensors[name] else { continue }
      switch tensor {
      case .floats(let matrix):
        changed[name] = Tensor(
          .float32, shape: layer.layout?.shape ?? [matrix.rows, matrix.columns],
          copying: layer.layout?.tensorValues(of: matrix) ?? matrix.values
        ).converted(to: student.floatType(of: name))
      case .encoded(let encoded):
        let bits = encoded.encoding.bitsPerWeight(
          outputs: encoded.outputs, inputs: encoded.inputs)
        layers.append(
          FinishedLayer(
            record: .trained(
              name, encoding: encoded.encoding.name, method: "distill-" + request.parts.rawValue,
              bitsPerWeight: bits), encoded: encoded))
      }
    }
    for (name, values) in vectors {
      let type = student.tensorType(name)
      changed[name] = Tensor(.float32, shape: type?.shape ?? [values.count], copying: values)
        .converted(to: type?.dtype ?? .float32)
    }
    return (TransformedCheckpoint(student, changed: changed), layers)
  }
}

/// What was done to the student.
public enum DistillWork: Sendable, Equatable {
  /// Training of the whole.
  case training(TrainingOutcome)
  /// Each block by itself.
  case blocks([BlockOutcome])

  /// What the lineage says of the work.
  func lineage(_ layers: [JSONValue]) -> JSONValue {
    var object = JSONObject([.init(key: "layers", value: .array(layers))])
    object[key] = json
    return .object(object)
  }

  /// The key of `json` in documents.
  public var key: String {
    switch self {
    case .training: "training"
    case .blocks: "blocks"
    }
  }

  /// The curve, or the blocks' errors.
  public var json: JSONValue {
    switch self {
    case .training(let outcome): outcome.json
    case .blocks(let outcomes):
      .array(
        outcomes.map {
          [
            "block": .integer($0.block), "error_before": .number($0.before),
            "error_after": .number($0.after),
          ]
        })
    }
  }
}

/// What a distillation came to.
public struct DistillResult: Sendable {
  /// The run.
  public let work: DistillWork
  /// Weights that are stored in codes.
  public let layers: [LayerRecord]
  /// Numbers that were trained.
  public let parameters: Int
}

extension LayerRecord {
  /// The row of a matrix whose codes or grids were trained.
  static func trained(
    _ name: String, encoding: String, method: String, bitsPerWeight: Double
  ) -> LayerRecord {
    fitted(
      name, encoding: encoding, method: method, bitsPerWeight: bitsPerWeight, relativeError: 0,
      deadInputs: 0)
  }
}
