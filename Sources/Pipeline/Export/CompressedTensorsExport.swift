// A checkpoint of group integers in the compressed-tensors layout, which vLLM and transformers load.
//
// Source   https://github.com/vllm-project/compressed-tensors, version 0.19: `pack-quantized` (codes of a row in
//          one stream of bits, least significant first, in 32-bit words; zero points likewise, along the rows)
//          and `int-quantized` (one signed byte a weight)
// Differs  nothing is rounded: codes, scales and zero points are the same numbers in another order
// Checked  CompressedTensorsExportTests; logits in transformers equal ours (docs/interop.md)

public import Checkpoints
import Encodings
public import JSONDocuments
import Tensors

/// Safetensors in the compressed-tensors layout.
public enum CompressedTensorsExport: ExportFormat {
  /// `compressed-tensors`.
  public static let name = "compressed-tensors"
  /// None: the output is a folder.
  public static let suffix = ""

  /// How a module's weights are stored, and whether its inputs are rounded.
  private struct Scheme: Equatable {
    let weights: GroupIntegers
    let roundsInputs: Bool

    /// Nil for what the layout does not know.
    init?(_ encoding: any WeightEncoding) {
      switch encoding {
      case let encoding as GroupIntegers:
        weights = encoding
        roundsInputs = false
      case is W8A8:
        weights = W8A8.weights
        roundsInputs = true
      default: return nil
      }
    }
  }

  private struct Item {
    let name: String
    let dtype: DType
    let shape: [Int]
    let tensor: () throws -> Tensor
  }

  /// Writes the folder.
  public static func write(
    _ source: any Checkpoint, to path: String, options: ExportOptions, lineage: JSONValue
  ) throws -> ExportReport {
    if source.configuration[LayerBranches.key] != nil {
      throw ExportError(
        path: source.path,
        "some layers lack a branch (\(LayerBranches.key)), which no engine with this layout runs")
    }
    var report = ExportReport()
    var items: [Item] = []
    var modules: [(name: String, scheme: Scheme)] = []
    var floats: [String] = []
    for logical in source.logicalTensors {
      let module = logical.name.hasSuffix(".weight") ? String(logical.name.dropLast(7)) : nil
      if let entry = source.manifest[logical.name], let scheme = Scheme(entry.encoding), let module,
        !isEmbedding(logical, source), fits(scheme.weights, inputs: entry.inputs)
      {
        items += parts(try source.encodedMatrix(entry), scheme.weights, module: module)
        modules.append((module, scheme))
      } else {
        items.append(try plain(logical, source, options, &report))
        if let module, logical.shape.count == 2 { floats.append(module) }
      }
    }
    guard !modules.isEmpty else {
      throw ExportError(
        path: source.path,
        "no weight is stored as group integers that compressed-tensors can hold; quantize to int4-g128 or "
          + "the like first")
    }
    let folder = try ExportFolder(path)
    try write(items, to: folder.path(CheckpointFolder.weightsName), &report)
    try folder.writeSideFiles(
      of: source, configuration: configuration(source, modules, floats, options), lineage: lineage,
      &report)
    try folder.finish(&report)
    return report
  }

  // MARK: - Tensors

  private static func write(
    _ items: [Item], to path: String, _ report: inout ExportReport
  ) throws {
    let layout = SafetensorsLayout(
      items: items.map { .init(name: $0.name, dtype: $0.dtype, shape: $0.shape) },
      metadata: [("format", "pt")])
    var writer = try SafetensorsWriter(path: path, layout: layout)
    for item in items { try writer.write(try item.tensor(), as: item.dtype) }
    try writer.finish()
    report.files.append(path)
    report.byteCount += layout.byteCount
  }

  /// The layout knows linear layers; an embedding stays floats.
  private static func isEmbedding(_ tensor: LogicalTensor, _ source: any Checkpoint) -> Bool {
    tensor.name.contains("embed")
  }

  /// Groups divide the columns.
  private static func fits(_ encoding: GroupIntegers, inputs: Int) -> Bool {
    inputs % encoding.groupSize(inputs: inputs) == 0
  }

  private static func plain(
    _ logical: LogicalTensor, _ source: any Checkpoint, _ options: ExportOptions,
    _ report: inout ExportReport
  ) throws -> Item {
    if let entry = source.manifest[logical.name], !entry.isPlainTensor {
      let exact = entry.encoding.exactFloats
      guard options.decodes || exact != nil else {
        throw ExportError(
          path: source.path, tensor: logical.name,
          "compressed-tensors cannot hold it as \(entry.encoding.name); give --decode to write it as floats"
        )
      }
      let dtype = options.dtype ?? exact ?? .float16
      if exact == nil {
        report.notes.append(
          "decoded: '\(logical.name)' from \(entry.encoding.name) to \(dtype.rawValue.lowercased())"
        )
      }
      return Item(name: logical.name, dtype: dtype, shape: logical.shape) {
        try source.decodedTensor(entry)
      }
    }
    guard let tensor = source.tensor(logical.name) else {
      throw CheckpointError(path: source.path, tensor: logical.name, .tensorNotFound)
    }
    let dtype = tensor.dtype.isFloat ? options.dtype ?? tensor.dtype : tensor.dtype
    return Item(name: logical.name, dtype: dtype, shape: logical.shape) { tensor }
  }

  /// Eight bits are stored as bytes, fewer are packed.
  private static func isPacked(_ encoding: GroupIntegers) -> Bool { encoding.bits < 8 }

  private static func parts(
    _ matrix: EncodedMatrix, _ encoding: GroupIntegers, module: String
  ) -> [Item] {
    let rows = matrix.outputs, inputs = matrix.inputs, bits = encoding.bits
    let groups = encoding.groups(inputs: inputs)
    let scales = Item(
      name: module + ".weight_scale", dtype: .float16, shape: [rows, groups]
    ) { matrix.parts[1] }
    guard isPacked(encoding) else {
      var items = [
        Item(name: module + ".weight", dtype: .int8, shape: [rows, inputs]) {
          signed(matrix.parts[0], shape: [rows, inputs])
        }, scales,
      ]
      if !encoding.isSymmetric {
        items.append(
          Item(name: module + ".weight_zero_point", dtype: .int8, shape: [rows, groups]) {
            signed(matrix.parts[2], shape: [rows, groups])
          })
      }
      return items
    }
    let words = (inputs * bits + 31) / 32
    var items = [
      Item(name: module + ".weight_packed", dtype: .int32, shape: [rows, words]) {
        padded(matrix.parts[0], rows: rows, words: words)
      }, scales,
      Item(name: module + ".weight_shape", dtype: .int64, shape: [2]) {
        Tensor(.int64, shape: [2], copying: [Int64(rows), Int64(inputs)])
      },
    ]
    if !encoding.isSymmetric {
      let zeroWords = (rows * bits + 31) / 32
      items.append(
        Item(
          name: module + ".weight_zero_point", dtype: .int32, shape: [zeroWords, groups]
        ) { turnedZeros(matrix.parts[2], rows: rows, groups: groups, bits: bits) })
    }
    return items
  }

  private static func bytes(_ tensor: Tensor) -> [UInt8] {
    tensor.withBytes { unsafe $0.withUnsafeBytes { unsafe [UInt8]($0) } }
  }

  /// Codes of eight bits less 128, as signed bytes.
  private static func signed(_ tensor: Tensor, shape: [Int]) -> Tensor {
    Tensor(.int8, shape: shape, copying: bytes(tensor).map { $0 ^ 0x80 })
  }

  /// The rows of packed codes, each filled up to whole words.
  private static func padded(_ codes: Tensor, rows: Int, words: Int) -> Tensor {
    let source = bytes(codes)
    let rowBytes = rows == 0 ? 0 : source.count / rows
    var target = [UInt8](repeating: 0, count: rows * words * 4)
    for row in 0..<rows {
      for byte in 0..<rowBytes {
        target[row * words * 4 + byte] = source[row * rowBytes + byte]
      }
    }
    return Tensor(.int32, shape: [rows, words], copying: target)
  }

  /// Zero points packed along the rows: the words of a group stand in a column.
  private static func turnedZeros(_ zeros: Tensor, rows: Int, groups: Int, bits: Int) -> Tensor {
    let source = bytes(zeros)
    let rowBytes = (groups * bits + 7) / 8
    let words = (rows * bits + 31) / 32
    var target = [UInt32](repeating: 0, count: words * groups)
    for row in 0..<rows {
      for group in 0..<groups {
        for bit in 0..<bits {
          let from = group * bits + bit
          guard source[row * rowBytes + from / 8] >> UInt8(from % 8) & 1 == 1 else { continue }
          let to = row * bits + bit
          target[to / 32 * groups + group] |= 1 << UInt32(to % 32)
        }
      }
    }
    return Tensor(.int32, shape: [words, groups], copying: target)
  }

  // MARK: - Configuration

  private static func configuration(
    _ source: any Checkpoint, _ modules: [(name: String, scheme: Scheme)],
    _ floats: [String], _ options: ExportOptions
  ) -> JSONValue {
    guard case .object(var object) = source.configuration else { return source.configuration }
    var schemes: [Scheme] = []
    for module in modules where !schemes.contains(module.scheme) {
      schemes.append(module.scheme)
    }
    var groups = JSONObject()
    for (index, own) in schemes.enumerated() {
      let targets: [JSONValue] =
        schemes.count == 1
        ? ["Linear"]
        : modules.filter { $0.scheme == own }.map { .string($0.name) }
      groups["group_\(index)"] = json(own, targets: targets)
    }
    let formats = Set(schemes.map { formatName($0.weights) })
    var ignored = floats
    if source.configuration["tie_word_embeddings"]?.bool == true { ignored.append("lm_head") }
    object["quantization_config"] = [
      "quant_method": "compressed-tensors",
      "format": .string(formats.count == 1 ? formats.first ?? "" : "mixed-precision"),
      "quantization_status": "compressed", "config_groups": .object(groups),
      "ignore": .array(ignored.map { .string($0) }), "kv_cache_scheme": .null,
    ]
    // Scales are halves: a program that loads them as bfloat16 would round them.
    let dtype = options.dtype == .float32 ? "float32" : "float16"
    object["dtype"] = .string(dtype)
    object["torch_dtype"] = .string(dtype)
    return .object(object)
  }

  private static func formatName(_ encoding: GroupIntegers) -> String {
    isPacked(encoding) ? "pack-quantized" : "int-quantized"
  }

  private static func json(_ scheme: Scheme, targets: [JSONValue]) -> JSONValue {
    let encoding = scheme.weights
    let strategy: String
    let size: JSONValue
    switch encoding.grouping {
    case .columns(let columns):
      strategy = "group"
      size = .integer(columns)
    case .channel:
      strategy = "channel"
      size = .null
    }
    return [
      "targets": .array(targets),
      "weights": [
        "num_bits": .integer(encoding.bits), "type": "int",
        "symmetric": .bool(encoding.isSymmetric), "strategy": .string(strategy),
        "group_size": size, "dynamic": false, "actorder": .null,
      ],
      "input_activations": scheme.roundsInputs ? tokenInputs : .null, "output_activations": .null,
      "format": .string(formatName(encoding)),
    ]
  }

  /// Inputs of eight bits with a scale a token that is found when the token comes.
  private static var tokenInputs: JSONValue {
    [
      "num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "group_size": .null,
      "dynamic": true, "actorder": .null,
    ]
  }
}
