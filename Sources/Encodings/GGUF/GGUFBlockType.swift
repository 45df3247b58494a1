// ggml's block formats: names, numbers and sizes.
//
// Source   ggml.h and ggml-common.h of llama.cpp (enum ggml_type, the block structures)

// swift-format-ignore: AlwaysUseLowerCamelCase
/// One ggml block format. The raw value is ggml's number of the type in files.
public enum GGUFBlockType: UInt32, CaseIterable, Sendable {
  /// 4 bits, one scale for 32 columns.
  case q4_0 = 2
  /// 4 bits, scale and offset for 32 columns.
  case q4_1 = 3
  /// 5 bits, one scale for 32 columns.
  case q5_0 = 6
  /// 5 bits, scale and offset for 32 columns.
  case q5_1 = 7
  /// 8 bits, one scale for 32 columns.
  case q8_0 = 8
  /// 2 bits, 4-bit scales and minima for 16 columns.
  case q2_K = 10
  /// 3 bits, 6-bit scales for 16 columns.
  case q3_K = 11
  /// 4 bits, 6-bit scales and minima for 32 columns.
  case q4_K = 12
  /// 5 bits, 6-bit scales and minima for 32 columns.
  case q5_K = 13
  /// 6 bits, 8-bit scales for 16 columns.
  case q6_K = 14
  /// Groups of 8 from 256 points of a lattice, signs of even parity, 4-bit scales for 32 columns.
  case iq2_xxs = 16
  /// Groups of 8 from 512 points, signs of even parity, 4-bit scales for 16 columns.
  case iq2_xs = 17
  /// Groups of 4 from 256 points, signs of even parity, 4-bit scales for 32 columns.
  case iq3_xxs = 18
  /// Groups of 8 from 2048 ternary points, 3-bit scales and a shift for 32 columns.
  case iq1_s = 19
  /// 16 uneven levels, one scale for 32 columns.
  case iq4_nl = 20
  /// Groups of 4 from 512 points, free signs, 4-bit scales for 32 columns.
  case iq3_s = 21
  /// Groups of 8 from 1024 points, free signs, 4-bit scales for 16 columns.
  case iq2_s = 22
  /// 16 uneven levels, 6-bit scales for 32 columns.
  case iq4_xs = 23
  /// Groups of 8 from 2048 ternary points, a shift for each, 3-bit scales for 16 columns.
  case iq1_m = 29
  /// Three levels, five to a byte, one scale for 256 columns.
  case tq1_0 = 34
  /// Three levels, four to a byte, one scale for 256 columns.
  case tq2_0 = 35
  /// FP4 with a power of two for 32 columns: OCP Microscaling.
  case mxfp4 = 39
  /// FP4 with an E4M3 scale for 16 columns.
  case nvfp4 = 40
  /// Signs, one scale for 128 columns.
  case q1_0 = 41
  /// The levels -1, 0, 1 and 2, one scale for 64 columns.
  case q2_0 = 42

  /// The name that llama.cpp prints, such as `Q4_K`.
  public var name: String { "\(self)".uppercased() }

  /// The type of a name, which is case-sensitive.
  public static func named(_ name: String) -> Self? { allCases.first { $0.name == name } }

  /// Columns of a block: a row is a whole number of them.
  public var blockColumns: Int {
    switch self {
    case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .iq4_nl, .mxfp4: 32
    case .nvfp4, .q2_0: 64
    case .q1_0: 128
    default: 256
    }
  }

  /// Bytes of a block.
  public var blockBytes: Int {
    switch self {
    case .mxfp4: 17
    case .q4_0, .iq4_nl, .q1_0, .q2_0: 18
    case .q4_1: 20
    case .q5_0: 22
    case .q5_1: 24
    case .q8_0: 34
    case .nvfp4: 36
    case .iq1_s: 50
    case .tq1_0: 54
    case .iq1_m: 56
    case .tq2_0, .iq2_xxs: 66
    case .iq2_xs: 74
    case .iq2_s: 82
    case .q2_K: 84
    case .iq3_xxs: 98
    case .q3_K, .iq3_s: 110
    case .iq4_xs: 136
    case .q4_K: 144
    case .q5_K: 176
    case .q6_K: 210
    }
  }
}
