// The options of `prune`.

import Encodings
public import Pruning

/// Another goal for the tensors of a pattern.
public struct SparsityOverride: Sendable, Equatable {
  /// A tensor's name, `*` for any run of characters.
  public var pattern: Located<String>
  /// A sparsity, a pattern of zeros, or `copy`.
  public var target: Located<String>

  /// An override.
  public init(pattern: Located<String>, target: Located<String>) {
    self.pattern = pattern
    self.target = target
  }
}

/// Make weights zero.
public struct PruneStageOptions: StageOptions {
  /// The key of the stage.
  public static let kind = "prune"
  /// What it does.
  public static let summary =
    "Makes weights zero, one by one or in patterns that hardware knows; or takes whole heads, channels and layers out of the model."

  /// How the weights to remove are chosen.
  public var method = PruneMethod.sparsegpt
  /// svd: the share of the squares of singular values that stays.
  public var energy: Double?
  /// svd: the rank, as a share of the smaller side.
  public var rankRatio: Double?
  /// svd: bytes of the weights.
  public var budget: Located<String>?
  /// The share of zeros.
  public var sparsity: Double?
  /// Where they may lie.
  public var pattern = Located("unstructured")
  /// How tensors share the zeros.
  public var allocation = SparsityAllocation.uniform
  /// Other goals by tensor name; the last that matches counts.
  public var overrides: [SparsityOverride] = []
  /// sparsegpt, alps: this share of H's mean diagonal is added to the diagonal.
  public var damping = 0.01
  /// sparsegpt: columns whose masks are chosen together.
  public var blockSize = 128
  /// Wanda: swaps of removed weights against kept ones.
  public var swaps = 0
  /// Methods that change what stays: towards the original model's outputs.
  public var correction = true
  /// Inputs come from the layers that are pruned already.
  public var trueSequential = true
  /// Zeros are stored as any other number.
  public var dense = false
  /// A smaller model instead: its parameters, or the share that goes of heads, channels or layers.
  public var structure = StructuredPruning()
  /// A smaller network over pictures instead: the share of the filters that go.
  public var filters: Double?
  /// How heads, channels and filters are chosen; nil follows from what is cut.
  public var importance: ChannelImportance?
  /// Where `structure` is asked for.
  public var targetParameters: Located<String>?

  /// The defaults; a recipe must give `sparsity`, or a pattern that says it.
  public init() {}

  /// All methods but magnitude need calibration text.
  public func requirement(of recipe: Recipe) -> (what: String, key: String)? {
    guard recipe.calibration == nil else { return nil }
    if filters != nil {
      return filterPruning.needsCalibration
        ? ("the choice or the fit of filters", "calibration") : nil
    }
    if asksForStructure {
      return structure.needsCalibration || targetParameters != nil
        ? ("structured pruning", "calibration") : nil
    }
    if method.needsCalibration { return ("method \(method.rawValue)", "calibration") }
    return allocation == .uniform
      ? nil : ("allocation \(allocation.rawValue)", "calibration")
  }

  /// The keys.
  public static let section = RecipeSection<PruneStageOptions>(
    title: "a prune stage", make: PruneStageOptions.init,
    fields: [
      .init(
        "method", \.method, .choice(),
        "How the weights to remove are chosen: the smallest, Wanda (the smallest products of weight and input), "
          + "SparseGPT, which lets the others make up for them column by column, or ALPS, which finds zeros and weights "
          + "together: the least loss, and the most time."),
      .init(
        "sparsity", \.sparsity, .optional(.number(0...1)),
        "The share of weights that become zero, exact to the weight; greater than 0 and less than 1. N:M says it itself."
      ),
      .init(
        "pattern", \.pattern, .located("a pattern such as `unstructured`, `2:4` or `1x16`"),
        "Where zeros may lie: `unstructured`, `N:M` (at most N of M consecutive inputs stay) or `1xB` (blocks of B "
          + "inputs go together)."),
      .init(
        "allocation", \.allocation, .choice(),
        "How the tensors that no override names share the zeros: all alike, by the outliers of each layer (OWL), or by "
          + "what the model was measured to feel of each tensor. Not for N:M."),
      .init(
        "overrides", \.overrides,
        .map(
          .located("a sparsity such as `\"0.6\"`, a pattern or `copy`"), keys: "tensor pattern",
          make: { SparsityOverride(pattern: $0, target: $1) },
          split: { ($0.pattern.value, $0.target) }),
        "Other goals by tensor name, `*` for any run of characters; the last match counts. Embeddings and heads are "
          + "pruned only when they are named."),
      .init(
        "damping", \.damping, .number(0...1),
        "SparseGPT, ALPS: this share of H's mean diagonal is added to its diagonal."),
      .init(
        "block-size", \.blockSize, .integer(1...65_536),
        "SparseGPT: columns whose masks are chosen together."),
      .init(
        "swaps", \.swaps, .integer(0...65_536),
        "Wanda: at most so many removed weights of a row are swapped against kept ones while its error falls (DSnoT)."
      ),
      .init(
        "correction", \.correction, .flag,
        "SparseGPT, ALPS: towards the outputs of the original model, which the pruned layers before no longer give."
      ),
      .init(
        "true-sequential", \.trueSequential, .flag,
        "A layer's inputs come from the layers that are pruned already."),
      .init(
        "dense", \.dense, .flag,
        "Store the zeros, so that other programs read the folder as it is. Without it they take no room where that "
          + "is smaller."),
      .init(
        "energy", \.energy, .optional(.number(0...1)),
        "svd: the rank of each matrix keeps this share of the squares of its singular values, weighted by its inputs."
      ),
      .init(
        "rank-ratio", \.rankRatio, .optional(.number(0...1)),
        "svd: the rank of each matrix, as a share of its smaller side. Matrices whose factors would not be smaller stay."
      ),
      .init(
        "budget", \.budget, .optional(.located("a number of bytes such as `15MB`")),
        "svd: bytes of the result's weights; all matrices keep the largest energy that fits."),
      .init(
        "target-parameters", \.targetParameters, .optional(.located("a number such as `15M`")),
        "A smaller model with at most so many parameters; the sizes of its parts are searched for. The keys for single "
          + "weights then do nothing but `damping`, which the fit behind a cut has too."),
      .init(
        "heads", \.structure.heads, .optional(.number(0...1)),
        "A smaller model: the share of attention heads that go, with their keys and values."),
      .init(
        "ffn", \.structure.ffn, .optional(.number(0...1)),
        "A smaller model: the share of the MLPs' channels that go."),
      .init(
        "width", \.structure.width, .optional(.number(0...1)),
        "A smaller model: the share of the residual stream's channels that go."),
      .init(
        "filters", \.filters, .optional(.number(0...1)),
        "A smaller network over pictures: the share of the filters that go inside of blocks; `width` is the share of "
          + "those that make its stream."),
      .init(
        "layers", \.structure.layers, .optional(.number(0...1)),
        "A smaller model: the share of layers that go."),
      .init(
        "branches", \.structure.branches, .optional(.number(0...1)),
        "A smaller model: the share of branches that go one by one, attentions and MLPs. Layers that lack one are for "
          + "condense, and for llama.cpp as GGUF; transformers knows none."),
      .init(
        "importance", \.importance, .optional(.choice()),
        "How heads and channels are chosen: by the loss's curvature of what a fit leaves, by that error alone, by "
          + "first-order effect on the loss, by activations, by weights, or the last ones. Default: curvature; of filters "
          + "reconstruction (they have no taylor and no curvature)."),
      .init(
        "layer-importance", \.structure.layerImportance, .choice(),
        "How layers and branches are chosen: by how little they turn the stream, by the text's perplexity without them, or evenly."
      ),
      .init(
        "repair", \.structure.repairs, .flag,
        "A smaller model: what stays is fitted to give what all gave."),
    ])
}

extension PruneStageOptions {
  /// The request; everything is checked at its place in the recipe.
  func request(_ recipe: Recipe) throws(RecipeError) -> PruneRequest {
    if filters != nil {
      return PruneRequest(
        .filters(try filterRequest()),
        calibration: recipe.calibration.map { CalibrationRequest($0) })
    }
    if asksForStructure {
      return PruneRequest(
        .structure(try structureRequest()),
        calibration: recipe.calibration.map { CalibrationRequest($0) })
    }
    guard let zeros = method.zeros else { return try rankRequest(recipe) }
    if energy != nil || rankRatio != nil || budget != nil {
      throw RecipeError(
        at: budget?.place ?? pattern.place,
        .refused("energy, rank-ratio and budget are for method svd"))
    }
    guard let places = SparsityPattern(pattern.value) else {
      throw RecipeError(
        at: pattern.place, .refused("\(SparsityRuleError.unknownPattern(pattern.value))"))
    }
    var weights: WeightPruning
    do throws(SparsityRuleError) {
      weights = try WeightPruning(method: zeros, pattern: places, sparsity: sparsity)
    } catch {
      throw RecipeError(at: pattern.place, .refused("\(error)"))
    }
    for override in overrides {
      do throws(SparsityRuleError) {
        weights.rules.append(
          try SparsityRule(names: override.pattern.value, target: override.target.value))
      } catch {
        throw RecipeError(at: override.target.place, .refused("\(error)"))
      }
    }
    weights.allocation = allocation
    do throws(SparsityRuleError) {
      try weights.checkAllocation()
    } catch {
      throw RecipeError(at: pattern.place, .refused("\(error)"))
    }
    weights.damping = damping
    weights.blockSize = blockSize
    weights.swaps = swaps
    weights.correctsDrift = correction
    weights.trueSequential = trueSequential
    weights.storesZeros = dense
    return PruneRequest(
      .weights(weights), calibration: recipe.calibration.map { CalibrationRequest($0) })
  }

  private func rankRequest(_ recipe: Recipe) throws(RecipeError) -> PruneRequest {
    if sparsity != nil || pattern.value != "unstructured" || !overrides.isEmpty {
      throw RecipeError(
        at: pattern.place, .refused("sparsity, pattern and overrides are for zeros, not for svd"))
    }
    let bytes = try budget.map { budget throws(RecipeError) in
      guard let bytes = ByteSize.parse(budget.value), bytes > 0 else {
        throw RecipeError(
          at: budget.place, .refused("'\(budget.value)' is no number of bytes such as 15MB"))
      }
      return bytes
    }
    do throws(LowRankError) {
      var rank = try LowRankPruning(
        energy: energy, ratio: rankRatio, budget: bytes)
      rank.damping = max(damping, 1e-6)
      return PruneRequest(
        .rank(rank), calibration: recipe.calibration.map { CalibrationRequest($0) })
    } catch {
      throw RecipeError(at: pattern.place, .refused("\(error)"))
    }
  }

  private var asksForStructure: Bool { targetParameters != nil || structure.isAsked }

  private var filterPruning: FilterPruning {
    var request = FilterPruning(filters: filters, width: structure.width)
    request.importance = importance ?? request.importance
    request.repairs = structure.repairs
    request.damping = damping
    return request
  }

  private func filterRequest() throws(RecipeError) -> FilterPruning {
    let others = targetParameters != nil || structure.shares.contains { $0.axis != "width" }
    guard !others, sparsity == nil, pattern.value == "unstructured", overrides.isEmpty else {
      throw RecipeError(
        at: pattern.place,
        .refused(
          "filters make a network over pictures smaller; of other goals only width goes with them"))
    }
    guard damping > 0 else {
      throw RecipeError(
        at: pattern.place, .refused("damping must be greater than 0 behind a cut"))
    }
    do throws(FilterError) {
      try filterPruning.check()
    } catch {
      throw RecipeError(at: pattern.place, .refused("\(error)"))
    }
    return filterPruning
  }

  private func structureRequest() throws(RecipeError) -> StructuredPruning {
    var request = structure
    request.damping = damping
    request.importance = importance ?? request.importance
    let place = targetParameters?.place ?? pattern.place
    if let targetParameters {
      guard let count = ByteSize.parse(targetParameters.value), count > 0 else {
        throw RecipeError(
          at: place, .refused("'\(targetParameters.value)' is no number of parameters such as 15M"))
      }
      request.targetParameters = count
    }
    guard damping > 0 else {
      throw RecipeError(at: place, .refused("damping must be greater than 0 behind a cut"))
    }
    if sparsity != nil || pattern.value != "unstructured" || !overrides.isEmpty {
      throw RecipeError(
        at: place,
        .refused(
          "sparsity, pattern and overrides are for single weights; this makes a smaller model")
      )
    }
    do throws(StructureError) {
      try request.check()
    } catch {
      throw RecipeError(at: place, .refused("\(error)"))
    }
    return request
  }

  /// Where in the recipe the cause of an error stands.
  func place(of error: SparsityRuleError) -> RecipePlace {
    guard case .matchesNothing(let names, _) = error else { return pattern.place }
    return overrides.first { $0.pattern.value == names }?.pattern.place ?? pattern.place
  }
}

extension CalibrationRequest {
  /// What a recipe says of calibration, as a request.
  init(_ options: CalibrationOptions) {
    self.init(
      text: options.selfWritten
        ? Self.selfWritten : (options.text + options.images + options.audio).map(\.value),
      tokens: options.tokens, context: options.context, seed: options.seed,
      samples: options.samples, transcripts: options.transcripts?.value)
  }
}
