import Checkpoints
import Foundation
import HDF5Files
import Networks
import Tensors
import TestSupport
import Testing

@testable import Distillation

/// Whole runs of a tiny model: what is learned, and that nothing but options and seed decides its bits.
@Suite(.serialized) struct TrainerTests {
  struct Interruption: Error {}

  static func network(_ name: String = "llama-tied") throws -> (any LanguageModel, CheckpointFolder)
  {
    let folder = try CheckpointFolder(path: TestData.fixtures + "/families/\(name)")
    return (try #require(try FamilyRegistry.network(of: folder) as? any LanguageModel), folder)
  }

  /// Windows with a pattern that can be learned: each token follows from the one before.
  static func windows(_ vocabulary: Int) -> TextSource {
    var stream = RandomStream(test: "windows")
    let windows = (0..<40).map { _ -> [Int32] in
      var token = stream.integer(below: vocabulary)
      return (0..<17).map { _ in
        token = (token * 5 + 3 + (stream.unit() < 0.2 ? 1 : 0)) % vocabulary
        return Int32(token)
      }
    }
    return TextSource([(windows, 1)])
  }

  static var options: TrainingOptions {
    var options = TrainingOptions()
    options.tokens = 20 * 4 * 16
    options.batch = 4
    options.validationWindows = 8
    options.validations = 4
    options.learningRate = 3e-3
    return options
  }

  static func run(
    _ options: TrainingOptions, teacher: String? = nil, parts: TrainedParts = .all,
    store: TrainingStore? = nil, interruptedAt step: Int? = nil
  ) throws -> (outcome: TrainingOutcome, values: [[Float]]) {
    let (network, folder) = try network()
    let model = try TrainingPlan(parts).model(network, of: folder)
    let trainer = try Trainer(
      model, source: windows(network.vocabularySize),
      teacher: try teacher.map { try Self.network($0).0 }, options: options, store: store)
    let outcome = try trainer.run { report in
      if report.step == step { throw Interruption() }
    }
    return (outcome, model.snapshot())
  }

  @Test func learnsTheText() throws {
    var options = Self.options
    options.targets = .text
    let (outcome, _) = try Self.run(options)
    #expect(outcome.best.text < 0.9 * outcome.first.text, "\(outcome.first) \(outcome.best)")
    #expect(outcome.bestStep > 0 && outcome.steps == 20 && outcome.tokens == options.tokens)
    #expect(outcome.curve.compactMap(\.validation).count == 4)
  }

  /// Every kind of optimizer, divergence and inside loss brings the student nearer to another model.
  @Test(arguments: OptimizerName.allCases) func learnsFromATeacher(_ optimizer: OptimizerName)
    throws
  {
    var options = Self.options
    options.targets = .full
    options.optimizer = optimizer
    options.learningRate = optimizer == .lion ? 6e-4 : 3e-3
    options.temperature = 1.5
    options.representations = [
      .stream(student: 1, teacher: 1, weight: 0.1),
      .relations(student: 0, teacher: 1, heads: 2, weight: 0.1),
    ]
    let (outcome, _) = try Self.run(options, teacher: "llama")
    #expect(outcome.best.divergence < 0.95 * outcome.first.divergence)
    #expect(outcome.curve.allSatisfy { $0.representation > 0 })
  }

  @Test func threadsAndRecomputationChangeNoBit() throws {
    var options = Self.options
    options.targets = .full
    options.tokens = 4 * 4 * 16
    let runs = try [1, 2, 3].map { threads in
      try withThreads(threads) { try Self.run(options, teacher: "llama").values }
    }
    options.recomputes = true
    let recomputed = try Self.run(options, teacher: "llama").values
    #expect(runs[0] == runs[1] && runs[0] == runs[2] && runs[0] == recomputed)
  }

  @Test(arguments: [1, 7, 10, 15]) func aRunThatWasInterruptedEndsInTheSameBits(_ step: Int) throws
  {
    let folder = try TemporaryFolder()
    var options = Self.options
    options.targets = .text
    let whole = try Self.run(options)
    let store = TrainingStore(path: folder.file("state"), interval: .zero)
    #expect(throws: Interruption.self) {
      try Self.run(options, store: store, interruptedAt: step)
    }
    let resumed = try Self.run(options, store: store)
    #expect(resumed.values == whole.values)
    #expect(resumed.outcome == whole.outcome)
  }

  /// Two batches of four are one of eight, up to the order of sums.
  @Test func accumulationIsALargerBatch() throws {
    var options = Self.options
    options.targets = .text
    options.batch = 8
    options.tokens = 3 * 8 * 16
    let large = try Self.run(options).values
    options.batch = 4
    options.accumulation = 2
    let parts = try Self.run(options).values
    for (a, b) in zip(large.joined(), parts.joined()) { #expect(abs(a - b) < 2e-4) }
  }

  @Test func stopsEarlyAndKeepsTheBest() throws {
    var options = Self.options
    options.targets = .text
    options.tokens = 60 * 4 * 16
    options.validations = 30
    options.patience = 2
    options.learningRate = 0.3
    options.clip = nil
    let (outcome, _) = try Self.run(options)
    #expect(outcome.steps < outcome.planned)
    let validations = outcome.curve.compactMap(\.validation?.text) + [outcome.first.text]
    #expect(outcome.best.text == validations.min())
  }

  @Test func refusesWhatCannotBe() throws {
    var options = Self.options
    options.targets = .text
    options.validationWindows = 38
    #expect(throws: DistillationError.tooFewWindows(found: 40, needed: 42)) {
      try Self.run(options)
    }
    options = Self.options
    options.targets = .text
    options.learningRate = 1e9
    options.clip = nil
    #expect(throws: DistillationError.self) { try Self.run(options) }
    let (network, folder) = try Self.network()
    #expect(throws: DistillationError.nothingEncoded) {
      try TrainingPlan(.scales).model(network, of: folder)
    }
  }
}

@Suite struct BlockReconstructionTests {
  static func setUp() throws -> (TrainedModel, any LanguageModel, [[Int32]]) {
    let (network, folder) = try TrainerTests.network()
    let (teacher, _) = try TrainerTests.network()
    // The student lost some precision.
    for layer in network.linearLayers {
      var matrix = layer.matrix.decoded()
      for i in matrix.values.indices { matrix.values[i] = (matrix.values[i] * 4).rounded() / 4 }
      layer.matrix = DenseMatrix(matrix)
    }
    let model = try TrainingPlan(.all).model(network, of: folder)
    var stream = RandomStream(test: "block windows")
    let windows = (0..<12).map { _ in
      (0..<16).map { _ in Int32(stream.integer(below: network.vocabularySize)) }
    }
    return (model, teacher, windows)
  }

  @Test func blocksComeNearer() throws {
    let (model, teacher, windows) = try Self.setUp()
    var options = BlockOptions()
    options.batch = 4
    options.learningRate = 3e-3
    let outcomes = try BlockReconstruction(
      model, teacher: teacher, windows: windows, options: options
    ).run()
    #expect(outcomes.count == 2)
    #expect(outcomes.allSatisfy { $0.after <= $0.before })
    #expect(outcomes[0].after < 0.5 * outcomes[0].before)
    // The last block's error once more, from whole forward passes.
    let batch = TokenBatch(windows)
    let own = model.network.hidden(batch), other = teacher.hidden(batch)
    var error = 0.0, size = 0.0
    for (a, b) in zip(own.values, other.values) {
      error += Double(a - b) * Double(a - b)
      size += Double(b) * Double(b)
    }
    #expect(abs(error / size - outcomes[1].after) < 1e-4 * outcomes[1].after + 1e-9)
  }

  @Test func finishedBlocksAreTakenAsTheyAre() throws {
    let folder = try TemporaryFolder()
    var options = BlockOptions()
    options.batch = 4
    options.passes = 2
    func run(_ stored: Bool) throws -> ([BlockOutcome], [[Float]]) {
      let (model, teacher, windows) = try Self.setUp()
      let outcomes = try BlockReconstruction(
        model, teacher: teacher, windows: windows, options: options,
        store: stored ? { TrainingStore(path: folder.file("block-\($0)")) } : nil
      ).run()
      return (outcomes, model.weights.flatMap { $0.parameters.map(\.values) })
    }
    let plain = try run(false)
    let first = try run(true)
    // The second block is lost; the first comes from its file.
    try FileManager.default.removeItem(atPath: folder.file("block-1"))
    let second = try run(true)
    #expect(plain.0 == first.0 && plain.0 == second.0)
    #expect(plain.1 == first.1 && plain.1 == second.1)
  }
}
