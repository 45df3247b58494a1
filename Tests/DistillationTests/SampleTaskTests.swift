import Checkpoints
import Foundation
import HDF5Files
import Networks
import Tensors
import TestSupport
import Testing

@testable import Distillation

/// The loss over samples, and its gradient against central differences of it.
@Suite struct SampleTaskTests {
  static let folder = TestData.fixtures + "/images/"

  static func checkpoint(_ name: String) throws -> any Checkpoint {
    name.hasSuffix(".h5")
      ? try HDF5Format.open(folder + name) : try PyTorchFormat.open(folder + name)
  }

  static func network(_ name: String) throws -> any SampleNetwork {
    try #require(try FamilyRegistry.network(of: checkpoint(name)) as? any SampleNetwork)
  }

  /// Random samples of a network, in a file.
  static func views(
    _ network: any SampleNetwork, _ folder: TemporaryFolder, augmentation: String = "none"
  ) throws -> SampleViews {
    var stream = RandomStream(test: "samples")
    let path = folder.file("samples.npy")
    try NumPyFile.write(shape: [5] + network.input.dimensions, to: path) { _ in
      (0..<network.input.values).map { _ in Float(stream.gaussian()) }
    }
    return try SampleViews(
      [SampleArray(path: path, shape: network.input)],
      try #require(SampleAugmentation(augmentation)), seed: 2)
  }

  /// For five samples.
  static var options: TrainingOptions {
    var options = TrainingOptions.forSamples()
    (options.batch, options.validationWindows) = (1, 4)
    return options
  }

  struct Case: Sendable, CustomStringConvertible {
    var student: String
    var temperature = 1.0, labelWeight = 0.0
    var targets = DistillationTargets.full
    var description: String { "\(student) \(temperature) \(labelWeight) \(targets)" }
  }

  static let cases = [
    Case(student: "residual-a.th"), Case(student: "residual-b.th", temperature: 2),
    Case(student: "residual-a.th", labelWeight: 0.7),
    Case(student: "residual-a.th", targets: .labels),
    // A softmax at its end, and an end that is none.
    Case(student: "keras-graph.h5", temperature: 1.5), Case(student: "keras-chain.h5"),
  ]

  @Test(arguments: cases) func gradientsAreThoseOfTheLoss(_ test: Case) throws {
    let folder = try TemporaryFolder()
    let network = try Self.network(test.student), teacher = try Self.network(test.student)
    // Another teacher than the student: all of its biases are moved.
    for vector in teacher.vectors { vector.values = vector.values.map { $0 + 0.3 } }
    for vector in network.vectors { vector.values = vector.values.map { $0 - 0.1 } }
    var options = Self.options
    options.temperature = test.temperature
    options.textWeight = test.labelWeight
    options.targets = test.targets
    let hasLabels = test.labelWeight > 0 || test.targets == .labels
    let task = try SampleTask(
      network, views: Self.views(network, folder, augmentation: hasLabels ? "none" : "mix"),
      teacher: test.targets == .labels ? .none : .network(teacher),
      labels: hasLabels ? [1, 0, 2, 3, 1] : nil, options: options)
    let items = (0..<5).map { TrainingItem(index: $0, pass: 1) }
    final class Vectors: GradientObserver {
      var sums: [String: [Float]] = [:]
      func wants(_ parameter: String) -> Bool { true }
      func receive(_ parameter: String, _ gradient: ParameterGradient) {
        guard case .vector(let values) = gradient else { return }
        let sum = sums[parameter] ?? [Float](repeating: 0, count: values.count)
        sums[parameter] = zip(sum, values).map { $0 + $1 }
      }
    }
    let observer = Vectors()
    func loss(_ observer: Vectors) throws -> Double {
      let sums = try task.loss(of: items, observer: observer)
      #expect(sums.weight == 5 && sums.units == 5)
      return (test.targets == .labels ? 0 : sums.divergence)
        + (test.targets == .labels ? 1 : test.labelWeight) * sums.text
    }
    #expect(try loss(observer) > 0.001)
    var checked = 0
    for vector in network.vectors.suffix(3) {
      let gradient = try #require(observer.sums[vector.name], "\(vector.name)")
      let values = vector.values
      let place = gradient.indices.max { abs(gradient[$0]) < abs(gradient[$1]) } ?? 0
      guard abs(gradient[place]) > 1e-3 else { continue }
      let step: Float = 2e-3
      func moved(_ distance: Float) throws -> Double {
        vector.values[place] = values[place] + distance
        return try loss(Vectors())
      }
      let slope = (try moved(step) - moved(-step)) / Double(2 * step)
      vector.values = values
      let own = Double(gradient[place])
      #expect(abs(slope - own) < 0.02 * abs(own) + 2e-3, "\(vector.name): \(slope) and \(own)")
      checked += 1
    }
    #expect(checked > 0)
  }

  /// Of probabilities and of logits the same divergence, which is the definition's.
  @Test func theLossIsTheDefinition() throws {
    let folder = try TemporaryFolder()
    let network = try Self.network("residual-a.th"), teacher = try Self.network("residual-b.th")
    let options = Self.options
    var task = try SampleTask(
      network, views: Self.views(network, folder), teacher: .network(teacher), labels: nil,
      options: options)
    #expect(task.keepForValidation(Array(0..<5)) == 1)
    let sums = try task.validation()
    let features = try Self.views(network, folder).features(
      (0..<5).map { SampleView(sample: $0, view: 0) }, network.normalization)
    func probabilities(_ network: any SampleNetwork) -> [[Double]] {
      let logits = network.outputs(network.batch(features))
      return (0..<5).map { row in
        let values = logits.values[logits.range(ofRow: row)].map(Double.init)
        let all = values.reduce(0) { $0 + exp($1) }
        return values.map { exp($0) / all }
      }
    }
    let expected = zip(probabilities(teacher), probabilities(network)).reduce(0.0) { sum, pair in
      zip(pair.0, pair.1).reduce(sum) { $0 + $1.0 * (log($1.0) - log($1.1)) }
    }
    #expect(abs(sums.divergence - expected) < 1e-4 * max(1, expected), "\(sums) \(expected)")
    #expect(sums.rightLabels == nil && sums.weight == 5)
  }

  /// A run over a log and one beside its teacher are the same run, but for the log's steps; and a student learns.
  @Test func logAndTeacherAgree() throws {
    let folder = try TemporaryFolder()
    let teacher = try Self.network("residual-b.th"),
      checkpoint = try Self.checkpoint("residual-a.th")
    let views = try Self.views(teacher, folder, augmentation: "flip,shift=2")
    let manifest = SampleLogManifest(
      teacher: "t", teacherHash: "", samplesHash: "", samples: 5, outputs: teacher.outputCount,
      areLogits: true, views: 30, augmentation: "flip,shift=2", seed: 2)
    let path = folder.file("log.h5")
    let writer = try SampleLogWriter(path: path, manifest: manifest, key: "", force: false)
    for view in 0..<30 {
      let features = views.features(
        (0..<5).map { SampleView(sample: $0, view: view) }, teacher.normalization)
      try writer.append(teacher.outputs(teacher.batch(features)))
    }
    try writer.finish()
    var options = TrainingOptions.forSamples(epochs: 30)
    (options.batch, options.validationWindows, options.validations) = (2, 1, 3)
    options.learningRate = 3e-3
    func run(_ teacher: SampleTask.Teacher) throws -> TrainingOutcome {
      let network = try #require(
        try FamilyRegistry.network(of: checkpoint) as? any SampleNetwork)
      let model = try TrainingPlan(.all).model(network, of: checkpoint)
      return try Trainer(
        model,
        task: SampleTask(network, views: views, teacher: teacher, labels: nil, options: options),
        options: options
      ).run()
    }
    let online = try run(.network(teacher)), logged = try run(.log(SampleLog(path: path)))
    #expect(online.steps == 60 && online.tokens == 120)
    for (a, b) in zip(online.curve, logged.curve) {
      #expect(abs(a.divergence - b.divergence) < 0.02 * max(0.1, a.divergence))
    }
    #expect(
      logged.curve.suffix(10).reduce(0.0) { $0 + $1.divergence }
        < 0.5 * logged.curve.prefix(10).reduce(0.0) { $0 + $1.divergence })
  }

  @Test func otherNumbersAreRefused() throws {
    let folder = try TemporaryFolder()
    let network = try Self.network("residual-a.th"), other = try Self.network("keras-graph.h5")
    #expect(throws: DistillationError.self) {
      try SampleTask(
        network, views: Self.views(network, folder), teacher: .network(other), labels: nil,
        options: Self.options)
    }
    #expect(throws: DistillationError.tooFewSamples(found: 5, needed: 576)) {
      try SampleTask(
        network, views: Self.views(network, folder), teacher: .none, labels: [0, 1, 2, 3, 4],
        options: .forSamples())
    }
  }
}
