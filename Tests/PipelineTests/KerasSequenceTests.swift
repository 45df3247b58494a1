import Bundles
import Calibration
import Checkpoints
import CondenseInference
import Foundation
import JSONDocuments
import LinearAlgebra
import Networks
import Tensors
import TestSupport
import Testing

@testable import Pipeline

/// What Keras computed with models over sequences, of several inputs and results; see Tests/Fixtures/keras/generate.py.
@Suite struct KerasSequenceTests {
  static let folder = TestData.fixtures + "/keras/"

  static func network(_ file: String) throws -> any SampleNetwork {
    var checkpoint = try AnyCheckpoint.open(folder + file)
    if file.hasPrefix("open") { checkpoint = try KerasSteps.fixed(checkpoint, steps: 6) }
    return try #require(try FamilyRegistry.network(of: checkpoint) as? any SampleNetwork)
  }

  static func samples(_ name: String, for network: any SampleNetwork) throws -> TokenBatch {
    let samples = try SampleArray(path: folder + name + ".npz", for: network)
    return network.batch(samples.features(0..<samples.count, network.normalization))
  }

  @Test(arguments: [
    ("text.h5", "text", "text"), ("text.keras", "text", "text"),
    ("text-keras2.h5", "text-keras2", "text"), ("variants.keras", "variants", "variants"),
    ("pairs.h5", "pairs", "pairs"), ("pairs.keras", "pairs", "pairs"),
    ("masked.keras", "masked", "masked"), ("open.keras", "open", "open"),
  ])
  func outputsEqualKeras(_ file: String, _ expected: String, _ samples: String) throws {
    let network = try Self.network(file)
    let batch = try Self.samples(samples, for: network)
    let fixture = try SafetensorsFile(path: Self.folder + expected + ".safetensors")
    let found = network.outputs(batch)
    #expect(network.results.map(\.name).sorted() == fixture.tensorNames.sorted())
    for (result, range) in zip(network.results, network.resultRanges) {
      let values = try #require(fixture.tensor(result.name)?.floats())
      let own = found.columns(range).values
      #expect(own.count == values.count)
      let worst = zip(own, values).reduce(0) { max($0, abs($1.0 - $1.1)) }
      #expect(worst < 1e-4, "\(result.name): \(worst)")
      #expect(values.contains { abs($0) > 0.1 })
      #expect(result.isClassifier == (result.name == "label"))
    }
    // Branch by branch, and a sample alone.
    #expect(network.outputs(of: network.hidden(batch), batch) == found)
    let features = try #require(batch.features)
    let first = network.outputs(network.batch(features.rows(0..<network.input.rows)))
    let difference = zip(first.values, found.row(0)).reduce(0) { max($0, abs($1.0 - $1.1)) }
    #expect(difference < 1e-5)
  }

  /// The two versions of the hard sigmoid tell the two files apart.
  @Test func versionsDiffer() throws {
    let new = try Self.network("text.h5"), old = try Self.network("text-keras2.h5")
    let x = new.outputs(try Self.samples("text", for: new))
    let y = old.outputs(try Self.samples("text", for: old))
    #expect(zip(x.values, y.values).contains { abs($0 - $1) > 1e-4 })
  }

  /// The library that applications use opens a bundle of a recurrent model and tells labels.
  @Test func bundlesTellLabels() throws {
    let work = try TemporaryFolder(), path = work.file("text.condensed")
    let source = try AnyCheckpoint.open(Self.folder + "text.h5")
    _ = try PackRun(input: source, request: PackRequest()).run(output: path)
    let model = try Model(path: path)
    #expect(model.tokenizer == nil)
    // The self-test's ids are several, and none is beyond the table.
    let test = SelfTest.make(for: model.network)
    let zeros = try model.sampleNetwork().outputs(
      model.sampleNetwork().batch(Matrix(rows: 1, columns: 9)))
    #expect(
      test.indices.allSatisfy {
        abs(zeros.values[$0] - test.values[test.indices.firstIndex(of: $0) ?? 0]) > 1e-3
      })
    let samples = try SampleArray(path: Self.folder + "text.npz", for: model.sampleNetwork())
    let fixture = try SafetensorsFile(path: Self.folder + "text.safetensors")
    let expected = try #require(fixture.tensor("label")?.floats())
    for (sample, guesses) in try model.classify(samples, count: 3).enumerated() {
      let row = expected[3 * sample..<3 * sample + 3]
      #expect(
        guesses.map(\.label) == (0..<3).sorted { row[3 * sample + $0] > row[3 * sample + $1] })
      #expect(abs(guesses[0].probability - Double(row.max() ?? 0)) < 1e-4)
    }
  }

  // MARK: - What recurrent kernels read

  /// The states of an LSTM by its definition, in Double.
  private static func states(
    _ x: Matrix, steps: Int, kernel: Matrix, recurrent: Matrix, bias: [Float], isBackward: Bool
  ) -> [[Double]] {
    let units = recurrent.columns
    func sigmoid(_ x: Double) -> Double { min(max(x / 6 + 0.5, 0), 1) }
    var states: [[Double]] = []
    for sample in 0..<x.rows / steps {
      var h = [Double](repeating: 0, count: units), c = h
      for step in 0..<steps {
        states.append(h)
        let row = x.row(sample * steps + (isBackward ? steps - 1 - step : step))
        let z = (0..<4 * units).map { out in
          Double(bias[out])
            + zip(row, kernel.row(out)).reduce(0) { $0 + Double($1.0) * Double($1.1) }
            + zip(h, recurrent.row(out)).reduce(0) { $0 + $1.0 * Double($1.1) }
        }
        for u in 0..<units {
          c[u] = sigmoid(z[units + u]) * c[u] + sigmoid(z[u]) * tanh(z[2 * units + u])
          h[u] = sigmoid(z[3 * units + u]) * tanh(c[u])
        }
      }
    }
    return states
  }

  /// The groups of a layer in both directions: the kernels read the steps, each recurrent kernel the states before it.
  @Test func recurrentKernelsReadStates() throws {
    let network = try Self.network("text.h5")
    let set = CalibrationSet(
      samples: SampleSet(
        try #require(try Self.samples("text", for: network).features), for: network), asked: 4)
    let stream = LayerStream(network: network, set: set)
    let layer = network.sublayers[0]
    #expect(layer.groups.map(\.count) == [2, 1, 1])
    let x = network.embed(try Self.samples("text", for: network), position: 0)
    for way in 0..<2 {
      let kernel = layer.groups[0][way], recurrent = layer.groups[1 + way][0]
      let states = Self.states(
        x, steps: 9, kernel: kernel.matrix.decoded(), recurrent: recurrent.matrix.decoded(),
        bias: try #require(kernel.bias), isBackward: way == 1)
      #expect(states.count == 4 * 9)
      let found = stream.inputs(ofGroup: 1 + way).mean()
      for a in 0..<5 {
        for b in 0...a {
          let expected = states.reduce(0) { $0 + $1[a] * $1[b] } / Double(states.count)
          #expect(abs(found[a, b] - expected) < 1e-6)
        }
      }
      // The next direction is measured with this one as it has become, which changes nothing for it.
      recurrent.matrix = DenseMatrix(recurrent.matrix.decoded().scaled(by: 0))
    }
    // The result is that of the kernels as they are now.
    stream.advance()
    let behind = stream.inputs(ofGroup: 0)
    let direct = network.sublayers[0].run(
      x, try Self.samples("text", for: network), cache: nil, inputOf: nil)
    var moment = SecondMoment(width: 10)
    moment.add(direct)
    #expect(behind.mean() == moment.mean())
  }

  /// A GRU that resets before the product reads the state for two gates and what is kept of it for the third.
  @Test func resetStatesAreRead() throws {
    let network = try Self.network("variants.keras")
    let batch = try Self.samples("variants", for: network)
    var hidden = network.embed(batch, position: 0)
    for layer in network.sublayers {
      defer { hidden = layer.run(hidden, batch, cache: nil, inputOf: nil) }
      guard layer.groups[0][0].name == "gru_before" else { continue }
      let rows = layer.run(hidden, batch, cache: nil, inputOf: 1)
      // Three samples; per step the states, again, and what is kept.
      #expect(rows.rows == 6 * 9)
      var kept = 0
      for step in 0..<6 {
        for sample in 0..<3 {
          let h = rows.row(step * 9 + sample)
          #expect(rows.row(step * 9 + 3 + sample) == h)
          for (part, whole) in zip(rows.row(step * 9 + 6 + sample), h) where whole != 0 {
            let gate = part / whole
            #expect((0...1).contains(gate))
            if gate > 0.01, gate < 0.99 { kept += 1 }
          }
        }
      }
      #expect(kept > 20)
    }
  }

  /// Steps that a mask leaves out are no inputs of either kernel.
  @Test func maskedStepsAreNotRead() throws {
    let network = try Self.network("masked.keras")
    let batch = try Self.samples("masked", for: network)
    let file = try NumPyArchiveFormat.open(Self.folder + "masked.npz")
    let ids = try ["ids", "other"].flatMap { try #require(file.tensor($0)?.integers()) }
    let counted = ids.count { $0 != 0 }
    #expect(counted < 60 && counted > 20)
    var hidden = network.embed(batch, position: 0)
    var checked = 0
    for layer in network.sublayers {
      defer { hidden = layer.run(hidden, batch, cache: nil, inputOf: nil) }
      guard ["ways/forward", "middle"].contains(layer.groups[0][0].name) else { continue }
      for group in layer.groups.indices {
        #expect(layer.run(hidden, batch, cache: nil, inputOf: group).rows == counted)
      }
      checked += 1
    }
    #expect(checked == 2)
  }

  // MARK: - Gradients

  private final class Sums: GradientObserver {
    var sums: [String: [Double]] = [:]

    func wants(_ parameter: String) -> Bool { true }

    func receive(_ parameter: String, _ gradient: ParameterGradient) {
      let values: [Float]
      switch gradient {
      case .vector(let vector): values = vector
      case .matrix(let matrix): values = matrix.values
      case .product(let inputs, let outputs): values = outputs.transposedProduct(inputs).values
      case .rows(let tokens, let gradients):
        var table = Matrix(rows: 23, columns: gradients.columns)
        for (row, token) in tokens.enumerated() {
          for (column, value) in gradients.row(row).enumerated() {
            table.values[Int(token) * table.columns + column] += value
          }
        }
        values = table.values
      }
      let sum = sums[parameter] ?? [Double](repeating: 0, count: values.count)
      sums[parameter] = zip(sum, values).map { $0 + Double($1) }
    }
  }

  /// Matrices, vectors and tables, each moved along its gradient.
  @Test(arguments: [
    ("text.h5", "text"), ("variants.keras", "variants"), ("pairs.h5", "pairs"),
    ("masked.keras", "masked"),
  ])
  func gradientsEqualDifferences(_ file: String, _ samples: String) throws {
    let network = try Self.network(file)
    let features = try #require(try Self.samples(samples, for: network).features)
    var direction: Matrix?
    func loss(_ observer: Sums? = nil) -> Double {
      let result = network.outputs(network.batch(features, tape: observer.map { _ in .init() }))
      var stream = RandomStream(test: "direction")
      let own = direction ?? stream.matrix(rows: result.rows, columns: result.columns)
      direction = own
      if let observer { GradientRecord.walk(from: result, gradient: own, observer: observer) }
      return zip(result.values, own.values).reduce(0) { $0 + Double($1.0) * Double($1.1) }
    }
    let sums = Sums()
    _ = loss(sums)
    func check(_ name: String, _ values: [Float], _ set: ([Float]) -> Void) throws {
      // A table has gradients in the rows that were looked up, at the start of the sums.
      let gradient = try #require(sums.sums[name], "no gradient of \(name)").prefix(values.count)
      let length = gradient.reduce(0) { $0 + $1 * $1 }.squareRoot()
      #expect(length > 1e-4, "\(name)")
      let step = 2e-3
      func moved(_ factor: Double) -> [Float] {
        zip(values, gradient).map { $0 + Float(factor * step * $1 / length) }
      }
      set(moved(1))
      let above = loss()
      set(moved(-1))
      let below = loss()
      set(values)
      let slope = (above - below) / (2 * step)
      #expect(abs(slope - length) < 0.02 * length + 2e-3, "\(name): \(slope), \(length)")
    }
    for linear in network.matrices {
      let matrix = linear.matrix.decoded()
      try check(linear.weightName, matrix.values) {
        linear.matrix = DenseMatrix(
          Matrix(rows: matrix.rows, columns: matrix.columns, values: $0))
      }
    }
    for vector in network.vectors { try check(vector.name, vector.values) { vector.values = $0 } }
  }

  // MARK: - Several uses, several inputs

  /// Each matrix is one layer of the network, however often it is used.
  @Test func sharedLayersAreOne() throws {
    let network = try Self.network("pairs.h5")
    let names = network.matrices.map(\.weightName)
    #expect(
      names.sorted() == [
        "again/again/kernel", "encoder/memory/lstm_cell/kernel",
        "encoder/memory/lstm_cell/recurrent_kernel", "encoder/rows/embeddings",
        "encoder/windows/kernel", "head/head/mix/kernel", "label/label/kernel",
        "score/score/kernel",
      ])
    #expect(network.vectors.count(where: { $0.name == "encoder/norm/gamma" }) == 1)
    #expect(network.inputs.map(\.name) == ["left", "right", "extra"])
    #expect(network.inputs.map(\.idLimit) == [11, 11, nil])
    // What the encoder reads are both texts: twelve samples for six.
    let rows = network.embed(try Self.samples("pairs", for: network), position: 0)
    let window = try #require(network.sublayers.first)
    #expect(
      window.run(rows, try Self.samples("pairs", for: network), cache: nil, inputOf: 0).rows == 60)
  }

  @Test func archivesOfSamplesAreChecked() throws {
    let pairs = try Self.network("pairs.h5"), text = try Self.network("text.h5")
    let work = try TemporaryFolder()
    func refuses(
      _ network: any SampleNetwork, _ part: String, _ arrays: [(String, Tensor)]
    ) throws {
      let path = work.file("samples.npz")
      try? FileManager.default.removeItem(atPath: path)
      var writer = try NumPyArchiveWriter(path: path)
      for (name, tensor) in arrays { try writer.write(name, tensor) }
      try writer.finish()
      let error = try #require(throws: CheckpointError.self) {
        _ = try SampleArray(path: path, for: network)
      }
      #expect("\(error)".contains(part), "\(error)")
    }
    func ids(_ shape: [Int], _ id: Int32) -> Tensor {
      Tensor(
        .int32, shape: shape, copying: [Int32](repeating: id, count: shape.reduce(1, *)))
    }
    func floats(_ shape: [Int], _ value: Float) -> Tensor {
      Tensor(
        .float32, shape: shape, copying: [Float](repeating: value, count: shape.reduce(1, *)))
    }
    try refuses(
      pairs, "'right' is missing", [("left", ids([2, 5], 0)), ("extra", floats([2, 3], 0))])
    try refuses(
      pairs, "the id 11 in sample 0",
      [("left", ids([2, 5], 0)), ("right", ids([2, 5], 11)), ("extra", floats([2, 3], 0))])
    try refuses(
      pairs, "3 samples",
      [("left", ids([2, 5], 0)), ("right", ids([3, 5], 1)), ("extra", floats([2, 3], 0))])
    try refuses(
      pairs, "no input",
      [
        ("left", ids([2, 5], 0)), ("right", ids([2, 5], 1)), ("extra", floats([2, 3], 0)),
        ("more", floats([2], 0)),
      ])
    try refuses(
      pairs, "'extra'",
      [("left", ids([2, 5], 0)), ("right", ids([2, 5], 1)), ("extra", ids([2, 3], 0))])
    try refuses(text, "the id -1", [("ids", ids([1, 9], -1))])
    try refuses(text, "2.5", [("ids", floats([1, 9], 2.5))])
    try refuses(text, "[samples] and 9", [("ids", ids([1, 8], 2))])
    let path = TestData.fixtures + "/images/labels.npy"
    #expect(throws: CheckpointError.self) { _ = try SampleArray(path: path, for: pairs) }
  }

  // MARK: - What cannot run

  @Test func whatCannotRunIsNamed() throws {
    let checkpoint = try AnyCheckpoint.open(Self.folder + "unknown.keras")
    let part = "layers of the kinds UpSampling1D"
    let error = try #require(throws: CheckpointError.self) {
      _ = try FamilyRegistry.network(of: checkpoint)
    }
    #expect("\(error)".contains(part), "\(error)")
    #expect(FamilyRegistry.summary(of: checkpoint)?.contains(part) == true)
  }

  private func error(
    _ file: String, replacing old: String = "", by new: String = "", without left: String? = nil
  ) throws -> String {
    let source = try AnyCheckpoint.open(Self.folder + file)
    let text = source.configuration.compactText
    #expect(old.isEmpty || text.contains(old), "\(old)")
    let changed = Reconfigured(
      source: source,
      configuration: try JSONValue(
        parsing: old.isEmpty ? text : text.replacingOccurrences(of: old, with: new)),
      left: left)
    let error = try #require(throws: CheckpointError.self) {
      _ = try FamilyRegistry.network(of: changed)
    }
    return "\(error)"
  }

  @Test func whatDoesNotFitIsNamed() throws {
    // Kernels of other sizes than the units say.
    let units = try error("text.h5", replacing: #""units":5"#, by: #""units":6"#)
    #expect(units.contains("'ways/ways/") && units.contains("[24]"), "\(units)")
    let recurrent = try error("text.h5", without: "last/last/gru_cell/recurrent_kernel")
    #expect(recurrent.contains("last/recurrent_kernel"), "\(recurrent)")
    let rows = try error("text.h5", replacing: #""input_dim":23"#, by: #""input_dim":24"#)
    #expect(rows.contains("words/embeddings"), "\(rows)")
    #expect(
      try error("text.h5", replacing: #""merge_mode":"concat""#, by: #""merge_mode":"max""#)
        .contains("merge_mode 'max'"))
    #expect(
      try error("text.h5", replacing: #""stateful":false"#, by: #""stateful":true"#)
        .contains("stateful"))
    #expect(
      try error("text.h5", replacing: #""return_state":false"#, by: #""return_state":true"#)
        .contains("return_state"))
    #expect(
      try error(
        "text.h5", replacing: #""recurrent_activation":"sigmoid""#,
        by: #""recurrent_activation":"softmax""#
      ).contains("softmax"))
    // A model inside a model that reads itself.
    #expect(
      try error(
        "pairs.h5", replacing: #""keras_history":["windows",0,0]"#,
        by: #""keras_history":["memory",0,0]"#
      ).contains("cycle"))
    #expect(
      try error(
        "pairs.h5", replacing: #""keras_history":["windows",0,0]"#,
        by: #""keras_history":["windows",0,1]"#
      ).contains("result 1 of 'windows'"))
  }
}

/// A checkpoint with another configuration, or without a tensor.
struct Reconfigured: Checkpoint {
  let source: any Checkpoint
  let configuration: JSONValue
  var left: String?

  var path: String { source.path }
  var formatName: String { source.formatName }
  var manifest: WeightManifest { source.manifest }
  var tensorNames: [String] { source.tensorNames.filter { $0 != left } }
  func tensor(_ name: String) -> Tensor? { name == left ? nil : source.tensor(name) }
  var sideFileNames: [String] { [] }
  func sideFile(_ name: String) throws -> [UInt8] { try source.sideFile(name) }
  var byteCount: Int { source.byteCount }
}
