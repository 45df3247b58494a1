// Networks that read ids of tokens: those that predict the next one, and those that embed texts.

public import Tensors

/// A network that reads ids of tokens.
public protocol TokenNetwork: Network {
  /// The longest sequence that the model was made for.
  var contextLimit: Int { get }
  /// Ids are below this.
  var vocabularySize: Int { get }
  /// The token embedding `[vocabulary, width]`; with a tied head, one layer object serves both.
  var embedding: Linear { get }
  /// Whether positions are rows of a table, so that no sequence can be longer than `contextLimit`.
  var hasPositionTable: Bool { get }
}

extension TokenNetwork {
  /// They are not, unless a family says otherwise.
  public var hasPositionTable: Bool { false }
  /// The one of its tokens.
  public var embeddings: [Linear] { [embedding] }
}

/// A network that predicts the next token, from the tokens before it and perhaps from something else that it reads.
public protocol TokenPredictor: TokenNetwork {
  /// The output layer `[vocabulary, width]`; the embedding itself when the model ties them.
  var head: Linear { get }
  /// Whether head and embedding are one matrix.
  var isTied: Bool { get }
  /// The head's input for rows of the stream behind the last branch, a row a token: the final norm.
  func normalize(_ hidden: Matrix) -> Matrix
  /// The residual stream, where it can be rotated; nil where it cannot.
  var rotatableStream: RotatableStream? { get }
  /// c, where logits are `c tanh(x / c)` of what the head gives; nil where they are that itself.
  var logitCap: Float? { get }
}

extension TokenPredictor {
  /// It cannot, unless a family says otherwise.
  public var rotatableStream: RotatableStream? { nil }
  /// None, unless a family says otherwise.
  public var logitCap: Float? { nil }

  /// The logits `[rows, vocabulary]` of rows of the stream.
  public func logits(_ hidden: Matrix) -> Matrix { logits(ofNormalized: normalize(hidden)) }

  /// The logits of rows behind the final norm.
  ///
  /// - Parameter matrix: In place of the head's own.
  public func logits(ofNormalized x: Matrix, head matrix: (any LinearOperator)? = nil) -> Matrix {
    var logits = matrix.map { $0.apply(to: x, bias: head.bias) } ?? head.apply(x)
    guard let cap = logitCap else { return logits }
    precondition(logits.record == nil, "the gradient of logits goes through backpropagate")
    SoftCap.apply(&logits.values, cap: cap)
    return logits
  }
}

/// A network that predicts the next token of a text from the text alone.
public protocol LanguageModel: TokenPredictor {}

/// What fills texts up to one length.
public struct TextPadding: Sendable, Equatable {
  /// Tokens of every text.
  public let length: Int
  /// The token behind the text.
  public let id: Int32

  /// Padding.
  public init(length: Int, id: Int32) {
    self.length = length
    self.id = id
  }
}

/// A network that turns a text into one vector.
public protocol TextEncoder: TokenNetwork {
  /// What fills texts up; nil where they stay as long as they are.
  var padding: TextPadding? { get }
  /// Tokens of a sequence beyond this are cut off.
  var maximumTokens: Int { get }
  /// Values of an embedding.
  var embeddingWidth: Int { get }
  /// One embedding a sequence, `[sequences, embeddingWidth]`.
  func pool(_ hidden: Matrix, _ batch: TokenBatch) -> Matrix
}

extension TextEncoder {
  /// None, unless a family says otherwise.
  public var padding: TextPadding? { nil }

  /// The embeddings of a batch.
  public func embeddings(_ batch: TokenBatch) -> Matrix { pool(hidden(batch), batch) }
}
