// How much a model needs its heads, channels and layers: the criteria, and what each is made of.

/// How the heads and channels that go are chosen.
public enum ChannelImportance: String, Sendable, CaseIterable {
  /// The last ones go; needs no text. What naive removal does.
  case order
  /// The least sum of squares of the weights that read or write them; needs no text.
  case magnitude
  /// The least activations: Minitron's means over tokens.
  case activation
  /// The least first-order effect on the loss: the squared gradient of a gate in front of each.
  case taylor
  /// The least error after least squares has fitted what follows to what is left.
  case reconstruction
  /// The same, with the error measured by what the loss feels of it.
  case curvature
}

/// How the layers that go are chosen.
public enum LayerImportance: String, Sendable, CaseIterable {
  /// Evenly spaced layers go; needs no text. What naive removal does.
  case order
  /// The least block influence: 1 less the mean cosine of the stream before and behind.
  case influence
  /// One after the other, each time the one without which the model predicts text best.
  case perplexity
}
