// What the stage `prune` is asked to do.

public import Encodings
import JSONDocuments
public import Pruning

/// What the stage is asked to do.
public struct PruneRequest: Sendable, Equatable {
  /// What is removed.
  public enum Target: Sendable, Equatable {
    /// Single weights, or small groups of them: shapes stay.
    case weights(WeightPruning)
    /// Whole heads, channels and layers: the result is a smaller model.
    case structure(StructuredPruning)
    /// Filters of a network over samples: the result is a smaller one.
    case filters(FilterPruning)
    /// Matrices become products of two thin ones: their shapes stay.
    case rank(LowRankPruning)
  }

  /// What is removed.
  public var target: Target
  /// Nil for methods without calibration.
  public var calibration: CalibrationRequest?

  /// A request.
  public init(_ target: Target, calibration: CalibrationRequest?) {
    self.target = target
    self.calibration = calibration
  }

  /// What planned bytes are, where only the work tells the real ones; nil where they are exact.
  var sizeEstimate: String? {
    switch target {
    case .weights, .filters: nil
    case .structure(let structure):
      if let parameters = structure.targetParameters {
        "the sizes that the search starts from; the result has at most \(parameters) parameters"
      } else if structure.branches != nil, structure.layerImportance != .order {
        "as if evenly spaced branches went; attentions and MLPs differ in size"
      } else {
        nil
      }
    case .rank(let rank):
      switch rank.rule {
      case .ratio: nil
      case .energy: "as if no matrix became thin; the ranks follow from the spectra"
      case .budget(let bytes):
        "as if no matrix became thin; the weights will have at most \(bytes) bytes"
      }
    }
  }

  /// The options that the result depends on, for the lineage.
  var json: JSONValue {
    switch target {
    case .weights(let weights): .object(weights.json(isCalibrated: calibration != nil))
    case .structure(let structure): structure.json
    case .filters(let filters): filters.json
    case .rank(let rank): rank.json
    }
  }
}

/// How single weights are pruned.
public struct WeightPruning: Sendable, Equatable {
  /// How they are chosen.
  public var method: PruningMethod
  /// Where zeros may lie.
  public var pattern: SparsityPattern
  /// The share of zeros; N:M has its own.
  public var sparsity: Double
  /// How tensors without a rule of their own share the zeros.
  public var allocation = SparsityAllocation.uniform
  /// Other goals by tensor name; the last that matches counts.
  public var rules: [SparsityRule] = []
  /// sparsegpt, alps: this share of H's mean diagonal is added to the diagonal.
  public var damping = 0.01
  /// sparsegpt: columns whose masks are chosen together.
  public var blockSize = 128
  /// wanda: swaps of a row's removed weights against kept ones, at most (DSnoT).
  public var swaps = 0
  /// Methods that change what stays: towards the outputs that the original model has.
  public var correctsDrift = true
  /// Each group of layers sees inputs from the groups before it as they are now.
  public var trueSequential = true
  /// Zeros are stored as any other number, for programs that read nothing else.
  public var storesZeros = false

  /// Pruning with the usual options.
  ///
  /// - Parameter sparsity: Greater than 0, less than 1; nil for patterns that say it themselves.
  /// - Throws: `SparsityRuleError` when there is none, or one that contradicts the pattern.
  public init(
    method: PruningMethod, pattern: SparsityPattern, sparsity: Double?
  ) throws(SparsityRuleError) {
    self.method = method
    self.pattern = pattern
    self.sparsity = try Self.sparsity(sparsity, pattern)
  }

  private static func sparsity(
    _ sparsity: Double?, _ pattern: SparsityPattern
  ) throws(SparsityRuleError) -> Double {
    if let sparsity, !(sparsity > 0 && sparsity < 1) { throw .badSparsity(sparsity) }
    guard let own = pattern.sparsity else {
      guard let sparsity else { throw .noSparsity(pattern: pattern.name) }
      return sparsity
    }
    guard sparsity == nil || sparsity == own else {
      throw .contradiction(pattern: pattern.name, its: own, asked: sparsity ?? own)
    }
    return own
  }

  /// - Throws: `SparsityRuleError` when tensors are to share what the pattern fixes.
  public func checkAllocation() throws(SparsityRuleError) {
    if allocation != .uniform, pattern.sparsity != nil {
      throw .cannotShare(pattern: pattern.name)
    }
  }

  /// The pruner of a matrix.
  var pruner: any WeightPruner {
    switch method {
    case .magnitude: Magnitude()
    case .wanda: Wanda(swaps: swaps)
    case .sparsegpt: SparseGPT(damping: damping, blockSize: blockSize)
    case .alps: ALPS(damping: damping)
    }
  }

  /// Whether the original model's inputs are measured too.
  var readsOriginalInputs: Bool { correctsDrift && method.updatesWeights }

  /// The options that the result depends on.
  func json(isCalibrated: Bool) -> JSONObject {
    var object = JSONObject()
    object["method"] = .string(method.rawValue)
    object["pattern"] = .string(pattern.name)
    object["sparsity"] = .number(sparsity)
    object["allocation"] = .string(allocation.rawValue)
    if !rules.isEmpty { object["tensors"] = .array(rules.map { .string($0.text) }) }
    if method == .sparsegpt { object["block-size"] = .integer(blockSize) }
    if swaps > 0 { object["swaps"] = .integer(swaps) }
    if method.updatesWeights {
      object["damping"] = .number(damping)
      object["correction"] = .bool(correctsDrift)
    }
    if storesZeros { object["dense"] = true }
    if isCalibrated { object["true-sequential"] = .bool(trueSequential) }
    return object
  }
}

/// `PATTERN=0.6`, `PATTERN=2:4` or `PATTERN=copy`: another goal for some tensors.
public struct SparsityRule: Sendable, Equatable {
  /// What becomes of them.
  public enum Target: Sendable, Equatable {
    /// Another share of zeros in the same pattern.
    case sparsity(Double)
    /// Another pattern; one without a share of its own has the common one.
    case pattern(SparsityPattern)
    /// They stay as they are.
    case copy
  }

  /// Names that the rule matches, `*` for any run of characters.
  public let names: String
  /// What becomes of them.
  public let target: Target

  /// Reads a rule as it stands on the command line.
  public init(_ text: String) throws(SparsityRuleError) {
    let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, !parts[0].isEmpty else { throw .noPattern(rule: text) }
    try self.init(names: String(parts[0]), target: String(parts[1]))
  }

  /// A rule whose target is `0.6`, `2:4` or `copy`.
  public init(names: String, target: String) throws(SparsityRuleError) {
    self.names = names
    if target == "copy" {
      self.target = .copy
    } else if let pattern = SparsityPattern(target) {
      self.target = .pattern(pattern)
    } else if let number = Double(target) {
      guard number > 0, number < 1 else { throw .badSparsity(number) }
      self.target = .sparsity(number)
    } else {
      throw .unknownTarget(target)
    }
  }

  /// As it stands on the command line.
  var text: String {
    switch target {
    case .sparsity(let value): "\(names)=\(value)"
    case .pattern(let pattern): "\(names)=\(pattern.name)"
    case .copy: "\(names)=copy"
    }
  }
}

/// Why goals cannot be applied.
public enum SparsityRuleError: Error, Sendable, Equatable, CustomStringConvertible {
  /// No share of zeros strictly between none and all.
  case badSparsity(Double)
  /// A pattern that leaves the share open, and no share.
  case noSparsity(pattern: String)
  /// A share that is not the pattern's.
  case contradiction(pattern: String, its: Double, asked: Double)
  /// A name that is no pattern of zeros.
  case unknownPattern(String)
  /// What is neither a share, a pattern nor `copy`.
  case unknownTarget(String)
  /// A rule without names before `=`.
  case noPattern(rule: String)
  /// Names that match no matrix of the model.
  case matchesNothing(names: String, nearest: String?)
  /// Zeros that cannot be shared: every group of the pattern has its own.
  case cannotShare(pattern: String)
  /// A method that does not prune embeddings.
  case embedding(tensor: String, method: String)
  /// A matrix that is encoded already.
  case encoded(tensor: String, encoding: String)

  /// One line without a full stop.
  public var description: String {
    switch self {
    case .badSparsity(let value):
      "a sparsity of \(value) leaves nothing to do or nothing at all; it must be greater than 0 and less than 1"
    case .noSparsity(let pattern):
      "--sparsity is missing: what share of the weights should become zero? (\(pattern) leaves it open)"
    case .contradiction(let pattern, let its, let asked):
      "the pattern \(pattern) makes \(its) of the weights zero; a sparsity of \(asked) contradicts it"
    case .unknownPattern(let name):
      "--pattern: '\(name)' is no pattern of zeros (known: \(SparsityPattern.nameList))"
    case .unknownTarget(let text):
      "'\(text)' is neither a sparsity such as 0.6, a pattern such as 2:4 nor copy"
    case .noPattern(let rule):
      "--tensors: '\(rule)' is not NAMES=SPARSITY, NAMES=PATTERN or NAMES=copy"
    case .matchesNothing(let names, let nearest):
      "--tensors: '\(names)' matches no weight matrix"
        + (nearest.map { "; the nearest name is '\($0)'" } ?? "")
    case .cannotShare(let pattern):
      "--allocation does nothing with \(pattern), which makes the same share of every tensor zero; it is for "
        + "unstructured and 1xB"
    case .embedding(let tensor, let method):
      "'\(tensor)' is an embedding, whose rows are read one by one: \(method) cannot weigh its columns (magnitude can)"
    case .encoded(let tensor, let encoding):
      "'\(tensor)' is stored as \(encoding) already: prune first, then quantize, or leave it out with --tensors NAMES=copy"
    }
  }
}
