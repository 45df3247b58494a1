// A checkpoint as GGUF, which llama.cpp and its family load.
//
// Source   llama.cpp's conversion/llama.py and qwen.py: what the files of these architectures hold
// Checked  GGUFExportTests; llama.cpp loads and runs the files (docs/interop.md)

public import Checkpoints
import Encodings
public import JSONDocuments
import Tensors

/// GGUF.
public enum GGUFExport: ExportFormat {
  /// `gguf`.
  public static let name = "gguf"
  /// `.gguf`.
  public static let suffix = ".gguf"
  /// Into parts of at most so many bytes.
  public static let isSplittable = true

  /// One tensor: what the file says of it, and where its bytes come from.
  private struct Part {
    let item: GGUFLayout.Item
    let method: String?
    let bytes: () throws -> Tensor
  }

  /// Writes one file, or `NAME-00001-of-0000N.gguf` where it has to be split.
  public static func write(
    _ source: any Checkpoint, to path: String, options: ExportOptions, lineage: JSONValue
  ) throws -> ExportReport {
    guard let type = source.configuration["model_type"]?.string else {
      throw ExportError(
        path: source.path, "GGUF needs a configuration with a model_type; there is none")
    }
    guard let architecture = GGUFArchitecture(modelType: type) else {
      throw ExportError(
        path: source.path,
        "'\(type)' models cannot be written as GGUF (llama, mistral, qwen2, qwen3, llama-branches and mistral-branches can)"
      )
    }
    var report = ExportReport()
    var metadata = GGUFMetadata()
    let parts = try parts(of: source, architecture, options, &metadata, &report)
    addMethods(parts, to: &metadata)
    if !lineage.isNull {
      metadata[GGUFCheckpoint.lineageKey] = GGUFValue(lineage.withoutWork.compactText)
    }
    try write(parts, metadata, to: path, shardBytes: options.shardBytes, &report)
    return report
  }

  /// The method that chose each tensor's numbers; `*` is most tensors' method.
  private static func addMethods(_ parts: [Part], to metadata: inout GGUFMetadata) {
    var counts: [String: Int] = [:]
    for part in parts { if let method = part.method { counts[method, default: 0] += 1 } }
    guard let usual = counts.max(by: { ($0.value, $1.key) < ($1.value, $0.key) })?.key else {
      return
    }
    var methods = JSONObject()
    methods["*"] = .string(usual)
    for part in parts {
      if let method = part.method, method != usual { methods[part.item.name] = .string(method) }
    }
    metadata[GGUFCheckpoint.methodsKey] = GGUFValue(JSONValue.object(methods).compactText)
  }

  // MARK: - Tensors

  private static func parts(
    of source: any Checkpoint, _ architecture: GGUFArchitecture, _ options: ExportOptions,
    _ metadata: inout GGUFMetadata, _ report: inout ExportReport
  ) throws -> [Part] {
    let factors = try describe(source, architecture, &metadata, &report)
    let isTied = source.configuration["tie_word_embeddings"]?.bool == true
    var parts: [Part] = []
    if let factors {
      let tensor = Tensor(.float32, shape: [factors.count], copying: factors)
      parts.append(
        Part(
          item: .init(
            name: GGUFConfiguration.rotationFactorsName, type: .plain(.float32),
            shape: tensor.shape), method: nil, bytes: { tensor }))
    }
    for logical in source.logicalTensors {
      if logical.name.hasSuffix("rotary_emb.inv_freq") {
        report.notes.append("left out: '\(logical.name)', which follows from the configuration")
        continue
      }
      if isTied, logical.name == "lm_head.weight" {
        report.notes.append("left out: '\(logical.name)', a second copy of the tied embedding")
        continue
      }
      guard let name = architecture.fileName(of: logical.name) else {
        throw ExportError(
          path: source.path, tensor: logical.name,
          "\(architecture.rawValue) has no such tensor in GGUF")
      }
      parts.append(try part(logical, named: name, of: source, architecture, options))
    }
    parts += try emptyMLPs(of: source, architecture, &report)
    let types = parts.filter { $0.item.shape.count == 2 }.map(\.item)
    metadata["general.file_type"] = GGUFValue(fileType(of: types))
    if types.contains(where: { if case .blocks = $0.type { true } else { false } }) {
      metadata["general.quantization_version"] = GGUFValue(2)
    }
    return parts
  }

  /// What llama.cpp needs behind an attention that has no MLP.
  private static func emptyMLPs(
    of source: any Checkpoint, _ architecture: GGUFArchitecture, _ report: inout ExportReport
  ) throws -> [Part] {
    try GGUFArchitecture.emptyMLPs(of: source.configuration).compactMap { name, shape, value in
      guard let own = architecture.fileName(of: name) else { return nil }
      if shape.count == 1 {
        report.notes.append(
          "added: '\(own)' and an MLP of zeros, which llama.cpp needs behind an attention alone")
      }
      // Norms are float32 everywhere; zeros are the same in any type.
      let dtype: DType = shape.count == 1 ? .float32 : .float16
      let tensor = Tensor(
        .float32, shape: shape, copying: [Float](repeating: value, count: shape.reduce(1, *))
      ).converted(to: dtype)
      return Part(
        item: .init(name: own, type: .plain(dtype), shape: shape), method: nil, bytes: { tensor })
    }
  }

  /// The number of the file type that most weights have.
  private static func fileType(of items: [GGUFLayout.Item]) -> Int {
    var counts: [UInt32: Int] = [:]
    for item in items { counts[item.type.number, default: 0] += item.shape.reduce(1, *) }
    let most = counts.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key ?? 0
    switch GGUFTensorType(number: most) {
    case .blocks(let type): return GGUFMix.number(mostly: type) ?? 0
    case .plain(.float16): return 1
    case .plain(.bfloat16): return 32
    default: return 0
    }
  }

  private static func part(
    _ logical: LogicalTensor, named name: String, of source: any Checkpoint,
    _ architecture: GGUFArchitecture, _ options: ExportOptions
  ) throws -> Part {
    let order = try rowOrder(logical, of: source, architecture)
    func ordered(_ tensor: Tensor) -> Tensor { order.map { tensor.selectingRows($0) } ?? tensor }
    guard let entry = source.manifest[logical.name], !(entry.encoding is PlainFloats) else {
      guard let tensor = source.tensor(logical.name), tensor.dtype.isFloat else {
        throw ExportError(
          path: source.path, tensor: logical.name, "is stored as \(logical.encoding), no float")
      }
      // llama.cpp computes norms and biases in float32.
      let dtype = logical.shape.count == 1 ? .float32 : options.dtype ?? tensor.dtype
      return Part(
        item: .init(name: name, type: try plain(dtype, logical, source), shape: logical.shape),
        method: nil, bytes: { ordered(tensor) })
    }
    let matrix = try source.encodedMatrix(entry)
    if let blocks = GGUFTranscoding.blocks(of: matrix) {
      guard case let encoding as GGUFBlocks = blocks.encoding else {
        preconditionFailure("blocks are in an encoding of blocks")
      }
      return Part(
        item: .init(name: name, type: .blocks(encoding.type), shape: logical.shape),
        method: entry.method, bytes: { ordered(blocks.parts[0]) })
    }
    let exact = entry.encoding.exactFloats
    guard options.decodes || exact != nil else {
      throw ExportError(
        path: source.path, tensor: logical.name,
        "\(entry.encoding.name) has no equal in GGUF; quantize to one of its types (such as Q4_K_M), "
          + "or give --decode to write it as floats")
    }
    let dtype = options.dtype ?? exact ?? .float16
    return Part(
      item: .init(name: name, type: try plain(dtype, logical, source), shape: logical.shape),
      method: nil,
      bytes: {
        let values = matrix.matrix.decoded()
        return ordered(Tensor(.float32, shape: logical.shape, copying: values.values))
      })
  }

  private static func plain(
    _ dtype: DType, _ logical: LogicalTensor, _ source: any Checkpoint
  ) throws -> GGUFTensorType {
    guard let type = GGUFTensorType(dtype) else {
      throw ExportError(
        path: source.path, tensor: logical.name,
        "GGUF does not store \(dtype.rawValue.lowercased())")
    }
    return type
  }

  /// Rows in llama.cpp's order, for queries and keys whose rotation pairs neighbours.
  private static func rowOrder(
    _ logical: LogicalTensor, of source: any Checkpoint, _ architecture: GGUFArchitecture
  ) throws -> [Int]? {
    guard architecture.rotatedHeads(of: logical.name) != nil else { return nil }
    let heads = source.configuration["num_attention_heads"]?.integer ?? 1
    let size =
      source.configuration["head_dim"]?.integer
      ?? (source.configuration["hidden_size"]?.integer ?? 0) / max(1, heads)
    let rows = logical.shape.first ?? 0
    guard size > 0, size % 2 == 0, rows % size == 0 else {
      throw ExportError(
        path: source.path, tensor: logical.name, "\(rows) rows are no heads of \(size)")
    }
    return GGUFArchitecture.modelRows(rows: rows, headSize: size)
  }

  // MARK: - Metadata

  private static func describe(
    _ source: any Checkpoint, _ architecture: GGUFArchitecture, _ metadata: inout GGUFMetadata,
    _ report: inout ExportReport
  ) throws -> [Float]? {
    let model: GGUFMetadata
    let factors: [Float]?
    do throws(CheckpointError.Problem) {
      (model, factors) = try GGUFConfiguration.metadata(
        source.configuration, architecture: architecture)
    } catch {
      throw CheckpointError(path: source.path + "/config.json", error)
    }
    metadata["general.architecture"] = GGUFValue(architecture.rawValue)
    metadata["general.type"] = GGUFValue("model")
    let fileName = FilePath.name(of: source.path)
    metadata["general.name"] = GGUFValue(
      [suffix, ".condensed", ".bin", ".h5", ".pt"].reduce(fileName) { name, ending in
        name.hasSuffix(ending) ? String(name.dropLast(ending.count)) : name
      })
    if let file = source as? GGUFCheckpoint {
      for key in ["name", "basename", "size_label", "license", "author", "organization"] {
        metadata["general.\(key)"] = file.metadata["general.\(key)"] ?? metadata["general.\(key)"]
      }
    }
    for key in model.keys { metadata[key] = model[key] }
    if let window = source.configuration["sliding_window"]?.integer,
      window < source.configuration["max_position_embeddings"]?.integer ?? 0
    {
      report.notes.append(
        "llama.cpp has no sliding window for \(architecture.rawValue): beyond \(window) tokens it will differ"
      )
    }
    var vocabulary = GGUFVocabulary(
      of: source, size: source.configuration["vocab_size"]?.integer ?? 0)
    if let note = try vocabulary.add(to: &metadata) { report.notes.append(note) }
    return factors
  }

  // MARK: - Files

  private static func write(
    _ parts: [Part], _ metadata: GGUFMetadata, to path: String, shardBytes: Int?,
    _ report: inout ExportReport
  ) throws {
    let shards = split(parts, limit: shardBytes)
    guard shards.count > 1 else {
      return try write(
        parts, GGUFLayout(items: parts.map(\.item), metadata: metadata), path, &report)
    }
    let stem = path.hasSuffix(suffix) ? String(path.dropLast(suffix.count)) : path
    for (index, shard) in shards.enumerated() {
      var own = index == 0 ? metadata : GGUFMetadata()
      own["split.no"] = .integer(index, .uint16)
      own["split.count"] = .integer(shards.count, .uint16)
      own["split.tensors.count"] = .integer(parts.count, .int32)
      try write(
        shard, GGUFLayout(items: shard.map(\.item), metadata: own),
        GGUFSplit.name(stem, part: index + 1, of: shards.count), &report)
    }
  }

  private static func write(
    _ parts: [Part], _ layout: GGUFLayout, _ path: String, _ report: inout ExportReport
  ) throws {
    var writer = try GGUFWriter(path: path, layout: layout)
    for part in parts { try writer.write(try part.bytes()) }
    try writer.finish()
    report.files.append(path)
    report.byteCount += layout.byteCount
  }

  /// Runs of tensors that each fit the limit; a larger tensor stands alone.
  private static func split(_ parts: [Part], limit: Int?) -> [[Part]] {
    guard let limit else { return [parts] }
    var shards: [[Part]] = [[]]
    var bytes = 0
    for part in parts {
      if bytes + part.item.byteCount > limit, !(shards.last?.isEmpty ?? true) {
        shards.append([])
        bytes = 0
      }
      shards[shards.count - 1].append(part)
      bytes += part.item.byteCount
    }
    return shards
  }
}

extension JSONValue {
  /// A lineage without the figures of each layer, which the checkpoint folder keeps: other engines' files stay
  /// as small as other tools'.
  fileprivate var withoutWork: JSONValue {
    guard case .object(var object) = self else { return self }
    if object["work"] != nil { object["work"] = .null }
    if let parent = object["parent"] { object["parent"] = parent.withoutWork }
    return .object(object)
  }
}
