import Checkpoints
import Tensors
import TestSupport
import Testing

@testable import Networks

/// What PyTorch computed on tiny networks over pictures; see Tests/Fixtures/images.
@Suite struct ImageFamilyTests {
  static let names = ["residual-a", "residual-b"]
  static let folder = TestData.fixtures + "/images/"

  struct Fixture {
    let network: any SampleNetwork
    let file: SafetensorsFile
    let features: Matrix

    init(_ name: String) throws {
      let checkpoint = try PyTorchFormat.open(ImageFamilyTests.folder + name + ".th")
      network = try #require(
        try FamilyRegistry.network(of: checkpoint) as? any SampleNetwork)
      file = try SafetensorsFile(path: ImageFamilyTests.folder + name + ".safetensors")
      let images = try #require(file.tensor("images")).floats()
      let mean: [Float] = [0.485, 0.456, 0.406], deviation: [Float] = [0.229, 0.224, 0.225]
      features = Matrix(
        rows: images.count / 3, columns: 3,
        values: images.enumerated().map { ($1 / 255 - mean[$0 % 3]) / deviation[$0 % 3] })
    }

    func expected(_ name: String) throws -> Matrix {
      let tensor = try #require(file.tensor(name))
      return Matrix(rows: tensor.rows, columns: tensor.columns, values: tensor.floats())
    }
  }

  @Test(arguments: names) func logitsEqualPyTorch(_ name: String) throws {
    let fixture = try Fixture(name)
    let found = fixture.network.outputs(fixture.network.batch(fixture.features))
    try FamilyFixtureTests.compare(found, try fixture.expected("logits"))
  }

  /// Branch by branch, as calibration goes, and at once, as inference does.
  @Test(arguments: names) func branchesGiveTheSame(_ name: String) throws {
    let fixture = try Fixture(name), network = fixture.network
    let batch = network.batch(fixture.features)
    #expect(network.outputs(of: network.hidden(batch), batch) == network.outputs(batch))
    #expect(network.sublayers.count == network.linearLayers.count)
    for sublayer in network.sublayers {
      for linear in sublayer.groups.flatMap({ $0 }) {
        #expect(linear.matrix.inputs == linear.operands(of: Self.zeros(for: linear)).columns)
      }
    }
  }

  private static func zeros(for linear: Linear) -> Matrix {
    guard let geometry = linear.windows?.geometry else {
      return Matrix(rows: 1, columns: linear.matrix.inputs)
    }
    return Matrix(rows: geometry.pixels, columns: geometry.channels)
  }

  @Test(arguments: names) func gradientsEqualPyTorch(_ name: String) throws {
    let fixture = try Fixture(name), network = fixture.network
    let checkpoint = try PyTorchFormat.open(Self.folder + name + ".th")
    let labels = try #require(fixture.file.tensor("labels")?.integers())
    let sums = GradientSums(checkpoint)
    let outputs = network.outputs(network.batch(fixture.features, tape: GradientTape()))
    var gradient = outputs.unrecorded
    for row in 0..<gradient.rows {
      var values = gradient.values.mutableSpan
      var part = values._mutatingExtracting(
        row * outputs.columns..<(row + 1) * outputs.columns)
      _ = RowGradients.crossEntropy(&part, label: labels[row])
    }
    for i in gradient.values.indices { gradient.values[i] /= Float(labels.count) }
    GradientRecord.walk(from: outputs, gradient: gradient, observer: sums)
    var checked = 0
    let layouts = Dictionary(
      network.linearLayers.compactMap { layer in layer.layout.map { (layer.weightName, $0) } },
      uniquingKeysWith: { a, _ in a })
    for key in fixture.file.tensorNames where key.hasPrefix("gradient.") {
      let name = String(key.dropFirst("gradient.".count))
      let expected = try #require(fixture.file.tensor(key)).floats()
      let found = try #require(sums.sums[name], "\(name)").map { Float($0) }
      let own =
        layouts[name].map { layout in
          layout.tensorValues(
            of: Matrix(rows: layout.outputs, columns: layout.inputs, values: found))
        } ?? found
      let size = expected.reduce(0) { max($0, abs($1)) }
      let worst = zip(own, expected).reduce(0) { max($0, abs($1.0 - $1.1)) }
      #expect(worst <= 1e-4 * size, "\(name): \(worst) of \(size)")
      checked += 1
    }
    #expect(checked > 10)
  }

  @Test func brokenNetworksAreRefused() throws {
    for (change, part) in [
      (["layer2.0.conv1.weight": [7, 5, 3, 3]], "layer2.0.conv1.weight"),
      (["bn1.running_var": [5]], "bn1.running_var"),
      (["linear.weight": [10, 17]], "linear.weight"),
      (["layer1.0.conv2.weight": [0, 4, 3, 3]], "layer1.0.conv2.weight"),
    ] as [([String: [Int]], String)] {
      let source = try PyTorchFormat.open(Self.folder + "residual-a.th")
      let tensors = source.tensorNames.compactMap { name -> FoundTensor? in
        guard let tensor = source.tensor(name) else { return nil }
        guard let shape = change[name] else { return FoundTensor(name: name, tensor) }
        let count = shape.reduce(1, *)
        return FoundTensor(
          name: name,
          Tensor(.float32, shape: shape, copying: [Float](repeating: 1, count: count)))
      }
      let file = try TensorFile(
        path: "broken", formatName: "test", tensors: tensors, byteCount: 1)
      let error = try #require(throws: CheckpointError.self) {
        _ = try FamilyRegistry.network(of: file)
      }
      #expect(error.tensor == part)
    }
  }
}
