import JSONDocuments
import Testing

@testable import Checkpoints

/// Which branches a configuration says there are.
@Suite struct LayerBranchesTests {
  private func read(
    _ text: String, layers: Int = 2
  ) throws(CheckpointError.Problem) -> LayerBranches? {
    try LayerBranches((try? JSONValue(parsing: text)) ?? .null, layers: layers)
  }

  @Test func listsAreRead() throws {
    #expect(try read(#"{"model_type": "llama"}"#) == nil)
    #expect(try read(#"{"model_type": "llama", "layer_branches": null}"#) == nil)
    let text =
      #"{"model_type": "llama-branches", "layer_branches": [["attention"], ["attention", "mlp"]]}"#
    let found = try #require(try read(text))
    #expect(
      found.layers == [.init(attention: true, mlp: false), .init(attention: true, mlp: true)])
    var object = try #require(try JSONValue(parsing: text).object)
    found.write(to: &object)
    #expect(JSONValue.object(object) == (try JSONValue(parsing: text)))
    LayerBranches([.init(attention: true, mlp: true)]).write(to: &object)
    #expect(JSONValue.object(object) == ["model_type": "llama"])
  }

  @Test(
    arguments: [
      #"{"model_type": "llama", "layer_branches": [["mlp"], ["mlp"]]}"#,
      #"{"layer_branches": [["mlp"], ["mlp"]]}"#,
      #"{"model_type": "llama-branches"}"#,
      #"{"model_type": "llama-branches", "layer_branches": [["mlp"]]}"#,
      #"{"model_type": "llama-branches", "layer_branches": [["mlp"], ["mlp"], ["mlp"]]}"#,
      #"{"model_type": "llama-branches", "layer_branches": [["mlp"], []]}"#,
      #"{"model_type": "llama-branches", "layer_branches": [["mlp"], ["mlp", "attention"]]}"#,
      #"{"model_type": "llama-branches", "layer_branches": [["mlp"], ["MLP"]]}"#,
      #"{"model_type": "llama-branches", "layer_branches": [["mlp"], "mlp"]}"#,
      #"{"model_type": "llama-branches", "layer_branches": "mlp"}"#,
      #"{"model_type": "llama-branches", "layer_branches": [["mlp"], ["mlp"], 3]}"#,
    ]
  ) func otherListsAreRefused(_ text: String) {
    #expect(throws: CheckpointError.Problem.self) { try read(text) }
  }

  private func lists(
    _ heads: GGUFValue, _ keyHeads: GGUFValue, _ inner: GGUFValue
  ) throws(CheckpointError.Problem) -> GGUFLayerLists {
    var metadata = GGUFMetadata()
    metadata["deci.attention.head_count"] = heads
    metadata["deci.attention.head_count_kv"] = keyHeads
    metadata["deci.feed_forward_length"] = inner
    return try GGUFLayerLists(metadata, layers: 3)
  }

  @Test func listsOfGGUF() throws {
    func array(_ values: [Int32]) -> GGUFValue { .array(GGUFArray(values)) }
    let found = try lists(array([8, 0, 8]), array([2, 0, 2]), GGUFValue(64))
    #expect(found.heads == 8 && found.keyHeads == 2 && found.inner == 64)
    #expect(found.branches.layers.map(\.attention) == [true, false, true])
    for bad in [
      (array([8, 0, 4]), array([2, 0, 2]), GGUFValue(64)),
      (array([8, 8, 8]), array([2, 0, 2]), GGUFValue(64)),
      (array([8, 8, 8]), array([2, 2, 2]), array([64, 0, 64])),
      (array([8, 8]), array([2, 2]), array([64, 64])),
      (array([0, 0, 0]), array([0, 0, 0]), GGUFValue(64)),
      (array([-8, -8, -8]), array([2, 2, 2]), GGUFValue(64)),
      (GGUFValue("8"), array([2, 2, 2]), GGUFValue(64)),
    ] {
      #expect(throws: CheckpointError.Problem.self) { try lists(bad.0, bad.1, bad.2) }
    }
  }
}
