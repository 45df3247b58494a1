// The header of a safetensors file, checked before anything trusts it.
//
// Layout   u64 little-endian header length N, N bytes of JSON, then the data. The JSON maps each tensor
//          to {"dtype", "shape", "data_offsets": [begin, end]} and "__metadata__" to strings.
// Source   https://huggingface.co/docs/safetensors/index#format: the data is covered without holes.

import JSONDocuments
public import Tensors

/// Where a tensor lies in the data of its file.
public struct TensorEntry: Sendable, Equatable {
  /// The name.
  public let name: String
  /// The element type.
  public let dtype: DType
  /// The dimensions.
  public let shape: [Int]
  /// Its bytes, counted from the start of the data.
  public let range: Range<Int>
}

/// The checked header of a safetensors file.
public struct SafetensorsHeader: Sendable, Equatable {
  /// The tensors, in the order of their data.
  public let entries: [TensorEntry]
  /// `__metadata__`.
  public let metadata: [String: String]
  /// Bytes before the data.
  public let dataStart: Int

  /// No header is larger than this (the format's own limit).
  public static let byteLimit = 100_000_000

  /// Where a header is wrong: the tensor, if it is one's fault, and what.
  public struct Failure: Error, Sendable, Equatable {
    let tensor: String?
    let problem: CheckpointError.Problem

    init(_ problem: CheckpointError.Problem, tensor: String? = nil) {
      self.tensor = tensor
      self.problem = problem
    }
  }

  /// Reads and checks the header of a whole file.
  public init(of bytes: RawSpan) throws(Failure) {
    guard bytes.byteCount >= 8 else {
      throw Failure(.truncated(needed: 8, available: bytes.byteCount))
    }
    let length = unsafe UInt64(
      littleEndian: bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt64.self))
    guard length <= UInt64(Self.byteLimit) else {
      throw Failure(.headerTooLarge(bytes: length, limit: Self.byteLimit))
    }
    dataStart = 8 + Int(length)
    guard dataStart <= bytes.byteCount else {
      throw Failure(.truncated(needed: UInt64(dataStart), available: bytes.byteCount))
    }
    let text = bytes.extracting(8..<dataStart)
    let document: JSONValue
    do throws(JSONError) {
      document = try JSONValue(parsing: Span(_bytes: text))
    } catch {
      throw Failure(.badHeader(error))
    }
    guard let object = document.object else {
      throw Failure(.missing(key: "header", expected: "a JSON object"))
    }
    let available = bytes.byteCount - dataStart
    var entries: [TensorEntry] = []
    var metadata: [String: String] = [:]
    for member in object.members {
      if member.key == "__metadata__" {
        metadata = try Self.metadata(member.value)
      } else {
        do throws(CheckpointError.Problem) {
          entries.append(try Self.entry(member.key, member.value, available: available))
        } catch {
          throw Failure(error, tensor: member.key)
        }
      }
    }
    entries.sort {
      ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
    }
    try Self.checkCover(entries, available: available)
    self.entries = entries
    self.metadata = metadata
  }

  private static func metadata(_ value: JSONValue) throws(Failure) -> [String: String] {
    guard let members = value.object?.members else {
      throw Failure(.missing(key: "__metadata__", expected: "an object of strings"))
    }
    var metadata: [String: String] = [:]
    for member in members {
      guard let text = member.value.string else {
        throw Failure(.missing(key: "__metadata__.\(member.key)", expected: "a string"))
      }
      metadata[member.key] = text
    }
    return metadata
  }

  private static func entry(
    _ name: String, _ value: JSONValue, available: Int
  ) throws(CheckpointError.Problem) -> TensorEntry {
    guard let typeName = value["dtype"]?.string else {
      throw .missing(key: "dtype", expected: "a string")
    }
    guard let dtype = DType(rawValue: typeName) else { throw .unknownType(typeName) }
    guard let dimensions = value["shape"]?.array else {
      throw .missing(key: "shape", expected: "a list of integers")
    }
    let shape = dimensions.compactMap(\.integer)
    guard shape.count == dimensions.count else {
      throw .missing(key: "shape", expected: "a list of integers")
    }
    guard let offsets = value["data_offsets"]?.array, offsets.count == 2,
      let begin = offsets[0].integer, let end = offsets[1].integer
    else { throw .missing(key: "data_offsets", expected: "two integers") }
    guard begin >= 0, begin <= end, end <= available else {
      throw .badOffsets(begin: begin, end: end, available: available)
    }
    guard let count = elementCount(of: shape) else { throw .badShape(shape) }
    let (expected, overflow) = count.multipliedReportingOverflow(by: dtype.byteCount)
    guard !overflow else { throw .badShape(shape) }
    guard expected == end - begin else {
      throw .sizeMismatch(shape: shape, bytes: end - begin, expected: expected)
    }
    return TensorEntry(name: name, dtype: dtype, shape: shape, range: begin..<end)
  }

  private static func checkCover(_ entries: [TensorEntry], available: Int) throws(Failure) {
    var end = 0
    var previous = ""
    for entry in entries {
      if entry.range.lowerBound < end {
        throw Failure(.overlap(with: previous), tensor: entry.name)
      }
      if entry.range.lowerBound > end {
        throw Failure(.unusedBytes(from: end, to: entry.range.lowerBound), tensor: entry.name)
      }
      end = entry.range.upperBound
      previous = entry.name
    }
    if end < available { throw Failure(.unusedBytes(from: end, to: available)) }
  }
}
