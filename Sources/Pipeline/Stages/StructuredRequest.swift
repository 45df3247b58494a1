// What structured pruning is asked to do, and the sizes that follow from it.

import JSONDocuments
import Networks
public import Pruning

/// Which heads, channels and layers go, and what becomes of the rest.
public struct StructuredPruning: Sendable, Equatable {
  /// At most so many parameters stay, and a search finds the sizes; nil where shares say them.
  public var targetParameters: Int?
  /// The share of attention heads that go, with their keys and values.
  public var heads: Double?
  /// The share of the MLPs' channels that go.
  public var ffn: Double?
  /// The share of the residual stream's channels that go.
  public var width: Double?
  /// The share of layers that go.
  public var layers: Double?
  /// The share of single branches that go: attentions and MLPs.
  public var branches: Double?
  /// How heads and channels are chosen.
  public var importance = ChannelImportance.curvature
  /// How layers are chosen.
  public var layerImportance = LayerImportance.influence
  /// Whether what stays is fitted to give what all gave.
  public var repairs = true
  /// Of the fit: this share of the moment's mean diagonal is added to its diagonal.
  public var damping = 0.01

  /// Nothing is asked for yet.
  public init() {}

  /// Whether anything is asked for.
  public var isAsked: Bool { targetParameters != nil || !shares.isEmpty }

  /// The shares that are asked for, with the words of options and recipes.
  var shares: [(axis: String, share: Double)] {
    [
      ("heads", heads), ("ffn", ffn), ("width", width), ("layers", layers),
      ("branches", branches),
    ].compactMap { axis, share in share.map { (axis, $0) } }
  }

  /// Whether heads or channels go, and not only layers or branches.
  var choosesChannels: Bool {
    targetParameters != nil || heads != nil || ffn != nil || width != nil
  }

  /// Whether there is nothing to do without calibration text.
  public var needsCalibration: Bool {
    let choosesLayers = targetParameters != nil || layers != nil || branches != nil
    return repairs || targetParameters != nil
      || (choosesChannels && importance != .order && importance != .magnitude)
      || (choosesLayers && layerImportance != .order)
  }

  /// Refuses shares that are none, and goals that contradict each other.
  public func check() throws(StructureError) {
    guard isAsked else { throw .nothingAsked }
    for (axis, share) in shares {
      guard share > 0, share < 1 else { throw .badShare(axis: axis, share: share) }
    }
    if layers != nil, branches != nil { throw .layersAndBranches }
    if targetParameters != nil, let axis = shares.first?.axis { throw .twoGoals(axis: axis) }
  }

  /// The options that the result depends on.
  var json: JSONValue {
    var object = JSONObject()
    object["method"] = "structured"
    if let targetParameters { object["target-parameters"] = .integer(targetParameters) }
    for (axis, share) in shares { object[axis] = .number(share) }
    object["importance"] = .string(importance.rawValue)
    if layers != nil || branches != nil || targetParameters != nil {
      object["layer-importance"] = .string(layerImportance.rawValue)
    }
    object["repair"] = .bool(repairs)
    object["damping"] = .number(damping)
    return .object(object)
  }

  /// The sizes that shares leave of a network.
  func sizes(of structure: NetworkStructure) throws(StructureError) -> StructuralSizes {
    let old = structure.sizes
    var new = old
    if let layers {
      if let reason = structure.fixedLayers { throw .fixed(axis: "layers", reason: reason) }
      new.layers = old.layers - Int((layers * Double(old.layers)).rounded())
      guard new.layers > 0 else { throw .nothingLeft(axis: "layers", of: old.layers) }
      guard new.layers < old.layers else { throw .nothingGoes(axis: "layers", of: old.layers) }
    }
    if let ffn { new.inner = try Self.channels(ffn, of: old.inner, axis: "ffn") }
    if let width {
      if let reason = structure.fixedWidth { throw .fixed(axis: "width", reason: reason) }
      new.width = try Self.channels(width, of: old.width, axis: "width")
    }
    if let heads {
      if let reason = structure.fixedHeads { throw .fixed(axis: "heads", reason: reason) }
      let left = Int(((1 - heads) * Double(old.heads)).rounded())
      guard left > 0 else { throw .nothingLeft(axis: "heads", of: old.heads) }
      guard left < old.heads else { throw .nothingGoes(axis: "heads", of: old.heads) }
      // Whole groups where the number allows it: keys and values go with them.
      guard let option = old.headOptions.first(where: { $0.heads == left }) else {
        throw .headCount(
          asked: left, keyHeads: old.keyHeads,
          possible: Array(Set(old.headOptions.map(\.heads))).filter { $0 < old.heads }.sorted())
      }
      (new.heads, new.keyHeads) = option
    }
    return new
  }

  /// The branches that go, one by one; nil where that is not asked.
  func branchCount(_ structure: NetworkStructure) throws(StructureError) -> Int? {
    guard let branches else { return nil }
    if let reason = structure.fixedBranches { throw .fixed(axis: "branches", reason: reason) }
    let all = structure.branches.count
    let count = Int((branches * Double(all)).rounded())
    guard count < all else { throw .nothingLeft(axis: "branches", of: all) }
    guard count > 0 else { throw .nothingGoes(axis: "branches", of: all) }
    return count
  }

  /// Channels that stay: a multiple of the granule, and fewer than there were.
  private static func channels(
    _ share: Double, of all: Int, axis: String
  ) throws(StructureError) -> Int {
    let granule = StructuralSizes.granule(of: all)
    let left = Int(((1 - share) * Double(all) / Double(granule)).rounded()) * granule
    guard left > 0 else { throw .nothingLeft(axis: axis, of: all) }
    guard left < all else { throw .nothingGoes(axis: axis, of: all) }
    return left
  }
}

extension StructuralSizes {
  /// Channels are cut in steps of this: 32 are a block of the GGUF formats; models with few channels have finer steps.
  static func granule(of channels: Int) -> Int {
    var granule = 32
    while granule > 1, granule * 32 > channels || channels % granule != 0 { granule /= 2 }
    return granule
  }

  /// Numbers of heads and of their keys' heads that can stay: fewer groups, or as many heads less in each group. For each
  /// number of heads the one with the fewest groups comes first.
  var headOptions: [(heads: Int, keyHeads: Int)] {
    let share = heads / keyHeads
    return (1...keyHeads).flatMap { groups in
      (1...share).map { (heads: groups * $0, keyHeads: groups) }
    }.filter { $0.heads / $0.keyHeads == share || $0.keyHeads == keyHeads }
      .sorted { ($0.heads, $0.keyHeads) < ($1.heads, $1.keyHeads) }
  }
}

/// Why parts of a network cannot be cut out.
public enum StructureError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Neither a number of parameters nor a share.
  case nothingAsked
  /// A share that is not between none and all.
  case badShare(axis: String, share: Double)
  /// A number of parameters and a share.
  case twoGoals(axis: String)
  /// Whole layers and single branches.
  case layersAndBranches
  /// A matrix whose numbers are codes.
  case encoded(tensor: String, encoding: String)
  /// A share that is all, in whole parts.
  case nothingLeft(axis: String, of: Int)
  /// A share that is less than one part.
  case nothingGoes(axis: String, of: Int)
  /// A number of heads that do not share the keys evenly.
  case headCount(asked: Int, keyHeads: Int, possible: [Int])
  /// What a model of the family cannot do without.
  case fixed(axis: String, reason: String)
  /// More parameters than there are.
  case targetTooLarge(asked: Int, parameters: Int)
  /// Fewer parameters than the least cut model has.
  case targetTooSmall(asked: Int, least: Int)
  /// An importance that needs what the model does not have.
  case noGradients(family: String)

  /// One line without a full stop.
  public var description: String {
    switch self {
    case .nothingAsked:
      "nothing is asked for: --target-parameters, --heads, --ffn, --width, --layers or --branches"
    case .badShare(let axis, let share):
      "\(axis): \(share) is the share that goes; it must be greater than 0 and less than 1"
    case .twoGoals(let axis):
      "target-parameters and \(axis) exclude each other: the number finds the shares"
    case .layersAndBranches: "layers and branches exclude each other: a layer is two branches"
    case .encoded(let tensor, let encoding):
      "'\(tensor)' is stored as \(encoding), and a cut goes through its groups: cut first, then quantize"
    case .nothingLeft(let axis, let all):
      "\(axis): this share is all \(all) of the model; at least one must stay"
    case .nothingGoes(let axis, let all):
      "\(axis): this share of \(all) is less than the least step; nothing would go"
    case .headCount(let asked, let keyHeads, let possible):
      "heads: \(asked) heads cannot share what is left of \(keyHeads) heads of keys and values; possible numbers are "
        + possible.map(String.init).joined(separator: ", ")
    case .fixed(let axis, let reason): "\(axis) cannot be cut from this model: \(reason)"
    case .targetTooLarge(let asked, let parameters):
      "target-parameters: the model has \(parameters) parameters; \(asked) leave nothing to do"
    case .targetTooSmall(let asked, let least):
      "target-parameters: \(asked) are fewer than the \(least) that stay of this model at least"
    case .noGradients(let family):
      "the importance 'taylor' follows the loss of predicted text, which a \(family) encoder does not have"
    }
  }
}
