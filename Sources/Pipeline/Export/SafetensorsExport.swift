// A checkpoint as dense safetensors: what transformers and most other programs load.
//
// Source   the layout of a checkpoint folder: https://huggingface.co/docs/safetensors and transformers'
//          `save_pretrained` (shards are named in model.safetensors.index.json)
// Checked  SafetensorsExportTests; transformers loads shards and index (docs/interop.md)

public import Checkpoints
import Encodings
public import JSONDocuments
import Tensors

/// Dense safetensors, a folder with its side files or one file.
public enum SafetensorsExport: ExportFormat {
  /// `safetensors`.
  public static let name = "safetensors"
  /// None: the output is a folder, or one file when its name says so.
  public static let suffix = ""
  /// Into parts of at most so many bytes.
  public static let isSplittable = true

  /// Writes the folder, or only the tensors where the name ends in `.safetensors`.
  public static func write(
    _ source: any Checkpoint, to path: String, options: ExportOptions, lineage: JSONValue
  ) throws -> ExportReport {
    var report = ExportReport()
    let tensors = try DenseTensors(of: source, options: options, &report)
    if path.hasSuffix(".safetensors") {
      try write(tensors.names[...], of: tensors, to: path, &report)
      return report
    }
    let folder = try ExportFolder(path)
    let shards = shards(of: tensors, limit: options.shardBytes)
    var places = JSONObject()
    for (index, names) in shards.enumerated() {
      let file = fileName(index, of: shards.count)
      try write(names, of: tensors, to: folder.path(file), &report)
      for name in names { places[name] = .string(file) }
    }
    if shards.count > 1 {
      let total = tensors.names.reduce(0) { $0 + tensors.byteCount($1) }
      let index: JSONValue = [
        "metadata": ["total_size": .integer(total)], "weight_map": .object(places),
      ]
      try folder.write(
        Array((index.indentedText + "\n").utf8), as: CheckpointFolder.indexName, &report)
    }
    try folder.writeSideFiles(
      of: source, configuration: source.configuration, lineage: lineage, &report)
    try folder.finish(&report)
    return report
  }

  private static func fileName(_ index: Int, of count: Int) -> String {
    func digits(_ number: Int) -> String {
      let text = String(number)
      return String(repeating: "0", count: max(0, 5 - text.count)) + text
    }
    return count == 1
      ? CheckpointFolder.weightsName
      : "model-\(digits(index + 1))-of-\(digits(count)).safetensors"
  }

  private static func write(
    _ names: ArraySlice<String>, of tensors: DenseTensors, to path: String,
    _ report: inout ExportReport
  ) throws {
    let layout = SafetensorsLayout(
      items: names.map {
        .init(name: $0, dtype: tensors.dtype($0), shape: tensors.shape($0))
      }, metadata: [("format", "pt")])
    var writer = try SafetensorsWriter(path: path, layout: layout)
    for name in names { try writer.write(try tensors.tensor(name), as: tensors.dtype(name)) }
    try writer.finish()
    report.files.append(path)
    report.byteCount += layout.byteCount
  }

  private static func shards(of tensors: DenseTensors, limit: Int?) -> [ArraySlice<String>] {
    guard let limit else { return [tensors.names[...]] }
    var shards: [ArraySlice<String>] = []
    var start = 0, bytes = 0
    for (index, name) in tensors.names.enumerated() {
      let own = tensors.byteCount(name)
      if bytes + own > limit, index > start {
        shards.append(tensors.names[start..<index])
        start = index
        bytes = 0
      }
      bytes += own
    }
    return shards + [tensors.names[start...]]
  }
}

/// The tensors of a checkpoint as plain numbers: weights in encodings are decoded one at a time.
struct DenseTensors {
  /// The names, in the order of the source.
  let names: [String]
  private let source: any Checkpoint
  private let shapes: [String: [Int]]
  private let dtypes: [String: DType]

  init(
    of source: any Checkpoint, options: ExportOptions, _ report: inout ExportReport
  ) throws {
    self.source = source
    var shapes: [String: [Int]] = [:]
    var dtypes: [String: DType] = [:]
    var names: [String] = []
    var decoded: [String: Int] = [:]
    for logical in source.logicalTensors {
      names.append(logical.name)
      shapes[logical.name] = logical.shape
      if let entry = source.manifest[logical.name], !entry.isPlainTensor {
        if let dtype = entry.encoding.exactFloats {
          dtypes[logical.name] = options.dtype ?? dtype
          continue
        }
        guard options.decodes else {
          throw ExportError(
            path: source.path, tensor: logical.name,
            "is stored as \(entry.encoding.name), this format holds plain numbers; give --decode to write "
              + "floats")
        }
        decoded[entry.encoding.name, default: 0] += 1
        dtypes[logical.name] = options.dtype ?? .float32
      } else if let tensor = source.tensor(logical.name) {
        dtypes[logical.name] =
          tensor.dtype.isFloat ? options.dtype ?? tensor.dtype : tensor.dtype
      }
    }
    for (encoding, count) in decoded.sorted(by: { $0.key < $1.key }) {
      report.notes.append(
        "decoded: \(count) weights of \(encoding) to "
          + "\((options.dtype ?? .float32).rawValue.lowercased())")
    }
    self.names = names
    self.shapes = shapes
    self.dtypes = dtypes
  }

  /// The dimensions.
  func shape(_ name: String) -> [Int] { shapes[name] ?? [] }
  /// The type to write.
  func dtype(_ name: String) -> DType { dtypes[name] ?? .float32 }
  /// The bytes to write.
  func byteCount(_ name: String) -> Int { shape(name).reduce(dtype(name).byteCount, *) }

  /// The numbers, in the source's type or as float32.
  func tensor(_ name: String) throws -> Tensor {
    if let entry = source.manifest[name], !entry.isPlainTensor {
      return try source.decodedTensor(entry)
    }
    guard let tensor = source.tensor(name) else {
      throw CheckpointError(path: source.path, tensor: name, .tensorNotFound)
    }
    return tensor
  }
}

/// A folder that gets its name when everything is in it.
struct ExportFolder {
  private let path: String
  private let workPath: String

  init(_ path: String) throws {
    self.path = FilePath.withoutTrailingSlash(path)
    workPath = self.path + ".partial"
    try FilePath.remove(workPath)
    try FilePath.makeFolder(workPath)
  }

  /// Where a file is written.
  func path(_ name: String) -> String { FilePath.join(workPath, name) }

  /// Writes a small file.
  func write(_ bytes: [UInt8], as name: String, _ report: inout ExportReport) throws {
    let file = path(name)
    try FilePath.makeFolder(FilePath.folder(of: file))
    try OutputFile.write(bytes, to: file)
    report.files.append(file)
    report.byteCount += bytes.count
  }

  /// Copies the side files, and writes the configuration and the lineage.
  func writeSideFiles(
    of source: any Checkpoint, configuration: JSONValue, lineage: JSONValue,
    _ report: inout ExportReport
  ) throws {
    let others = source.otherWeightFiles
    for name in source.sideFileNames where name != "config.json" {
      guard !others.contains(name) else {
        report.notes.append("left out: '\(name)', weights in another format")
        continue
      }
      guard !name.split(separator: "/").contains("..") else {
        throw CheckpointError(
          path: source.path, tensor: name,
          .badValue(found: "a file outside the folder", expected: "a relative path without '..'"))
      }
      try write(try source.sideFile(name), as: name, &report)
    }
    let same = source.configuration.compactText == configuration.compactText
    let bytes =
      same && source.sideFileNames.contains("config.json")
      ? try source.sideFile("config.json") : Array((configuration.indentedText + "\n").utf8)
    try write(bytes, as: "config.json", &report)
    if !lineage.isNull {
      try write(Array((lineage.indentedText + "\n").utf8), as: "lineage.json", &report)
    }
  }

  /// Gives the folder its name.
  func finish(_ report: inout ExportReport) throws {
    try FilePath.rename(workPath, to: path)
    report.files = report.files.map { path + $0.dropFirst(workPath.count) }
  }
}

extension WeightManifest.Entry {
  /// Whether the stored tensor is the model's own.
  var isPlainTensor: Bool { encoding is PlainFloats && layout == nil }
}
