import Checkpoints
import JSONDocuments
import Tensors
import TestSupport
import Testing

@testable import Networks

/// What transformers computes on a tiny Whisper with random weights; see Tests/Fixtures/whisper.
@Suite struct WhisperTests {
  static let folder = TestData.fixtures + "/whisper/random"

  private let network: any SpeechRecognizer
  private let expected: SafetensorsFile
  /// Two recordings with a transcript each.
  private let features: Matrix
  private let ids: [[Int32]]

  init() throws {
    network = try #require(
      try FamilyRegistry.network(of: CheckpointFolder(path: Self.folder)) as? any SpeechRecognizer)
    expected = try SafetensorsFile(path: Self.folder + "/expected.safetensors")
    features = Matrix(
      rows: 120, columns: 20, values: try #require(expected.tensor("features")).floats())
    let all = try #require(expected.tensor("ids")?.integers()).map { Int32($0) }
    ids = [Array(all[..<13]), Array(all[13...])]
  }

  private func difference(_ found: Matrix, _ name: String) throws -> Float {
    let tensor = try #require(expected.tensor(name))
    try #require(tensor.count == found.values.count)
    return zip(found.values, tensor.floats()).map { abs($0 - $1) }.max() ?? 1
  }

  @Test func encoderAndLogitsEqualTransformers() throws {
    #expect(network.input == SampleShape([60, 20]) && network.contextLimit == 24)
    var encoded: Matrix?
    let hidden = network.hidden(network.batch(features, tokens: ids)) { branch, stream in
      if branch == 3 { encoded = stream.rows(0..<60) }
    }
    #expect(try difference(try #require(encoded), "encoder") < 2e-4)
    #expect(hidden.rows == 26)
    #expect(try difference(network.logits(hidden), "logits") < 2e-4)
  }

  /// Recordings beside each other do not see each other, and transcripts need not be of one length.
  @Test func recordingsStandForThemselves() throws {
    let short = [ids[0], Array(ids[1].prefix(5))]
    let both = network.logits(network.hidden(network.batch(features, tokens: short)))
    let alone = network.logits(
      network.hidden(network.batch(features.rows(60..<120), tokens: [short[1]])))
    let worst = zip(both.rows(13..<18).values, alone.values).map { abs($0 - $1) }.max() ?? 1
    #expect(both.rows == 18 && worst < 1e-5)
  }

  /// Token by token over a cache: the encoder has run once, with the first token.
  @Test func aCacheChangesNothing() throws {
    let whole = network.logits(
      network.hidden(network.batch(features.rows(0..<60), tokens: [ids[0]])))
    let cache = KeyValueCache()
    var rows: [Matrix] = []
    for (index, token) in ids[0].enumerated() {
      let batch =
        index == 0
        ? network.batch(features.rows(0..<60), tokens: [[token]]) : TokenBatch([[token]])
      rows.append(network.logits(network.hidden(batch, cache: cache)))
    }
    #expect(cache.count == 13)
    let worst = zip(Matrix.stack(rows).values, whole.values).map { abs($0 - $1) }.max() ?? 1
    #expect(worst < 1e-4, "\(worst)")
  }

  /// What each group multiplies is what its matrices get: the stream's way, group by group, is the forward pass.
  @Test func groupsReadWhatTheirMatricesMultiply() throws {
    let batch = network.batch(features, tokens: ids)
    var hidden = network.embed(batch, position: 0)
    #expect(hidden.rows == 60 + 26)
    for sublayer in network.sublayers {
      for (group, layers) in sublayer.groups.enumerated() {
        let input = sublayer.run(hidden, batch, cache: nil, inputOf: group)
        let isOfEncoder =
          layers[0].name.contains("encoder.") || group == 1 && layers[0].name.contains("k_proj")
        #expect(input.rows == (isOfEncoder ? 60 : 26), "\(layers[0].name)")
        #expect(layers.allSatisfy { $0.matrix.inputs == input.columns })
      }
      hidden = sublayer.run(hidden, batch, cache: nil, inputOf: nil)
    }
    #expect(network.linearLayers.count == 2 * 6 + 2 * 10)
    #expect(try difference(network.logits(hidden), "logits") < 2e-4)
  }

  @Test func sizesThatDisagreeAreNamed() throws {
    func error(_ key: String, _ old: Int, _ new: Int) -> CheckpointError? {
      do {
        _ = try FamilyRegistry.network(
          of: EditedCheckpoint(
            folder: Self.folder, replacing: ["\"\(key)\": \(old)": "\"\(key)\": \(new)"]))
        return nil
      } catch {
        return error as? CheckpointError
      }
    }
    #expect(error("num_mel_bins", 20, 40)?.tensor == "model.encoder.conv1.weight")
    #expect(
      error("max_source_positions", 30, 1500)?.tensor == "model.encoder.embed_positions.weight")
    #expect(error("decoder_layers", 2, 3)?.problem == .tensorNotFound)
    #expect(error("decoder_layers", 2, 1)?.tensor?.hasPrefix("model.decoder.layers.1.") == true)
    #expect(error("encoder_attention_heads", 2, 5)?.tensor == "d_model")
    #expect(error("max_source_positions", 30, 1 << 30)?.tensor == "model.encoder.conv1.weight")
  }
}
