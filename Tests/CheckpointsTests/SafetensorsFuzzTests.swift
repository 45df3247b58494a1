import Foundation
import Tensors
import TestSupport
import Testing

@testable import Checkpoints

/// Seeded mutations of headers: nothing crashes, what is accepted keeps its promises, and nothing is
/// allocated because a header says so.
@Suite struct SafetensorsFuzzTests {
  static let mutations = 120_000

  static let tokens: [[UInt8]] = [
    "9223372036854775807", "-9223372036854775808", "18446744073709551616", "4294967296", "-1", "0",
    "1e999", "1e18", "0.5", "8", "[]", "{}", "null", "true", "\"", "\\", "\\u0000", "\\ud800",
    "[0,0]",
    "\"dtype\":\"F64\"", "\"shape\":[0]", "\"data_offsets\":[0,8]",
    "\"__metadata__\":{\"k\":\"v\"},",
    "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},", ",", ":", "[[[[[[[[",
    "F8_E4M3",
    "BF16", "BOOL", "\u{FEFF}", "e\u{301}", " \n\t",
  ].map { Array($0.utf8) }

  private static func mutate(_ bytes: inout [UInt8], _ stream: inout RandomStream) {
    func position() -> Int { stream.integer(below: bytes.count) }
    guard !bytes.isEmpty else { return bytes.append(UInt8(stream.integer(below: 256))) }
    switch stream.integer(below: 8) {
    case 0: bytes[position()] ^= 1 << UInt8(stream.integer(below: 8))
    case 1: bytes.insert(UInt8(stream.integer(below: 256)), at: position())
    case 2:
      let start = position()
      bytes.removeSubrange(start..<min(bytes.count, start + 1 + stream.integer(below: 8)))
    case 3:
      bytes[position()] = UInt8(0x30 + stream.integer(below: 10))
    case 4:
      // A digit becomes another one, so that the header stays JSON.
      let digits = bytes.indices.filter { $0 >= 8 && (0x30...0x39).contains(bytes[$0]) }
      guard !digits.isEmpty else { return }
      bytes[digits[stream.integer(below: digits.count)]] = UInt8(0x30 + stream.integer(below: 10))
    case 5: bytes.insert(contentsOf: tokens[stream.integer(below: tokens.count)], at: position())
    case 6:
      // A token in the place of a number or a word.
      let start = position()
      let end = bytes[start...].firstIndex { $0 == 0x2C || $0 == 0x5D || $0 == 0x7D } ?? bytes.count
      bytes.replaceSubrange(start..<end, with: tokens[stream.integer(below: tokens.count)])
    default:
      // A piece of the file goes to another place.
      let start = position()
      let piece = Array(bytes[start..<min(bytes.count, start + 1 + stream.integer(below: 60))])
      bytes.insert(contentsOf: piece, at: position())
    }
  }

  /// The largest address space that the process has had, in bytes.
  private static func peakAddressSpace() throws -> Int {
    let status = String(
      decoding: try Data(contentsOf: URL(filePath: "/proc/self/status")), as: UTF8.self)
    let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmPeak:") })
    return 1024 * (try #require(line.split(separator: " ").compactMap { Int($0) }.first))
  }

  @Test(.timeLimit(.minutes(2))) func mutatedHeaders() throws {
    var seeds = [try FilePath.read(TestData.fixtures + "/safetensors/all-types.safetensors")]
    seeds += [
      safetensorsBytes(SafetensorsHeaderTests.good, data: 8),
      safetensorsBytes(
        #"{"__metadata__":{"format":"pt"},"w":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},"#
          + #""v":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}"#, data: 11),
    ]
    let before = try Self.peakAddressSpace()
    var stream = RandomStream(test: "fuzz")
    var accepted = 0
    var broken: String?
    for round in 0..<Self.mutations {
      var bytes = seeds[round % seeds.count]
      for _ in 0...stream.integer(below: 3) { Self.mutate(&bytes, &stream) }
      if round % 3 != 0, bytes.count >= 8 {
        // The length fits the header again, so that mutations reach what lies behind it.
        let end = bytes.lastIndex(of: UInt8(ascii: "}")).map { $0 + 1 } ?? bytes.count
        let length = UInt64(max(0, end - 8))
        for index in 0..<8 { bytes[index] = UInt8(truncatingIfNeeded: length >> (8 * index)) }
      }
      if case .success(let header) = readHeader(bytes) {
        accepted += 1
        broken = broken ?? brokenPromise(header, fileBytes: bytes.count)
      }
    }
    #expect(broken == nil)
    #expect(accepted > 500, "the mutations reach what lies behind a header")
    let grown = try Self.peakAddressSpace() - before
    #expect(grown < 1 << 30, "\(grown) bytes for files of a few thousand")
  }
}
