public import Checkpoints
public import JSONDocuments
public import Tensors

/// A file of `HDF5Writer`: tensors with their encodings, a configuration and side files.
public struct HDF5Checkpoint: Checkpoint {
  /// The model's configuration.
  public let configuration: JSONValue
  /// The encoded weights.
  public let manifest: WeightManifest
  private let file: TensorFile
  private let sideFiles: [String: FoundTensor]

  /// What the format is called in messages.
  public var formatName: String { HDF5Format.formatName }
  /// The file, as the caller named it.
  public var path: String { file.path }
  /// The stored tensors, in the order in which they were written.
  public var tensorNames: [String] { file.tensorNames }
  /// One tensor; nil when there is none of this name.
  public func tensor(_ name: String) -> Tensor? { file.tensor(name) }
  /// What was found about a tensor, whose elements are not touched.
  public func tensorType(_ name: String) -> (dtype: DType, shape: [Int])? { file.tensorType(name) }
  /// Files beside the weights.
  public var sideFileNames: [String] { sideFiles.keys.sorted() }
  /// Bytes of the file.
  public var byteCount: Int { file.byteCount }

  /// The bytes of a side file.
  public func sideFile(_ name: String) throws -> [UInt8] {
    guard let tensor = sideFiles[name]?.tensor() else {
      throw CheckpointError(path: path, .missingFile(name))
    }
    return tensor.withBytes { unsafe $0.withUnsafeBytes { unsafe [UInt8]($0) } }
  }

  init(_ tree: HDF5Tree, byteCount: Int) throws(CheckpointError) {
    guard let version = tree.text(HDF5Names.versionAttribute), version == HDF5Names.version else {
      throw CheckpointError(
        path: tree.path,
        .unsupported(
          "version \(tree.text(HDF5Names.versionAttribute) ?? "none") of our HDF5 files (this program"
            + " reads \(HDF5Names.version))"))
    }
    func json(_ attribute: String) throws(CheckpointError) -> JSONValue? {
      guard let text = tree.text(attribute) else { return nil }
      do throws(JSONError) {
        return try JSONValue(parsing: text)
      } catch {
        throw CheckpointError(path: tree.path, tensor: attribute, .badHeader(error))
      }
    }
    configuration = try json(HDF5Names.configurationAttribute) ?? .object(JSONObject())
    if let json = try json(HDF5Names.manifestAttribute) {
      do throws(CheckpointError.Problem) {
        manifest = try WeightManifest(json: json)
      } catch {
        throw CheckpointError(path: tree.path, error)
      }
    } else {
      manifest = WeightManifest()
    }
    var tensors: [FoundTensor] = []
    var sideFiles: [String: FoundTensor] = [:]
    let folder = HDF5Names.files + "/"
    for tensor in tree.tensors {
      let isSideFile = tensor.name.hasPrefix(folder)
      let text = isSideFile ? String(tensor.name.dropFirst(folder.count)) : tensor.name
      guard !text.contains("/"), let name = HDF5Names.unescaped(text) else {
        throw CheckpointError(
          path: tree.path, tensor: tensor.name,
          .badValue(found: "this name", expected: "one that is escaped"))
      }
      if isSideFile {
        guard tensor.dtype == .uint8 else {
          throw CheckpointError(
            path: tree.path, tensor: tensor.name,
            .typeMismatch(found: tensor.dtype, expected: DType.uint8.rawValue))
        }
        guard !name.hasPrefix("/"), !name.split(separator: "/").contains("..") else {
          throw CheckpointError(path: tree.path, .unsafeEntryName(name))
        }
        sideFiles[name] = tensor
      } else {
        tensors.append(tensor.named(name))
      }
    }
    self.sideFiles = sideFiles
    file = try TensorFile(
      path: tree.path, formatName: HDF5Format.formatName, configuration: configuration,
      tensors: tensors, skipped: tree.skipped, byteCount: byteCount)
  }
}
