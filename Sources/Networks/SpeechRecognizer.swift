// Networks that write down what is said in a recording.

public import Tensors

/// A network that predicts the next token of a transcript from a recording's features and the tokens before it.
///
/// A batch holds a sample of features and a sequence of tokens for each recording; a batch with tokens alone continues
/// what its cache holds.
public protocol SpeechRecognizer: TokenPredictor, FeatureNetwork {}

extension SpeechRecognizer {
  /// A batch of recordings with the tokens of their transcripts so far.
  ///
  /// - Parameter features: `[recordings * input.rows, channels]`.
  public func batch(_ features: Matrix, tokens: [[Int32]]) -> TokenBatch {
    TokenBatch(features: features, rowsPerSample: input.rows, tokens: tokens)
  }
}
