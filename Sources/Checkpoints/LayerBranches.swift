// Which branches each layer of a decoder has, where some were removed.
//
// No architecture of transformers holds a Llama-like layer without its attention or without its MLP. So such a model
// says it in a key of its own, and has a `model_type` of its own too: programs that know nothing of the key refuse the
// folder, instead of filling the missing weights with random numbers.
//
//     "model_type": "llama-branches",
//     "layer_branches": [["attention", "mlp"], ["mlp"], ["attention"], …]      one list a layer, in the order they run

public import JSONDocuments

/// The branches of each layer of a decoder.
public struct LayerBranches: Sendable, Equatable {
  /// One layer.
  public struct Layer: Sendable, Equatable {
    /// Whether it has an attention branch.
    public var attention: Bool
    /// Whether it has an MLP, behind the attention.
    public var mlp: Bool

    /// A layer.
    public init(attention: Bool, mlp: Bool) {
      self.attention = attention
      self.mlp = mlp
    }
  }

  /// The key of `config.json`.
  public static let key = "layer_branches"
  /// What is added to the `model_type` of a model some of whose layers lack a branch.
  public static let suffix = "-branches"

  /// The layers in their order.
  public var layers: [Layer]

  /// Given layers.
  public init(_ layers: [Layer]) { self.layers = layers }

  /// Whether no layer lacks a branch.
  public var isWhole: Bool { layers.allSatisfy { $0.attention && $0.mlp } }

  /// A `model_type` without the suffix.
  public static func plainType(_ type: String) -> String {
    type.hasSuffix(suffix) ? String(type.dropLast(suffix.count)) : type
  }

  /// What a configuration says; nil where it says nothing, so that every layer has both.
  ///
  /// - Throws: When key and `model_type` disagree, or the lists are not one a layer.
  public init?(
    _ configuration: JSONValue, layers count: Int
  ) throws(CheckpointError.Problem) {
    let value = configuration[Self.key].flatMap { $0.isNull ? nil : $0 }
    let isMarked = configuration["model_type"]?.string?.hasSuffix(Self.suffix) == true
    guard let value else {
      guard !isMarked else {
        throw .missing(key: Self.key, expected: "a list of branches for each layer")
      }
      return nil
    }
    guard isMarked else {
      throw .badValue(
        found:
          "\(Self.key) beside the model_type \(configuration["model_type"]?.compactText ?? "")",
        expected: "a model_type that ends in '\(Self.suffix)'")
    }
    layers = (value.array ?? []).compactMap { entry -> Layer? in
      switch entry.array?.map(\.string) {
      case ["attention", "mlp"]: Layer(attention: true, mlp: true)
      case ["attention"]: Layer(attention: true, mlp: false)
      case ["mlp"]: Layer(attention: false, mlp: true)
      default: nil
      }
    }
    guard layers.count == count, value.array?.count == count else {
      throw .badValue(
        found: value.compactText,
        expected: "\(count) lists of \"attention\", \"mlp\" or both in this order")
    }
  }

  /// Writes what a configuration has to say: nothing of its own where no layer lacks a branch.
  public func write(to configuration: inout JSONObject) {
    let plain = configuration["model_type"]?.string.map(Self.plainType)
    guard !isWhole else {
      configuration[Self.key] = nil
      if let plain { configuration["model_type"] = .string(plain) }
      return
    }
    if let plain { configuration["model_type"] = .string(plain + Self.suffix) }
    // Names a class of transformers, which does not have such layers.
    configuration["architectures"] = nil
    configuration[Self.key] = .array(
      layers.map { layer in
        .array((layer.attention ? ["attention"] : []) + (layer.mlp ? ["mlp"] : []))
      })
  }
}
