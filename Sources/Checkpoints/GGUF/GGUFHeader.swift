// The header of a GGUF file: metadata, and the name, shape, type and place of every tensor.
//
// Source   https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3
// Layout   "GGUF" · version u32 · tensors u64 · metadata u64 · metadata · tensor descriptions · data
//          a tensor: name string · rank u32 · dimensions u64 each, innermost first · type u32 · offset u64
//          data and every tensor start on a multiple of `general.alignment` (32 when it is not said)

public import Encodings
public import Tensors

/// What a tensor's type number stands for.
public enum GGUFTensorType: Sendable, Equatable {
  /// Single numbers.
  case plain(DType)
  /// Blocks.
  case blocks(GGUFBlockType)

  /// Numbers of the types that are no blocks.
  private static let plainTypes: [(number: UInt32, dtype: DType)] = [
    (0, .float32), (1, .float16), (24, .int8), (25, .int16), (26, .int32), (27, .int64),
    (28, .float64), (30, .bfloat16),
  ]

  /// The type of a number in a file; nil for one that current llama.cpp does not define.
  public init?(number: UInt32) {
    if let plain = Self.plainTypes.first(where: { $0.number == number }) {
      self = .plain(plain.dtype)
    } else if let blocks = GGUFBlockType(rawValue: number) {
      self = .blocks(blocks)
    } else {
      return nil
    }
  }

  /// The type of plain numbers; nil for those that GGUF does not have.
  public init?(_ dtype: DType) {
    guard Self.plainTypes.contains(where: { $0.dtype == dtype }) else { return nil }
    self = .plain(dtype)
  }

  /// The number in a file.
  public var number: UInt32 {
    switch self {
    case .plain(let dtype): Self.plainTypes.first { $0.dtype == dtype }?.number ?? 0
    case .blocks(let type): type.rawValue
    }
  }

  /// Bytes of a row; nil when it does not divide into blocks or overflows.
  func rowBytes(_ columns: Int) -> Int? {
    switch self {
    case .plain(let dtype):
      let (bytes, overflow) = columns.multipliedReportingOverflow(by: dtype.byteCount)
      return overflow ? nil : bytes
    case .blocks(let type):
      guard columns % type.blockColumns == 0 else { return nil }
      let (bytes, overflow) = (columns / type.blockColumns)
        .multipliedReportingOverflow(by: type.blockBytes)
      return overflow ? nil : bytes
    }
  }
}

/// A checked header.
public struct GGUFHeader: Sendable {
  /// One tensor.
  public struct Entry: Sendable {
    /// The name, in llama.cpp's words.
    public let name: String
    /// How it is stored.
    public let type: GGUFTensorType
    /// The dimensions, outermost first (files hold them innermost first).
    public let shape: [Int]
    /// Its bytes in the file.
    public let range: Range<Int>
  }

  /// What the file says about itself.
  public let metadata: GGUFMetadata
  /// The tensors, in the order of the descriptions.
  public let entries: [Entry]
  /// 2 or 3.
  public let version: Int

  /// What is wrong, and with which tensor.
  struct Failure: Error {
    var tensor: String?
    let problem: CheckpointError.Problem
  }

  /// Four letters.
  public static let magic: [UInt8] = [0x47, 0x47, 0x55, 0x46]
  /// llama.cpp's largest rank.
  static let largestRank: UInt32 = 4
  /// Where tensors start, unless the file says otherwise.
  static let usualAlignment = 32

  /// Reads and checks the header of a mapped file.
  init(of storage: StoredBytes) throws(Failure) {
    var reader = ByteReader(storage)
    let tensorCount: UInt64
    do throws(CheckpointError.Problem) {
      guard try reader.next(4) == Self.magic else {
        throw .badValue(found: "other first bytes", expected: "'GGUF'")
      }
      let version = UInt32(try reader.integer(4))
      guard version == 2 || version == 3 else {
        throw .unsupported(
          version.byteSwapped == 2 || version.byteSwapped == 3
            ? "a big-endian GGUF file" : "GGUF version \(version) (versions 2 and 3 are read)")
      }
      self.version = Int(version)
      tensorCount = try reader.integer(8)
      let valueCount = try reader.integer(8)
      metadata = try GGUFMetadata(&reader, count: valueCount)
      // A description takes at least 8 + 4 + 8 + 4 + 8 bytes.
      guard tensorCount <= UInt64(reader.available / 32) else {
        throw .countTooLarge(what: "tensors", count: tensorCount, available: reader.available)
      }
    } catch {
      throw Failure(problem: error)
    }
    var described: [(name: String, type: GGUFTensorType, shape: [Int], offset: UInt64)] = []
    for _ in 0..<Int(tensorCount) {
      var name: String?
      do throws(CheckpointError.Problem) {
        let own = String(decoding: try reader.next(try reader.length()), as: UTF8.self)
        name = own
        let shape = try Self.shape(&reader)
        let number = UInt32(try reader.integer(4))
        guard let type = GGUFTensorType(number: number) else {
          throw .unknownType("ggml type \(number)")
        }
        described.append((own, type, shape, try reader.integer(8)))
      } catch {
        throw Failure(tensor: name, problem: error)
      }
    }
    let alignment = metadata["general.alignment"]?.integer ?? Self.usualAlignment
    guard alignment > 0, alignment <= 1 << 20, alignment & (alignment - 1) == 0 else {
      throw Failure(
        tensor: "general.alignment",
        problem: .badValue(found: "\(alignment)", expected: "a power of two up to 1048576"))
    }
    let start = (reader.offset + alignment - 1) / alignment * alignment
    entries = try Self.place(described, start: start, alignment: alignment, in: storage.count)
  }

  private static func shape(_ reader: inout ByteReader) throws(CheckpointError.Problem) -> [Int] {
    let rank = UInt32(try reader.integer(4))
    guard rank <= largestRank else {
      throw .badValue(found: "\(rank) dimensions", expected: "at most \(largestRank)")
    }
    var shape: [Int] = []
    for _ in 0..<rank {
      let dimension = try reader.integer(8)
      guard dimension <= UInt64(Int32.max) else {
        throw .badValue(
          found: "a dimension of \(dimension)", expected: "at most \(Int32.max)")
      }
      shape.insert(Int(dimension), at: 0)
    }
    guard elementCount(of: shape) != nil else { throw .badShape(shape) }
    return shape
  }

  /// Gives each tensor its bytes; they lie inside the file and do not overlap.
  private static func place(
    _ described: [(name: String, type: GGUFTensorType, shape: [Int], offset: UInt64)], start: Int,
    alignment: Int, in fileSize: Int
  ) throws(Failure) -> [Entry] {
    var entries: [Entry] = []
    var seen: Set<String> = []
    let available = max(0, fileSize - start)
    for tensor in described {
      guard seen.insert(tensor.name).inserted else {
        throw Failure(tensor: tensor.name, problem: .duplicateTensor(other: tensor.name))
      }
      guard let rowBytes = tensor.type.rowBytes(tensor.shape.last ?? 1) else {
        if case .blocks(let type) = tensor.type {
          throw Failure(
            tensor: tensor.name,
            problem: .raggedColumns(
              encoding: type.name, columns: tensor.shape.last ?? 1, multiple: type.blockColumns))
        }
        throw Failure(tensor: tensor.name, problem: .badShape(tensor.shape))
      }
      guard let count = elementCount(of: tensor.shape.dropLast() + [rowBytes]),
        tensor.offset <= UInt64(available), count <= available - Int(tensor.offset)
      else {
        throw Failure(
          tensor: tensor.name,
          problem: .truncated(
            needed: UInt64(start).addingReportingOverflow(tensor.offset).partialValue,
            available: fileSize))
      }
      guard tensor.offset % UInt64(alignment) == 0 else {
        throw Failure(
          tensor: tensor.name,
          problem: .badValue(
            found: "data at offset \(tensor.offset)", expected: "a multiple of \(alignment)"))
      }
      let begin = start + Int(tensor.offset)
      entries.append(
        Entry(
          name: tensor.name, type: tensor.type, shape: tensor.shape, range: begin..<begin + count))
    }
    var end = 0
    var last = ""
    for entry in entries.filter({ !$0.range.isEmpty }).sorted(by: {
      $0.range.lowerBound < $1.range.lowerBound
    }) {
      guard entry.range.lowerBound >= end else {
        throw Failure(tensor: entry.name, problem: .overlap(with: last))
      }
      end = entry.range.upperBound
      last = entry.name
    }
    return entries
  }
}

/// One mapped GGUF file.
public struct GGUFFile: Sendable {
  /// The file, as the caller named it.
  public let path: String
  /// The checked header.
  public let header: GGUFHeader
  let storage: StoredBytes

  /// Maps a file and checks its header.
  public init(path: String) throws {
    storage = try StoredBytes(mapping: path)
    do throws(GGUFHeader.Failure) {
      header = try GGUFHeader(of: storage)
    } catch {
      throw CheckpointError(path: path, tensor: error.tensor, error.problem)
    }
    self.path = path
  }
}
