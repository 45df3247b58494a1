import Checkpoints
import JSONDocuments
import Tensors
import TestSupport
import Testing

@testable import Networks

/// Models of two towers; what transformers computes of each is in Tests/Fixtures/vision.
@Suite struct TowerTests {
  static let names = ["clip", "siglip"]

  static func folder(_ name: String) throws -> CheckpointFolder {
    try CheckpointFolder(path: VisionTests.folder + name)
  }

  @Test(arguments: names) func textsEqualTransformers(_ name: String) throws {
    let folder = try Self.folder(name)
    #expect(FamilyRegistry.towers(of: folder) == ["vision", "text"])
    let network = try #require(
      try FamilyRegistry.network(of: TowerCheckpoint(folder, tower: "text")) as? any TextEncoder)
    let file = try SafetensorsFile(path: folder.path + "/expected-text.safetensors")
    let ids = try #require(file.tensor("ids")?.integers()).map { Int32($0) }
    let expected = try #require(file.tensor("outputs"))
    let length = ids.count / 3
    let found = network.embeddings(
      TokenBatch((0..<3).map { Array(ids[$0 * length..<($0 + 1) * length]) }))
    #expect(found.columns == expected.columns && network.embeddingWidth == expected.columns)
    let worst = zip(found.values, expected.floats()).map { abs($0 - $1) }.max() ?? 1
    #expect(worst < 2e-4, "\(worst)")
    #expect(network.padding == (name == "siglip" ? TextPadding(length: 9, id: 1) : nil))
  }

  /// What is seen as a tower is one network over all tensors, and no file says so.
  @Test(arguments: names) func towersKnowAllTensors(_ name: String) throws {
    let folder = try Self.folder(name)
    var layers: Set<String> = []
    for tower in ["vision", "text"] {
      let view = try TowerCheckpoint(folder, tower: tower)
      let network = try FamilyRegistry.network(of: view)
      #expect(Set(folder.tensorNames).isSubset(of: network.tensorNames))
      #expect(network is any TextEncoder == (tower == "text"))
      let own = Set(network.linearLayers.map(\.weightName))
      #expect(layers.isDisjoint(with: own) && !own.isEmpty)
      layers.formUnion(own)
      #expect(view.tower == tower && view.configurationOfAll == folder.configuration)
      for halved in network.halvedTensors { #expect(folder.holds(halved), "\(halved)") }
    }
    #expect(folder.tower == nil)
    let error = try #require(throws: CheckpointError.self) {
      _ = try TowerCheckpoint(folder, tower: "audio")
    }
    #expect("\(error)".contains("vision, text"))
    let plain = try CheckpointFolder(path: VisionTests.folder + "vit")
    #expect(throws: CheckpointError.self) { _ = try TowerCheckpoint(plain, tower: "text") }
  }

  /// Gradients through the attention of a learned query: central differences of a norm's bias and a weight.
  @Test func gradientsPassTheLearnedQuery() throws {
    let network = try #require(
      try FamilyRegistry.network(of: Self.folder("siglip")) as? any SampleNetwork)
    var stream = RandomStream(test: "pixels")
    let pixels = Matrix(
      rows: 2 * 144, columns: 3, values: (0..<864).map { _ in Float(stream.gaussian()) })
    let direction = (0..<2 * network.outputCount).map { _ in Float(stream.gaussian()) }
    func loss() -> Double {
      let outputs = network.outputs(network.batch(pixels))
      return zip(outputs.values, direction).reduce(0) { $0 + Double($1.0) * Double($1.1) }
    }
    let sums = GradientSums(try Self.folder("siglip"))
    let outputs = network.outputs(network.batch(pixels, tape: GradientTape()))
    GradientRecord.walk(
      from: outputs,
      gradient: Matrix(rows: outputs.rows, columns: outputs.columns, values: direction),
      observer: sums)
    var checked = 0
    for vector in network.vectors {
      let gradient = try #require(sums.sums[vector.name], "\(vector.name)")
      let values = vector.values
      let place = gradient.indices.max { abs(gradient[$0]) < abs(gradient[$1]) } ?? 0
      let step: Float = 1e-2
      vector.values[place] = values[place] + step
      let above = loss()
      vector.values[place] = values[place] - step
      let slope = (above - loss()) / Double(2 * step)
      vector.values = values
      #expect(
        abs(slope - gradient[place]) < 0.03 * abs(slope) + 0.02,
        "\(vector.name): \(slope), \(gradient[place])")
      checked += 1
    }
    #expect(checked > 20)
  }
}
