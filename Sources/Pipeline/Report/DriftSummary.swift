// The figures of `condense eval`, under the same names as its JSON.

public import Drift

/// An interval.
public struct Interval: Sendable, Equatable {
  /// The lower end.
  public var low: Double
  /// The upper end.
  public var high: Double

  /// An interval.
  public init(_ low: Double, _ high: Double) {
    self.low = low
    self.high = high
  }
}

/// KL divergence over all scored tokens, in nats.
public struct DivergenceSummary: Sendable, Equatable {
  /// The mean.
  public var mean: Double
  /// Half of the tokens have at most this.
  public var median: Double
  /// 99 % of the tokens have at most this.
  public var p99: Double
  /// 99.9 % of the tokens have at most this.
  public var p999: Double
  /// The largest.
  public var max: Double
  /// The 95 % interval of the mean.
  public var ci95: Interval

  /// A summary.
  public init(
    mean: Double, median: Double, p99: Double, p999: Double, max: Double, ci95: Interval
  ) {
    self.mean = mean
    self.median = median
    self.p99 = p99
    self.p999 = p999
    self.max = max
    self.ci95 = ci95
  }
}

/// How far a decoder is from another.
public struct DecoderDrift: Sendable, Equatable {
  /// Scored tokens.
  public var tokens: Int
  /// exp of the mean negative log-likelihood.
  public var perplexity: Double
  /// Perplexity over the reference's.
  public var perplexityRatio: Double
  /// KL divergence from the reference.
  public var kl: DivergenceSummary
  /// Share of tokens where both predict the same next token.
  public var top1: Double

  /// A summary.
  public init(
    tokens: Int, perplexity: Double, perplexityRatio: Double, kl: DivergenceSummary, top1: Double
  ) {
    self.tokens = tokens
    self.perplexity = perplexity
    self.perplexityRatio = perplexityRatio
    self.kl = kl
    self.top1 = top1
  }
}

/// Cosine of embeddings over all sentences.
public struct CosineSummary: Sendable, Equatable {
  /// The mean.
  public var mean: Double
  /// 99 % of the sentences have at least this.
  public var p01: Double
  /// The least.
  public var min: Double
  /// The 95 % interval of the mean.
  public var ci95: Interval

  /// A summary.
  public init(mean: Double, p01: Double, min: Double, ci95: Interval) {
    self.mean = mean
    self.p01 = p01
    self.min = min
    self.ci95 = ci95
  }
}

/// Nearest neighbours in common over all sentences.
public struct NeighbourSummary: Sendable, Equatable {
  /// Neighbours of a sentence.
  public var count: Int
  /// The mean share that stays.
  public var mean: Double
  /// The 95 % interval of the mean.
  public var ci95: Interval

  /// A summary.
  public init(count: Int, mean: Double, ci95: Interval) {
    self.count = count
    self.mean = mean
    self.ci95 = ci95
  }
}

/// How far an encoder is from another.
public struct EncoderDrift: Sendable, Equatable {
  /// Sentences compared.
  public var sentences: Int
  /// Cosine with the reference's embeddings.
  public var cosine: CosineSummary
  /// Nearest neighbours in common, when there are two sentences or more.
  public var neighbours: NeighbourSummary?
  /// Spearman correlation on labelled pairs, when there are any.
  public var spearman: Double?

  /// A summary.
  public init(
    sentences: Int, cosine: CosineSummary, neighbours: NeighbourSummary? = nil,
    spearman: Double? = nil
  ) {
    self.sentences = sentences
    self.cosine = cosine
    self.neighbours = neighbours
    self.spearman = spearman
  }
}

/// How far a model is from another.
public enum DriftSummary: Sendable, Equatable {
  /// Of next-token predictions.
  case decoder(DecoderDrift)
  /// Of embeddings.
  case encoder(EncoderDrift)
  /// Of the numbers that a network over samples gives.
  case samples(SampleDrift)
  /// Of a speech recognizer.
  case speech(SpeechDrift)
}
