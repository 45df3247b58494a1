public import ArgumentParser
import Pipeline
public import Pruning

/// The options of `prune` that make a smaller model.
struct StructureOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "At most so many parameters stay, such as 15M; sizes are searched for.", valueName: "count"))
  var targetParameters: String?
  @Option(help: "Share of the attention heads that go, with their keys and values, such as 0.25.")
  var heads: Double?
  @Option(help: "Share of the MLPs' channels that go.") var ffn: Double?
  @Option(help: "Share of the residual stream's channels that go.") var width: Double?
  @Option(help: "Share of the layers that go.") var layers: Double?
  @Option(
    help:
      "Share of the branches that go one by one, attentions and MLPs; the result is for condense, and for llama.cpp as GGUF."
  )
  var branches: Double?
  @Option(
    help:
      "Networks over pictures: share of the filters that go inside of blocks; --width is for those that make the stream."
  )
  var filters: Double?
  @Option(
    help:
      "How heads and channels are chosen: order, magnitude, activation, taylor, reconstruction or curvature (default: curvature; of filters: reconstruction)."
  )
  var importance: ChannelImportance?
  @Option(
    help: "How layers and branches are chosen: order, influence or perplexity (default: influence)."
  )
  var layerImportance: LayerImportance?
  @Flag(
    inversion: .prefixedNo,
    help: "Fit what stays to give what all gave (default: yes).")
  var repair: Bool?

  /// Whether the model is to become smaller.
  var isAsked: Bool {
    targetParameters != nil || heads != nil || ffn != nil || width != nil || layers != nil
      || branches != nil || filters != nil
  }

  /// The pruning of filters; nil where something else is asked for.
  func filterRequest(damping: Double?) throws -> FilterPruning? {
    guard let filters else { return nil }
    let others: [(String, Bool)] = [
      ("--target-parameters", targetParameters != nil), ("--heads", heads != nil),
      ("--ffn", ffn != nil), ("--layers", layers != nil),
      ("--branches", branches != nil), ("--layer-importance", layerImportance != nil),
    ]
    if let option = others.first(where: { $0.1 }) {
      throw ValidationError(
        "\(option.0) is for language models and encoders, --filters for networks over pictures")
    }
    var request = FilterPruning(filters: filters, width: width)
    request.importance = importance ?? request.importance
    request.repairs = repair ?? request.repairs
    request.damping = damping ?? request.damping
    do throws(FilterError) {
      try request.check()
    } catch {
      throw ValidationError("\(error)")
    }
    return request
  }

  /// The options that ask for nothing by themselves.
  private var others: [(String, Bool)] {
    [
      ("--importance", importance != nil), ("--layer-importance", layerImportance != nil),
      ("--repair", repair != nil),
    ]
  }

  /// What is asked for.
  ///
  /// - Parameter damping: Of the fit; nil takes the default.
  func request(damping: Double?) throws -> StructuredPruning {
    var structure = StructuredPruning()
    if let targetParameters {
      guard let count = ByteSize.parse(targetParameters), count > 0 else {
        throw ValidationError(
          "--target-parameters is '\(targetParameters)'; it must be a number such as 15M")
      }
      structure.targetParameters = count
    }
    structure.heads = heads
    structure.ffn = ffn
    structure.width = width
    structure.layers = layers
    structure.branches = branches
    structure.importance = importance ?? structure.importance
    structure.layerImportance = layerImportance ?? structure.layerImportance
    structure.repairs = repair ?? structure.repairs
    structure.damping = damping ?? structure.damping
    do throws(StructureError) {
      try structure.check()
    } catch {
      throw ValidationError("\(error)")
    }
    return structure
  }

  /// Refuses options that would do nothing.
  func validate(damping: Double?, hasCalibration: Bool) throws {
    guard isAsked else {
      if let option = others.first(where: { $0.1 }) {
        throw ValidationError(
          "\(option.0) does nothing without --target-parameters, --heads, --ffn, --width, --layers, --branches or --filters"
        )
      }
      return
    }
    if damping == 0 {
      throw ValidationError(
        "--damping must be greater than 0 where weights are fitted behind a cut")
    }
    if let filters = try filterRequest(damping: damping) {
      guard hasCalibration || !filters.needsCalibration else {
        throw ValidationError(
          "--filters needs --calibration FILE.npy (order and magnitude with --no-repair do without)"
        )
      }
      return
    }
    let structure = try request(damping: damping)
    if layerImportance != nil, layers == nil, branches == nil, targetParameters == nil {
      throw ValidationError("--layer-importance does nothing without --layers or --branches")
    }
    if importance != nil, layers != nil || branches != nil, heads == nil, ffn == nil, width == nil {
      throw ValidationError(
        "--importance does nothing for \(layers != nil ? "--layers" : "--branches") (see --layer-importance)"
      )
    }
    guard hasCalibration || !structure.needsCalibration else {
      throw ValidationError(
        "this needs --calibration FILE (order and magnitude with --no-repair do without)")
    }
  }
}

extension ChannelImportance: ExpressibleByArgument {}
extension LayerImportance: ExpressibleByArgument {}
