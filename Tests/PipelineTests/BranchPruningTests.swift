import Calibration
import Checkpoints
import Foundation
import JSONDocuments
import Networks
import Pruning
import Tensors
import TestSupport
import Testing

@testable import Pipeline

/// Models some of whose layers lack a branch.
@Suite struct BranchPruningTests {
  /// The source with only some branches, by their places.
  private static func cut(
    _ source: any Checkpoint, keeping branches: [Int]
  ) throws -> StructuredCheckpoint {
    let structure = try StructuredPruningTests.network(source).structure
    var cut = StructuredCut(all: structure.sizes)
    cut.layers = StructuredCut.layers(of: branches, in: structure)
    return StructuredCheckpoint(source, structure, cut: cut)
  }

  private static func kinds(_ checkpoint: any Checkpoint) -> [[String?]]? {
    checkpoint.configuration[LayerBranches.key]?.array?.map { ($0.array ?? []).map(\.string) }
  }

  /// A model without some branches gives what the whole one gives with their output weights at zero, and counts right.
  @Test(arguments: StructuredPruningTests.decoders) func branchesEqualMasks(_ family: String) throws
  {
    let source = try TransformTests.checkpoint(family)
    let structure = try StructuredPruningTests.network(source).structure
    let count = structure.branches.count
    // Every subset that keeps something.
    for mask in 1..<1 << min(count, 4) {
      let kept = (0..<count).filter { $0 >= 4 || mask >> $0 & 1 == 1 }
      let small = try Self.cut(source, keeping: kept)
      #expect(small.cut.branches(in: structure) == kept)
      try StructuredPruningTests.expectSame(source, small.cut, structure)
    }
  }

  @Test func theConfigurationNamesWhatIsLeft() throws {
    let source = try TransformTests.checkpoint("llama")
    let configuration = source.configuration
    // attention 0, MLP 0, attention 1, MLP 1
    let noMLP = try Self.cut(source, keeping: [0, 2, 3])
    #expect(Self.kinds(noMLP) == [["attention"], ["attention", "mlp"]])
    #expect(noMLP.configuration["model_type"]?.string == "llama-branches")
    #expect(noMLP.configuration["architectures"] == nil)
    #expect(noMLP.configuration["num_hidden_layers"]?.integer == 2)
    #expect(Self.kinds(try Self.cut(source, keeping: [1, 3])) == [["mlp"], ["mlp"]])
    // An attention and the MLP of another layer are a layer; so are both branches of one: ordinary models.
    for kept in [[0, 3], [0, 1], [2, 3], [0, 1, 2, 3]] {
      let small = try Self.cut(source, keeping: kept)
      #expect(Self.kinds(small) == nil)
      #expect(small.configuration["model_type"] == configuration["model_type"])
      #expect(small.configuration["architectures"] == configuration["architectures"])
      #expect(small.configuration["num_hidden_layers"]?.integer == kept.count / 2)
    }
  }

  /// A model that lacks branches is cut again, back to an ordinary one.
  @Test func whatWasCutIsCutAgain() throws {
    let source = try TransformTests.checkpoint("qwen2")
    let first = try Self.cut(source, keeping: [0, 2, 3])
    let structure = try StructuredPruningTests.network(first).structure
    var cut = StructuredCut(all: structure.sizes)
    cut.layers = StructuredCut.layers(of: [0, 1, 2], in: structure)
    for layer in 0..<structure.sizes.layers {
      cut.inner[layer] = Array(stride(from: 0, to: structure.sizes.inner, by: 2))
      cut.heads[layer] = Array(0..<structure.sizes.heads / 2)
    }
    try StructuredPruningTests.expectSame(first, cut, structure)
    let last = try Self.cut(first, keeping: [1, 2])
    #expect(Self.kinds(last) == nil)
    #expect(last.configuration["model_type"]?.string == "qwen2")
    let request = StructuredPruningTests.request {
      $0.branches = 0.34
      $0.ffn = 0.5
    }
    let run = try StructuredPruningTests.run(first, request)
    #expect(
      run.outcome.after.layers * 2 - run.outcome.after.withoutMLP
        - run.outcome.after.withoutAttention == 2)
    _ = try TransformTests.outputs(run.checkpoint)
    for change in [
      { (request: inout StructuredPruning) in request.layers = 0.5 },
      { (request: inout StructuredPruning) in request.targetParameters = 10_000 },
    ] {
      #expect(throws: StructureError.self) {
        try StructuredRun.check(StructuredPruningTests.request(change), first)
      }
    }
  }

  // MARK: - Choosing

  /// The mean negative log-likelihood by its definition.
  private static func loss(_ checkpoint: any Checkpoint, _ set: CalibrationSet) throws -> Double {
    let model = try #require(try FamilyRegistry.network(of: checkpoint) as? any LanguageModel)
    var sum = 0.0, count = 0
    for sequence in set.sequences {
      let logits = model.logits(model.hidden(TokenBatch([sequence])))
      for row in 0..<sequence.count - 1 {
        let values = logits.values[logits.range(ofRow: row)].map(Double.init)
        let largest = values.max() ?? 0
        let all = values.reduce(0.0) { $0 + exp($1 - largest) }
        sum += largest + log(all) - values[Int(sequence[row + 1])]
        count += 1
      }
    }
    return sum / Double(count)
  }

  /// One by one the branch goes without which the rest loses least, each rest built as a model of its own.
  @Test(arguments: ["llama", "qwen3"]) func theLeastLossIsChosen(_ family: String) throws {
    let source = try TransformTests.checkpoint(family), set = try TransformTests.set(source)
    var left = try StructuredPruningTests.network(source).sublayers.indices.map { $0 }
    let layers = StructuredLayers(
      network: try StructuredPruningTests.network(source), set: set, importance: .perplexity,
      unit: 1)
    for removed in 1..<left.count {
      let losses = try left.map { gone in
        try Self.loss(try Self.cut(source, keeping: left.filter { $0 != gone }), set)
      }
      let best = try #require(losses.indices.min { losses[$0] < losses[$1] })
      left.remove(at: best)
      #expect(try layers.branches(removing: removed) == left)
    }
  }

  @Test func theLeastInfluenceIsChosen() throws {
    let source = try TransformTests.checkpoint("llama-tied"), set = try TransformTests.set(source)
    let network = try StructuredPruningTests.network(source)
    var influences = [BlockInfluence](repeating: BlockInfluence(), count: network.sublayers.count)
    for sequence in set.sequences {
      let batch = TokenBatch([sequence])
      var hidden = network.embed(batch, position: 0)
      for (index, sublayer) in network.sublayers.enumerated() {
        let next = sublayer.run(hidden, batch, cache: nil, inputOf: nil)
        influences[index].add(before: hidden, behind: next)
        hidden = next
      }
    }
    let order = influences.indices.sorted { influences[$0].mean < influences[$1].mean }
    let layers = StructuredLayers(network: network, set: set, importance: .influence, unit: 1)
    for count in 1..<network.sublayers.count {
      #expect(try layers.branches(removing: count) == order.dropFirst(count).sorted())
    }
  }

  /// The fit makes up for branches that went.
  @Test(arguments: LayerImportance.allCases) func fitsFollow(_ importance: LayerImportance) throws {
    let source = try TransformTests.checkpoint("llama"), set = try TransformTests.set(source)
    let batch = TokenBatch(set.sequences)
    let whole = try StructuredPruningTests.network(source).hidden(batch)
    func distance(repairs: Bool) throws -> Double {
      let result = try StructuredPruningTests.run(
        source,
        StructuredPruningTests.request {
          $0.branches = 0.25
          $0.layerImportance = importance
          $0.repairs = repairs
        })
      #expect(result.outcome.origins.flatMap { $0 }.count { $0 == nil } == 1)
      let found = try StructuredPruningTests.network(result.checkpoint).hidden(batch)
      return zip(found.values, whole.values).reduce(0) {
        $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1)
      }
    }
    let fitted = try distance(repairs: true), bare = try distance(repairs: false)
    #expect(fitted < 0.9 * bare)
  }

  // MARK: - Taking over

  /// What a run has fitted and measured, the next one takes; where only part is left the bytes are the same.
  @Test(arguments: [true, false]) func finishedWorkIsTakenOver(_ searches: Bool) throws {
    let folder = try TemporaryFolder(), source = try TransformTests.checkpoint("llama")
    let request = StructuredPruningTests.request {
      if searches {
        $0.targetParameters = 15_000
      } else {
        $0.branches = 0.25
        $0.ffn = 0.4
        $0.layerImportance = .perplexity
      }
    }
    func run() throws -> StructuredRun.Result {
      let output = try #require(
        try StageOutput(path: folder.file("out"), key: "k", force: false))
      return try StructuredPruningTests.run(source, request, output: output)
    }
    let first = try run()
    #expect(first.resumedLayers == 0)
    let fitted = try FamilyRegistry.network(of: first.checkpoint).linearLayers.count
    let second = try run()
    #expect(second.resumedLayers == fitted)
    let layers = folder.file("out.partial/layers")
    let names = try FilePath.names(in: layers).sorted()
    #expect(names.count == fitted)
    for name in names.dropFirst(fitted / 2) { try FilePath.remove(layers + "/" + name) }
    let third = try run()
    // Layers of one group are taken over together.
    #expect((1...fitted / 2).contains(third.resumedLayers))
    for other in [second, third] {
      #expect(other.outcome == first.outcome)
      for name in first.checkpoint.tensorNames {
        #expect(other.checkpoint.tensor(name)?.floats() == first.checkpoint.tensor(name)?.floats())
      }
    }
    #expect(FilePath.kind(of: folder.file("out.partial/search.json")) == .file)
  }

  // MARK: - Other engines

  @Test(arguments: ["llama", "mistral"]) func ggufHasListsByLayer(_ family: String) throws {
    let folder = try TemporaryFolder(), source = try TransformTests.checkpoint(family)
    let small = try Self.cut(source, keeping: [0, 1, 3])
    let path = folder.file("m.gguf")
    _ = try GGUFExport.write(small, to: path, options: ExportOptions(), lineage: .null)
    let file = try GGUFCheckpoint(path: path)
    #expect(file.metadata["general.architecture"]?.text == "deci")
    #expect(file.metadata["deci.attention.head_count"]?.array?.numbers == [4, 0])
    #expect(file.metadata["deci.attention.head_count_kv"]?.array?.numbers == [2, 0])
    #expect(file.metadata["deci.feed_forward_length"]?.array?.numbers == [40, 40])
    #expect(Self.kinds(file) == [["attention", "mlp"], ["mlp"]])
    // GGUF has no sliding window for the architecture, and says so.
    if family == "llama" { #expect(try ExportTests.logits(file) == ExportTests.logits(small)) }
  }

  /// A layer with an attention alone has an MLP of zeros in the file, and none when it is read again.
  @Test func anAttentionAloneGetsAnMLPOfZeros() throws {
    let folder = try TemporaryFolder(), source = try TransformTests.checkpoint("llama-tied")
    let small = try Self.cut(source, keeping: [0, 2, 3])
    let path = folder.file("m.gguf")
    let report = try GGUFExport.write(small, to: path, options: ExportOptions(), lineage: .null)
    #expect(report.notes.contains { $0.contains("blk.0.ffn_norm.weight") })
    let file = try GGUFCheckpoint(path: path)
    #expect(file.metadata["deci.attention.head_count"]?.array?.numbers == [4, 4])
    #expect(file.metadata["deci.feed_forward_length"]?.array?.numbers == [32, 40])
    #expect(Self.kinds(file) == [["attention"], ["attention", "mlp"]])
    #expect(Set(file.tensorNames) == Set(small.tensorNames))
    #expect(try ExportTests.logits(file) == ExportTests.logits(small))
    // Whoever says so of an MLP that is not zero is not believed: the zeros are the last bytes of the file.
    var bytes = try FilePath.read(path)
    bytes[bytes.count - 1] = 0x3c
    try OutputFile.write(bytes, to: path)
    #expect(throws: CheckpointError.self) { try GGUFCheckpoint(path: path) }
  }

  /// What llama.cpp would run otherwise, or not at all.
  @Test func whatEnginesDoNotRunIsRefused() throws {
    let folder = try TemporaryFolder()
    let llama = try TransformTests.checkpoint("llama"),
      qwen = try TransformTests.checkpoint("qwen3")
    for small in [
      try Self.cut(llama, keeping: [1, 2, 3]), try Self.cut(llama, keeping: [0, 2]),
      try Self.cut(qwen, keeping: [0, 1, 3]),
    ] {
      #expect(throws: (any Error).self) {
        try GGUFExport.write(
          small, to: folder.file("m.gguf"), options: ExportOptions(), lineage: .null)
      }
      #expect(FilePath.kind(of: folder.file("m.gguf")) == nil)
      #expect(throws: ExportError.self) {
        try CompressedTensorsExport.write(
          small, to: folder.file("ct"), options: ExportOptions(), lineage: .null)
      }
    }
  }

  @Test func whatCannotGoIsRefused() throws {
    func refuses(_ family: String, _ change: (inout StructuredPruning) -> Void) throws {
      let source = try TransformTests.checkpoint(family)
      #expect(throws: StructureError.self) {
        try StructuredRun.check(StructuredPruningTests.request(change), source)
      }
    }
    try refuses("bert-mean") { $0.branches = 0.25 }
    try refuses("llama") { $0.branches = 0.99 }
    try refuses("llama") { $0.branches = 0.01 }
    try refuses("llama") {
      $0.branches = 0.5
      $0.layers = 0.5
    }
  }
}
