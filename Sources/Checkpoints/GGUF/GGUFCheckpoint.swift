// A GGUF file, or the parts of a split one, as a checkpoint in transformers' names.

import Encodings
public import JSONDocuments
public import Tensors

/// A model in GGUF. Opening reads headers; weights stay mapped in their blocks.
public struct GGUFCheckpoint: Checkpoint {
  /// The file, as the caller named it.
  public let path: String
  /// The model's configuration, in the words of `config.json`.
  public let configuration: JSONValue
  /// The weights in blocks.
  public let manifest: WeightManifest
  /// The stored tensors, in the order of the file.
  public let tensorNames: [String]
  /// Everything that the first file says about itself.
  public let metadata: GGUFMetadata
  private let files: [GGUFFile]
  private let places: [String: Place]

  /// Where a stored tensor lies.
  private struct Place {
    let file: Int
    let entry: GGUFHeader.Entry
    /// Rows of a head, where the rows of queries or keys are in llama.cpp's order.
    let headSize: Int?
  }

  /// The parts of a weight in blocks follow its name.
  static let blocksSuffix = ":blocks"
  /// What the manifest says of numbers whose method the file does not tell.
  public static let unknownMethod = "unrecorded"
  /// Our own metadata: the method of each tensor, and the lineage.
  public static let methodsKey = "condense.methods"
  /// Our own metadata: how the file came to be.
  public static let lineageKey = "condense.lineage"

  /// What the format is called in messages.
  public var formatName: String { GGUFFormat.formatName }
  /// Bytes of all parts.
  public var byteCount: Int { files.reduce(0) { $0 + $1.storage.count } }
  /// The weight files: several when the file was split.
  public var weightFilePaths: [String] { files.map(\.path) }

  /// Opens a file; of a split one, the other parts as well.
  public init(path: String) throws {
    let first = try GGUFFile(path: path)
    self.path = path
    metadata = first.header.metadata
    files = try Self.parts(of: first)
    let architecture = metadata["general.architecture"]?.text.flatMap {
      GGUFArchitecture(rawValue: $0)
    }
    var shapes: [String: [Int]] = [:]
    var entries: [(name: String, file: Int, entry: GGUFHeader.Entry)] = []
    for (index, file) in files.enumerated() {
      for entry in file.header.entries {
        let name = architecture?.modelName(of: entry.name) ?? entry.name
        if shapes.updateValue(entry.shape, forKey: name) != nil {
          throw CheckpointError(path: file.path, tensor: name, .duplicateTensor(other: name))
        }
        entries.append((name, index, entry))
      }
    }
    let empty: [(name: String, shape: [Int], value: Float)]
    do throws(CheckpointError.Problem) {
      configuration = try Self.configuration(
        metadata, architecture: architecture, shapes: shapes, files: files)
      empty = architecture == .deci ? try GGUFArchitecture.emptyMLPs(of: configuration) : []
    } catch {
      throw CheckpointError(path: path, error)
    }
    // Only numbers are needed of transformers' words; a rotation's factors are in the configuration.
    if architecture != nil {
      entries.removeAll { $0.name == GGUFConfiguration.rotationFactorsName }
    }
    for tensor in empty {
      guard let entry = entries.first(where: { $0.name == tensor.name }),
        entry.entry.shape == tensor.shape,
        case .plain(let dtype) = entry.entry.type,
        Tensor(
          dtype: dtype, shape: tensor.shape, storage: files[entry.file].storage,
          range: entry.entry.range
        ).floats().allSatisfy({ $0 == tensor.value })
      else {
        throw CheckpointError(
          path: path, tensor: tensor.name,
          .badValue(
            found: "numbers of its own", expected: "an MLP of zeros, which the metadata says"))
      }
    }
    let left = Set(empty.map(\.name))
    entries.removeAll { left.contains($0.name) }
    let headSize = configuration["head_dim"]?.integer
    let methods = Self.methods(metadata)
    var places: [String: Place] = [:]
    var weights: [WeightManifest.Entry] = []
    var names: [String] = []
    for (name, file, entry) in entries {
      var stored = name
      if case .blocks(let type) = entry.type {
        stored += Self.blocksSuffix
        weights.append(
          .init(
            name: name, encoding: GGUFBlocks(type), outputs: entry.shape.dropLast().reduce(1, *),
            inputs: entry.shape.last ?? 1,
            method: methods[entry.name] ?? methods["*"] ?? Self.unknownMethod))
      }
      let rotated = architecture?.rotatedHeads(of: name) != nil
      if rotated, let headSize,
        (entry.shape.count == 1 ? entry.shape[0] : entry.shape.dropLast().reduce(1, *)) % headSize
          != 0
      {
        throw CheckpointError(
          path: path, tensor: name,
          .badValue(found: "\(entry.shape)", expected: "a multiple of \(headSize) rows"))
      }
      places[stored] = Place(file: file, entry: entry, headSize: rotated ? headSize : nil)
      names.append(stored)
    }
    self.places = places
    tensorNames = names
    manifest = WeightManifest(weights)
  }

  /// A view of one stored tensor; queries' and keys' rows are put in transformers' order.
  public func tensor(_ name: String) -> Tensor? {
    guard let place = places[name] else { return nil }
    let entry = place.entry
    let dtype: DType, shape: [Int]
    switch entry.type {
    case .plain(let type):
      dtype = type
      shape = entry.shape
    case .blocks(let type):
      dtype = .uint8
      shape = [
        entry.shape.dropLast().reduce(1, *),
        (entry.shape.last ?? 1) / type.blockColumns * type.blockBytes,
      ]
    }
    let tensor = Tensor(
      dtype: dtype, shape: shape, storage: files[place.file].storage, range: entry.range)
    guard let headSize = place.headSize else { return tensor }
    let rows = shape.count == 1 ? shape[0] : tensor.rows
    return tensor.selectingRows(GGUFArchitecture.fileRows(rows: rows, headSize: headSize))
  }

  /// The tokenizer, made from the metadata.
  public var sideFileNames: [String] {
    var names: [String] = []
    if metadata["tokenizer.chat_template"]?.text != nil { names.append(Self.templateName) }
    if GGUFTokenizer.isPresent(metadata) { names.append(GGUFTokenizer.fileName) }
    return names
  }

  private static let templateName = "chat_template.jinja"

  /// The bytes of a side file, made from the metadata.
  public func sideFile(_ name: String) throws -> [UInt8] {
    switch name {
    case Self.templateName where metadata["tokenizer.chat_template"]?.text != nil:
      return Array((metadata["tokenizer.chat_template"]?.text ?? "").utf8)
    case GGUFTokenizer.fileName where GGUFTokenizer.isPresent(metadata):
      do throws(CheckpointError.Problem) {
        return Array((try GGUFTokenizer.json(metadata)).compactText.utf8)
      } catch {
        throw CheckpointError(path: path, error)
      }
    default: throw CheckpointError(path: path, .missingFile(name))
    }
  }

  // MARK: - Opening

  /// The files of a split model: `NAME-00001-of-00003.gguf` and its siblings.
  private static func parts(of first: GGUFFile) throws -> [GGUFFile] {
    guard let count = first.header.metadata["split.count"]?.integer, count > 1 else {
      return [first]
    }
    guard first.header.metadata["split.no"]?.integer == 0, count <= 65_535,
      let names = GGUFSplit.names(of: first.path, count: count)
    else {
      throw CheckpointError(
        path: first.path,
        .badValue(
          found: "part \((first.header.metadata["split.no"]?.integer ?? -1) + 1) of \(count)",
          expected: "the first part, NAME-00001-of-\(GGUFSplit.digits(count)).gguf"))
    }
    var files = [first]
    for (index, name) in names.enumerated().dropFirst() {
      guard FilePath.kind(of: name) != nil else {
        throw CheckpointError(path: first.path, .missingShard(FilePath.name(of: name)))
      }
      let file = try GGUFFile(path: name)
      guard file.header.metadata["split.no"]?.integer == index,
        file.header.metadata["split.count"]?.integer == count
      else {
        throw CheckpointError(
          path: name,
          .badValue(
            found: "part \((file.header.metadata["split.no"]?.integer ?? -1) + 1)",
            expected: "part \(index + 1) of \(count)"))
      }
      files.append(file)
    }
    let found = files.reduce(0) { $0 + $1.header.entries.count }
    if let expected = first.header.metadata["split.tensors.count"]?.integer, expected != found {
      throw CheckpointError(
        path: first.path,
        .badValue(found: "\(found) tensors in all parts", expected: "\(expected)"))
    }
    return files
  }

  private static func configuration(
    _ metadata: GGUFMetadata, architecture: GGUFArchitecture?, shapes: [String: [Int]],
    files: [GGUFFile]
  ) throws(CheckpointError.Problem) -> JSONValue {
    guard let architecture else {
      var object = JSONObject()
      if let name = metadata["general.architecture"]?.text {
        object["architecture"] = .string(name)
      }
      return .object(object)
    }
    var factors: [Float]?
    for file in files {
      for entry in file.header.entries
      where entry.name == GGUFConfiguration.rotationFactorsName && entry.type == .plain(.float32) {
        factors =
          Tensor(
            dtype: .float32, shape: entry.shape, storage: file.storage, range: entry.range
          ).floats()
      }
    }
    return try GGUFConfiguration.json(
      metadata, architecture: architecture, tensors: shapes, factors: factors)
  }

  private static func methods(_ metadata: GGUFMetadata) -> [String: String] {
    guard let text = metadata[methodsKey]?.text, let json = try? JSONValue(parsing: text) else {
      return [:]
    }
    return Dictionary(
      (json.object?.members ?? []).compactMap { member in
        member.value.string.map { (member.key, $0) }
      }, uniquingKeysWith: { first, _ in first })
  }
}

/// The names of the parts of a split file.
public enum GGUFSplit {
  /// Five digits.
  static func digits(_ number: Int) -> String {
    let text = String(number)
    return String(repeating: "0", count: max(0, 5 - text.count)) + text
  }

  /// The name of a part, counted from 1.
  public static func name(_ stem: String, part: Int, of count: Int) -> String {
    "\(stem)-\(digits(part))-of-\(digits(count)).gguf"
  }

  /// All parts' names from the first one's; nil when it is not named like a first part.
  static func names(of first: String, count: Int) -> [String]? {
    let ending = "-00001-of-\(digits(count)).gguf"
    guard first.hasSuffix(ending) else { return nil }
    let stem = String(first.dropLast(ending.count))
    return (1...count).map { name(stem, part: $0, of: count) }
  }
}

/// GGUF as one of the formats.
public enum GGUFFormat: CheckpointFormat {
  /// What messages call it.
  public static let formatName = "GGUF file"

  /// Four letters; a damaged file is known by its name.
  public static func recognizes(_ start: [UInt8], path: String) -> Bool {
    start.starts(with: GGUFHeader.magic) || path.hasSuffix(".gguf")
  }

  /// Opens a file.
  public static func open(_ path: String) throws -> any Checkpoint {
    try GGUFCheckpoint(path: path)
  }
}
