// The limits that a stage's drift must keep.

/// Limits on drift against the reference; `nil` sets no limit.
public struct DriftLimits: Sendable, Equatable {
  /// Largest mean KL divergence, in nats.
  public var maxKL: Double?
  /// Largest perplexity, relative to the reference.
  public var maxPerplexityRatio: Double?
  /// Least top-1 agreement, from 0 to 1.
  public var minTop1: Double?
  /// Least mean cosine of embeddings.
  public var minCosine: Double?
  /// Least share of nearest neighbours that stay, from 0 to 1.
  public var minNeighbourOverlap: Double?
  /// Largest fall of the Spearman correlation, in hundredths.
  public var maxSpearmanDrop: Double?
  /// Largest fall of the accuracy, from 0 to 1.
  public var maxAccuracyDrop: Double?
  /// Least share of samples whose label stays the same, from 0 to 1.
  public var minLabelAgreement: Double?
  /// Largest rise of the word error rate against the transcripts.
  public var maxWERIncrease: Double?
  /// Largest word error rate against the reference's transcripts.
  public var maxWERToReference: Double?

  /// No limit.
  public init() {}
}

/// The limits on one slice of the validation text.
public struct SliceGate: Sendable, Equatable {
  /// A name of `validation.slices`.
  public var slice: Located<String>
  /// The limits.
  public var limits: DriftLimits

  /// A gate on a slice.
  public init(slice: Located<String>, limits: DriftLimits) {
    self.slice = slice
    self.limits = limits
  }
}

/// What a stage may cost before the run stops.
public struct GateOptions: Sendable, Equatable {
  /// Limits on the whole validation text.
  public var limits = DriftLimits()
  /// Most layers that may be stored otherwise than asked.
  public var maxFallbacks = 0
  /// Limits on slices.
  public var slices: [SliceGate] = []

  /// No fallback, no other limit.
  public init() {}

  /// All limits on drift, with the slice they are for.
  var allLimits: [DriftLimits] { [limits] + slices.map(\.limits) }
}

extension RecipeSection where Root == DriftLimits {
  static let driftLimits = RecipeSection(
    title: "the gate of a slice", make: DriftLimits.init,
    fields: [
      .init(
        "max-kl", \.maxKL, .optional(.number(0...Double.infinity)),
        "Largest mean KL divergence from the reference, in nats."),
      .init(
        "max-perplexity-ratio", \.maxPerplexityRatio, .optional(.number(0...Double.infinity)),
        "Largest perplexity, relative to the reference."),
      .init(
        "min-top1", \.minTop1, .optional(.number(0...1)),
        "Least share of tokens whose most likely next token stays the same."),
      .init(
        "min-cosine", \.minCosine, .optional(.number(-1...1)),
        "Encoders: least mean cosine with the reference's embeddings."),
      .init(
        "min-neighbour-overlap", \.minNeighbourOverlap, .optional(.number(0...1)),
        "Encoders: least mean share of a sentence's ten nearest neighbours that stay its neighbours."
      ),
      .init(
        "max-spearman-drop", \.maxSpearmanDrop, .optional(.number(0...200)),
        "Encoders: largest fall of the Spearman correlation on `validation.pairs`, in hundredths."),
      .init(
        "max-accuracy-drop", \.maxAccuracyDrop, .optional(.number(0...1)),
        "Classifiers: largest fall of the accuracy on `validation.labels`, from 0 to 1."),
      .init(
        "min-label-agreement", \.minLabelAgreement, .optional(.number(0...1)),
        "Classifiers: least share of samples whose label stays the same."),
      .init(
        "max-wer-increase", \.maxWERIncrease, .optional(.number(0...Double.infinity)),
        "Speech: largest rise of the word error rate on `validation.transcripts`, 0.01 for a hundredth."
      ),
      .init(
        "max-wer-to-reference", \.maxWERToReference, .optional(.number(0...Double.infinity)),
        "Speech: largest word error rate against what the reference writes."),
    ])
}

extension RecipeSection where Root == GateOptions {
  static let gate = RecipeSection(
    title: "a gate", make: GateOptions.init,
    fields: RecipeSection<DriftLimits>.driftLimits.fields.map { $0.lifted(\.limits) } + [
      .init(
        "max-fallbacks", \.maxFallbacks, .integer(0...1_000_000),
        "Most layers that may be stored otherwise than asked."),
      .init(
        "slices", \.slices,
        .map(
          .section(.driftLimits), keys: "slice name",
          make: { SliceGate(slice: $0, limits: $1) }, split: { ($0.slice.value, $0.limits) }),
        "Limits on slices, by their names in `validation.slices`."),
    ])
}
