// The options of `quantize`.

import Encodings
public import Pruning
public import Quantization

/// Another encoding for the tensors of a pattern.
public struct EncodingOverride: Sendable, Equatable {
  /// A tensor's name, `*` for any run of characters.
  public var pattern: Located<String>
  /// The name of an encoding.
  public var encoding: Located<String>

  /// An override.
  public init(pattern: Located<String>, encoding: Located<String>) {
    self.pattern = pattern
    self.encoding = encoding
  }
}

/// Store weights as integers of a few bits.
public struct QuantizeStageOptions: StageOptions {
  /// The key of the stage.
  public static let kind = "quantize"
  /// What it does.
  public static let summary = "Stores weights as integers of a few bits with a scale a group."

  /// How codes are found.
  public var method = QuantizationMethod.gptq
  /// The encoding of every linear layer that no override names.
  public var encoding = Located("")
  /// True for grids with zero in the middle and no zero point.
  public var symmetric = false
  /// Other encodings by tensor pattern; the last that matches counts.
  public var overrides: [EncodingOverride] = []
  /// Stored bits over weights of all that is encoded; for ec, 4 when no other goal is given.
  public var bits: Double?
  /// Bytes of the packed file, such as `9MB`.
  public var budget: Located<String>?
  /// The mean KL divergence (for encoders 1 less the mean cosine) on held-out calibration text.
  public var maxKL: Double?
  /// ec: the relative output error of each layer.
  public var maxError: Double?
  /// ec: how the tensors' rates follow from the goal.
  public var rates = RateChoice.measured
  /// ec: outputs count by the loss's curvature.
  public var curvature: Bool?
  /// Tensors that read the same inputs share an encoding.
  public var tieGroups = false
  /// GPTQ: this share of H's mean diagonal is added to the diagonal.
  public var damping = 0.01
  /// GPTQ: columns updated at once.
  public var blockSize = 128
  /// GPTQ: columns with the largest activations first.
  public var actOrder = true
  /// SmoothQuant: the share of the activations' range that goes into the weights.
  public var smoothing = 0.5
  /// What is rotated before anything is quantized.
  public var rotate: Rotation?
  /// Whether the report tells each layer's distance to the rate–distortion limit.
  public var limit = true
  /// How the range of a group's grid is chosen.
  public var grid = GridSearch.mse
  /// GPTQ: the share of weights that become zero in the same pass.
  public var sparsity: Double?
  /// GPTQ: where those zeros may lie.
  public var pattern: Located<String>?
  /// GPTQ: how they are chosen.
  public var pruning = PruningMethod.alps
  /// GPTQ, Qronos, ec: what is zero stays zero.
  public var keepZeros: Bool?
  /// The rank of factors that repair each matrix of codes.
  public var repairRank: Int?
  /// GPTQ: inputs come from the layers that are quantized already, one linear layer after another.
  public var trueSequential = true

  /// The defaults; a recipe must give `encoding`.
  public init() {}

  /// GPTQ needs calibration text.
  public func requirement(of recipe: Recipe) -> (what: String, key: String)? {
    method.needsCalibration && recipe.calibration == nil
      ? ("method \(method.rawValue)", "calibration") : nil
  }

  /// The keys.
  public static let section = RecipeSection<QuantizeStageOptions>(
    title: "a quantize stage", make: QuantizeStageOptions.init,
    fields: [
      .init(
        "method", \.method, .choice(),
        "How codes are found: round to nearest, GPTQ with calibration text, Qronos, which is GPTQ towards the "
          + "original model's outputs, AWQ, which scales and clips before it rounds, "
          + "SmoothQuant onto w8a8, or entropy-coded GPTQ."),
      .init(
        "encoding", \.encoding, .encoding, required: true,
        "`int2` to `int8` with `-g16`, `-g32`, `-g64`, `-g128`, `-g256` or `-channel`, for every linear "
          + "layer that no override names; `fp8` or `nf4` with the same endings; `w8a8`; a block type or file type of "
          + "llama.cpp; `ec` with method ec, for embeddings and heads too; or several names with commas, from "
          + "which a goal chooses."
      ),
      .init(
        "bits", \.bits, .optional(.number(1...8)),
        "Stored bits over the weights that ec encodes, or that a list of encodings is for; any number."
      ),
      .init(
        "budget", \.budget, .optional(.located("a size such as `9MB`")),
        "Bytes of the whole packed file, shared among the tensors by what the model feels of each."),
      .init(
        "max-kl", \.maxKL, .optional(.number(0...Double.infinity)),
        "The mean KL divergence to reach on calibration text that was held out (encoders: 1 less the mean "
          + "cosine), with the fewest bytes."),
      .init(
        "max-error", \.maxError, .optional(.number(0...1)),
        "ec: the relative output error of each layer, with the fewest bits."),
      .init(
        "rates", \.rates, .choice(),
        "ec: rates by what the model was measured to feel of each tensor, or the same for all."),
      .init(
        "curvature", \.curvature, .optional(.flag),
        "ec: outputs count by what the loss feels of them, which one backward pass tells; by default for language "
          + "models."),
      .init(
        "tie-groups", \.tieGroups, .flag,
        "Tensors that read the same inputs (q, k, v; gate, up) share the encoding chosen from a list, as fused "
          + "kernels need."),
      .init(
        "symmetric", \.symmetric, .flag,
        "Grids with zero in the middle and no zero point."),
      .init(
        "overrides", \.overrides,
        .map(
          .encoding, keys: "tensor pattern",
          make: { EncodingOverride(pattern: $0, encoding: $1) },
          split: { ($0.pattern.value, $0.encoding) }),
        "Other encodings by tensor name, `*` for any run of characters; the last match counts."),
      .init(
        "damping", \.damping, .number(0...1),
        "GPTQ: this share of H's mean diagonal is added to its diagonal."),
      .init("block-size", \.blockSize, .integer(1...65_536), "GPTQ: columns updated at once."),
      .init(
        "act-order", \.actOrder, .flag, "GPTQ: columns with the largest activations first."),
      .init(
        "smoothing", \.smoothing, .number(0...1),
        "SmoothQuant: the share of the activations' range that goes into the weights."),
      .init(
        "rotate", \.rotate, .optional(.choice()),
        "Mixes channels by random Hadamard matrices first, which costs nothing at run time: of the residual "
          + "stream and the values' heads, or of the heads alone. A tied head gets a matrix of its own for `all`."
      ),
      .init(
        "limit", \.limit, .flag,
        "With calibration, the report says how many bits above the rate–distortion limit each layer is."
      ),
      .init(
        "grid", \.grid, .choice(),
        "A group's range: from least to largest weight, or by least squared error."),
      .init(
        "sparsity", \.sparsity, .optional(.number(0...1)),
        "GPTQ: the share of the branches' weights that become zero in the same pass; N:M says it itself."
      ),
      .init(
        "pattern", \.pattern, .optional(.located("a pattern such as `2:4`")),
        "GPTQ: where those zeros may lie: `unstructured`, `N:M` or `1xB`."),
      .init("pruning", \.pruning, .choice(), "GPTQ: how those zeros are chosen."),
      .init(
        "keep-zeros", \.keepZeros, .optional(.flag),
        "GPTQ, Qronos, ec: what is zero stays zero; by default where the input was pruned."),
      .init(
        "repair-rank", \.repairRank, .optional(.integer(1...LowRank.largestRank)),
        "Beside each matrix of codes two thin factors of this rank, which take up the largest part of its error."
      ),
      .init(
        "true-sequential", \.trueSequential, .flag,
        "GPTQ: a layer's inputs come from the layers that are quantized already."),
    ])
}
