import Checkpoints
import Networks
import Tensors
import TestSupport
import Testing

@testable import Pipeline

/// Norms as part of the convolutions before them: the same network with fewer tensors.
@Suite struct NormFoldingTests {
  @Test(arguments: ["residual-a", "residual-b"]) func outputsStay(_ name: String) throws {
    let folder = try TemporaryFolder(), output = folder.file("folded")
    let input = try FilterPruningTests.input(name)
    _ = try ExportRun(
      input: NormFolding.folded(input), formats: ["safetensors"], options: ExportOptions(),
      pack: PackRequest(), stage: "convert"
    ).run(output: output, force: false)
    let folded = try AnyCheckpoint.open(output)
    #expect(!folded.tensorNames.contains { $0.contains("bn") || $0.contains("running") })
    #expect(folded.tensorNames.contains("layer1.0.conv1.bias"))
    let before = try FilterPruningTests.network(input)
    let after = try FilterPruningTests.network(folded)
    let features = try FilterPruningTests.features(before)
    let expected = before.outputs(before.batch(features)),
      found = after.outputs(after.batch(features))
    let size = expected.values.reduce(0) { max($0, abs($1)) }
    let worst = zip(found.values, expected.values).reduce(0) { max($0, abs($1.0 - $1.1)) }
    #expect(worst < 2e-5 * size, "\(worst) of \(size)")
    // A second time there is nothing to fold.
    #expect(throws: CheckpointError.self) { try NormFolding.folded(folded) }
  }

  @Test func whatHasNoNormsIsRefused() throws {
    for path in ["/families/llama-tied", "/images/keras-graph.h5"] {
      let input = try AnyCheckpoint.open(TestData.fixtures + path)
      #expect(throws: CheckpointError.self) { try NormFolding.folded(input) }
    }
  }
}
