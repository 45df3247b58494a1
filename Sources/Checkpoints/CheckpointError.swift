public import JSONDocuments
public import Tensors

/// Why a checkpoint could not be read or written: which file, which tensor, what is wrong with it.
public struct CheckpointError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The file, as the caller named it.
  public let path: String
  /// The tensor or the configuration key at fault, or nil when the file itself is.
  public let tensor: String?
  /// What is wrong.
  public let problem: Problem

  /// What can be wrong with a checkpoint. The cases carry the numbers, never a sentence.
  public enum Problem: Error, Sendable, Equatable {
    /// The file ends before `needed` bytes.
    case truncated(needed: UInt64, available: Int)
    /// The header claims to be larger than any real one.
    case headerTooLarge(bytes: UInt64, limit: Int)
    /// The header counts more of something than the rest of the file has room for.
    case countTooLarge(what: String, count: UInt64, available: Int)
    /// The header is not the JSON that is expected.
    case badHeader(JSONError)
    /// The header or configuration lacks this, or has another kind of value for it.
    case missing(key: String, expected: String)
    /// An element type that this version does not know.
    case unknownType(String)
    /// A shape with a negative dimension or more elements than memory has addresses.
    case badShape([Int])
    /// Offsets that do not lie in the data, or in the wrong order.
    case badOffsets(begin: Int, end: Int, available: Int)
    /// The shape and the byte range disagree.
    case sizeMismatch(shape: [Int], bytes: Int, expected: Int)
    /// The data of this tensor and of `other` share bytes.
    case overlap(with: String)
    /// Bytes of the file belong to no tensor.
    case unusedBytes(from: Int, to: Int)
    /// The index names a file that is not there.
    case missingShard(String)
    /// The index and the shard disagree about where the tensor is.
    case notInShard(String)
    /// Two files hold this tensor.
    case duplicateTensor(other: String)
    /// A tensor that the architecture needs is absent.
    case tensorNotFound
    /// A tensor has another shape than the configuration says.
    case shapeMismatch(found: [Int], expected: [Int])
    /// A tensor has a type that cannot be used here.
    case typeMismatch(found: DType, expected: String)
    /// Weights that are infinite or NaN.
    case notFinite(count: Int, total: Int)
    /// A matrix whose rows do not divide into the encoding's blocks.
    case raggedColumns(encoding: String, columns: Int, multiple: Int)
    /// A configuration value outside what this version can run.
    case badValue(found: String, expected: String)
    /// A valid file that uses something this version cannot read.
    case unsupported(String)
    /// Decoded bytes, or values made from the file, beyond what a file of this size may take.
    case tooLarge(what: String, bytes: Int, limit: Int)
    /// More of something than the reader goes through.
    case tooMany(what: String, count: Int, limit: Int)
    /// What stands at this byte is not what the format has there.
    case damaged(what: String, offset: Int)
    /// A tensor that reaches beyond the bytes it is a view of.
    case beyondStorage(offset: Int, shape: [Int], bytes: Int)
    /// A pickle names something that is no part of a tensor.
    case foreignGlobal(String)
    /// The name of an archive's entry leads out of it, or is none.
    case unsafeEntryName(String)
    /// An archive holds two entries of one name.
    case duplicateEntry(String)
    /// The archive lacks an entry.
    case missingEntry(String)
    /// The bytes of an archive's entry are not those that were stored.
    case damagedEntry(String)
    /// What the HDF5 library says about the file.
    case hdf5(String)
    /// The process that reads files for us was ended by a signal.
    case readerStopped(signal: Int)
    /// A file that begins like none of the formats.
    case unknownFormat(known: [String], start: [UInt8])
    /// The folder lacks a file.
    case missingFile(String)
    /// The output stands there already.
    case outputExists
    /// Another process writes the same output.
    case outputBusy
    /// Bytes that do not have the hash that the manifest says.
    case hashMismatch(found: String, expected: String)
  }

  /// An error.
  public init(path: String, tensor: String? = nil, _ problem: Problem) {
    self.path = path
    self.tensor = tensor
    self.problem = problem
  }

  /// One line without a full stop: `path: tensor 'name': what is wrong`.
  ///
  /// Names from a file may hold line feeds and escape sequences; `?` stands for them.
  public var description: String {
    let text = path + ": " + (tensor.map { "'\($0)': " } ?? "") + problem.description
    return Self.printable(text, limit: 1000)
  }

  /// A text without control characters, cut to a number of characters.
  static func printable(_ text: String, limit: Int) -> String {
    let isControl = { (scalar: Unicode.Scalar) in
      scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || scalar.value == 0x2028
        || scalar.value == 0x2029
    }
    guard text.utf8.count > limit || text.unicodeScalars.contains(where: isControl) else {
      return text
    }
    let scalars = text.unicodeScalars.prefix(limit).map { isControl($0) ? "?" : $0 }
    return String(String.UnicodeScalarView(scalars))
      + (text.unicodeScalars.count > limit ? "…" : "")
  }
}

extension CheckpointError.Problem: CustomStringConvertible {
  /// The sentence.
  public var description: String {
    switch self {
    case .truncated(let needed, let available):
      "truncated: \(needed) bytes are needed, the file has \(available); fetch it again"
    case .headerTooLarge(let bytes, let limit):
      "the header claims \(bytes) bytes, more than the limit of \(limit); not a safetensors file?"
    case .countTooLarge(let what, let count, let available):
      "the header counts \(count) \(what), the \(available) bytes that are left cannot hold them"
    case .badHeader(let error): "the header is damaged: \(error)"
    case .missing(let key, let expected): "'\(key)' is missing or not \(expected)"
    case .unknownType(let name): "the element type '\(name)' is unknown"
    case .badShape(let shape): "the shape \(shape) is impossible"
    case .badOffsets(let begin, let end, let available):
      "the data offsets \(begin)…\(end) do not lie in the \(available) bytes of data"
    case .sizeMismatch(let shape, let bytes, let expected):
      "the shape \(shape) needs \(expected) bytes, the offsets give \(bytes)"
    case .overlap(let other): "its data overlaps with that of '\(other)'"
    case .unusedBytes(let from, let to): "the data bytes \(from)…\(to) belong to no tensor"
    case .missingShard(let file): "the index names '\(file)', which is not in the folder"
    case .notInShard(let file): "the index says it is in '\(file)', which does not hold it"
    case .duplicateTensor(let other): "stands in '\(other)' as well"
    case .tensorNotFound: "the checkpoint has no such tensor"
    case .shapeMismatch(let found, let expected):
      "has shape \(found), the configuration says \(expected)"
    case .typeMismatch(let found, let expected):
      "is stored as \(found.rawValue), expected \(expected)"
    case .notFinite(let count, let total):
      "\(count) of \(total) values are infinite or NaN; repair the checkpoint before compressing it"
    case .raggedColumns(let encoding, let columns, let multiple):
      "has \(columns) columns; \(encoding) stores blocks of \(multiple)"
    case .badValue(let found, let expected): "found \(found), expected \(expected)"
    case .unsupported(let what): "\(what) is not supported"
    case .tooLarge(let what, let bytes, let limit):
      "\(what) \(bytes) bytes, the limit is \(limit) (the file's size and 64 MB); store it uncompressed"
        + " and contiguous"
    case .tooMany(let what, let count, let limit): "\(count) \(what), the limit is \(limit)"
    case .damaged(let what, let offset): "damaged at byte \(offset): \(what)"
    case .beyondStorage(let offset, let shape, let bytes):
      "the shape \(shape) from element \(offset) on reaches beyond its storage of \(bytes) bytes"
    case .foreignGlobal(let name):
      "the pickle names '\(name)', which is no part of a tensor; nothing of it was run. Save the model's"
        + " state_dict() alone and give that file"
    case .unsafeEntryName(let name): "the archive's entry '\(name)' has a name that leads out of it"
    case .duplicateEntry(let name): "the archive holds '\(name)' twice"
    case .missingEntry(let name): "the archive has no '\(name)'; fetch it again"
    case .damagedEntry(let name): "the archive's entry '\(name)' is damaged; fetch it again"
    case .hdf5(let message): "the HDF5 library says: \(message)"
    case .readerStopped(let signal):
      "the HDF5 library, in a process of its own, did not survive it (signal \(signal)); the file is damaged"

    case .unknownFormat(let known, let start):
      "is none of the formats that are read (\(known.joined(separator: ", "))); it begins with "
        + "\(start.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " "))"
    case .missingFile(let name): "the folder has no '\(name)'"
    case .outputExists: "exists already; remove it or choose another output (or give --force)"
    case .outputBusy: "another process is writing it"
    case .hashMismatch(let found, let expected):
      "the bytes have SHA-256 \(found.prefix(16))…, the manifest says \(expected.prefix(16))…"
    }
  }
}
