// The columns of a teacher log: docs/teacher-logs.md says the same in words.
//
//   windows               u32 [windows, 5]   tokens, first row, rows, bytes of tail_high, bytes of tail_low
//   ids                   u32 [vocabulary]   the id of each rank; every id below is a rank in this list
//   tokens                u16 [tokens]       the windows' tokens, one window after the other
//   true                  u16 [rows]         −log p of the next token in steps; 65535: as in the list
//   log_sum_exp           f32 [rows]         rounded to 1/256
//   entropy               u16 [rows]         in steps
//   top                   u16 [rows, k]      the most probable tokens; 65535 (all bits set): none
//   top_log_probability   u16 [rows, k]      −log p in steps, of each entry less that of the entry before it
//   top_count             u8 or u16 [rows, k]   samples of the list's tokens
//   tail_high, tail_low   u8                 the other samples, ascending: the gaps' bits above the lowest four
//                                            as LEB128, the lowest four as nibbles, low nibble first
//   other_mass            f32 [rows]         of an API's log
//   hidden_L              f16 [rows, width]
//
// Ranks are by falling frequency in the log, so that most are small: that is what makes them deflate. A
// vocabulary of 65,535 ids or more has the bits above 16 of tokens and top in tokens_high and top_high (u8).

import Tensors

/// Names and sizes of the columns of a log.
struct TeacherLogLayout {
  let manifest: TeacherLogManifest

  static let manifestAttribute = "condense_teacher_log"
  static let windows = "windows", ids = "ids", tokens = "tokens", true_ = "true"
  static let logSumExp = "log_sum_exp", entropy = "entropy", top = "top"
  static let topLogProbability = "top_log_probability", topCount = "top_count"
  static let tailHigh = "tail_high", tailLow = "tail_low", otherMass = "other_mass"
  static let highSuffix = "_high"
  /// Columns of `windows`.
  static let windowFields = 5
  /// −log p that is not stored, as it stands in the list.
  static let inList = 65_535
  /// A log-sum-exp is a multiple of 1 over this.
  static let sumSteps: Float = 256

  static func hidden(_ layer: Int) -> String { "hidden_\(layer)" }

  /// Whether ids take more than two bytes.
  var hasHighBits: Bool { manifest.vocabulary >= 65_535 }
  /// An entry of the list that is none.
  var noneRank: Int { hasHighBits ? 0xFF_FFFF : 0xFFFF }
  /// Bytes of a count.
  var countType: DType { manifest.sampleCount <= 255 ? .uint8 : .uint16 }

  /// What a column's rows go with.
  enum Axis { case window, id, token, row, tailHigh, tailLow }

  /// A column of the log.
  struct Column {
    let name: String
    let dtype: DType
    /// The dimensions behind the first.
    let width: [Int]
    let axis: Axis

    /// Bytes of a row.
    var rowBytes: Int { width.reduce(dtype.byteCount, *) }
  }

  /// The columns in the order of the file.
  var columns: [Column] {
    let k = manifest.topCount
    var columns = [
      Column(
        name: Self.windows, dtype: .uint32, width: [Self.windowFields], axis: .window),
      Column(name: Self.ids, dtype: .uint32, width: [], axis: .id),
      Column(name: Self.tokens, dtype: .uint16, width: [], axis: .token),
    ]
    if hasHighBits {
      columns.append(
        Column(name: Self.tokens + Self.highSuffix, dtype: .uint8, width: [], axis: .token))
    }
    columns += [
      Column(name: Self.true_, dtype: .uint16, width: [], axis: .row),
      Column(name: Self.logSumExp, dtype: .float32, width: [], axis: .row),
      Column(name: Self.entropy, dtype: .uint16, width: [], axis: .row),
    ]
    if k > 0 {
      columns.append(Column(name: Self.top, dtype: .uint16, width: [k], axis: .row))
      if hasHighBits {
        columns.append(
          Column(name: Self.top + Self.highSuffix, dtype: .uint8, width: [k], axis: .row))
      }
      columns.append(Column(name: Self.topLogProbability, dtype: .uint16, width: [k], axis: .row))
    }
    if manifest.sampleCount > 0 {
      if k > 0 {
        columns.append(Column(name: Self.topCount, dtype: countType, width: [k], axis: .row))
      }
      columns.append(Column(name: Self.tailHigh, dtype: .uint8, width: [], axis: .tailHigh))
      columns.append(Column(name: Self.tailLow, dtype: .uint8, width: [], axis: .tailLow))
    }
    if manifest.hasOtherMass {
      columns.append(Column(name: Self.otherMass, dtype: .float32, width: [], axis: .row))
    }
    for layer in manifest.hiddenLayers {
      columns.append(
        Column(
          name: Self.hidden(layer), dtype: .float16, width: [manifest.hiddenWidth], axis: .row))
    }
    return columns
  }
}
