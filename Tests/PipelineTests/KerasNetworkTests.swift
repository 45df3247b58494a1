import Checkpoints
import Foundation
import JSONDocuments
import Networks
import Tensors
import TestSupport
import Testing

@testable import Pipeline

/// What Keras computed with small random models; see Tests/Fixtures/images/generate_keras.py.
@Suite struct KerasNetworkTests {
  static let folder = TestData.fixtures + "/images/"

  @Test(arguments: ["keras-graph", "keras-chain"]) func outputsEqualKeras(_ name: String) throws {
    let checkpoint = try AnyCheckpoint.open(Self.folder + name + ".h5")
    let network = try #require(
      try FamilyRegistry.network(of: checkpoint) as? any SampleNetwork)
    let fixture = try SafetensorsFile(path: Self.folder + name + ".safetensors")
    let x = try #require(fixture.tensor("x")), y = try #require(fixture.tensor("y"))
    let features = Matrix(
      rows: x.count / network.input.channels, columns: network.input.channels, values: x.floats())
    let batch = network.batch(features)
    let found = network.outputs(batch)
    let expected = y.floats()
    #expect(found.values.count == expected.count)
    let worst = zip(found.values, expected).reduce(0) { max($0, abs($1.0 - $1.1)) }
    #expect(worst < 1e-4, "\(worst)")
    #expect(expected.contains { abs($0) > 0.1 })
    #expect(network.outputs(of: network.hidden(batch), batch) == found)
    #expect(network.isClassifier == (name == "keras-graph"))
  }

  private func error(
    _ name: String, replacing old: String = "", by new: String = "", without left: String? = nil
  ) throws -> CheckpointError {
    let source = try AnyCheckpoint.open(Self.folder + name + ".h5")
    let text = source.configuration.compactText
    #expect(old.isEmpty || text.contains(old), "\(old)")
    let changed = Reconfigured(
      source: source,
      configuration: try JSONValue(
        parsing: old.isEmpty ? text : text.replacingOccurrences(of: old, with: new)),
      left: left)
    return try #require(throws: CheckpointError.self) {
      _ = try FamilyRegistry.network(of: changed)
    }
  }

  @Test func whatCannotRunIsNamed() throws {
    #expect("\(try error("keras-graph", without: "late/late/kernel"))".contains("late/kernel"))
    #expect(
      "\(try error("keras-graph", replacing: #""filters":7"#, by: #""filters":70"#))"
        .contains("late"))
    #expect(
      "\(try error("keras-chain", replacing: #""units":5"#, by: #""units":-5"#))".contains("units"))
    #expect(
      "\(try error("keras-chain", replacing: #""kernel_size":[4]"#, by: #""kernel_size":[400]"#))"
        .contains("window"))
    #expect(
      "\(try error("keras-graph", replacing: #""padding":[[1,0],[2,1]]"#, by: #""padding":[[4096,4096],[4096,4096]]"#))"
        .contains("numbers a sample"))
    // The layer reads its own result.
    let source = try AnyCheckpoint.open(Self.folder + "keras-graph.h5").configuration.compactText
    let names = source.split(separator: "\"keras_history\":[\"").dropFirst().map {
      String($0.prefix { $0 != "\"" })
    }
    let permuted = try #require(names.first { $0.hasPrefix("permute") })
    #expect(
      "\(try error("keras-graph", replacing: "\"keras_history\":[\"\(permuted)\"", by: "\"keras_history\":[\"late\""))"
        .contains("cycle"))
  }
}
