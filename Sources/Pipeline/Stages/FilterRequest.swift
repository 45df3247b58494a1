// What the pruning of filters is asked to do, and what it came to.

public import JSONDocuments
import Networks
public import Pruning

/// How many filters of a network over samples go, and what becomes of the rest.
public struct FilterPruning: Sendable, Equatable {
  /// The share that goes of each group of channels that one layer makes; nil for none.
  public var filters: Double?
  /// The share that goes of each group of channels that are sums of several layers; nil for none.
  public var width: Double?
  /// How they are chosen.
  public var importance = ChannelImportance.reconstruction
  /// Whether what stays is fitted to give what all gave.
  public var repairs = true
  /// Of the elimination and the fit: this share of the moment's mean diagonal is added to its diagonal.
  public var damping = 0.01

  /// Pruning with the usual options.
  public init(filters: Double?, width: Double? = nil) {
    self.filters = filters
    self.width = width
  }

  /// Whether there is nothing to do without calibration samples.
  public var needsCalibration: Bool {
    repairs || (importance != .order && importance != .magnitude)
  }

  /// Refuses a share that is none, and importances of language models.
  public func check() throws(FilterError) {
    for (axis, share) in [("filters", filters), ("width", width)] {
      if let share, !(share >= 0 && share < 1) { throw .badShare(axis, share) }
    }
    guard (filters ?? 0) + (width ?? 0) > 0 else { throw .badShare("filters", filters ?? 0) }
    switch importance {
    case .order, .magnitude, .activation, .reconstruction: break
    case .taylor, .curvature: throw .importance(importance)
    }
  }

  /// How many channels of a group stay.
  func kept(of group: FilterGroup) -> Int {
    let share = (group.isSummed ? width : filters) ?? 0
    return max(1, group.count - Int((share * Double(group.count)).rounded()))
  }

  /// The options that the result depends on.
  var json: JSONValue {
    var object = JSONObject()
    object["filters"] = filters.map { .number($0) } ?? .null
    object["width"] = width.map { .number($0) } ?? .null
    object["importance"] = .string(importance.rawValue)
    object["repair"] = .bool(repairs)
    if needsCalibration { object["damping"] = .number(damping) }
    return .object(object)
  }
}

/// What the pruning of filters made of a network.
public struct FilterOutcome: Sendable, Equatable {
  /// A group of channels.
  public struct Group: Sendable, Equatable {
    /// The layer that makes them.
    public let name: String
    /// Channels before and after.
    public let before, after: Int
  }

  /// The groups that could be cut.
  public let groups: [Group]
  /// Numbers of all tensors, before and after.
  public let parametersBefore, parametersAfter: Int
  /// Multiplications of a sample, before and after.
  public let multiplicationsBefore, multiplicationsAfter: Int

  /// What the lineage says.
  public var json: JSONValue {
    [
      "groups": .array(
        groups.map {
          ["name": .string($0.name), "before": .integer($0.before), "after": .integer($0.after)]
        }),
      "parameters": [.integer(parametersBefore), .integer(parametersAfter)],
      "multiplications": [.integer(multiplicationsBefore), .integer(multiplicationsAfter)],
    ]
  }
}

/// Why filters cannot be pruned as asked.
public enum FilterError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A share that leaves nothing to do or nothing at all.
  case badShare(String, Double)
  /// An importance that filters do not have.
  case importance(ChannelImportance)
  /// A network without filters.
  case noFilters(family: String)
  /// No channel of the kind is free of the network's input, its result and layers that hide where it goes.
  case nothingFree(axis: String, family: String)
  /// A matrix that is encoded already.
  case encoded(tensor: String, encoding: String)

  /// One line without a full stop.
  public var description: String {
    switch self {
    case .badShare(let axis, let share):
      "\(axis): \(share) is the share that goes; it must be less than 1, and greater than 0 where nothing else goes"
    case .importance(let importance):
      "the importance '\(importance.rawValue)' follows the loss of predicted text; filters have order, magnitude, "
        + "activation and reconstruction"
    case .noFilters(let family):
      "filters: a \(family) model has none (heads, ffn, width and layers cut language models and encoders)"
    case .nothingFree(let axis, let family):
      "\(axis): no channel of this kind can go from this \(family) network; all are tied to its input or its result"
    case .encoded(let tensor, let encoding):
      "'\(tensor)' is stored as \(encoding), and a cut goes through its groups: cut first, then quantize"
    }
  }
}
