// Where the fixtures stand, and the text that generate.py and the tests build alike.

import JSONDocuments
import Testing

@testable import Tokenization

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

enum Fixtures {
  /// Bytes of a file; an issue, and no bytes, when it cannot be read.
  static func bytes(_ path: String) -> [UInt8] {
    guard let file = fopen(path, "rb") else {
      Issue.record("cannot open \(path)")
      return []
    }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    while true {
      let count = fread(&buffer, 1, buffer.count, file)
      guard count > 0 else { return bytes }
      bytes += buffer[..<count]
    }
  }

  static func path(_ name: String) -> String {
    let parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
    return (parts.dropLast(2) + ["Fixtures", "tokenizers", name[...]]).joined(separator: "/")
  }

  static func json(_ name: String) throws -> JSONValue {
    try JSONValue(parsing: bytes(path(name)))
  }

  static func tokenizer(_ name: String) throws -> Tokenizer {
    try Tokenizer(contentsOf: bytes(path(name)), name: name)
  }

  /// A folder from the environment, `nil` when the variable is not set.
  static func folder(_ variable: String) -> String? { getenv(variable).map { String(cString: $0) } }
}

extension JSONValue {
  var ids: [Int32] { array?.compactMap { $0.integer.flatMap { Int32(exactly: $0) } } ?? [] }
}

/// xorshift64*, as in generate.py.
struct Stream {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next(_ bound: Int) -> Int {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return Int((state &* 0x2545_F491_4F6C_DD1D) >> 33) % bound
  }
}

/// Runs of one kind of text after another, until there are `size` bytes; as in generate.py.
func mixedText(seed: UInt64, size: Int) throws -> String {
  let pools = try Fixtures.json("pools.json").array ?? []
  let kinds = pools.map { $0.array?.compactMap(\.string) ?? [] }
  try #require(!kinds.isEmpty)
  var stream = Stream(seed)
  var text = ""
  while text.utf8.count < size {
    let pool = stream.next(kinds.count + 1)
    let length = 1 + stream.next(12)
    let blank = stream.next(3) == 0 ? " " : ""
    for _ in 0..<length {
      if pool == kinds.count {
        let scalar = Unicode.Scalar(UInt32(0x20 + stream.next(0x2FE0)))
        if let scalar { text.unicodeScalars.append(scalar) }
      } else {
        text += kinds[pool][stream.next(kinds[pool].count)]
      }
      text += blank
    }
  }
  return text
}

/// FNV-1a, 64 bits, as sixteen hexadecimal digits.
func fnv(_ bytes: some Sequence<UInt8>) -> String {
  var hash: UInt64 = 0xCBF2_9CE4_8422_2325
  for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
  let digits = String(hash, radix: 16)
  return String(repeating: "0", count: 16 - digits.count) + digits
}

func fnv(ids: [Int32]) -> String {
  fnv(ids.flatMap { id in (0..<4).map { UInt8(truncatingIfNeeded: id >> (8 * $0)) } })
}
