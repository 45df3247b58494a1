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

/// A format that a pack stage writes beside the bundle.
public enum PackedFormat: String, Sendable, CaseIterable {
  /// llama.cpp's files.
  case gguf
  /// Packed integers for vLLM and transformers.
  case compressedTensors = "compressed-tensors"
  /// Dense safetensors in a checkpoint folder.
  case safetensors
  /// One HDF5 file.
  case hdf5
  /// A NumPy archive.
  case npz
}

/// Write one bundle file.
public struct PackStageOptions: StageOptions {
  /// The key of the stage.
  public static let kind = "pack"
  /// What it does.
  public static let summary =
    "Writes the checkpoint as one bundle file, and in other engines' formats beside it."

  /// The type of what is not encoded.
  public var dtype = PackedFloat.keep
  /// True to store a few inputs with the logits that they must give.
  public var selfTest = true

  /// Formats that are written beside the bundle.
  public var also: [PackedFormat] = []

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
      .init(
        "also", \.also, .list(.choice(), of: "formats"),
        "Files for other engines beside the bundle, of the same weights; what a format cannot hold is an "
          + "error."),
    ])
}
