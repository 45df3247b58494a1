// The options of `pack`.

/// The type of what is not encoded.
public enum PackedFloat: String, Sendable, CaseIterable {
  /// Each tensor's own type.
  case keep
  /// 32-bit floats.
  case f32
  /// 16-bit floats (IEEE 754).
  case f16
  /// 16-bit floats with the exponent of 32-bit ones.
  case bf16
}

/// Write one bundle file.
public struct PackStageOptions: StageOptions {
  /// The key of the stage.
  public static let kind = "pack"
  /// What it does.
  public static let summary = "Writes the checkpoint as one bundle file."

  /// The type of what is not encoded.
  public var dtype = PackedFloat.keep
  /// True to store a few inputs with the logits that they must give.
  public var selfTest = true

  /// The defaults.
  public init() {}

  /// The keys.
  public static let section = RecipeSection<PackStageOptions>(
    title: "a pack stage", make: PackStageOptions.init,
    fields: [
      .init("dtype", \.dtype, .choice(), "The type of what is not encoded; pack never quantizes."),
      .init(
        "self-test", \.selfTest, .flag,
        "Store a few inputs with the logits they must give, for checks on load."),
    ])
}
