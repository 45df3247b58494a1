// Writes a checkpoint folder: encoded weights in place of the originals, everything else byte for byte.

import Bundles
import Checkpoints
import CondenseInference
import Drift
import Encodings
import JSONDocuments
import Networks
import Tensors

struct FolderWriter {
  let source: any Checkpoint
  let layers: [FinishedLayer]
  let lineage: JSONValue

  /// Tensors that are left out, with the rule that says so.
  static func dropped(from source: any Checkpoint) -> [(name: String, rule: String)] {
    // A tied head that was stored a second time would contradict the embedding it repeats.
    guard source.configuration["tie_word_embeddings"]?.bool == true,
      source.holds("lm_head.weight"), source.holds("model.embed_tokens.weight")
    else { return [] }
    return [("lm_head.weight", "a second copy of the tied embedding")]
  }

  /// The tensors of the folder, in the order of the source.
  func layout() -> (layout: SafetensorsLayout, tensors: [Tensor]) {
    let byName = Dictionary(uniqueKeysWithValues: layers.map { ($0.record.tensor, $0) })
    let dropped = Set(Self.dropped(from: source).map(\.name))
    var items: [SafetensorsLayout.Item] = []
    var tensors: [Tensor] = []
    var entries: [WeightManifest.Entry] = []
    func append(_ encoded: EncodedMatrix, _ name: String, method: String) {
      let parts = encoded.encoding.parts(outputs: encoded.outputs, inputs: encoded.inputs)
      for (part, tensor) in zip(parts, encoded.parts) {
        items.append(.init(name: name + part.suffix, dtype: part.dtype, shape: part.shape))
        tensors.append(tensor)
      }
      entries.append(
        .init(
          name: name, encoding: encoded.encoding, outputs: encoded.outputs,
          inputs: encoded.inputs, method: method))
    }
    for logical in source.logicalTensors where !dropped.contains(logical.name) {
      if let layer = byName[logical.name] {
        append(layer.encoded, logical.name, method: layer.record.method)
      } else if let entry = source.manifest[logical.name] {
        if let encoded = try? source.encodedMatrix(entry) {
          append(encoded, logical.name, method: entry.method)
        }
      } else if let tensor = source.tensor(logical.name) {
        items.append(.init(name: logical.name, dtype: tensor.dtype, shape: tensor.shape))
        tensors.append(tensor)
      }
    }
    let layout = SafetensorsLayout(
      items: items,
      metadata: [
        ("format", "pt"), (WeightManifest.metadataKey, WeightManifest(entries).json.compactText),
      ])
    return (layout, tensors)
  }

  /// Writes the folder; the caller gives it its name.
  func write(to folder: String) throws {
    try FilePath.makeFolder(folder)
    if source.sideFileNames.contains("config.json") == false {
      try OutputFile.write(
        source.configuration.indentedText + "\n", to: FilePath.join(folder, "config.json"))
    }
    for name in source.sideFileNames {
      let path = FilePath.join(folder, name)
      try FilePath.makeFolder(FilePath.folder(of: path))
      try OutputFile.write(try source.sideFile(name), to: path)
    }
    let (layout, tensors) = layout()
    var writer = try SafetensorsWriter(
      path: FilePath.join(folder, CheckpointFolder.weightsName), layout: layout)
    for tensor in tensors { try writer.write(tensor) }
    try writer.finish()
    try OutputFile.write(
      lineage.indentedText + "\n", to: FilePath.join(folder, "lineage.json"))
  }
}

/// Reads an artifact back and runs it once, before anyone is told that it is good.
enum ReadBack {
  /// Opens the folder or bundle; a known architecture must give finite numbers.
  static func check(_ path: String) throws {
    let checkpoint = try CheckpointOpener.open(path)
    guard FamilyRegistry.family(of: checkpoint) != nil else { return }
    let test = SelfTest.make(for: try FamilyRegistry.network(of: checkpoint))
    guard test.values.allSatisfy(\.isFinite) else { throw DriftError.notFinite(window: 0) }
  }
}
