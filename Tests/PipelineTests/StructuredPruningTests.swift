import Calibration
import Checkpoints
import JSONDocuments
import Networks
import Pruning
import Tensors
import TestSupport
import Testing

@testable import Pipeline

/// Cut networks compute what the whole ones compute without the parts that went.
@Suite struct StructuredPruningTests {
  static let decoders = [
    "llama", "llama-tied", "llama-head-dim", "llama-bf16", "mistral", "qwen2", "qwen2-sliding",
    "qwen2-sliding-v4", "qwen3",
  ]
  static let encoders = ["bert-mean", "bert-cls"]

  static func network(_ checkpoint: any Checkpoint) throws -> any StructuredNetwork {
    try StructuredRun.network(of: checkpoint)
  }

  /// Something of each layer stays, not the same in each.
  private static func kept(_ count: Int, of all: Int, layer: Int) -> [Int] {
    Array(Set((0..<all).map { ($0 * 5 + layer) % all }.prefix(count))).sorted()
  }

  /// The source with columns of its output layers at zero, and without whole branches.
  static func masked(
    _ source: any Checkpoint, _ cut: StructuredCut, _ structure: NetworkStructure
  ) throws -> any Checkpoint {
    var changed: [String: Tensor] = [:]
    for tensor in source.logicalTensors {
      guard let place = structure.places[tensor.name],
        var values = source.tensor(tensor.name)?.floats()
      else { continue }
      let isGone: Bool, layer: Int
      switch place.branch {
      case .attention(let own):
        (isGone, layer) = (!cut.layers.contains { $0.attention == own }, own)
      case .mlp(let own): (isGone, layer) = (!cut.layers.contains { $0.mlp == own }, own)
      case .outside: continue
      }
      let name = tensor.name
      let adds = ["o_proj", "down_proj", "output.dense"].contains { name.contains($0) }
      guard adds else { continue }
      if isGone {
        values = values.map { _ in 0 }
      } else if tensor.shape.count == 2, place.axes.count == 2,
        let kept = cut.kept(place.axes[1], layer: layer, in: structure)
      {
        let columns = tensor.shape[1]
        for i in values.indices where !kept.contains(i % columns) { values[i] = 0 }
      } else {
        continue
      }
      changed[name] = Tensor(.float32, shape: tensor.shape, copying: values)
    }
    return TransformedCheckpoint(source, changed: changed)
  }

  /// Heads with their groups, heads of each group, channels, and layers of branches from different layers.
  @Test(arguments: decoders) func cutsEqualMasks(_ family: String) throws {
    let source = try TransformTests.checkpoint(family)
    let structure = try Self.network(source).structure, sizes = structure.sizes
    var cuts: [StructuredCut] = []
    for option in sizes.headOptions where option.heads < sizes.heads {
      var cut = StructuredCut(all: sizes)
      let share = sizes.heads / sizes.keyHeads, own = option.heads / option.keyHeads
      for layer in 0..<sizes.layers {
        let groups = Self.kept(option.keyHeads, of: sizes.keyHeads, layer: layer)
        cut.heads[layer] = groups.flatMap { group in
          Self.kept(own, of: share, layer: layer).map { group * share + $0 }
        }
      }
      cuts.append(cut)
    }
    var inner = StructuredCut(all: sizes)
    for layer in 0..<sizes.layers {
      inner.inner[layer] = Self.kept(sizes.inner / 3, of: sizes.inner, layer: layer)
    }
    cuts.append(inner)
    var layers = inner
    layers.layers = [.init(attention: 0, mlp: sizes.layers - 1)]
    cuts.append(layers)
    for cut in cuts { try Self.expectSame(source, cut, structure) }
  }

  static func expectSame(
    _ source: any Checkpoint, _ cut: StructuredCut, _ structure: NetworkStructure
  ) throws {
    let small = StructuredCheckpoint(source, structure, cut: cut)
    let found = try TransformTests.outputs(small)
    TransformTests.expectEqual(
      found, try TransformTests.outputs(masked(source, cut, structure)))
    let own = try network(small).structure
    #expect(own.sizes == cut.sizes(of: structure.sizes))
    let shapes = source.logicalTensors.map { ($0.name, $0.shape) }
    #expect(
      structure.parameters(shapes, sizes: own.sizes)
        == small.logicalTensors.reduce(0) { $0 + $1.shape.reduce(1, *) })
  }

  @Test(arguments: encoders) func encodersLoseChannels(_ family: String) throws {
    let source = try TransformTests.checkpoint(family)
    let structure = try Self.network(source).structure
    var cut = StructuredCut(all: structure.sizes)
    for layer in 0..<structure.sizes.layers {
      cut.inner[layer] = Self.kept(
        structure.sizes.inner / 2, of: structure.sizes.inner, layer: layer)
    }
    try Self.expectSame(source, cut, structure)
  }

  /// Channels of the stream that are zero everywhere go without a trace: the norms' factors make up for their means.
  @Test(arguments: ["llama", "llama-tied", "qwen3"]) func deadWidthGoes(_ family: String) throws {
    let source = try TransformTests.checkpoint(family)
    let structure = try Self.network(source).structure
    let width = structure.sizes.width, kept = Self.kept(width / 2, of: width, layer: 1)
    var changed: [String: Tensor] = [:]
    for tensor in source.logicalTensors {
      guard let axes = structure.places[tensor.name]?.axes, tensor.shape.count == 2,
        var values = source.tensor(tensor.name)?.floats()
      else { continue }
      // What makes the stream: embeddings and writers. The tied head reads nothing there either.
      let columns = tensor.shape[1]
      if axes[0] == .width {
        for i in values.indices where !kept.contains(i / columns) { values[i] = 0 }
      } else if tensor.name.contains("embed_tokens") {
        for i in values.indices where !kept.contains(i % columns) { values[i] = 0 }
      }
      changed[tensor.name] = Tensor(.float32, shape: tensor.shape, copying: values)
    }
    let dead = TransformedCheckpoint(source, changed: changed)
    let ranking = try StructuredMeasurement(
      network: try Self.network(dead), set: try TransformTests.set(source),
      importance: .activation, cutsWidth: true, damping: 0.01
    ) { _ in }.ranking()
    #expect(ranking.width.suffix(kept.count).sorted() == kept)
    var cut = StructuredCut(all: structure.sizes)
    cut.width = kept
    let small = StructuredCheckpoint(
      dead, structure, cut: cut, normFactors: ranking.normFactors(kept))
    let found = try TransformTests.outputs(small), expected = try TransformTests.outputs(dead)
    let largest = expected.values.reduce(0) { max($0, abs($1)) }
    // The norms' epsilon stands beside a larger mean than before: the fixtures' streams are hardly above it.
    #expect(zip(found.values, expected.values).allSatisfy { abs($0 - $1) < 1e-3 * largest })
  }

  /// Layers that come from two layers of the source keep the window of their attention.
  @Test func listsOfLayersAreCutToo() throws {
    for family in ["qwen2-sliding", "qwen2-sliding-v4"] {
      let source = try TransformTests.checkpoint(family)
      let structure = try Self.network(source).structure, sizes = structure.sizes
      var cut = StructuredCut(all: sizes)
      cut.layers.removeFirst()
      let configuration = StructuredCheckpoint(source, structure, cut: cut).configuration
      #expect(configuration["num_hidden_layers"]?.integer == sizes.layers - 1)
      if let list = source.configuration["layer_types"]?.array {
        #expect(configuration["layer_types"]?.array == Array(list.dropFirst()))
      } else {
        let first = try #require(source.configuration["max_window_layers"]?.integer)
        #expect(configuration["max_window_layers"]?.integer == max(0, first - 1))
      }
    }
  }

  // MARK: - Choosing and fitting

  static func request(_ change: (inout StructuredPruning) -> Void) -> StructuredPruning {
    var request = StructuredPruning()
    change(&request)
    return request
  }

  static func run(
    _ source: any Checkpoint, _ request: StructuredPruning, output: StageOutput? = nil
  ) throws -> StructuredRun.Result {
    try StructuredRun.check(request, source)
    let set = try TransformTests.set(source)
    return try StructuredRun(
      input: source, request: request,
      calibration: LoadedCalibration(set: set, rest: nil, json: .null), output: output,
      progress: { _, _ in }, finished: { _, _ in }
    ).run()
  }

  /// The stream behind the last branch, on the text that the fit was made with.
  private static func stream(_ checkpoint: any Checkpoint, _ set: CalibrationSet) throws -> Matrix {
    try network(checkpoint).hidden(TokenBatch(set.sequences))
  }

  /// The fit brings the stream nearer to that of the whole model.
  @Test(arguments: ["llama", "qwen2", "bert-mean"], ChannelImportance.allCases)
  func fitsLowerTheLoss(_ family: String, _ importance: ChannelImportance) throws {
    let source = try TransformTests.checkpoint(family)
    if importance == .taylor, family == "bert-mean" { return }
    let set = try TransformTests.set(source), whole = try Self.stream(source, set)
    func distance(repairs: Bool) throws -> Double {
      let result = try Self.run(
        source,
        Self.request {
          $0.ffn = 0.5
          $0.importance = importance
          $0.repairs = repairs
        })
      return zip(try Self.stream(result.checkpoint, set).values, whole.values).reduce(0) {
        $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1)
      }
    }
    let fitted = try distance(repairs: true), bare = try distance(repairs: false)
    #expect(fitted < 0.9 * bare)
  }

  /// The last norm's factors are each channel's least squares, damped towards 1, by their definition.
  @Test func theLastNormIsFitted() throws {
    let source = try TransformTests.checkpoint("llama"), set = try TransformTests.set(source)
    let fitted = try Self.run(source, Self.request { $0.ffn = 0.5 }).checkpoint
    let name = "model.norm.weight"
    let before = try #require(source.tensor(name)?.floats())
    let after = try #require(fitted.tensor(name)?.floats())
    var bare = fitted
    bare.fitted[name] = nil
    let whole = try #require(try Self.network(source) as? any LanguageModel)
    let small = try #require(try Self.network(bare) as? any LanguageModel)
    let batch = TokenBatch(set.sequences)
    let t = whole.normalize(whole.hidden(batch)), y = small.normalize(small.hidden(batch))
    var products = [Double](repeating: 0, count: before.count), squares = products
    for i in t.values.indices {
      products[i % before.count] += Double(t.values[i]) * Double(y.values[i])
      squares[i % before.count] += Double(y.values[i]) * Double(y.values[i])
    }
    let damping = 0.01 * squares.reduce(0, +) / Double(before.count)
    for i in before.indices {
      let factor = (products[i] + damping) / (squares[i] + damping)
      #expect(abs(Double(after[i]) - Double(before[i]) * factor) < 1e-3)
    }
  }

  @Test(arguments: [0.9, 0.75, 0.5]) func targetsAreMet(_ share: Double) throws {
    let source = try TransformTests.checkpoint("llama")
    let all = source.logicalTensors.reduce(0) { $0 + $1.shape.reduce(1, *) }
    let target = Int(Double(all) * share)
    let result = try Self.run(source, Self.request { $0.targetParameters = target })
    let found = result.checkpoint.logicalTensors.reduce(0) { $0 + $1.shape.reduce(1, *) }
    #expect(found == result.outcome.parametersAfter)
    #expect(found <= target)
    #expect(result.outcome.candidates.allSatisfy { $0.parameters <= target })
    let best = try #require(result.outcome.candidates.min { $0.loss < $1.loss })
    #expect(best.sizes == result.outcome.after)
  }

  /// Branches go in neighbouring pairs: what stays alternates, and no choice repeats.
  @Test(arguments: LayerImportance.allCases)
  func layersAlternate(_ importance: LayerImportance) throws {
    let source = try TransformTests.checkpoint("llama-tied")
    let network = try Self.network(source), count = network.sublayers.count / 2
    let layers = StructuredLayers(
      network: network, set: try TransformTests.set(source), importance: importance)
    for removed in 0..<count {
      let left = try layers.branches(removing: removed)
      #expect(left.count == 2 * (count - removed))
      #expect(left.enumerated().allSatisfy { $0 % 2 == $1 % 2 })
      #expect(left == left.sorted() && Set(left).count == left.count)
    }
  }

  @Test func theStreamIsTurnedLeastByWhatGoes() throws {
    let source = try TransformTests.checkpoint("llama-tied")
    let network = try Self.network(source), set = try TransformTests.set(source)
    var influences: [Double] = []
    for pair in 0..<network.sublayers.count - 1 {
      var influence = BlockInfluence()
      for sequence in set.sequences {
        let batch = TokenBatch([sequence])
        var hidden = network.embed(batch, position: 0), before = hidden
        for (index, sublayer) in network.sublayers.enumerated() {
          if index == pair { before = hidden }
          hidden = sublayer.run(hidden, batch, cache: nil, inputOf: nil)
          if index == pair + 1 { influence.add(before: before, behind: hidden) }
        }
      }
      influences.append(influence.mean)
    }
    let best = try #require(influences.indices.min { influences[$0] < influences[$1] })
    let left = try StructuredLayers(network: network, set: set, importance: .influence).branches(
      removing: 1)
    #expect(left == network.sublayers.indices.filter { $0 != best && $0 != best + 1 })
  }

  @Test func theSameWorkGivesTheSameBytes() throws {
    let source = try TransformTests.checkpoint("llama")
    let request = Self.request {
      $0.ffn = 0.4
      $0.width = 0.25
    }
    let first = try withThreads(1) { try Self.run(source, request).checkpoint }
    let second = try withThreads(2) { try Self.run(source, request).checkpoint }
    #expect(first.cut == second.cut)
    for name in first.tensorNames {
      #expect(first.tensor(name)?.floats() == second.tensor(name)?.floats(), "\(name)")
    }
  }

  // MARK: - What is refused

  private func refuses(
    _ family: String, _ error: StructureError, _ change: (inout StructuredPruning) -> Void,
    location: SourceLocation = #_sourceLocation
  ) throws {
    let source = try TransformTests.checkpoint(family)
    #expect(throws: error, sourceLocation: location) {
      try StructuredRun.check(Self.request(change), source)
    }
  }

  @Test func impossibleSizesAreRefused() throws {
    let source = try TransformTests.checkpoint("llama")
    let sizes = try Self.network(source).structure.sizes
    let all = source.logicalTensors.reduce(0) { $0 + $1.shape.reduce(1, *) }
    try refuses("llama", .nothingAsked) { _ in }
    for share in [0.0, 1.0, -0.5, 1.5, .nan, .infinity] {
      do {
        try Self.request { $0.heads = share }.check()
        Issue.record("\(share) was taken")
      } catch {
        guard case .badShare(axis: "heads", _) = error else { throw error }
      }
    }
    try refuses("llama", .nothingLeft(axis: "heads", of: sizes.heads)) { $0.heads = 0.99 }
    try refuses("llama", .nothingLeft(axis: "layers", of: sizes.layers)) { $0.layers = 0.99 }
    try refuses("llama", .nothingLeft(axis: "ffn", of: sizes.inner)) { $0.ffn = 0.9999 }
    try refuses("llama", .nothingGoes(axis: "width", of: sizes.width)) { $0.width = 0.0001 }
    try refuses("llama", .twoGoals(axis: "ffn")) {
      $0.ffn = 0.5
      $0.targetParameters = 1000
    }
    try refuses("llama", .targetTooLarge(asked: all, parameters: all)) { $0.targetParameters = all }
    do {
      try StructuredRun.check(Self.request { $0.targetParameters = 10 }, source)
      Issue.record("10 parameters were taken")
    } catch let error as StructureError {
      guard case .targetTooSmall(asked: 10, let least) = error else { throw error }
      try StructuredRun.check(Self.request { $0.targetParameters = least }, source)
    }
    #expect(throws: StructureError.self) {
      try StructuredRun.check(
        Self.request { $0.heads = 0.5 }, try TransformTests.checkpoint("bert-mean"))
    }
    #expect(throws: StructureError.self) {
      try StructuredRun.check(
        Self.request { $0.width = 0.5 }, try TransformTests.checkpoint("bert-mean"))
    }
    try refuses("bert-mean", .noGradients(family: "bert")) {
      $0.ffn = 0.5
      $0.importance = .taylor
    }
  }

  @Test func headsShareTheirKeys() {
    let sizes = StructuralSizes(layers: 1, heads: 6, keyHeads: 3, inner: 8, width: 8)
    #expect(sizes.headOptions.map(\.heads) == [2, 3, 4, 6])
    #expect(sizes.headOptions.map(\.keyHeads) == [1, 3, 2, 3])
  }
}
