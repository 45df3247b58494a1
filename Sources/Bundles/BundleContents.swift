// What a bundle will hold, before a byte is written: the plan, the checkpoint that the self-test runs on,
// and the writer's input are one value.

public import Checkpoints
import Encodings
public import JSONDocuments
public import Tensors

/// The contents of a bundle to be written.
public struct BundleContents: Checkpoint {
  private let source: any Checkpoint
  private let dtype: DType?
  private let items: [SafetensorsLayout.Item]
  private let itemsByName: [String: SafetensorsLayout.Item]
  private let files: [(file: BundleManifest.SideFile, stored: [UInt8])]

  /// The folder or file, as the caller named it.
  public var path: String { source.path }
  /// What the format is called in messages.
  public var formatName: String { "bundle" }
  /// The model's configuration.
  public var configuration: JSONValue { source.configuration }
  /// The encoded weights.
  public var manifest: WeightManifest { source.manifest }
  /// The stored tensors, in the order of the data.
  public var tensorNames: [String] { items.map(\.name) }
  /// Files beside the weights.
  public var sideFileNames: [String] { files.map(\.file.name) }

  /// The contents made from a checkpoint.
  ///
  /// - Parameter dtype: The type of floats that are not encoded (float32, float16 or bfloat16); nil keeps
  ///   each as it is.
  public init(of source: any Checkpoint, dtype: DType?) throws {
    self.source = source
    self.dtype = dtype
    let encodedParts = Set(
      source.manifest.entries.flatMap { entry in
        entry.encoding.parts(outputs: entry.outputs, inputs: entry.inputs).map {
          entry.name + $0.suffix
        }
      })
    var items: [SafetensorsLayout.Item] = []
    for name in source.tensorNames {
      // These names have a meaning in a bundle; the tensor would be hidden.
      if BundleManifest.reservedPrefixes.contains(where: { name.hasPrefix($0) }) {
        throw CheckpointError(
          path: source.path, tensor: name, .unsupported("a tensor name that a bundle reserves"))
      }
      guard let tensor = source.tensor(name) else { continue }
      let converts = tensor.dtype.isFloat && !encodedParts.contains(name)
      items.append(
        .init(
          name: name, dtype: converts ? dtype ?? tensor.dtype : tensor.dtype, shape: tensor.shape))
    }
    self.items = items
    itemsByName = Dictionary(items.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    var seen: Set<String> = []
    let others = source.otherWeightFiles
    files = try source.sideFileNames.filter { !others.contains($0) }.map { name in
      // Two names that Swift holds equal although their bytes differ cannot both be looked up.
      guard seen.insert(name).inserted else {
        throw CheckpointError(path: source.path, tensor: name, .duplicateTensor(other: name))
      }
      let bytes = try source.sideFile(name)
      let deflated = Deflate.deflate(bytes)
      let isDeflated = deflated.count < bytes.count
      return (
        BundleManifest.SideFile(name: name, byteCount: bytes.count, isDeflated: isDeflated),
        isDeflated ? deflated : bytes
      )
    }
  }

  /// Side files of the source that the bundle leaves out: other formats' weights.
  public var droppedFiles: [String] {
    let kept = Set(sideFileNames)
    return source.sideFileNames.filter { !kept.contains($0) }
  }

  /// A view of one stored tensor; nil when there is none of this name.
  public func tensor(_ name: String) -> Tensor? {
    guard let tensor = source.tensor(name) else { return nil }
    guard let item = itemsByName[name] else { return nil }
    return item.dtype == tensor.dtype ? tensor : tensor.converted(to: item.dtype)
  }

  /// The bytes of a file beside the weights.
  public func sideFile(_ name: String) throws -> [UInt8] { try source.sideFile(name) }

  /// Bytes of everything.
  public var byteCount: Int { items.reduce(0) { $0 + $1.byteCount } }

  /// Checks that no number is infinite or NaN, before or after the conversion.
  public func checkNumbers() throws(CheckpointError) {
    for item in items where item.dtype.isFloat {
      guard let tensor = tensor(item.name) else { continue }
      let count = countNotFinite(tensor.floats().span)
      guard count == 0 else {
        throw CheckpointError(
          path: path, tensor: item.name, .notFinite(count: count, total: tensor.count))
      }
    }
  }

  /// The hashes of the bytes to be written, computed on all threads.
  public func hashes() -> [(tensor: String, digits: String)] {
    let digits = ParallelLoop.map(items.count + files.count) { index -> String in
      if index < items.count {
        return tensor(items[index].name).map { ContentHash.of($0) } ?? ""
      }
      return ContentHash.of(files[index - items.count].stored)
    }
    return Array(zip(storedNames, digits)).map { (tensor: $0, digits: $1) }
  }

  /// The same list with one value for each hash, for planning.
  public func placeholderHashes(_ digits: String) -> [(tensor: String, digits: String)] {
    storedNames.map { (tensor: $0, digits: digits) }
  }

  private var storedNames: [String] { items.map(\.name) + files.map(\.file.tensorName) }

  /// The manifest.
  public func bundleManifest(
    hashes: [(tensor: String, digits: String)], lineage: JSONValue, drift: JSONValue,
    selfTest: BundleManifest.SelfTest?
  ) -> BundleManifest {
    BundleManifest(
      configuration: configuration, weights: manifest, sideFiles: files.map(\.file),
      hashes: hashes, lineage: lineage, drift: drift, selfTest: selfTest)
  }

  /// The layout of the file, with the filling that puts every tensor on a multiple of 64 bytes.
  public func layout(_ manifest: BundleManifest) -> SafetensorsLayout {
    var all: [SafetensorsLayout.Item] = []
    var offset = 0
    let stored =
      items
      + files.map {
        SafetensorsLayout.Item(name: $0.file.tensorName, dtype: .uint8, shape: [$0.stored.count])
      }
    for item in stored {
      let rest = offset % SafetensorsLayout.alignment
      if rest > 0 {
        let pad = SafetensorsLayout.alignment - rest
        all.append(
          .init(name: "\(BundleManifest.padPrefix)\(offset)", dtype: .uint8, shape: [pad]))
        offset += pad
      }
      all.append(item)
      offset += item.byteCount
    }
    func layout(_ manifest: BundleManifest, reserve: Int) -> SafetensorsLayout {
      SafetensorsLayout(
        items: all,
        metadata: [
          ("format", BundleManifest.format), ("version", String(BundleManifest.version)),
          ("manifest", manifest.json.compactText),
        ], reserve: reserve)
    }
    // Room for the longest figures: the size of a bundle is then known before anything is measured.
    return layout(manifest, reserve: layout(manifest.withLongestFigures, reserve: 0).header.count)
  }

  /// Writes the bundle; it appears under its name only when it is complete.
  public func write(to path: String, manifest: BundleManifest) throws(FileError) {
    let layout = layout(manifest)
    var writer = try SafetensorsWriter(path: path, layout: layout)
    let filesByTensor = Dictionary(
      uniqueKeysWithValues: files.map { ($0.file.tensorName, $0.stored) })
    for item in layout.items {
      if item.name.hasPrefix(BundleManifest.padPrefix) {
        try writer.write(
          Tensor(.uint8, shape: item.shape, copying: [UInt8](repeating: 0, count: item.byteCount)))
      } else if let stored = filesByTensor[item.name] {
        try writer.write(Tensor(.uint8, shape: item.shape, copying: stored))
      } else if let tensor = tensor(item.name) {
        try writer.write(tensor)
      }
    }
    try writer.finish()
  }
}
