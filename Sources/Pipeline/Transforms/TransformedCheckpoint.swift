// A checkpoint with some of its tensors changed: what the walk quantizes when the model is first brought into an
// equivalent form.

import Checkpoints
import Encodings
import JSONDocuments
import Tensors

/// Another checkpoint's tensors, some of them replaced, and some added behind them.
struct TransformedCheckpoint: Checkpoint {
  /// The checkpoint that was changed.
  let source: any Checkpoint
  let configuration: JSONValue
  let manifest: WeightManifest
  let tensorNames: [String]
  private let changed: [String: Tensor]

  /// - Parameters:
  ///   - changed: Plain tensors by name, in place of the source's tensors and encoded weights of these names.
  ///   - added: Names of `changed` that the source does not have.
  ///   - removed: Plain tensors of the source that go.
  ///   - configuration: Keys of the configuration with other values.
  init(
    _ source: any Checkpoint, changed: [String: Tensor], added: [String] = [],
    removed: Set<String> = [], configuration keys: [(key: String, value: JSONValue)] = []
  ) {
    self.source = source
    self.changed = changed
    var object = source.configuration.object ?? JSONObject()
    for (key, value) in keys { object[key] = value }
    configuration = keys.isEmpty ? source.configuration : .object(object)
    manifest = WeightManifest(source.manifest.entries.filter { changed[$0.name] == nil })
    // The name of an encoded weight stands where its first part stood.
    var parts: [String: String?] = [:]
    for entry in source.manifest.entries where changed[entry.name] != nil {
      let layout = entry.encoding.parts(outputs: entry.outputs, inputs: entry.inputs)
      for (index, part) in layout.enumerated() {
        parts[entry.name + part.suffix] = .some(index == 0 ? entry.name : nil)
      }
    }
    tensorNames =
      source.tensorNames.compactMap { name in
        if removed.contains(name) { return nil }
        guard let weight = parts[name] else { return name }
        return weight
      } + added
  }

  var path: String { source.path }
  var formatName: String { source.formatName }
  func tensor(_ name: String) -> Tensor? { changed[name] ?? source.tensor(name) }
  func tensorType(_ name: String) -> (dtype: DType, shape: [Int])? {
    changed[name].map { ($0.dtype, $0.shape) } ?? source.tensorType(name)
  }
  var sideFileNames: [String] { source.sideFileNames }
  func sideFile(_ name: String) throws -> [UInt8] {
    guard name == "config.json", configuration != source.configuration else {
      return try source.sideFile(name)
    }
    return Array((configuration.indentedText + "\n").utf8)
  }
  var byteCount: Int { source.byteCount }
}
