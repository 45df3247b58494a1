// Writes the stream: classes, lists, then every block of rows on its own, from its end.

import CKernels
import Tensors

/// Codes and what they stand for, before they are encoded.
public struct IntegerCodes: Sendable {
  /// Rows.
  public let outputs: Int
  /// Columns.
  public let inputs: Int
  /// `[outputs, inputs]`.
  public let codes: [Int32]
  /// Whether the codes of a column follow `Trellis`: then each is even or odd as its state says, and its k takes the bits.
  public let isTrellis: Bool
  /// All steps are this times a power of 2^(1/8).
  public let base: Float
  /// Column c has the step base · 2^(exponents[c] / 8); −512…511.
  public let exponents: [Int]
  /// Row r has the scale (1 + scales[r] / 128) · 2^(rowExponents[r] / 8); −160…160 and −127…2¹⁸.
  public let rowExponents: [Int]
  /// See `rowExponents`.
  public let scales: [Int]

  /// Codes with their steps; the base is greater than 0 and at most 2⁴⁰, no step above 2⁶⁴.
  public init(
    outputs: Int, inputs: Int, codes: [Int32], base: Float, exponents: [Int],
    rowExponents: [Int], scales: [Int], isTrellis: Bool = false
  ) {
    precondition(
      codes.count == outputs * inputs && exponents.count == inputs && scales.count == outputs
        && rowExponents.count == outputs)
    precondition(base > 0 && base <= EntropyCodedStream.largestBase, "a base step of \(base)")
    precondition(exponents.allSatisfy(EntropyCodedStream.exponents.contains))
    precondition(rowExponents.allSatisfy(EntropyCodedStream.rowExponents.contains))
    precondition(scales.allSatisfy(EntropyCodedStream.scales.contains))
    self.outputs = outputs
    self.inputs = inputs
    self.codes = codes
    self.base = base
    self.exponents = exponents
    self.rowExponents = rowExponents
    self.scales = scales
    self.isTrellis = isTrellis
  }

  /// 2^(k/8), as the format multiplies it.
  public static func power(eighths k: Int) -> Double { SpreadTables.power(eighths: k) }

  /// The steps of the columns, exactly as a reader computes them.
  public var steps: [Float] {
    exponents.map { Float(Double(base) * SpreadTables.power(eighths: $0)) }
  }
}

extension EntropyCoded {
  /// Codes of a block, about: so many that its states and its entry in the index weigh little.
  private static let blockCodes = 1 << 17

  /// What an encoder found out about codes; makes encoding nearly the same codes faster.
  public struct Spreads: Sendable {
    let classes: SpreadClasses
  }

  /// Encodes codes; the same bytes whatever the number of threads.
  public static func encode(_ matrix: IntegerCodes) -> EncodedMatrix {
    var spreads: Spreads?
    return encode(matrix, like: &spreads)
  }

  /// Encodes codes.
  ///
  /// - Parameter spreads: What is known of nearly the same codes, and then what was found out about these.
  public static func encode(_ matrix: IntegerCodes, like spreads: inout Spreads?) -> EncodedMatrix {
    // Lists of zeros take no bits, unless the stream would be too short for readers to trust its shape.
    let outputs = matrix.outputs, inputs = matrix.inputs
    let classes = SpreadClasses(matrix, like: spreads?.classes)
    spreads = Spreads(classes: classes)
    var stream = stream(of: matrix, classes, zerosTakeBits: false)
    if max(outputs, inputs) / 8 > stream.count {
      stream = Self.stream(of: matrix, classes, zerosTakeBits: true)
    }
    return EncodedMatrix(
      encoding: EntropyCoded(streamBytes: stream.count), outputs: outputs, inputs: inputs,
      parts: [Tensor(.uint8, shape: [stream.count], copying: stream)])
  }

  private static func stream(
    of matrix: IntegerCodes, _ classes: SpreadClasses, zerosTakeBits: Bool
  ) -> [UInt8] {
    let outputs = matrix.outputs, inputs = matrix.inputs
    var blockRows = max(1, blockCodes / max(1, inputs))
    // A trellis starts again with a block.
    if matrix.isTrellis { blockRows += -blockRows & (Trellis.segment - 1) }
    var stream = head(matrix, classes, blockRows: blockRows, zerosTakeBits: zerosTakeBits)
    let columns = classes.columnClasses(exponents: matrix.exponents),
      rows = classes.rowClasses(exponents: matrix.rowExponents)
    let map = SpreadMap(
      half: classes.half, columnClasses: columns, rowClasses: rows,
      trellis: matrix.isTrellis, decoding: false)
    let count = inputs == 0 ? 0 : (outputs + blockRows - 1) / blockRows
    let blocks = ParallelLoop.map(count) { block in
      encode(
        matrix, rows: block * blockRows..<min((block + 1) * blockRows, outputs), map,
        columnClasses: columns, rowClasses: rows)
    }
    for block in blocks {
      stream.append(littleEndian: UInt32(block.words.count))
      stream.append(littleEndian: UInt32(block.raw.count))
    }
    for block in blocks {
      for state in block.states { stream.append(littleEndian: state) }
      for word in block.words { stream.append(littleEndian: word) }
      stream += block.raw
    }
    return stream
  }

  /// What stands before the index.
  private static func head(
    _ matrix: IntegerCodes, _ classes: SpreadClasses, blockRows: Int, zerosTakeBits: Bool
  ) -> [UInt8] {
    var stream: [UInt8] = [matrix.isTrellis ? 2 : 1, UInt8(classes.half)]
    stream.append(littleEndian: UInt16(bitPattern: Int16(classes.constant)))
    stream.append(littleEndian: matrix.base.bitPattern)
    for byte in 0..<3 { stream.append(UInt8(truncatingIfNeeded: blockRows >> (8 * byte))) }
    let lists = [
      matrix.exponents, classes.columns, matrix.rowExponents, matrix.scales, classes.rows,
    ]
    let shifts = [0, classes.columnShift, 0, 0, classes.rowShift]
    var writer = BitWriter()
    for (list, shift) in zip(lists, shifts) {
      let parameter = RiceList.bestParameter(list, zerosTakeBits: zerosTakeBits)
      stream.append(UInt8(parameter | shift << 4))
      RiceList.write(list, parameter: parameter, to: &writer)
    }
    writer.align()
    return stream + writer.bytes
  }

  private struct Block {
    var states = [UInt32](repeating: 1 << 16, count: 8)
    var words: [UInt16] = []
    var raw: [UInt8] = []
  }

  private static func encode(
    _ matrix: IntegerCodes, rows: Range<Int>, _ map: SpreadMap, columnClasses: [Int],
    rowClasses: [Int]
  ) -> Block {
    let inputs = matrix.inputs
    let escape = UInt8(SpreadTables.symbols - 1)
    var symbols = [UInt8](repeating: 0, count: rows.count * inputs)
    var raw = BitWriter()
    var states = [Int](repeating: 0, count: matrix.isTrellis ? inputs : 0)
    for (index, row) in rows.enumerated() {
      let start = map.start(rowClass: rowClasses[row])
      if index % Trellis.segment == 0 { for column in states.indices { states[column] = 0 } }
      for column in 0..<inputs {
        var code = matrix.codes[row * inputs + column]
        let slot = Int(map.slot(column, code))
        if matrix.isTrellis {
          let state = states[column]
          precondition(Int(code & 1) == Trellis.quantizer(state), "a code off the trellis")
          let k = Trellis.index(Int(code))
          states[column] = Trellis.next(state, k: k)
          code = Int32(k)
        }
        let lowBits = SpreadTables.lowBits(
          SpreadMap.spread(columnClasses[column] + rowClasses[row]))
        let table = Int(map.map[start + slot])
        if let symbol = SpreadTables.symbol(code, lowBits: lowBits),
          map.tables[table + symbol] & 0xFFFF > 0
        {
          symbols[index * inputs + column] = UInt8(symbol)
          if lowBits > 0 {
            let low = (Int(code) + 1 << (lowBits - 1)) & ((1 << lowBits) - 1)
            raw.write(UInt64(low), bits: lowBits)
          }
        } else {
          symbols[index * inputs + column] = escape
          raw.writeEscape(code)
        }
      }
    }
    raw.align()
    var block = Block(raw: raw.bytes)
    // From the end to the start: the decoder takes words in the other direction.
    var words = [UInt16](repeating: 0, count: symbols.count)
    var position = words.count
    var slots = map.columns
    for (index, row) in rows.enumerated().reversed() {
      let start = map.start(rowClass: rowClasses[row])
      let own = symbols.span.extracting(index * inputs..<(index + 1) * inputs)
      if matrix.isTrellis {
        for column in 0..<inputs {
          slots[column] = map.slot(column, matrix.codes[row * inputs + column])
        }
      }
      position = encodeRow(
        own, map, start: start, slots, states: &block.states, &words, position)
    }
    block.words = Array(words[position...])
    return block
  }

  private static func encodeRow(
    _ symbols: Span<UInt8>, _ map: SpreadMap, start: Int, _ columns: [UInt16],
    states: inout [UInt32],
    _ words: inout [UInt16], _ position: Int
  ) -> Int {
    unsafe symbols.withUnsafeBufferPointer { symbols in
      unsafe map.tables.withUnsafeBufferPointer { tables in
        unsafe map.map.withUnsafeBufferPointer { slots in
          unsafe columns.withUnsafeBufferPointer { columns in
            guard let from = symbols.baseAddress, let tables = tables.baseAddress,
              let slots = slots.baseAddress, let columns = columns.baseAddress
            else { return position }
            return unsafe kernel_rans_encode_row(
              &states, tables, slots + start, columns, from, &words, position, symbols.count)
          }
        }
      }
    }
  }
}

extension [UInt8] {
  fileprivate mutating func append<Integer: FixedWidthInteger>(littleEndian value: Integer) {
    for byte in 0..<Integer.bitWidth / 8 {
      append(UInt8(truncatingIfNeeded: value >> Integer(8 * byte)))
    }
  }
}
