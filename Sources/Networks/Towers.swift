// Models of several towers, such as CLIP's for pictures and for texts: each tower is a network of its own over one
// checkpoint, whose other tensors stay as they are.

public import Checkpoints
public import JSONDocuments
public import Tensors

/// A checkpoint seen as one of its towers.
public struct TowerCheckpoint: Checkpoint {
  /// The key of the configuration that names the tower. It is in no file: `configurationOfAll` is what is written.
  public static let key = "condense_tower"

  /// The whole checkpoint.
  public let source: any Checkpoint
  /// The tower.
  public let tower: String
  /// The source's, with the tower's name.
  public let configuration: JSONValue

  /// A tower of a checkpoint.
  ///
  /// - Throws: `CheckpointError` for a model without towers, or without this one.
  public init(_ source: any Checkpoint, tower: String) throws(CheckpointError) {
    let towers = FamilyRegistry.towers(of: source)
    guard towers.contains(tower) else {
      throw CheckpointError(
        path: source.path,
        .badValue(
          found: "the tower '\(tower)'",
          expected: towers.isEmpty
            ? "none: this model is one network" : "one of " + towers.joined(separator: ", ")))
    }
    self.source = source
    self.tower = tower
    var object = source.configuration.object ?? JSONObject()
    object[Self.key] = .string(tower)
    configuration = .object(object)
  }

  /// Of the source.
  public var path: String { source.path }
  /// Of the source.
  public var formatName: String { source.formatName }
  /// Of the source.
  public var manifest: WeightManifest { source.manifest }
  /// Of the source, all towers'.
  public var tensorNames: [String] { source.tensorNames }
  /// Of the source.
  public func tensor(_ name: String) -> Tensor? { source.tensor(name) }
  /// Of the source.
  public func tensorType(_ name: String) -> (dtype: DType, shape: [Int])? {
    source.tensorType(name)
  }
  /// Of the source.
  public var sideFileNames: [String] { source.sideFileNames }
  /// Of the source.
  public func sideFile(_ name: String) throws -> [UInt8] { try source.sideFile(name) }
  /// Of the source.
  public var byteCount: Int { source.byteCount }
}

extension Checkpoint {
  /// The tower that a checkpoint is seen as; nil for the whole.
  public var tower: String? { configuration[TowerCheckpoint.key]?.string }

  /// The configuration as it is written: without the name of a tower.
  public var configurationOfAll: JSONValue {
    guard tower != nil, var object = configuration.object else { return configuration }
    object[TowerCheckpoint.key] = nil
    return .object(object)
  }
}

extension FamilyRegistry {
  /// The names of a checkpoint's towers; none where it is one network.
  public static func towers(of checkpoint: any Checkpoint) -> [String] {
    family(of: checkpoint)?.towers(checkpoint) ?? []
  }
}
