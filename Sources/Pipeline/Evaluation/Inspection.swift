// What a checkpoint is: architecture, tensors, encodings, sizes, lineage and drift, from headers alone.

import Bundles
public import Checkpoints
public import JSONDocuments
import Networks

/// What `condense inspect` says.
public struct Inspection: Sendable {
  /// The kind of file.
  public let format: String
  /// `model_type` of the configuration.
  public let architecture: String?
  /// The towers of a model that has several.
  public let towers: [String]
  /// What the network reads, does and gives, or why it cannot be run, in one line; nil where the architecture says it.
  public let graph: String?
  /// The tensors as the model names them.
  public let tensors: [LogicalTensor]
  /// Files beside the weights.
  public let sideFiles: [String]
  /// Bytes of everything on disk.
  public let byteCount: Int
  /// How the model came to be, and what that cost; null when the file does not say.
  public let lineage, drift: JSONValue

  /// Looks at a checkpoint.
  public init(_ checkpoint: any Checkpoint) throws {
    format = checkpoint.formatName
    architecture =
      checkpoint.configuration["model_type"]?.string
      ?? FamilyRegistry.family(of: checkpoint)?.modelTypes.first
      ?? checkpoint.configuration["architecture"]?.string
    towers = FamilyRegistry.towers(of: checkpoint)
    graph = FamilyRegistry.summary(of: checkpoint)
    tensors = checkpoint.logicalTensors
    sideFiles = checkpoint.sideFileNames
    byteCount = checkpoint.byteCount
    lineage = try Lineage.parent(of: checkpoint)
    drift = try Lineage.drift(of: checkpoint)
  }

  /// Elements of all tensors.
  public var parameters: Int { tensors.reduce(0) { $0 + $1.shape.reduce(1, *) } }
  /// Stored bytes of all tensors.
  public var tensorBytes: Int { tensors.reduce(0) { $0 + $1.byteCount } }
  /// Stored bits over elements, all tensors.
  public var bitsPerWeight: Double { Double(8 * tensorBytes) / Double(max(1, parameters)) }

  /// Tensors, parameters and bytes by encoding, the largest share first.
  public var encodings: [(name: String, tensors: Int, parameters: Int, bytes: Int)] {
    var sums: [String: (tensors: Int, parameters: Int, bytes: Int)] = [:]
    for tensor in tensors {
      let name = tensor.encoding.hasPrefix("ec-") ? "ec" : tensor.encoding
      let sum = sums[name] ?? (0, 0, 0)
      sums[name] = (
        sum.tensors + 1, sum.parameters + tensor.shape.reduce(1, *), sum.bytes + tensor.byteCount
      )
    }
    return sums.map { ($0.key, $0.value.tensors, $0.value.parameters, $0.value.bytes) }
      .sorted { ($1.bytes, $0.name) < ($0.bytes, $1.name) }
  }

  /// The stages that led here, the latest first.
  public var stages: [String] {
    var names: [String] = []
    var entry = lineage
    while let stage = entry["stage"]?.string, names.count < 100 {
      names.append(stage)
      entry = entry["parent"] ?? .null
    }
    return names
  }

  /// What `--json` prints.
  public var json: JSONValue {
    [
      "schema": 1, "format": .string(format),
      "architecture": architecture.map { .string($0) } ?? .null,
      "towers": .array(towers.map { .string($0) }),
      "graph": graph.map { .string($0) } ?? .null,
      "parameters": .integer(parameters), "tensor_bytes": .integer(tensorBytes),
      "bytes": .integer(byteCount), "bits_per_weight": .number(bitsPerWeight),
      "encodings": .array(
        encodings.map {
          [
            "encoding": .string($0.name), "tensors": .integer($0.tensors),
            "parameters": .integer($0.parameters), "bytes": .integer($0.bytes),
          ]
        }),
      "tensors": .array(
        tensors.map { tensor in
          [
            "name": .string(tensor.name), "shape": .array(tensor.shape.map { .integer($0) }),
            "encoding": .string(tensor.encoding),
            "method": tensor.method.map { .string($0) } ?? .null,
            "bytes": .integer(tensor.byteCount), "bits_per_weight": .number(tensor.bitsPerWeight),
          ]
        }),
      "side_files": .array(sideFiles.map { .string($0) }), "lineage": lineage, "drift": drift,
    ]
  }
}
