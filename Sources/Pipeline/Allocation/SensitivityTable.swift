// What each tensor costs at several rates, and what the model feels of it: measured once, kept as a file.

import Checkpoints
public import JSONDocuments
import Quantization

/// The sensitivities of a model's tensors.
public struct SensitivityTable: Sendable, Equatable {
  /// A choice of a tensor, measured alone with the inputs of the original model.
  public struct Point: Sendable, Equatable {
    /// An encoding, or `ec` at a rate.
    public let encoding: String
    /// Stored bits over weights.
    public let bits: Double
    /// ‖(W−Ŵ)X‖² / ‖WX‖².
    public let error: Double
  }

  /// One tensor.
  public struct Entry: Sendable, Equatable {
    /// The weight's name.
    public let tensor: String
    /// Rows times columns.
    public let weights: Int
    /// Tensors with the same number read the same inputs.
    public let group: Int
    /// The choices, from the fewest bits on.
    public let points: [Point]
    /// Which of them the model was run with, and the drift that it had with this tensor alone changed.
    public let probed: Int
    /// See `probed`.
    public let drift: Double

    /// The drift of the model for one unit of this tensor's relative error: the linear model's coefficient.
    public var driftPerError: Double {
      let error = points[probed].error
      return error > 0 ? max(drift, 0) / error : 0
    }
  }

  /// What it was measured with; a table of anything else is not reused.
  public let key: String
  /// Tokens that the drift was measured on.
  public let probeTokens: Int
  /// Whether the drift was measured on text that calibration had not seen.
  public let isHeldOut: Bool
  /// The tensors in the order of the work.
  public let entries: [Entry]

  /// The entry of a tensor.
  public subscript(tensor: String) -> Entry? { entries.first { $0.tensor == tensor } }

  /// As it is stored.
  public var json: JSONValue {
    [
      "schema": 1, "key": .string(key), "probe_tokens": .integer(probeTokens),
      "probe_held_out": .bool(isHeldOut),
      "tensors": .array(
        entries.map { entry in
          [
            "tensor": .string(entry.tensor), "weights": .integer(entry.weights),
            "group": .integer(entry.group),
            "points": .array(
              entry.points.map {
                [
                  "encoding": .string($0.encoding), "bits": .number($0.bits),
                  "relative_output_error": .number($0.error),
                ]
              }),
            "probed": .integer(entry.probed), "drift": .number(entry.drift),
          ]
        }),
    ]
  }

  /// Reads what `json` gives; nil when it is something else.
  public init?(json: JSONValue) {
    guard json["schema"]?.integer == 1, let key = json["key"]?.string,
      let tokens = json["probe_tokens"]?.integer, let isHeldOut = json["probe_held_out"]?.bool,
      let tensors = json["tensors"]?.array
    else { return nil }
    var entries: [Entry] = []
    for tensor in tensors {
      guard let name = tensor["tensor"]?.string, let weights = tensor["weights"]?.integer,
        let group = tensor["group"]?.integer, let list = tensor["points"]?.array,
        let probed = tensor["probed"]?.integer, let drift = tensor["drift"]?.number,
        weights > 0, list.indices.contains(probed)
      else { return nil }
      var points: [Point] = []
      for point in list {
        guard let encoding = point["encoding"]?.string, let bits = point["bits"]?.number,
          let error = point["relative_output_error"]?.number, bits > 0, error >= 0
        else { return nil }
        points.append(Point(encoding: encoding, bits: bits, error: error))
      }
      entries.append(
        Entry(
          tensor: name, weights: weights, group: group, points: points, probed: probed,
          drift: drift))
    }
    self.init(key: key, probeTokens: tokens, isHeldOut: isHeldOut, entries: entries)
  }

  init(key: String, probeTokens: Int, isHeldOut: Bool, entries: [Entry]) {
    self.key = key
    self.probeTokens = probeTokens
    self.isHeldOut = isHeldOut
    self.entries = entries
  }

  /// Reads a stored table.
  ///
  /// - Throws: `CheckpointError` when the file is something else, or of another model or calibration.
  public static func read(_ path: String, key: String) throws -> SensitivityTable {
    guard let table = SensitivityTable(json: try JSONValue(parsing: try FilePath.read(path))) else {
      throw CheckpointError(
        path: path, .badValue(found: "some other JSON", expected: "a sensitivity table of condense")
      )
    }
    guard table.key == key else {
      throw CheckpointError(
        path: path,
        .badValue(
          found: "sensitivities of another model, calibration, method or choice of encodings",
          expected: "its own (a file name that is free gets them)"))
    }
    return table
  }
}
