// The headers of llama2.c's model files.
//
// Layout   legacy: 7 × i32 (dim, hidden_dim, layers, heads, kv_heads, vocabulary, context), negative
//          vocabulary: the head is a matrix of its own; float32 weights; two rotary tables before the head
//          version 1: "ak42" (u32 0x616b3432), i32 version, the 7 × i32, u8 tied, zeros up to byte 256; norms
//          first, then float32 weights
//          version 2: the same header with i32 group size after the flag; int8 with a float32 scale a group
//          ternary: version 1 of bitllama2.c (BitNet b1.58): final norm, embedding, then each matrix as a
//          float32 scale and two bits a weight, the first in the high bits: 00 = 0, 01 = +1, 11 = -1
// Source   karpathy/llama2.c, export.py (legacy_export, version1_export, version2_export) and run.c
//          HKUSTGZ-MICS-LYU/bitllama2.c, export_bitmodel.py and runbit.c

import Tensors

/// The seven numbers and how the weights behind them are stored.
struct LlamaCHeader: Equatable {
  /// How the matrices are stored.
  enum Storage: Equatable {
    case legacy
    case floats
    case groups(Int)
    case ternary
  }

  let width: Int
  let innerWidth: Int
  let layers: Int
  let heads: Int
  let keyHeads: Int
  let vocabulary: Int
  let context: Int
  private(set) var isTied = false
  private(set) var storage = Storage.legacy

  static let magic: UInt64 = 0x616B_3432

  var headSize: Int { width / heads }
  var keyWidth: Int { headSize * keyHeads }
  /// Bytes before the weights.
  var byteCount: Int { storage == .legacy ? 28 : 256 }

  /// Reads the header of a whole file, whose size tells the ternary layout from the float one.
  init(of bytes: StoredBytes) throws(CheckpointError.Problem) {
    var reader = ByteReader(bytes)
    let hasMagic = try reader.integer(4) == Self.magic
    var version = 0
    if hasMagic {
      version = try reader.int32()
      guard version == 1 || version == 2 else {
        throw .unsupported("version \(version) of llama2.c's format")
      }
    } else {
      reader = ByteReader(bytes)
    }
    var numbers: [Int] = []
    for _ in 0..<7 { numbers.append(try reader.int32()) }
    width = numbers[0]
    innerWidth = numbers[1]
    layers = numbers[2]
    heads = numbers[3]
    keyHeads = numbers[4]
    vocabulary = abs(numbers[5])
    context = numbers[6]
    try Self.check(numbers)
    guard hasMagic else {
      isTied = numbers[5] > 0
      storage = .legacy
      return
    }
    guard numbers[5] > 0 else {
      throw .badValue(found: "a vocabulary of \(numbers[5])", expected: "more than 0")
    }
    isTied = try reader.byte() != 0
    guard version == 2 else {
      // Both programs write version 1. Their sizes differ by more than ten times.
      let ternary = LlamaCLayout(self, storage: .ternary)
      storage = isTied && ternary.byteCount == bytes.count ? .ternary : .floats
      return
    }
    let group = try reader.int32()
    guard group > 0, width % group == 0, innerWidth % group == 0 else {
      throw .badValue(
        found: "groups of \(group)", expected: "a divisor of \(width) and \(innerWidth)")
    }
    storage = .groups(group)
  }

  /// Sizes that a model has, so that no product of them overflows.
  private static func check(_ numbers: [Int]) throws(CheckpointError.Problem) {
    let limits = [1 << 17, 1 << 19, 1 << 12, 1 << 12, 1 << 12, 1 << 24, 1 << 24]
    let names = ["dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"]
    for (index, number) in numbers.enumerated() {
      let size = index == 5 ? abs(number) : number
      guard size >= 1, size <= limits[index] else {
        throw .badValue(
          found: "\(names[index]) of \(number)", expected: "1 to \(limits[index])")
      }
    }
    guard numbers[0] % numbers[3] == 0, numbers[0] / numbers[3] % 2 == 0,
      numbers[3] % numbers[4] == 0
    else {
      throw .badValue(
        found: "\(numbers[3]) heads and \(numbers[4]) key heads for a width of \(numbers[0])",
        expected: "divisors, with heads of even size")
    }
  }
}
