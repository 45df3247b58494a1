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
      results = ParallelLoop.map(blocks.count) { index in
        let rows = blocks[index].rows
        let own = unsafe UnsafeMutableBufferPointer(
          rebasing: shared[rows.lowerBound * inputs..<rows.upperBound * inputs])
        return stream.withBytes { bytes in
          unsafe Self.decode(
            blocks[index], bytes, map, head, inputs: inputs, into: own)
        }
      }
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

  private static func decode(
    _ block: EntropyCodedStream.Block, _ bytes: RawSpan, _ map: SpreadMap,
    _ head: EntropyCodedStream, inputs: Int, into target: UnsafeMutableBufferPointer<Int8>
  ) -> Result {
    var result = Result()
    var places = [UInt32](repeating: 0, count: inputs)
    var values = [Int32](repeating: 0, count: inputs)
    var followed = [UInt8](repeating: 0, count: head.isTrellis ? inputs : 0)
    var columns = map.columns
    unsafe bytes.withUnsafeBytes { bytes in
      guard let start = bytes.baseAddress, let out = target.baseAddress else { return }
      let states = unsafe start + block.start
      let words = unsafe (states + EntropyCodedStream.stateBytes).assumingMemoryBound(
        to: UInt8.self)
      var reader = unsafe kernel_rans_reader(
        state: (0, 0, 0, 0, 0, 0, 0, 0), words: words, word: 0, word_count: block.words,
        raw: words + 2 * block.words, raw_bit: 0, raw_count: block.rawBytes, overrun: 0)
      unsafe withUnsafeMutableBytes(of: &reader.state) { state in
        unsafe state.copyMemory(
          from: UnsafeRawBufferPointer(start: states, count: EntropyCodedStream.stateBytes))
      }
      unsafe map.tables.withUnsafeBufferPointer { tables in
        unsafe map.map.withUnsafeBufferPointer { slots in
          unsafe map.columns.withUnsafeBufferPointer { start in
            guard let tables = tables.baseAddress, let slots = slots.baseAddress,
              let start = start.baseAddress
            else { return }
            for (index, row) in block.rows.enumerated() {
              if head.isTrellis, index % Trellis.segment == 0 {
                for column in followed.indices { followed[column] = 0 }
                columns = map.columns
              }
              let rowClass = head.rowClasses[row]
              let count = unsafe kernel_rans_decode_row(
                &reader, tables, slots + map.start(rowClass: rowClass), columns,
                head.isTrellis ? 63 : 127, out + index * inputs, &places, &values, inputs)
              if head.isTrellis {
                unsafe kernel_trellis_follow(
                  &followed, start, map.odd, &columns, out + index * inputs, inputs, places,
                  &values,
                  count)
              }
              guard count > 0 else { continue }
              let list = (0..<count).map {
                Exception(column: Int(places[$0]), value: values[$0])
              }
              result.exceptions.append((row, list))
            }
          }
        }
      }
      let state = unsafe reader.state
      let ends = [
        state.0, state.1, state.2, state.3, state.4, state.5, state.6, state.7,
      ]
      let ending = unsafe (reader.overrun, reader.word, (reader.raw_bit + 7) / 8)
      result.isDamaged =
        ending != (0, block.words, block.rawBytes) || ends.contains { $0 != 1 << 16 }
    }
    return result
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
