// The stream of an entropy-coded matrix: what stands before the blocks, read and checked.
//
// Layout   little-endian, `docs/bundle-format.md` is the specification:
//          0   U8   1: uniform codes; 2: codes of a trellis
//          1   U8   half the degrees of freedom of the tables' distribution, 2...32
//          2   I16  the classes' constant
//          4   F32  the base of the steps, greater than 0, at most 2^40
//          8   U24  rows of a block, at least 1
//          11  5 U8 lists' parameters: Rice parameter in the low four bits, shift in the high four
//          16  bits five lists: step exponents [inputs], column classes [inputs], row exponents [outputs], row
//                   scales [outputs], row classes [outputs]; zeros up to a whole byte
//              index, a block of rows: U32 words, U32 bytes of raw bits
//              blocks: 8 U32 states, the words (U16), the raw bits

import Tensors

/// Why a stream is no entropy-coded matrix.
public struct EntropyCodedError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What is wrong, in one line without a full stop.
  public let description: String
}

/// The checked head of a stream.
struct EntropyCodedStream {
  static let headBytes = 16
  static let indexBytes = 8
  static let stateBytes = 4 * 8
  /// No stream holds more codes a byte: a code takes at least log2(4096 / 4095) bits.
  static let codesPerByte = 1 << 15
  /// Exponents of steps and of rows, in eighths of an octave.
  static let exponents = -512...511
  static let rowExponents = -160...160
  /// Row scales are (1 + n / 128) times 2 to the row's exponent.
  static let scaleDivisor = 128.0
  static let scales = -127...(1 << 18)
  static let largestBase: Float = 0x1p40

  /// One block of rows.
  struct Block {
    let rows: Range<Int>
    /// The states, in the stream.
    let start: Int
    let words: Int
    let rawBytes: Int
  }

  /// Whether codes follow `Trellis`.
  let isTrellis: Bool
  let half: Int
  let steps: [Float]
  let scales: [Float]
  /// The class of a row of class 0, and what each row adds.
  let columnClasses: [Int]
  let rowClasses: [Int]
  let blocks: [Block]

  /// Reads a head; every number is checked before memory is taken for what it claims.
  init(_ bytes: RawSpan, outputs: Int, inputs: Int) throws(EntropyCodedError) {
    func fail(_ text: String) -> EntropyCodedError { EntropyCodedError(description: text) }
    func number<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _: T.Type) -> T {
      T(littleEndian: unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: T.self))
    }
    guard bytes.byteCount >= Self.headBytes else {
      throw fail("a stream of \(bytes.byteCount) bytes has no head")
    }
    let (codes, overflow) = outputs.multipliedReportingOverflow(by: inputs)
    guard !overflow, codes / Self.codesPerByte <= bytes.byteCount,
      outputs / 8 <= bytes.byteCount, inputs / 8 <= bytes.byteCount
    else {
      throw fail("\(bytes.byteCount) bytes cannot hold [\(outputs), \(inputs)] codes")
    }
    let version = number(0, UInt8.self)
    guard version == 1 || version == 2 else {
      throw fail("version \(version) of the stream, not 1 or 2")
    }
    isTrellis = version == 2
    half = Int(number(1, UInt8.self))
    guard (2...32).contains(half) else { throw fail("\(2 * half) degrees of freedom, not 4...64") }
    let constant = Int(number(2, Int16.self))
    let base = Float(bitPattern: number(4, UInt32.self))
    guard base > 0, base <= Self.largestBase else {
      throw fail("a base step of \(base), not in 0...2^40")
    }
    let blockRows = Int(number(8, UInt32.self) & 0xFF_FFFF)
    guard blockRows > 0 else { throw fail("blocks of 0 rows") }
    var position = 8 * Self.headBytes
    var lists: [[Int]] = []
    for (index, count) in [inputs, inputs, outputs, outputs, outputs].enumerated() {
      let parameters = Int(number(11 + index, UInt8.self))
      guard
        let values = RiceList.read(
          bytes, position: &position, count: count, parameter: parameters & 15)
      else { throw fail("the stream ends within its lists") }
      lists.append(values.map { $0 << (parameters >> 4) })
    }
    guard lists[0].allSatisfy(Self.exponents.contains) else {
      throw fail("a step's exponent is out of -512...511")
    }
    guard lists[2].allSatisfy(Self.rowExponents.contains) else {
      throw fail("a row's exponent is out of -160...160")
    }
    guard lists[3].allSatisfy(Self.scales.contains) else {
      throw fail("a row's scale is out of range")
    }
    steps = lists[0].map { Float(Double(base) * SpreadTables.power(eighths: $0)) }
    scales = zip(lists[2], lists[3]).map {
      Float(SpreadTables.power(eighths: $0) * (1 + Double($1) / Self.scaleDivisor))
    }
    columnClasses = zip(lists[1], lists[0]).map { constant - $1 + $0 }
    rowClasses = zip(lists[4], lists[2]).map { $0 - $1 }
    guard steps.allSatisfy({ $0 <= 0x1p64 }) else { throw fail("a step above 2^64") }

    let blockCount = inputs == 0 ? 0 : (outputs + blockRows - 1) / blockRows
    var offset = (position + 7) / 8
    guard blockCount <= (bytes.byteCount - offset) / Self.indexBytes else {
      throw fail("the stream ends within its index of \(blockCount) blocks")
    }
    let index = offset
    offset += blockCount * Self.indexBytes
    var blocks: [Block] = []
    for block in 0..<blockCount {
      let words = Int(number(index + Self.indexBytes * block, UInt32.self))
      let rawBytes = Int(number(index + Self.indexBytes * block + 4, UInt32.self))
      guard Self.stateBytes + 2 * words + rawBytes <= bytes.byteCount - offset else {
        throw fail("the stream ends within block \(block)")
      }
      blocks.append(
        Block(
          rows: block * blockRows..<min((block + 1) * blockRows, outputs), start: offset,
          words: words, rawBytes: rawBytes))
      offset += Self.stateBytes + 2 * words + rawBytes
    }
    guard offset == bytes.byteCount else {
      throw fail("\(bytes.byteCount - offset) bytes after the last block")
    }
    self.blocks = blocks
  }
}

/// Tables and which classes use which: built once for a matrix.
struct SpreadMap {
  /// Tables one after the other.
  private(set) var tables: [UInt32] = []
  /// For each sum of a row's class and a column's, less `least`: where its table starts, and in a decoder's
  /// map the plain low bits. A trellis has the same once more for Q1.
  private(set) var map: [UInt32] = []
  /// How far into the map Q1's half is; 0 without a trellis.
  private(set) var odd: UInt16 = 0
  /// Column classes less the least of them.
  let columns: [UInt16]
  /// The least sum.
  private let least: Int
  private let leastColumn: Int

  /// Classes saturate here before they are added: beyond, sums are out of 0...127 whatever the other is.
  private static func clamped(_ value: Int) -> Int { min(max(value, -1024), 1024) }

  init(
    half: Int, columnClasses: [Int], rowClasses: [Int], trellis: Bool, decoding: Bool
  ) {
    let classes = columnClasses.map(Self.clamped), rows = rowClasses.map(Self.clamped)
    leastColumn = classes.min() ?? 0
    let firstColumn = leastColumn
    columns = classes.map { UInt16($0 - firstColumn) }
    least = leastColumn + (rows.min() ?? 0)
    let largest = (classes.max() ?? 0) + (rows.max() ?? 0)
    let family = SpreadTables(half: half)
    var starts = [Int?](repeating: nil, count: 2 * SpreadTables.tables)
    for quantizer in 0..<(trellis ? 2 : 1) {
      if quantizer == 1 { odd = UInt16(map.count) }
      for sum in least...max(least, largest) {
        let spread = Self.spread(sum)
        // Half a code more or less does not show where codes are wide.
        let isOdd = quantizer == 1 && SpreadTables.lowBits(spread) == 0
        let table = SpreadTables.table(spread)
        let key = table + (isOdd ? SpreadTables.tables : 0)
        let start = starts[key] ?? tables.count
        if starts[key] == nil {
          starts[key] = start
          let frequencies = family.frequencies(table: table, odd: isOdd)
          tables +=
            decoding ? SpreadTables.decoding(frequencies) : SpreadTables.encoding(frequencies)
        }
        map.append(UInt32(start + (decoding ? SpreadTables.lowBits(spread) : 0)))
      }
    }
  }

  /// The class of a sum.
  static func spread(_ sum: Int) -> Int { min(max(sum, 0), SpreadTables.classes - 1) }

  /// A code's place in its row's map.
  func slot(_ column: Int, _ code: Int32) -> UInt16 {
    columns[column] + (code & 1 == 1 ? odd : 0)
  }

  /// Where the map of a row starts.
  func start(rowClass: Int) -> Int { leastColumn + Self.clamped(rowClass) - least }
}
