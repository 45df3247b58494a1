// The whole state of a run between two steps, and the file that keeps it. Batches follow from the step and the seed, so
// that the state has no random stream.

import Checkpoints
public import JSONDocuments
import Tensors

/// What a run is between two steps, parameters and optimizer aside.
public struct TrainingState {
  /// Steps done.
  var step = 0
  /// Tokens trained on.
  var tokens = 0
  /// Sums since the last point of the curve.
  var sums = LossSums()
  /// The last learning rate.
  var rate = 0.0
  /// The loss curve.
  var curve: [TrainingPoint] = []
  /// Validations of the input and of the best state.
  var first = ValidationPoint(divergence: 0, text: 0)
  var bestPoint = ValidationPoint(divergence: 0, text: 0)
  /// The step of the best state.
  var bestStep = 0
  /// The best parameters so far.
  var best: [[Float]] = []

  var json: JSONValue {
    [
      "step": .integer(step), "tokens": .integer(tokens), "rate": .number(rate),
      "sums": .array(
        [sums.divergence, sums.text, sums.representation, sums.weight].map { .number($0) }),
      "curve": .array(curve.map(\.json)), "first": first.json, "best": bestPoint.json,
      "best_step": .integer(bestStep),
    ]
  }

  init() {}

  /// Reads what `json` gives; nil when it is something else.
  init?(json: JSONValue) {
    guard let step = json["step"]?.integer, let tokens = json["tokens"]?.integer,
      let rate = json["rate"]?.number, let sums = json["sums"]?.array?.map({ $0.number ?? .nan }),
      sums.count == 4, let curve = json["curve"]?.array,
      let first = json["first"].flatMap(ValidationPoint.init(json:)),
      let best = json["best"].flatMap(ValidationPoint.init(json:)),
      let bestStep = json["best_step"]?.integer
    else { return nil }
    self.step = step
    self.tokens = tokens
    self.rate = rate
    self.sums.divergence = sums[0]
    self.sums.text = sums[1]
    self.sums.representation = sums[2]
    self.sums.weight = sums[3]
    self.curve = curve.compactMap(TrainingPoint.init(json:))
    self.first = first
    bestPoint = best
    self.bestStep = bestStep
  }
}

extension ValidationPoint {
  /// Keys `divergence` and `text`, and `accuracy` where labels are known.
  public var json: JSONValue {
    var object = JSONObject()
    object["divergence"] = .number(divergence)
    object["text"] = .number(text)
    if let accuracy { object["accuracy"] = .number(accuracy) }
    return .object(object)
  }

  /// Reads what `json` gives.
  public init?(json: JSONValue) {
    guard let divergence = json["divergence"]?.number, let text = json["text"]?.number else {
      return nil
    }
    self.init(divergence: divergence, text: text, accuracy: json["accuracy"]?.number)
  }
}

extension TrainingPoint {
  /// One point of the curve; `validation` is there where one was made.
  public var json: JSONValue {
    var object = JSONObject()
    object["step"] = .integer(step)
    object["tokens"] = .integer(tokens)
    object["divergence"] = .number(divergence)
    object["text"] = .number(text)
    object["representation"] = .number(representation)
    object["rate"] = .number(rate)
    object["gradient_length"] = .number(gradientLength)
    if let validation { object["validation"] = validation.json }
    return .object(object)
  }

  /// Reads what `json` gives.
  public init?(json: JSONValue) {
    guard let step = json["step"]?.integer, let tokens = json["tokens"]?.integer,
      let divergence = json["divergence"]?.number, let text = json["text"]?.number,
      let representation = json["representation"]?.number, let rate = json["rate"]?.number,
      let length = json["gradient_length"]?.number
    else { return nil }
    self.init(
      step: step, tokens: tokens, divergence: divergence, text: text,
      representation: representation, rate: rate, gradientLength: length,
      validation: json["validation"].flatMap(ValidationPoint.init(json:)))
  }
}

extension TrainingOutcome {
  /// The run without its curve.
  public var json: JSONValue {
    [
      "steps": .integer(steps), "steps_planned": .integer(planned), "tokens": .integer(tokens),
      "input": first.json, "best": best.json, "best_step": .integer(bestStep),
    ]
  }

  /// The run with its curve: what stands beside the lineage.
  public var document: JSONValue {
    guard case .object(var object) = json else { return json }
    object["schema"] = 1
    object["curve"] = .array(curve.map(\.json))
    return .object(object)
  }
}

/// The file of a run's state. A write is complete or not there.
public struct TrainingStore: Sendable {
  /// The file.
  public let path: String
  /// At most this long between two writes, beside those at validations.
  public var interval: Duration

  /// A store.
  public init(path: String, interval: Duration = .seconds(60)) {
    self.path = path
    self.interval = interval
  }

  private static let key = "training"

  /// The arrays of a run in the order of the file, with their names.
  private func arrays(
    _ state: TrainingState, _ parameters: [TrainedParameter], _ optimizer: any Optimizer
  ) -> [(name: String, values: [Float])] {
    let names = type(of: optimizer).stateNames
    return parameters.enumerated().flatMap { index, parameter in
      [(parameter.name, parameter.values), (parameter.name + "@best", state.best[index])]
        + zip(names, optimizer.state[index]).filter { !$0.1.isEmpty }.map {
          (parameter.name + "@" + $0.0, $0.1)
        }
    }
  }

  func write(
    _ state: TrainingState, _ parameters: [TrainedParameter], _ optimizer: any Optimizer
  ) throws {
    let arrays = arrays(state, parameters, optimizer)
    var writer = try SafetensorsWriter(
      path: path,
      layout: SafetensorsLayout(
        items: arrays.map { .init(name: $0.name, dtype: .float32, shape: [$0.values.count]) },
        metadata: [(Self.key, state.json.compactText)]))
    for array in arrays {
      try writer.write(Tensor(.float32, shape: [array.values.count], copying: array.values))
    }
    try writer.finish()
  }

  /// Reads the state into parameters and optimizer; nil when there is none.
  func read(
    _ parameters: [TrainedParameter], _ optimizer: any Optimizer
  ) throws -> TrainingState? {
    guard FilePath.kind(of: path) == .file else { return nil }
    let file = try SafetensorsFile(path: path)
    guard let text = file.header.metadata[Self.key],
      var state = TrainingState(json: try JSONValue(parsing: text))
    else {
      throw CheckpointError(path: path, .missing(key: Self.key, expected: "the state of a run"))
    }
    func values(_ name: String, count: Int) throws -> [Float] {
      guard let tensor = file.tensor(name), tensor.count == count, tensor.dtype == .float32 else {
        throw CheckpointError(path: path, tensor: name, .tensorNotFound)
      }
      return tensor.floats()
    }
    let names = type(of: optimizer).stateNames
    for (index, parameter) in parameters.enumerated() {
      let count = parameter.values.count
      parameter.values = try values(parameter.name, count: count)
      state.best.append(try values(parameter.name + "@best", count: count))
      for (place, name) in names.enumerated() where !optimizer.state[index][place].isEmpty {
        optimizer.state[index][place] = try values(parameter.name + "@" + name, count: count)
      }
    }
    return state
  }
}
