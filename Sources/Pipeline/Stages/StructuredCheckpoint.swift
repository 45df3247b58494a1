// A checkpoint with parts of its network cut out: an ordinary, smaller model.

import Checkpoints
import Encodings
import JSONDocuments
import Networks
import Tensors

/// Another checkpoint's model without some of its layers, heads and channels.
struct StructuredCheckpoint: Checkpoint {
  /// A tensor of the result: where it comes from.
  private struct Origin {
    let name: String
    let layer: Int
    let axes: [StructuralAxis]
  }

  let source: any Checkpoint
  let structure: NetworkStructure
  let cut: StructuredCut
  let configuration: JSONValue
  let tensorNames: [String]
  /// Weights that were fitted, by their names in the result.
  var fitted: [String: Matrix] = [:]
  /// Factors of norms of the stream, by their names in the source: their means run over fewer channels.
  private let normFactors: [String: Float]
  private let origins: [String: Origin]

  /// - Parameter normFactors: By the names of the norms' weights in the source.
  init(
    _ source: any Checkpoint, _ structure: NetworkStructure, cut: StructuredCut,
    normFactors: [String: Float] = [:]
  ) {
    self.source = source
    self.structure = structure
    self.cut = cut
    self.normFactors = normFactors
    var origins: [String: Origin] = [:], names: [String] = []
    let tied = source.configuration["tie_word_embeddings"]?.bool == true
    for tensor in source.logicalTensors {
      // A tied head that was stored a second time would contradict the embedding it repeats.
      if tied, tensor.name == "lm_head.weight", source.holds("model.embed_tokens.weight") {
        continue
      }
      let place = structure.places[tensor.name]
      func add(_ name: String, _ layer: Int) {
        origins[name] = Origin(name: tensor.name, layer: layer, axes: place?.axes ?? [])
        names.append(name)
      }
      switch place?.branch ?? .outside {
      case .outside: add(tensor.name, 0)
      case .attention(let layer):
        guard let new = cut.layers.firstIndex(where: { $0.attention == layer }) else { continue }
        add(structure.name(tensor.name, inLayer: new), layer)
      case .mlp(let layer):
        guard let new = cut.layers.firstIndex(where: { $0.mlp == layer }) else { continue }
        add(structure.name(tensor.name, inLayer: new), layer)
      }
    }
    self.origins = origins
    tensorNames = names
    configuration = Self.configuration(source, structure, cut)
  }

  /// The source's configuration with the sizes of the cut.
  private static func configuration(
    _ source: any Checkpoint, _ structure: NetworkStructure, _ cut: StructuredCut
  ) -> JSONValue {
    var object = source.configuration.object ?? JSONObject()
    let old = structure.sizes, new = cut.sizes(of: old)
    func set(_ key: String, _ value: Int, was: Int) {
      if value != was || object[key] != nil { object[key] = .integer(value) }
    }
    let keys = structure.sizeKeys
    set(keys.layers, new.layers, was: old.layers)
    set(keys.inner, new.inner, was: old.inner)
    if structure.fixedWidth == nil { set(keys.width, new.width, was: old.width) }
    if structure.fixedHeads == nil {
      set(keys.heads, new.heads, was: old.heads)
      if object["num_key_value_heads"] != nil || new.keyHeads != new.heads {
        object["num_key_value_heads"] = .integer(new.keyHeads)
      }
      // The size of a head stays; readers without the key take width / heads for it.
      if object["head_dim"] != nil || new.width != new.heads * structure.headSize {
        object["head_dim"] = .integer(structure.headSize)
      }
    }
    let kept = cut.layers.map(\.source)
    for key in structure.layerLists {
      if let list = object[key]?.array, list.count == old.layers {
        object[key] = .array(kept.map { list[$0] })
      }
    }
    if let key = structure.windowKey, let first = object[key]?.integer {
      object[key] = .integer(kept.count { $0 < first })
    }
    if structure.fixedBranches == nil {
      LayerBranches(
        cut.layers.map { .init(attention: $0.attention != nil, mlp: $0.mlp != nil) }
      ).write(to: &object)
    }
    if !source.manifest.entries.isEmpty { object["quantization_config"] = nil }
    return .object(object)
  }

  var path: String { source.path }
  var formatName: String { source.formatName }
  /// Floats in another storage become plain ones: a cut goes through blocks. Nothing else is cut (`StructuredRun.check`).
  var manifest: WeightManifest { WeightManifest([]) }
  var sideFileNames: [String] { source.sideFileNames }
  var byteCount: Int { source.byteCount }

  func sideFile(_ name: String) throws -> [UInt8] {
    guard name == "config.json" else { return try source.sideFile(name) }
    return Array((configuration.indentedText + "\n").utf8)
  }

  func tensorType(_ name: String) -> (dtype: DType, shape: [Int])? {
    guard let origin = origins[name] else { return nil }
    let entry = source.manifest[origin.name]
    guard
      let old = entry.map({ ($0.encoding.exactFloats ?? .float32, [$0.outputs, $0.inputs]) })
        ?? source.tensorType(origin.name)
    else { return nil }
    var shape = old.1
    for (index, axis) in origin.axes.enumerated() where index < shape.count {
      if let kept = cut.kept(axis, layer: origin.layer, in: structure) { shape[index] = kept.count }
    }
    return (old.0, shape)
  }

  /// A tensor of the result. What is cut keeps its type.
  func tensor(_ name: String) -> Tensor? {
    guard let origin = origins[name], let type = tensorType(name) else { return nil }
    if let matrix = fitted[name] {
      return Tensor(.float32, shape: type.shape, copying: matrix.values).converted(to: type.dtype)
    }
    guard var tensor = stored(origin.name) else { return nil }
    if origin.axes.count > 0, !tensor.shape.isEmpty,
      let rows = cut.kept(origin.axes[0], layer: origin.layer, in: structure)
    {
      tensor = tensor.selectingRows(rows)
    }
    if tensor.shape.count == 2, origin.axes.count > 1,
      let columns = cut.kept(origin.axes[1], layer: origin.layer, in: structure)
    {
      tensor = tensor.selectingColumns(columns)
    }
    if let factor = normFactors[origin.name] {
      let values = tensor.floats().map { $0 * factor }
      tensor = Tensor(.float32, shape: tensor.shape, copying: values).converted(to: tensor.dtype)
    }
    return tensor
  }

  /// The rows of the source's weight that stay in a weight of the result; nil where all do.
  func keptRows(_ name: String) -> [Int]? {
    guard let origin = origins[name], let axis = origin.axes.first else { return nil }
    return cut.kept(axis, layer: origin.layer, in: structure)
  }

  private func stored(_ name: String) -> Tensor? {
    guard let entry = source.manifest[name] else { return source.tensor(name) }
    guard let encoded = try? source.encodedMatrix(entry) else { return nil }
    return Tensor(
      .float32, shape: [entry.outputs, entry.inputs], copying: encoded.matrix.decoded().values
    ).converted(to: entry.encoding.exactFloats ?? .float32)
  }
}

extension Tensor {
  /// A matrix with some of its columns, in its own type.
  func selectingColumns(_ columns: [Int]) -> Tensor {
    let rows = rows, width = self.columns, source = floats()
    var values: [Float] = []
    values.reserveCapacity(rows * columns.count)
    for row in 0..<rows {
      for column in columns { values.append(source[row * width + column]) }
    }
    return Tensor(.float32, shape: [rows, columns.count], copying: values).converted(to: dtype)
  }
}
