// A sparse matrix in memory: a bit a weight, and the stored values where they lie in the file.

import Tensors

/// Where the stored weights of a matrix lie.
struct SparseMask {
  /// `[outputs, rowBytes]`, a bit an input.
  private(set) var bits: [UInt8]
  let rowBytes: Int
  /// Where each row's stored weights begin among all, and how many there are.
  private(set) var starts: [Int] = [0]
  /// What is wrong with the places; then no bit is set from there on.
  private var problem: String?

  init(_ encoding: SparseEncoding, outputs: Int, inputs: Int, places: Tensor) {
    rowBytes = (inputs + 7) / 8
    bits = [UInt8](repeating: 0, count: outputs * rowBytes)
    switch encoding.places {
    case .groups(let kept, let size):
      fill(masks: Self.all(kept: kept, of: size), size: size, groups: inputs / size, places)
    case .bitmap(let block):
      fill(block: block, blocks: inputs / block, places)
    }
    starts.reserveCapacity(outputs + 1)
    for row in 0..<outputs {
      let count = bits[row * rowBytes..<(row + 1) * rowBytes].reduce(0) { $0 + $1.nonzeroBitCount }
      starts.append((starts.last ?? 0) + count)
    }
  }

  /// The masks of `kept` bits of `size` in ascending order.
  static func all(kept: Int, of size: Int) -> [UInt32] {
    (0..<UInt32(1) << UInt32(size)).filter { $0.nonzeroBitCount == kept }
  }

  private mutating func set(row: Int, column: Int, mask: UInt32) {
    var mask = mask
    while mask != 0 {
      let at = column + mask.trailingZeroBitCount
      bits[row * rowBytes + at >> 3] |= 1 << UInt8(at & 7)
      mask &= mask - 1
    }
  }

  private mutating func fill(masks: [UInt32], size: Int, groups: Int, _ places: Tensor) {
    let digits = SparseEncoding.digits(masks: masks.count), base = UInt32(masks.count)
    let words = places.columns, rows = places.rows
    let all = places.withBytes { bytes in
      (0..<rows * words).map {
        UInt32(
          littleEndian: unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self))
      }
    }
    for row in 0..<rows {
      for word in 0..<words {
        var left = all[row * words + word]
        for group in word * digits..<min((word + 1) * digits, groups) {
          set(row: row, column: group * size, mask: masks[Int(left % base)])
          left /= base
        }
        if left != 0, problem == nil { problem = "row \(row) has more digits than groups" }
      }
    }
  }

  private mutating func fill(block: Int, blocks: Int, _ places: Tensor) {
    let rows = places.rows, bytes = places.columns
    let all = places.withBytes { span in
      (0..<rows * bytes).map { unsafe span.unsafeLoad(fromUncheckedByteOffset: $0, as: UInt8.self) }
    }
    for row in 0..<rows {
      for index in 0..<8 * bytes where all[row * bytes + index >> 3] >> UInt8(index & 7) & 1 == 1 {
        guard index < blocks else {
          if problem == nil { problem = "row \(row) stores inputs that there are not" }
          continue
        }
        if block == 1 {
          bits[row * rowBytes + index >> 3] |= 1 << UInt8(index & 7)
        } else {
          for column in index * block..<(index + 1) * block {
            set(row: row, column: column, mask: 1)
          }
        }
      }
    }
  }

  /// What is wrong, in one line.
  func problem(in encoding: SparseEncoding, outputs: Int) -> String? {
    if let problem { return problem }
    guard case .bitmap = encoding.places else { return nil }
    let bytes = (0..<outputs).reduce(0) {
      $0 + encoding.valueBytes(kept: starts[$1 + 1] - starts[$1])
    }
    guard bytes == encoding.valueBytes else {
      return "the mask stores weights of \(bytes) bytes, and \(encoding.valueBytes) are there"
    }
    return nil
  }

  /// Stored weights of a row.
  func count(row: Int) -> Int { starts[row + 1] - starts[row] }
}

/// The matrix.
struct SparseMatrix: LinearOperator {
  let encoding: SparseEncoding
  let outputs: Int
  let inputs: Int
  private let parts: [Tensor]
  private let mask: SparseMask
  /// Where each row's codes begin, in bytes; empty for floats.
  private let codeStarts: [Int]
  /// Stored weights of each group of a row, `[outputs, groups]`; empty for floats.
  private let groupCounts: [Int32]

  init(_ encoding: SparseEncoding, outputs: Int, inputs: Int, parts: [Tensor]) {
    self.encoding = encoding
    self.outputs = outputs
    self.inputs = inputs
    self.parts = parts
    let mask = SparseMask(encoding, outputs: outputs, inputs: inputs, places: parts[0])
    self.mask = mask
    var starts: [Int] = []
    if case .integers = encoding.values {
      starts = [0]
      for row in 0..<outputs {
        starts.append((starts.last ?? 0) + encoding.valueBytes(kept: mask.count(row: row)))
      }
    }
    codeStarts = starts
    groupCounts = Self.groupCounts(encoding, mask, outputs: outputs, inputs: inputs)
  }

  private static func groupCounts(
    _ encoding: SparseEncoding, _ mask: SparseMask, outputs: Int, inputs: Int
  ) -> [Int32] {
    guard case .integers(let integers) = encoding.values else { return [] }
    let groups = integers.groups(inputs: inputs), size = integers.groupSize(inputs: inputs)
    return (0..<outputs * groups).map { index in
      let (row, group) = index.quotientAndRemainder(dividingBy: groups)
      // Groups start on bytes of the mask: their sizes are multiples of 8, or one is the row.
      let first = row * mask.rowBytes + group * size / 8
      let end = row * mask.rowBytes + (min((group + 1) * size, inputs) + 7) / 8
      return mask.bits[first..<end].reduce(0) { $0 + Int32($1.nonzeroBitCount) }
    }
  }

  var storedBits: Int { parts.reduce(0) { $0 + 8 * $1.byteCount } }

  /// The stored values of rows, one row after the other, each followed by room for the kernels.
  private struct Rows {
    var values: [Float] = []
    var codes: [UInt8] = []
    var zeros: [UInt8] = []
    var scales: [Float] = []
  }

  /// Reads a row's values into `rows.values`.
  private func read(_ row: Int, _ rows: inout Rows) {
    let count = mask.count(row: row)
    let room = inputs + SparseProduct.padding
    if rows.values.count < room { rows.values = [Float](repeating: 0, count: room) }
    switch encoding.values {
    case .floats:
      let first = mask.starts[row], total = parts[1].shape[0]
      // A damaged mask may claim more than there is.
      let range = min(first, total)..<min(first + count, total)
      var target = rows.values.mutableSpan
      for index in range.count..<count { target[index] = 0 }
      parts[1].readFloats(elements: range, into: &target)
    case .integers(let integers): read(row, count: count, integers, &rows)
    }
  }

  private func read(_ row: Int, count: Int, _ integers: GroupIntegers, _ rows: inout Rows) {
    let groups = integers.groups(inputs: inputs)
    if rows.codes.count < inputs { rows.codes = [UInt8](repeating: 0, count: inputs) }
    if rows.zeros.count < groups {
      rows.zeros = [UInt8](repeating: UInt8(integers.middle), count: groups)
    }
    let bytes = codeStarts[row]..<codeStarts[row + 1]
    guard bytes.upperBound <= parts[1].byteCount else {
      for index in 0..<count { rows.values[index] = 0 }
      return
    }
    parts[1].withBytes {
      unpackCodes($0.extracting(bytes), bits: integers.bits, count: count, into: &rows.codes)
    }
    if !integers.isSymmetric {
      let own = integers.packedBytes(groups)
      parts[3].withBytes {
        unpackCodes(
          $0.extracting(row * own..<(row + 1) * own), bits: integers.bits, count: groups,
          into: &rows.zeros)
      }
    }
    if rows.scales.count < groups { rows.scales = [Float](repeating: 0, count: groups) }
    var scaleSpan = rows.scales.mutableSpan
    parts[2].readFloats(elements: row * groups..<(row + 1) * groups, into: &scaleSpan)
    let codes = rows.codes, scales = rows.scales, zeros = rows.zeros
    var target = rows.values.mutableSpan
    var first = 0
    for group in 0..<groups {
      let own = Int(groupCounts[row * groups + group])
      var part = target._mutatingExtracting(first..<first + own)
      decodeGroup(
        codes.span.extracting(first..<first + own), scale: scales[group],
        zero: Float(zeros[group]), into: &part)
      first += own
    }
  }

  /// Where a row's mask is.
  private func bytes(of row: Int) -> Range<Int> {
    row * mask.rowBytes..<(row + 1) * mask.rowBytes
  }

  func decode(rows range: Range<Int>, into target: inout MutableSpan<Float>) {
    guard inputs > 0 else { return }
    var rows = Rows()
    for (index, row) in range.enumerated() {
      read(row, &rows)
      var part = target._mutatingExtracting(index * inputs..<(index + 1) * inputs)
      SparseProduct.expand(
        mask: mask.bits.span.extracting(bytes(of: row)), values: rows.values.span, into: &part
      )
    }
  }

  /// Tokens whose products skip the zeros; many are worth rows of floats in panels.
  private static let fewTokens = 4

  func product(with x: Matrix) -> Matrix {
    let tokens = x.rows, inputs = inputs, outputs = outputs
    guard tokens <= Self.fewTokens, inputs > 0 else { return product(ofDecodedRowsWith: x) }
    var turned = [Float](repeating: 0, count: outputs * tokens)
    let block = max(1, (1 << 15) / inputs)
    ParallelLoop.overRows(of: &turned, rowLength: tokens, blockRows: block) { range, part in
      var rows = Rows()
      for (index, row) in range.enumerated() {
        read(row, &rows)
        for token in 0..<tokens {
          part[index * tokens + token] = SparseProduct.dot(
            mask: mask.bits.span.extracting(bytes(of: row)), values: rows.values.span,
            with: x.values.span.extracting(token * inputs..<(token + 1) * inputs))
        }
      }
    }
    return Matrix(turned: turned, rows: tokens, columns: outputs)
  }
}
