import Bundles
public import Checkpoints
public import Networks
import JSONDocuments
public import Tokenization

/// A model that is open and ready to run: a bundle or a checkpoint folder.
public struct Model {
  /// What is on disk.
  public let checkpoint: any Checkpoint
  /// The graph over its weights.
  public let network: any Network
  /// The tokenizer; nil when the model has none.
  public let tokenizer: Tokenizer?

  /// Opens a bundle or a checkpoint folder.
  ///
  /// Weights are mapped and stay in their encodings.
  /// - Throws: `CheckpointError`, `TokenizerError` or `FileError` with what is wrong and where.
  public init(path: String) throws {
    try self.init(try CheckpointOpener.open(path))
  }

  /// Opens one tower of a model that has several, such as `text` of CLIP's.
  public init(path: String, tower: String) throws {
    try self.init(try TowerCheckpoint(try CheckpointOpener.open(path), tower: tower))
  }

  /// A model over a checkpoint that is open.
  public init(_ checkpoint: any Checkpoint) throws {
    self.checkpoint = checkpoint
    network = try FamilyRegistry.network(of: checkpoint)
    tokenizer = try Self.tokenizer(of: checkpoint)
  }

  /// Files that may hold the tokenizer, the first that is there counts.
  private static let tokenizerFiles = ["tokenizer.json", "tokenizer.model"]

  /// The tokenizer of a checkpoint; nil when it has none.
  public static func tokenizer(of checkpoint: any Checkpoint) throws -> Tokenizer? {
    for name in tokenizerFiles where checkpoint.sideFileNames.contains(name) {
      return try Tokenizer(
        contentsOf: try checkpoint.sideFile(name), name: FilePath.join(checkpoint.path, name))
    }
    return nil
  }

  /// The tokenizer, or an error that says that there is none.
  public func requiredTokenizer() throws -> Tokenizer {
    guard let tokenizer else {
      throw CheckpointError(path: checkpoint.path, .missingFile(Self.tokenizerFiles[0]))
    }
    return tokenizer
  }

  /// The network as one that reads tokens and nothing else, or an error that says what it is.
  public func tokenNetwork() throws -> any TokenNetwork {
    try known(
      network is any FeatureNetwork ? nil : network as? any TokenNetwork, for: "reading text")
  }

  /// The network as one over samples of numbers, or an error that says what it is.
  public func sampleNetwork() throws -> any SampleNetwork {
    try known(network as? any SampleNetwork, for: "reading samples of numbers")
  }

  /// The network as a language model, or an error that says what it is.
  public func languageModel() throws -> any LanguageModel {
    try known(network as? any LanguageModel, for: "generating text")
  }

  /// The network as a text encoder, or an error that says what it is.
  public func textEncoder() throws -> any TextEncoder {
    try known(network as? any TextEncoder, for: "embedding text")
  }

  /// The network as one that writes down speech, or an error that says what it is.
  public func speechRecognizer() throws -> any SpeechRecognizer {
    try known(network as? any SpeechRecognizer, for: "transcribing speech")
  }

  func known<Kind>(_ network: Kind?, for use: String) throws -> Kind {
    guard let network else {
      throw CheckpointError(
        path: checkpoint.path, .unsupported("\(use) with a \(self.network.family) model"))
    }
    return network
  }
}

extension Model {
  /// Ids that end a text: `eos_token_id` of the generation configuration, or of the model's.
  public var endTokens: Set<Int32> {
    var configurations = [checkpoint.configuration]
    if let bytes = try? checkpoint.sideFile("generation_config.json"),
      let json = try? JSONValue(parsing: bytes)
    {
      configurations.insert(json, at: 0)
    }
    for configuration in configurations {
      guard let value = configuration["eos_token_id"], !value.isNull else { continue }
      let ids = value.array?.compactMap(\.integer) ?? [value.integer].compactMap { $0 }
      return Set(ids.map { Int32(clamping: $0) })
    }
    return []
  }
}
