// What became of one matrix: a row of the layer table, and the file that lets an interrupted stage resume.

import Checkpoints
import Encodings
public import JSONDocuments
import Pruning
import Quantization
import Tensors

/// One row of the layer table.
public struct LayerRecord: Sendable, Equatable {
  /// The weight's name.
  public let tensor: String
  /// Its new encoding.
  public let encoding: String
  /// The method that ran.
  public let method: String
  /// Stored bits over weights.
  public let bitsPerWeight: Double
  /// ‖(W−Ŵ)X‖² / ‖WX‖², or without calibration ‖W−Ŵ‖² / ‖W‖².
  public let relativeError: Double
  /// Whether the error is of outputs on calibration inputs, or of the weights alone.
  public let isOutputError: Bool
  /// Times the method did otherwise than asked.
  public let fallbacks: Int
  /// Inputs that calibration never saw.
  public let deadInputs: Int

  /// What was measured beside the method's own figures.
  public struct Extras: Sendable, Equatable {
    /// Bits a weight above the rate–distortion limit; nil inside when it cannot be told, nil outside when nobody asked.
    public var bitsAboveLimit: Double??
    /// The drift of the model that this tensor's error is predicted to cause; nil without sensitivities.
    public var predictedDrift: Double?

    /// Zeros of a pruned matrix; nil for others.
    public var zeros: Zeros?

    /// Calibration tokens that a router sent the expert; nil for matrices that read every token.
    public var routedTokens: Int?

    /// Whether they were too few to calibrate with.
    var isStarved: Bool { routedTokens.map { $0 < GroupInputs.leastTokens } ?? false }

    /// Nothing more.
    public init(
      bitsAboveLimit: Double?? = nil, predictedDrift: Double? = nil, zeros: Zeros? = nil,
      routedTokens: Int? = nil
    ) {
      self.routedTokens = routedTokens
      self.bitsAboveLimit = bitsAboveLimit
      self.predictedDrift = predictedDrift
      self.zeros = zeros
    }
  }

  /// Zeros that were asked for, and that there are: more only where more were zero before.
  public struct Zeros: Sendable, Equatable {
    /// Asked for.
    public let asked: Int
    /// In the stored matrix.
    public let reached: Int
    /// `reached` over the number of weights.
    public let share: Double
  }

  /// See `Extras`.
  public let extras: Extras

  /// What the lineage and `drift.json` say.
  public var json: JSONValue {
    var object: JSONObject = JSONObject([
      .init(key: "tensor", value: .string(tensor)),
      .init(key: "encoding", value: .string(encoding)),
      .init(key: "method", value: .string(method)),
      .init(key: "bits_per_weight", value: .number(bitsPerWeight)),
      .init(
        key: isOutputError ? "relative_output_error" : "relative_weight_error",
        value: .number(relativeError)),
      .init(key: "fallbacks", value: .integer(fallbacks)),
      .init(key: "dead_inputs", value: .integer(deadInputs)),
    ])
    if let limit = extras.bitsAboveLimit {
      object["bits_above_limit"] = limit.map { .number($0) } ?? .null
    }
    if let drift = extras.predictedDrift { object["predicted_drift"] = .number(drift) }
    if let tokens = extras.routedTokens { object["tokens"] = .integer(tokens) }
    if let zeros = extras.zeros {
      object["zeros_asked"] = .integer(zeros.asked)
      object["zeros"] = .integer(zeros.reached)
      object["sparsity"] = .number(zeros.share)
    }
    return .object(object)
  }

  /// - Parameter isFallback: Whether another encoding was asked for.
  init(_ result: QuantizedWeight, name: String, isFallback: Bool, extras: Extras) {
    self.extras = extras
    tensor = name
    // The bytes are a column of their own.
    encoding = result.encoded.encoding is EntropyCoded ? "ec" : result.encoded.encoding.name
    method = result.method.rawValue
    bitsPerWeight = result.encoded.encoding.bitsPerWeight(
      outputs: result.encoded.outputs, inputs: result.encoded.inputs)
    relativeError = result.relativeError
    isOutputError = result.isOutputError
    fallbacks = result.fallbacks + (isFallback ? 1 : 0)
    deadInputs = result.deadInputs
  }

  /// The row of a pruned matrix.
  init(
    _ result: PrunedWeight, _ goal: SparsityGoal, name: String, encoded: EncodedMatrix,
    routedTokens: Int?
  ) {
    // The type that is stored may be coarser than the one that was computed with.
    let zeros = encoded.matrix.decoded().values.count { $0 == 0 }
    extras = Extras(
      zeros: Zeros(
        asked: goal.zeros, reached: zeros,
        share: Double(zeros) / Double(max(1, goal.outputs * goal.inputs))),
      routedTokens: routedTokens)
    tensor = name
    encoding = encoded.encoding.name
    method = result.method.rawValue
    bitsPerWeight = encoded.encoding.bitsPerWeight(
      outputs: encoded.outputs, inputs: encoded.inputs)
    relativeError = result.relativeError
    isOutputError = result.isOutputError
    fallbacks = result.fallbacks + (extras.isStarved ? 1 : 0)
    deadInputs = result.deadInputs
  }

  /// The row of a matrix that is still to be done, its figures at zero.
  static func planned(
    _ site: MatrixSite, encoding: any WeightEncoding, method: String,
    isOutputError: Bool, extras: Extras
  ) -> LayerRecord {
    LayerRecord(
      tensor: site.name, encoding: encoding.name, method: method, bitsPerWeight: 0,
      relativeError: 0, isOutputError: isOutputError, fallbacks: 0, deadInputs: 0,
      extras: extras)
  }

  /// The row of a matrix that was fitted behind a cut, or made of two thin ones.
  static func fitted(
    _ name: String, encoding: String, method: String = "structured", bitsPerWeight: Double,
    relativeError: Double, deadInputs: Int
  ) -> LayerRecord {
    LayerRecord(
      tensor: name, encoding: encoding, method: method, bitsPerWeight: bitsPerWeight,
      relativeError: relativeError, isOutputError: true, fallbacks: 0, deadInputs: deadInputs,
      extras: Extras())
  }

  private init(
    tensor: String, encoding: String, method: String, bitsPerWeight: Double, relativeError: Double,
    isOutputError: Bool, fallbacks: Int, deadInputs: Int, extras: Extras
  ) {
    self.extras = extras
    self.tensor = tensor
    self.encoding = encoding
    self.method = method
    self.bitsPerWeight = bitsPerWeight
    self.relativeError = relativeError
    self.isOutputError = isOutputError
    self.fallbacks = fallbacks
    self.deadInputs = deadInputs
  }

  init?(json: JSONValue) {
    let output = json["relative_output_error"]?.number
    guard let tensor = json["tensor"]?.string, let encoding = json["encoding"]?.string,
      let method = json["method"]?.string, let bits = json["bits_per_weight"]?.number,
      let error = output ?? json["relative_weight_error"]?.number,
      let fallbacks = json["fallbacks"]?.integer, let dead = json["dead_inputs"]?.integer
    else { return nil }
    self.tensor = tensor
    self.encoding = encoding
    self.method = method
    bitsPerWeight = bits
    relativeError = error
    isOutputError = output != nil
    self.fallbacks = fallbacks
    deadInputs = dead
    extras = Extras(
      bitsAboveLimit: json["bits_above_limit"].map { $0.number },
      predictedDrift: json["predicted_drift"]?.number,
      zeros: json["zeros"]?.integer.flatMap { reached in
        guard let asked = json["zeros_asked"]?.integer, let share = json["sparsity"]?.number else {
          return nil
        }
        return Zeros(asked: asked, reached: reached, share: share)
      },
      routedTokens: json["tokens"]?.integer)
  }
}

/// A finished matrix on disk.
struct FinishedLayer {
  let record: LayerRecord
  let encoded: EncodedMatrix

  private static let recordKey = "record"

  /// Writes the layer; it appears only when it is complete.
  func write(to path: String) throws {
    let manifest = WeightManifest([
      .init(
        name: record.tensor, encoding: encoded.encoding, outputs: encoded.outputs,
        inputs: encoded.inputs, method: record.method)
    ])
    let parts = encoded.encoding.parts(outputs: encoded.outputs, inputs: encoded.inputs)
    let layout = SafetensorsLayout(
      items: parts.map {
        .init(name: record.tensor + $0.suffix, dtype: $0.dtype, shape: $0.shape)
      },
      metadata: [
        (WeightManifest.metadataKey, manifest.json.compactText),
        (Self.recordKey, record.json.compactText),
      ])
    var writer = try SafetensorsWriter(path: path, layout: layout)
    for tensor in encoded.parts { try writer.write(tensor) }
    try writer.finish()
  }

  /// Reads a layer that an earlier run of the same work finished; nil when there is none.
  static func read(_ path: String, tensor name: String) throws -> FinishedLayer? {
    guard FilePath.kind(of: path) == .file else { return nil }
    let file = try SafetensorsFile(path: path)
    let manifest = try WeightManifest(metadata: file.header.metadata, path: path)
    guard let entry = manifest[name], let text = file.header.metadata[recordKey],
      let record = LayerRecord(json: try JSONValue(parsing: text))
    else { return nil }
    let tensors = entry.encoding.parts(outputs: entry.outputs, inputs: entry.inputs).compactMap {
      file.tensor(entry.name + $0.suffix)
    }
    return FinishedLayer(
      record: record,
      encoded: EncodedMatrix(
        encoding: entry.encoding, outputs: entry.outputs, inputs: entry.inputs, parts: tensors))
  }
}
