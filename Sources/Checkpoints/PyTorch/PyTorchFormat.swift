// What torch.save writes: a zip archive (since 1.6), or pickles followed by storages (before).
//
// Layout   zip: NAME/data.pkl, NAME/data/KEY for each storage, NAME/byteorder; a TorchScript archive has
//          NAME/code/… and NAME/constants.pkl besides
//          legacy: pickles of the magic number, the version 1001, the system, the object and the list of
//          storage keys; then for each key a count (i64) and so many elements
// Source   torch/serialization.py of PyTorch 2.13: _save, _legacy_save, _load, _legacy_load

import JSONDocuments
import Tensors

/// PyTorch checkpoints.
public enum PyTorchFormat: CheckpointFormat {
  /// What messages call it.
  public static let formatName = "PyTorch checkpoint"

  /// The number that a legacy file begins with, after the two bytes of the protocol.
  private static let legacyMagic: [UInt8] = [
    0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, 0x2E,
  ]
  private static let suffixes = [".pt", ".pth", ".th", ".ckpt", ".jit"]

  /// Legacy files by their magic number, archives by the pickle in them, damaged files by their name.
  public static func recognizes(_ start: [UInt8], path: String) -> Bool {
    if start.dropFirst(2).starts(with: legacyMagic) { return true }
    if ZipArchive.recognizes(start), let archive = try? ZipArchive(path: path) {
      return pickle(of: archive) != nil
    }
    let isZip = ZipArchive.recognizes(start)
    return suffixes.contains { path.hasSuffix($0) } || (isZip && path.hasSuffix(".bin"))
  }

  /// Opens a file. Tensors are views of it where they lie in row-major order.
  public static func open(_ path: String) throws -> any Checkpoint {
    let bytes = try StoredBytes(mapping: path)
    if bytes.count >= 4, ByteReader(bytes).array(0..<2) == [0x50, 0x4B] {
      return try openArchive(try ZipArchive(path: path, bytes: bytes))
    }
    return try openLegacy(path, bytes)
  }

  /// The pickle of the model: `data.pkl` in the archive's one folder.
  private static func pickle(of archive: ZipArchive) -> ZipArchive.Entry? {
    archive.entries.first {
      let parts = $0.name.split(separator: "/", omittingEmptySubsequences: false)
      return parts.count <= 2 && parts.last == "data.pkl"
    }
  }

  private static func openArchive(_ archive: ZipArchive) throws(CheckpointError) -> TensorFile {
    guard let pickle = pickle(of: archive) else {
      throw CheckpointError(path: archive.path, .missingEntry("data.pkl"))
    }
    let folder = String(pickle.name.dropLast("data.pkl".utf8.count))
    let isScript = archive[folder + "constants.pkl"] != nil
    let contents = try archive.contents(of: pickle)
    var machine = PickleMachine(
      ByteReader(contents.storage, at: contents.range.lowerBound, end: contents.range.upperBound),
      inArchive: isScript, fileBytes: archive.bytes.count)
    var isBigEndian = false
    if let order = archive[folder + "byteorder"], !order.isDeflated {
      isBigEndian = ByteReader(archive.bytes).array(order.range) == Array("big".utf8)
    }
    let root: PickleValue
    let names: PyTorchNames
    do throws(CheckpointError.Problem) {
      root = try machine.run()
      names = try PyTorchNames(root, in: machine)
    } catch {
      throw CheckpointError(path: archive.path, error)
    }
    let source = ArchiveStorages(archive: archive, folder: folder, isBigEndian: isBigEndian)
    var architecture: String?
    if isScript, case .record(let index) = root {
      let name = machine.classNames[Int(machine.records[Int(index)].className)]
      architecture = "TorchScript " + (name.split(separator: ".").last.map(String.init) ?? name)
    }
    return try TensorFile(
      path: archive.path, formatName: isScript ? "TorchScript archive" : formatName,
      configuration: .object(
        JSONObject(
          architecture.map {
            [.init(key: "architecture", value: .string(CheckpointError.printable($0, limit: 120)))]
          } ?? [])),
      tensors: try tensors(names, machine, source, path: archive.path, bytes: archive.bytes),
      skipped: names.skipped, byteCount: archive.bytes.count)
  }

  private static func openLegacy(
    _ path: String, _ bytes: StoredBytes
  ) throws(CheckpointError) -> TensorFile {
    var machine = PickleMachine(ByteReader(bytes), inArchive: false, fileBytes: bytes.count)
    let names: PyTorchNames
    let source: LegacyStorages
    do throws(CheckpointError.Problem) {
      guard bytes.count >= 15, ByteReader(bytes).array(2..<15) == legacyMagic else {
        throw .damaged(what: "neither an archive nor pickles of torch.save", offset: 0)
      }
      _ = try machine.run()
      guard case .integer(1001) = try machine.run() else {
        throw .unsupported("another version of torch.save's old format than 1001")
      }
      _ = try machine.run()
      let root = try machine.run()
      let keys = try machine.run()
      names = try PyTorchNames(root, in: machine)
      source = try LegacyStorages(keys: keys, of: &machine)
    } catch {
      throw CheckpointError(path: path, error)
    }
    return try TensorFile(
      path: path, formatName: formatName,
      tensors: try tensors(names, machine, source, path: path, bytes: bytes),
      skipped: names.skipped, byteCount: bytes.count)
  }

  /// Finds the tensors' bytes.
  private static func tensors(
    _ names: PyTorchNames, _ machine: PickleMachine, _ source: some PyTorchStorages, path: String,
    bytes: StoredBytes
  ) throws(CheckpointError) -> [FoundTensor] {
    guard !names.found.isEmpty else {
      throw CheckpointError(path: path, .missing(key: "a tensor", expected: "in the file"))
    }
    var copies = DecodedBudget(fileBytes: bytes.count)
    var tensors: [FoundTensor] = []
    for (name, found) in zip(names.names, names.found) {
      do throws(CheckpointError.Problem) {
        let storage = machine.storages[Int(found.tensor.storage)]
        tensors.append(try source.tensor(name, found.tensor, storage, of: machine, &copies))
      } catch {
        throw CheckpointError(path: path, tensor: name, error)
      }
    }
    return tensors
  }
}
