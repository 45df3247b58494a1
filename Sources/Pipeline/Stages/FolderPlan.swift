// What a quantized checkpoint folder will hold, tensor by tensor, before any codes exist.

import Pruning
import Checkpoints
import Encodings
import JSONDocuments
import Networks
import Quantization
import Tensors

/// A matrix that a stage encodes, and how the model's tensor is that matrix.
struct MatrixShape {
  let outputs, inputs: Int
  let layout: MatrixLayout?
}

struct FolderPlan {
  /// What becomes of one tensor of the source.
  enum Content {
    /// Encoded by this stage.
    case encode(any WeightEncoding, method: String, MatrixShape)
    /// Encoded already, and carried over.
    case carry(WeightManifest.Entry)
    /// A plain tensor, copied byte for byte.
    case copy(Tensor)
  }

  let source: any Checkpoint
  let contents: [(tensor: LogicalTensor, content: Content)]
  /// Tensors that are left out, with the rule that says so.
  let dropped: [(name: String, rule: String)]

  /// - Parameter found: Encodings whose size the work has decided; before it they are estimated.
  init(
    source: any Checkpoint, assignment: EncodingAssignment, request: QuantizeRequest,
    found: [(tensor: String, encoding: any WeightEncoding)] = []
  ) {
    self.source = source
    let found = Dictionary(
      found.map { ($0.tensor, $0.encoding) }, uniquingKeysWith: { first, _ in first })
    dropped = Self.dropped(from: source)
    let droppedNames = Set(dropped.map(\.name))
    // A goal that cannot be met is the stage's to tell.
    let zeros = request.pruning.flatMap { try? PruneAssignment($0, to: source) }
    let targets = Dictionary(
      assignment.items.map { ($0.site.name, $0) }, uniquingKeysWith: { first, _ in first })
    contents = source.logicalTensors.compactMap { logical in
      guard !droppedNames.contains(logical.name) else { return nil }
      if let item = targets[logical.name], case .encode(let encoding) = item.target {
        let own =
          found[logical.name]
          ?? request.planned(encoding, for: item.site, in: source, zeros)
        return (
          logical,
          .encode(own, method: item.method(asked: request.method).rawValue, item.site.matrixShape)
        )
      }
      if let entry = source.manifest[logical.name] { return (logical, .carry(entry)) }
      guard let tensor = source.tensor(logical.name) else { return nil }
      return (
        logical,
        .copy(assignment.halved.contains(logical.name) ? tensor.halved : tensor)
      )
    }
  }

  /// The plan of a stage that replaces some matrices and leaves all else as it is.
  init(
    source: any Checkpoint,
    replaced: [(tensor: String, encoding: any WeightEncoding, method: String)],
    layouts: [String: MatrixLayout] = [:]
  ) {
    self.source = source
    dropped = Self.dropped(from: source)
    let droppedNames = Set(dropped.map(\.name))
    let replaced = Dictionary(
      replaced.map { ($0.tensor, ($0.encoding, $0.method)) },
      uniquingKeysWith: { first, _ in first })
    contents = source.logicalTensors.compactMap { logical in
      guard !droppedNames.contains(logical.name) else { return nil }
      if let (encoding, method) = replaced[logical.name] {
        let layout = layouts[logical.name] ?? source.manifest[logical.name]?.layout
        let shape = MatrixShape(
          outputs: layout?.outputs ?? logical.shape[0], inputs: layout?.inputs ?? logical.shape[1],
          layout: layout)
        return (logical, .encode(encoding, method: method, shape))
      }
      if let entry = source.manifest[logical.name] { return (logical, .carry(entry)) }
      return source.tensor(logical.name).map { (logical, .copy($0)) }
    }
  }

  /// How the tensors of a network's layers are their matrices, where they are not the matrices themselves.
  static func layouts(_ network: any Network) -> [String: MatrixLayout] {
    Dictionary(
      network.linearLayers.compactMap { layer in layer.layout.map { (layer.weightName, $0) } },
      uniquingKeysWith: { first, _ in first })
  }

  /// A tied head that was stored a second time would contradict the embedding it repeats.
  private static func dropped(from source: any Checkpoint) -> [(name: String, rule: String)] {
    guard source.configuration["tie_word_embeddings"]?.bool == true,
      source.holds("lm_head.weight"), source.holds("model.embed_tokens.weight")
    else { return [] }
    return [("lm_head.weight", "a second copy of the tied embedding")]
  }

  /// The weights after the stage, as a manifest.
  var manifest: WeightManifest {
    WeightManifest(
      contents.compactMap { tensor, content in
        switch content {
        case .encode(let encoding, let method, let shape):
          WeightManifest.Entry(
            name: tensor.name, encoding: encoding, outputs: shape.outputs, inputs: shape.inputs,
            method: method, layout: shape.layout)
        case .carry(let entry): entry
        case .copy: nil
        }
      })
  }

  /// The stored tensors in the order of the source.
  var items: [SafetensorsLayout.Item] {
    contents.flatMap { tensor, content -> [SafetensorsLayout.Item] in
      switch content {
      case .encode(let encoding, _, let shape):
        Self.items(tensor.name, encoding, shape.outputs, shape.inputs)
      case .carry(let entry):
        Self.items(entry.name, entry.encoding, entry.outputs, entry.inputs)
      case .copy(let stored):
        [SafetensorsLayout.Item(name: tensor.name, dtype: stored.dtype, shape: stored.shape)]
      }
    }
  }

  private static func items(
    _ name: String, _ encoding: any WeightEncoding, _ outputs: Int, _ inputs: Int
  ) -> [SafetensorsLayout.Item] {
    encoding.parts(outputs: outputs, inputs: inputs).map {
      SafetensorsLayout.Item(name: name + $0.suffix, dtype: $0.dtype, shape: $0.shape)
    }
  }

  /// The weight file; its size is exact before the work.
  var layout: SafetensorsLayout {
    SafetensorsLayout(
      items: items,
      metadata: [("format", "pt"), (WeightManifest.metadataKey, manifest.json.compactText)])
  }

  /// The file of the configuration, where the source has none of its own.
  var configurationFile: String? {
    guard !source.sideFileNames.contains("config.json") else { return nil }
    let configuration = source.configurationOfAll
    // A graph's list of layers is for programs: half of it would be spaces.
    let text =
      configuration["model_config"] == nil
      ? configuration.indentedText : configuration.compactText
    return text + "\n"
  }

  /// Writes the folder; the caller gives it its name.
  func write(to folder: String, layers: [FinishedLayer], lineage: JSONValue) throws {
    try FilePath.makeFolder(folder)
    if let text = configurationFile {
      try OutputFile.write(text, to: FilePath.join(folder, "config.json"))
    }
    for name in source.sideFileNames {
      let path = FilePath.join(folder, name)
      try FilePath.makeFolder(FilePath.folder(of: path))
      try OutputFile.write(try source.sideFile(name), to: path)
    }
    let finished = Dictionary(
      layers.map { ($0.record.tensor, $0.encoded) }, uniquingKeysWith: { first, _ in first })
    var writer = try SafetensorsWriter(
      path: FilePath.join(folder, CheckpointFolder.weightsName), layout: layout)
    for (tensor, content) in contents {
      switch content {
      case .encode:
        for part in finished[tensor.name]?.parts ?? [] {
          try writer.write(part)
          part.releasePages()
        }
      case .carry(let entry):
        for part in try source.encodedMatrix(entry).parts { try writer.write(part) }
      case .copy(let stored):
        try writer.write(stored)
        stored.releasePages()
      }
    }
    try writer.finish()
    try OutputFile.write(lineage.indentedText + "\n", to: FilePath.join(folder, "lineage.json"))
  }
}

extension EncodingAssignment.Item {
  /// The method that runs when `asked` is asked for. Each row of a separate embedding is read by one
  /// token; there is no other column to push an error onto, so that it is rounded. So are floats.
  func method(asked: QuantizationMethod) -> QuantizationMethod {
    if case .encode(let encoding) = target {
      if encoding is PlainFloats { return .rtn }
      // What is on a grid of its own beside entropy-coded matrices is rounded as GPTQ rounds.
      if asked == .ec, !(encoding is EntropyCoded) {
        return site.role == .embedding(isHead: false) ? .rtn : .gptq
      }
    }
    if asked == .ec { return .ec }
    return site.role == .embedding(isHead: false) ? .rtn : asked
  }
}

extension QuantizeRequest {
  /// An encoding of about the size that it will have; only those whose size depends on the weights change.
  private func estimate(_ encoding: any WeightEncoding, weights: Int) -> any WeightEncoding {
    guard encoding is EntropyCoded else { return encoding }
    let bits = if case .bits(let bits) = goal { bits } else { 4.0 }
    return EntropyCoded(streamBytes: max(1, Int((bits * Double(weights) / 8).rounded())))
  }

  /// The encoding that a matrix will have, without the zeros that are kept.
  ///
  /// - Parameter zeros: The zeros that the stage itself makes.
  func planned(
    _ encoding: any WeightEncoding, for site: MatrixSite, in source: any Checkpoint,
    _ zeros: PruneAssignment?
  ) -> any WeightEncoding {
    let weights = site.outputs * site.inputs
    let own = estimate(encoding, weights: weights)
    if let goal = zeros?[site.name] {
      return SparseEncoding.planned(
        own, outputs: site.outputs, inputs: site.inputs, zeros: goal.zeros, pattern: goal.pattern)
    }
    guard let stored = source.manifest[site.name]?.encoding as? SparseEncoding,
      method == .rtn || keepsZeros(on: encoding, wasPruned: true)
    else { return own }
    return SparseEncoding.planned(
      own, outputs: site.outputs, inputs: site.inputs,
      zeros: weights - stored.storedCount(outputs: site.outputs, inputs: site.inputs),
      pattern: stored.pattern)
  }
}

extension Tensor {
  /// In binary16 where it is float32 whose values all fit.
  fileprivate var halved: Tensor {
    guard dtype == .float32, floats().allSatisfy({ abs($0) <= 65_504 }) else { return self }
    return converted(to: .float16)
  }
}
