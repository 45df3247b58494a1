// An entropy-coded matrix in memory: one byte a code, decoded once on all threads, and a list of the few codes
// that take more.

import CKernels
import Tensors

/// The codes of a stream.
struct DecodedCodes {
  /// A code beyond −127…127.
  struct Exception {
    let column: Int
    let value: Int32
  }

  /// `[outputs, inputs]`, of a trellis v rather than k; 0 where there is an exception.
  private(set) var codes: [Int8]
  /// By row, for rows that have any.
  private(set) var exceptions: [Int: [Exception]] = [:]
  /// The first block whose words or bits are not used up exactly.
  private(set) var damagedBlock: Int?

  /// Decodes all blocks of a checked head.
  init(_ head: EntropyCodedStream, inputs: Int, stream: Tensor) {
    let map = SpreadMap(
      half: head.half, columnClasses: head.columnClasses, rowClasses: head.rowClasses,
      trellis: head.isTrellis, decoding: true)
    codes = [Int8](repeating: 0, count: head.scales.count * inputs)
    let blocks = head.blocks
    var results = [Result](repeating: Result(), count: blocks.count)
    unsafe codes.withUnsafeMutableBufferPointer { codes in
      // SAFETY: a block writes its own rows alone, and the loop ends before the buffer does.
      nonisolated(unsafe) let shared = unsafe codes
      // Two blocks in turn take little more time than one.
      results = ParallelLoop.map((blocks.count + 1) / 2) { pair in
        stream.withBytes { bytes in
          unsafe Self.decode(
            blocks[2 * pair..<min(2 * pair + 2, blocks.count)], bytes, map, head, inputs: inputs,
            into: shared)
        }
      }.flatMap { $0 }
    }
    for (index, result) in results.enumerated() {
      for (row, list) in result.exceptions { exceptions[row] = list }
      if result.isDamaged, damagedBlock == nil { damagedBlock = index }
    }
  }

  private struct Result {
    var exceptions: [(row: Int, list: [Exception])] = []
    var isDamaged = false
  }

  /// What one block needs while it is decoded; the memory is `Scratch`'s.
  @unsafe private struct Scratch: ~Copyable {
    let readers: UnsafeMutablePointer<kernel_rans_reader>
    let places: UnsafeMutablePointer<UInt32>
    let values: UnsafeMutablePointer<Int32>
    /// States of a trellis, and the places of the next row's tables.
    let followed: UnsafeMutablePointer<UInt8>
    let columns: UnsafeMutablePointer<UInt16>

    init(blocks: Int, inputs: Int) {
      unsafe readers = .allocate(capacity: blocks)
      unsafe places = .allocate(capacity: blocks * inputs)
      unsafe values = .allocate(capacity: blocks * inputs)
      unsafe followed = .allocate(capacity: blocks * inputs)
      unsafe columns = .allocate(capacity: blocks * inputs)
    }

    deinit {
      unsafe readers.deallocate()
      unsafe places.deallocate()
      unsafe values.deallocate()
      unsafe followed.deallocate()
      unsafe columns.deallocate()
    }
  }

  /// Decodes one or two blocks, row by row in turn; none after the first has more rows.
  private static func decode(
    _ blocks: ArraySlice<EntropyCodedStream.Block>, _ bytes: RawSpan, _ map: SpreadMap,
    _ head: EntropyCodedStream, inputs: Int, into codes: UnsafeMutableBufferPointer<Int8>
  ) -> [Result] {
    let blocks = Array(blocks)
    var results = [Result](repeating: Result(), count: blocks.count)
    let scratch = unsafe Scratch(blocks: blocks.count, inputs: inputs)
    unsafe bytes.withUnsafeBytes { bytes in
      guard let start = bytes.baseAddress, let out = codes.baseAddress else { return }
      for (index, block) in blocks.enumerated() {
        unsafe (scratch.readers + index).initialize(to: reader(of: block, start))
      }
      unsafe map.tables.withUnsafeBufferPointer { tables in
        unsafe map.map.withUnsafeBufferPointer { slots in
          unsafe map.columns.withUnsafeBufferPointer { first in
            guard let tables = tables.baseAddress, let slots = slots.baseAddress,
              let first = first.baseAddress
            else { return }
            for row in 0..<(blocks.first?.rows.count ?? 0) {
              let active = blocks.count { row < $0.rows.count }
              var rows = unsafe [kernel_rans_row]()
              for index in 0..<active {
                let number = blocks[index].rows.lowerBound + row
                if row % Trellis.segment == 0 {
                  unsafe (scratch.columns + index * inputs).update(from: first, count: inputs)
                  unsafe (scratch.followed + index * inputs).update(repeating: 0, count: inputs)
                }
                unsafe rows.append(
                  kernel_rans_row(
                    reader: scratch.readers + index,
                    map: slots + map.start(rowClass: head.rowClasses[number]),
                    columns: scratch.columns + index * inputs, out: out + number * inputs,
                    places: scratch.places + index * inputs,
                    values: scratch.values + index * inputs))
              }
              var counts = [Int](repeating: 0, count: active)
              unsafe kernel_rans_decode_rows(
                rows, active, tables, head.isTrellis ? 63 : 127, &counts, inputs)
              for index in 0..<active {
                let own = unsafe rows[index]
                if head.isTrellis {
                  unsafe kernel_trellis_follow(
                    scratch.followed + index * inputs, first, map.odd,
                    scratch.columns + index * inputs, own.out, inputs, own.places, own.values,
                    counts[index])
                }
                guard counts[index] > 0 else { continue }
                let list = (0..<counts[index]).map {
                  unsafe Exception(column: Int(own.places[$0]), value: own.values[$0])
                }
                results[index].exceptions.append((blocks[index].rows.lowerBound + row, list))
              }
            }
          }
        }
      }
      for (index, block) in blocks.enumerated() {
        results[index].isDamaged = unsafe !isUsedUp(scratch.readers[index], block)
      }
    }
    return results
  }

  /// A reader at the start of a block.
  private static func reader(
    of block: EntropyCodedStream.Block, _ stream: UnsafeRawPointer
  ) -> kernel_rans_reader {
    let states = unsafe stream + block.start
    let words = unsafe (states + EntropyCodedStream.stateBytes).assumingMemoryBound(to: UInt8.self)
    var reader = unsafe kernel_rans_reader(
      state: (0, 0, 0, 0, 0, 0, 0, 0), words: words, word: 0, word_count: block.words,
      raw: words + 2 * block.words, raw_bit: 0, raw_count: block.rawBytes, overrun: 0)
    unsafe withUnsafeMutableBytes(of: &reader.state) { state in
      unsafe state.copyMemory(
        from: UnsafeRawBufferPointer(start: states, count: EntropyCodedStream.stateBytes))
    }
    return unsafe reader
  }

  /// Whether words and raw bits are used up exactly and all states are the first one again.
  private static func isUsedUp(
    _ reader: kernel_rans_reader, _ block: EntropyCodedStream.Block
  ) -> Bool {
    let state = unsafe reader.state
    let ends = [
      state.0, state.1, state.2, state.3, state.4, state.5, state.6, state.7,
    ]
    let ending = unsafe (reader.overrun, reader.word, (reader.raw_bit + 7) / 8)
    return ending == (0, block.words, block.rawBytes) && ends.allSatisfy { $0 == 1 << 16 }
  }
}

/// Codes, steps and scales as a matrix.
struct EntropyCodedMatrix: LinearOperator {
  let outputs: Int
  let inputs: Int
  let storedBits: Int
  /// Nil when the head of the stream makes no sense: then all weights are 0.
  private let decoded: (head: EntropyCodedStream, codes: DecodedCodes)?

  init(outputs: Int, inputs: Int, stream: Tensor) {
    self.outputs = outputs
    self.inputs = inputs
    storedBits = 8 * stream.byteCount
    let head = stream.withBytes { bytes in
      try? EntropyCodedStream(bytes, outputs: outputs, inputs: inputs)
    }
    decoded = head.map { ($0, DecodedCodes($0, inputs: inputs, stream: stream)) }
  }

  func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) {
    precondition(rows.lowerBound >= 0 && rows.upperBound <= outputs)
    let inputs = inputs
    guard let (head, codes) = decoded, inputs > 0 else {
      for i in 0..<rows.count * inputs { target[i] = 0 }
      return
    }
    let steps = head.steps.span
    let all = codes.codes.span
    for (index, row) in rows.enumerated() {
      var part = target._mutatingExtracting(index * inputs..<(index + 1) * inputs)
      let scale = head.scales[row]
      decodeSteps(
        all.extracting(row * inputs..<(row + 1) * inputs), steps: steps, scale: scale, into: &part)
      for exception in codes.exceptions[row] ?? [] {
        part[exception.column] = Float(exception.value) * steps[exception.column] * scale
      }
    }
  }
}

extension EntropyCodedMatrix {
  /// For few tokens the columns' steps go into x, and the sums run over the codes as they are; many tokens are worth
  /// rows of floats in panels.
  func product(with x: Matrix) -> Matrix {
    guard let (head, codes) = decoded, x.rows <= Self.fewTokens, inputs > 0 else {
      return product(ofDecodedRowsWith: x)
    }
    let inputs = inputs, outputs = outputs, tokens = x.rows
    var stepped = x.values
    for index in stepped.indices { stepped[index] *= head.steps[index % inputs] }
    let aims = stepped
    var turned = [Float](repeating: 0, count: outputs * tokens)
    let block = max(1, Self.codesAtOnce / inputs)
    ParallelLoop.overRows(of: &turned, rowLength: tokens, blockRows: block) { rows, part in
      let all = codes.codes.span
      for (index, row) in rows.enumerated() {
        let own = all.extracting(row * inputs..<(row + 1) * inputs)
        let exceptions = codes.exceptions[row] ?? []
        for token in 0..<tokens {
          var sum = dotCodes(aims.span.extracting(token * inputs..<(token + 1) * inputs), own)
          for exception in exceptions {
            sum += Float(exception.value) * aims[token * inputs + exception.column]
          }
          part[index * tokens + token] = sum * head.scales[row]
        }
      }
    }
    return Matrix(turned: turned, rows: tokens, columns: outputs)
  }

  /// Tokens whose products run on the codes.
  private static let fewTokens = 4
  /// Codes of a piece of work.
  private static let codesAtOnce = 1 << 16
}

private func dotCodes(_ x: Span<Float>, _ codes: Span<Int8>) -> Float {
  precondition(x.count == codes.count)
  return unsafe x.withUnsafeBufferPointer { x in
    unsafe codes.withUnsafeBufferPointer { codes in
      guard let x = x.baseAddress, let from = codes.baseAddress else { return 0 }
      return unsafe kernel_dot_codes(x, from, codes.count)
    }
  }
}

/// `output[i] = codes[i] · steps[i] · scale`.
private func decodeSteps(
  _ codes: Span<Int8>, steps: Span<Float>, scale: Float, into output: inout MutableSpan<Float>
) {
  precondition(codes.count == steps.count && codes.count <= output.count)
  unsafe codes.withUnsafeBufferPointer { codes in
    unsafe steps.withUnsafeBufferPointer { steps in
      unsafe output.withUnsafeMutableBufferPointer { output in
        guard let from = codes.baseAddress, let by = steps.baseAddress, let to = output.baseAddress
        else { return }
        unsafe kernel_decode_steps(from, by, scale, to, codes.count)
      }
    }
  }
}
