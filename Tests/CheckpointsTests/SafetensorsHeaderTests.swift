import JSONDocuments
import Tensors
import TestSupport
import Testing

@testable import Checkpoints

/// One damaged header and what must be said about it.
struct DamagedHeader: CustomTestStringConvertible {
  let name: String
  let bytes: [UInt8]
  let problem: CheckpointError.Problem
  let tensor: String?

  init(
    _ name: String, _ bytes: [UInt8], _ problem: CheckpointError.Problem, tensor: String? = nil
  ) {
    self.name = name
    self.bytes = bytes
    self.problem = problem
    self.tensor = tensor
  }

  /// A header of one tensor, `a`, by its members.
  init(
    _ name: String, a members: String, data: Int = 8, _ problem: CheckpointError.Problem
  ) {
    self.init(name, safetensorsBytes("{\"a\":{\(members)}}", data: data), problem, tensor: "a")
  }

  var testDescription: String { name }
}

@Suite struct SafetensorsHeaderTests {
  static let limit = SafetensorsHeader.byteLimit
  static let good = #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#

  static let files: [DamagedHeader] = [
    .init("no bytes", [], .truncated(needed: 8, available: 0)),
    .init("seven bytes", [1, 2, 3, 4, 5, 6, 7], .truncated(needed: 8, available: 7)),
    .init(
      "length 2^63", safetensorsBytes([], length: 1 << 63),
      .headerTooLarge(bytes: 1 << 63, limit: limit)),
    .init(
      "length 2^64 - 1", safetensorsBytes([], length: .max),
      .headerTooLarge(bytes: .max, limit: limit)),
    .init(
      "length above the limit", safetensorsBytes([], length: 100_000_001),
      .headerTooLarge(bytes: 100_000_001, limit: limit)),
    .init(
      "length at the limit", safetensorsBytes([], length: 100_000_000),
      .truncated(needed: 100_000_008, available: 8)),
    .init(
      "length beyond the file", safetensorsBytes(Array(good.utf8), length: 55),
      .truncated(needed: 63, available: 62)),
    .init("no header", safetensorsBytes(""), .badHeader(JSONError(.truncated, offset: 0))),
    .init("spaces", safetensorsBytes("   "), .badHeader(JSONError(.truncated, offset: 3))),
    .init("a list", safetensorsBytes("[]"), .missing(key: "header", expected: "a JSON object")),
    .init("null", safetensorsBytes("null"), .missing(key: "header", expected: "a JSON object")),
    .init(
      "two documents", safetensorsBytes("{}{}"), .badHeader(JSONError(.trailingBytes, offset: 2))),
    .init(
      "zero bytes behind", safetensorsBytes("{}\0\0"),
      .badHeader(JSONError(.trailingBytes, offset: 2))),
    .init(
      "one key twice",
      safetensorsBytes(
        #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"#
          + #""a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#, data: 2),
      .badHeader(JSONError(.duplicateKey("a"), offset: 53))),
    .init(
      "one key twice in a tensor", safetensorsBytes(#"{"a":{"shape":[1],"shape":[2]}}"#),
      .badHeader(JSONError(.duplicateKey("shape"), offset: 18))),
    .init(
      "a name that is not UTF-8",
      safetensorsBytes(Array(#"{"a"#.utf8) + [0xFF] + Array(#"":{}}"#.utf8)),
      .badHeader(JSONError(.notUTF8, offset: 2))),
    .init(
      "half a surrogate pair", safetensorsBytes(#"{"\ud800":{}}"#),
      .badHeader(JSONError(.badEscape, offset: 2))),
    .init(
      "deep nesting",
      safetensorsBytes(#"{"a":"# + String(repeating: "[", count: 100_000)),
      .badHeader(JSONError(.tooDeep(limit: 128), offset: 132))),
    .init(
      "metadata is a list", safetensorsBytes(#"{"__metadata__":[]}"#),
      .missing(key: "__metadata__", expected: "an object of strings")),
    .init(
      "metadata with a number", safetensorsBytes(#"{"__metadata__":{"a":"b","k":1}}"#),
      .missing(key: "__metadata__.k", expected: "a string")),
    .init(
      "metadata with an object", safetensorsBytes(#"{"__metadata__":{"k":{}}}"#),
      .missing(key: "__metadata__.k", expected: "a string")),
    .init("data of no tensor", safetensorsBytes("{}", data: 3), .unusedBytes(from: 0, to: 3)),
    .init(
      "data behind the tensors", safetensorsBytes(good, data: 9), .unusedBytes(from: 8, to: 9)),
    .init(
      "a hole",
      safetensorsBytes(
        #"{"b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]},"#
          + #""a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, data: 9),
      .unusedBytes(from: 4, to: 5), tensor: "b"),
    .init(
      "shared bytes",
      safetensorsBytes(
        #"{"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]},"#
          + #""a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, data: 7),
      .overlap(with: "a"), tensor: "b"),
    .init(
      "the same bytes",
      safetensorsBytes(
        #"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"#
          + #""b":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#, data: 4),
      .overlap(with: "a"), tensor: "b"),
  ]

  static let tensors: [DamagedHeader] = [
    .init("no members", a: "", .missing(key: "dtype", expected: "a string")),
    .init(
      "no dtype", a: #""shape":[2],"data_offsets":[0,8]"#,
      .missing(key: "dtype", expected: "a string")),
    .init(
      "dtype is a number", a: #""dtype":32,"shape":[2],"data_offsets":[0,8]"#,
      .missing(key: "dtype", expected: "a string")),
    .init(
      "unknown dtype", a: #""dtype":"F31","shape":[2],"data_offsets":[0,8]"#, .unknownType("F31")),
    .init(
      "dtype in small letters", a: #""dtype":"f32","shape":[2],"data_offsets":[0,8]"#,
      .unknownType("f32")),
    .init(
      "no shape", a: #""dtype":"F32","data_offsets":[0,8]"#,
      .missing(key: "shape", expected: "a list of integers")),
    .init(
      "shape is a number", a: #""dtype":"F32","shape":2,"data_offsets":[0,8]"#,
      .missing(key: "shape", expected: "a list of integers")),
    .init(
      "shape of strings", a: #""dtype":"F32","shape":["2"],"data_offsets":[0,8]"#,
      .missing(key: "shape", expected: "a list of integers")),
    .init(
      "shape with a fraction", a: #""dtype":"F32","shape":[2.5],"data_offsets":[0,8]"#,
      .missing(key: "shape", expected: "a list of integers")),
    .init(
      "shape beyond 64 bits",
      a: #""dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]"#,
      .missing(key: "shape", expected: "a list of integers")),
    .init(
      "negative dimension", a: #""dtype":"F32","shape":[-2],"data_offsets":[0,8]"#, .badShape([-2])),
    .init(
      "two negative dimensions", a: #""dtype":"F32","shape":[-1,-2],"data_offsets":[0,8]"#,
      .badShape([-1, -2])),
    .init(
      "product overflows",
      a: #""dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]"#,
      .badShape([1 << 32, 1 << 32])),
    .init(
      "product overflows to the right size",
      a: #""dtype":"F32","shape":[4611686018427387905,2],"data_offsets":[0,8]"#,
      .badShape([4_611_686_018_427_387_905, 2])),
    .init(
      "bytes overflow", a: #""dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]"#,
      .badShape([1 << 62])),
    .init(
      "overflow beside a zero",
      a: #""dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]"#,
      .badShape([0, 1 << 32, 1 << 32])),
    .init(
      "no offsets", a: #""dtype":"F32","shape":[2]"#,
      .missing(key: "data_offsets", expected: "two integers")),
    .init(
      "one offset", a: #""dtype":"F32","shape":[2],"data_offsets":[8]"#,
      .missing(key: "data_offsets", expected: "two integers")),
    .init(
      "three offsets", a: #""dtype":"F32","shape":[2],"data_offsets":[0,8,8]"#,
      .missing(key: "data_offsets", expected: "two integers")),
    .init(
      "offsets of strings", a: #""dtype":"F32","shape":[2],"data_offsets":["0","8"]"#,
      .missing(key: "data_offsets", expected: "two integers")),
    .init(
      "offset is null", a: #""dtype":"F32","shape":[2],"data_offsets":[0,null]"#,
      .missing(key: "data_offsets", expected: "two integers")),
    .init(
      "begins after its end", a: #""dtype":"F32","shape":[2],"data_offsets":[8,0]"#,
      .badOffsets(begin: 8, end: 0, available: 8)),
    .init(
      "negative begin", a: #""dtype":"F32","shape":[2],"data_offsets":[-8,0]"#,
      .badOffsets(begin: -8, end: 0, available: 8)),
    .init(
      "ends beyond the data", a: #""dtype":"F32","shape":[3],"data_offsets":[0,12]"#,
      .badOffsets(begin: 0, end: 12, available: 8)),
    .init(
      "ends at 2^63 - 1",
      a: #""dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]"#,
      .badOffsets(begin: 0, end: .max, available: 8)),
    .init(
      "truncated data", a: #""dtype":"F32","shape":[2],"data_offsets":[0,8]"#, data: 7,
      .badOffsets(begin: 0, end: 8, available: 7)),
    .init(
      "shape of another size", a: #""dtype":"F32","shape":[3],"data_offsets":[0,8]"#,
      .sizeMismatch(shape: [3], bytes: 8, expected: 12)),
    .init(
      "type of another size", a: #""dtype":"F64","shape":[2],"data_offsets":[0,8]"#,
      .sizeMismatch(shape: [2], bytes: 8, expected: 16)),
    .init(
      "a scalar of two values", a: #""dtype":"F32","shape":[],"data_offsets":[0,8]"#,
      .sizeMismatch(shape: [], bytes: 8, expected: 4)),
  ]

  @Test(arguments: files + tensors) func damageIsNamed(_ damaged: DamagedHeader) throws {
    guard case .failure(let failure) = readHeader(damaged.bytes) else {
      Issue.record("accepted")
      return
    }
    #expect(failure.problem == damaged.problem)
    #expect(failure.tensor == damaged.tensor)
    let sentence = CheckpointError(path: "x", tensor: failure.tensor, failure.problem).description
    #expect(sentence.hasPrefix(damaged.tensor.map { "x: '\($0)': " } ?? "x: "))
    #expect(!sentence.hasSuffix(".") && !sentence.contains("\n"))
  }

  @Test func headersThatAreRight() throws {
    let headers = [
      ("{}", 0), (" {} ", 0), (Self.good, 8), (#"{"__metadata__":{}}"#, 0),
      (#"{"e":{"dtype":"F64","shape":[5,0],"data_offsets":[0,0]}}"#, 0),
      (#"{"":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"other":null}}"#, 1),
      (#"{"s":{"data_offsets":[0,2],"shape":[],"dtype":"BF16"}}"#, 2),
    ]
    for (text, data) in headers {
      let bytes = safetensorsBytes(text, data: data)
      let header = try readHeader(bytes).get()
      #expect(brokenPromise(header, fileBytes: bytes.count) == nil)
    }
  }

  /// Names of different bytes that Swift's strings hold equal.
  @Test func canonicallyEqualNames() throws {
    let folder = try TemporaryFolder()
    let text =
      "{\"\u{E9}\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
      + "\"e\u{301}\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}"
    try OutputFile.write(safetensorsBytes(text, data: 2), to: folder.file("m"))
    let error = #expect(throws: CheckpointError.self) {
      try SafetensorsFile(path: folder.file("m"))
    }
    #expect(error?.problem == .duplicateTensor(other: "\u{E9}"))
  }

  /// No part of a file's beginning is a file.
  @Test func everyPrefix() throws {
    let bytes = try FilePath.read(TestData.fixtures + "/safetensors/all-types.safetensors")
    #expect(problem(bytes) == nil)
    for count in 0..<bytes.count {
      #expect(problem(Array(bytes[..<count])) != nil, "the first \(count) bytes are accepted")
    }
  }

  /// A flipped bit of the header is refused, or gives another header that keeps its promises.
  @Test func everyFlippedBit() throws {
    var bytes = try FilePath.read(TestData.fixtures + "/safetensors/all-types.safetensors")
    let header = try readHeader(bytes).get()
    for position in 0..<header.dataStart {
      for bit in 0..<8 {
        bytes[position] ^= 1 << bit
        if case .success(let other) = readHeader(bytes) {
          #expect(brokenPromise(other, fileBytes: bytes.count) == nil)
          #expect(other != header || other.entries.isEmpty)
        }
        bytes[position] ^= 1 << bit
      }
    }
  }
}
