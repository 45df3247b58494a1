import Checkpoints
import JSONDocuments
import Networks
import Pruning
import Tensors
import TestSupport
import Testing

@testable import Pipeline

/// Filters that go: what is left gives what the whole network gives with these channels at zero.
@Suite struct FilterPruningTests {
  static let names = ["residual-a", "residual-b"]

  static func input(_ name: String) throws -> any Checkpoint {
    try AnyCheckpoint.open(TestData.fixtures + "/images/\(name).th")
  }

  static func network(_ checkpoint: any Checkpoint) throws -> any FilterNetwork {
    try #require(try FamilyRegistry.network(of: checkpoint) as? any FilterNetwork)
  }

  static func features(_ network: any SampleNetwork) throws -> Matrix {
    let array = try SampleArray(
      path: TestData.fixtures + "/images/pictures.npy", shape: network.input)
    return array.features(0..<array.count, network.normalization)
  }

  /// The whole network with layers that do not look at the channels that go.
  static func blinded(
    _ checkpoint: any Checkpoint, kept: (FilterGroup) -> [Int]
  ) throws -> any FilterNetwork {
    let network = try Self.network(checkpoint)
    for group in network.filterGroups {
      let stay = kept(group), gone = (0..<group.count).filter { !stay.contains($0) }
      for reader in group.readers {
        var matrix = reader.owner.matrix.decoded()
        for column in FilterGroup.columns(of: reader, channels: gone) {
          for row in 0..<matrix.rows { matrix.values[row * matrix.columns + column] = 0 }
        }
        reader.owner.matrix = DenseMatrix(matrix)
      }
    }
    return network
  }

  /// Every second channel of each group, the odd ones of sums.
  static func kept(_ group: FilterGroup) -> [Int] {
    (0..<group.count).filter { $0 % 2 == (group.isSummed ? 1 : 0) }
  }

  @Test(arguments: names + ["keras-graph", "keras-chain"])
  func aCutIsWhatIsNotLookedAt(_ name: String) throws {
    let isKeras = name.hasPrefix("keras")
    let input =
      isKeras
      ? try AnyCheckpoint.open(TestData.fixtures + "/images/\(name).h5") : try Self.input(name)
    let network = try Self.network(input), groups = network.filterGroups
    #expect(!groups.isEmpty && (isKeras || groups.contains { $0.isSummed }))
    let cut = FilterCut(groups: groups.map { ($0, Self.kept($0)) }).checkpoint(of: input, network)
    let small = try Self.network(cut)
    #expect(small.multiplications < network.multiplications)
    var stream = RandomStream(test: "filters")
    let features = Matrix(
      rows: 4 * network.input.rows, columns: network.input.channels,
      values: (0..<4 * network.input.values).map { _ in Float(stream.gaussian()) })
    let found = small.outputs(small.batch(features))
    let whole = try Self.blinded(input, kept: Self.kept)
    let expected = whole.outputs(whole.batch(features))
    let size = expected.values.reduce(0) { max($0, abs($1)) }
    let worst = zip(found.values, expected.values).reduce(0) { max($0, abs($1.0 - $1.1)) }
    #expect(worst < 1e-5 * size, "\(worst) of \(size)")
    // And that is not what the whole network gives.
    let all = network.outputs(network.batch(features))
    #expect(zip(found.values, all.values).contains { abs($0 - $1) > 0.001 * size })
  }

  /// Every tensor that counts channels is in the groups as often as it has dimensions of them.
  @Test func groupsNameEveryPlace() throws {
    let network = try Self.network(Self.input("residual-a"))
    let groups = network.filterGroups
    let made = groups.flatMap { group in group.producers.map { ($0.owner.weightName, group.count) }
    }
    let convolutions = network.linearLayers.filter { $0.windows != nil }
    for layer in convolutions {
      let channels = made.filter { $0.0 == layer.weightName }.reduce(0) { $0 + $1.1 }
      #expect(channels == layer.matrix.outputs, "\(layer.name)")
    }
  }

  static func run(
    _ name: String, _ request: FilterPruning, calibration: String? = "pictures.npy"
  ) throws -> (result: StageResult, error: Double) {
    let folder = try TemporaryFolder(), output = folder.file("p")
    let input = try Self.input(name)
    let stage = PruneRun(
      input: input,
      request: PruneRequest(
        .filters(request),
        calibration: calibration.map {
          CalibrationRequest(text: [TestData.fixtures + "/images/" + $0], samples: 8)
        }))
    let result = try stage.run(output: output)
    let small = try Self.network(try AnyCheckpoint.open(output)), network = try Self.network(input)
    let features = try Self.features(network)
    let found = small.outputs(small.batch(features)),
      all = network.outputs(network.batch(features))
    var distance = 0.0, energy = 0.0
    for (x, y) in zip(found.values, all.values) {
      distance += Double(x - y) * Double(x - y)
      energy += Double(y) * Double(y)
    }
    return (result, distance / energy)
  }

  /// The choice and the fit each leave less error than what needs no samples.
  @Test func choiceAndFitHelp() throws {
    var request = FilterPruning(filters: 0.5)
    let fitted = try Self.run("residual-b", request)
    #expect(fitted.result.filters?.groups.allSatisfy { $0.after == $0.before / 2 } == true)
    #expect(fitted.result.layers.count > 3)
    request.repairs = false
    let cut = try Self.run("residual-b", request)
    #expect(cut.result.layers.isEmpty)
    request.importance = .order
    let naive = try Self.run("residual-b", request, calibration: nil)
    #expect(fitted.error < cut.error && cut.error < naive.error, "\(fitted.error) \(cut.error)")
    for importance in [ChannelImportance.magnitude, .activation] {
      request.importance = importance
      #expect(try Self.run("residual-b", request).error > fitted.error)
    }
  }

  @Test func whatCannotBeCutIsRefused() throws {
    #expect(throws: FilterError.badShare("filters", 1)) {
      try FilterPruning(filters: 1).check()
    }
    #expect(throws: FilterError.badShare("width", -0.5)) {
      try FilterPruning(filters: 0.5, width: -0.5).check()
    }
    var request = FilterPruning(filters: 0.5)
    request.importance = .taylor
    #expect(throws: FilterError.importance(.taylor)) { try request.check() }
    let model = try AnyCheckpoint.open(TestData.fixtures + "/families/llama-tied")
    #expect(throws: FilterError.noFilters(family: "llama")) {
      try FilterRun.check(FilterPruning(filters: 0.5), model)
    }
    // Every layer but the last two reads sequences that are laid flat.
    let keras = try AnyCheckpoint.open(TestData.fixtures + "/images/keras-chain.h5")
    #expect(throws: FilterError.nothingFree(axis: "width", family: "keras")) {
      try FilterRun.check(FilterPruning(filters: nil, width: 0.5), keras)
    }
  }
}
