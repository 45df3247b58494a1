// From a dense encoded matrix with zeros to the smallest sparse one.

import Tensors

extension SparseEncoding {
  /// The smallest sparse form of a dense matrix of floats or group integers, with the same weights; nil when
  /// the dense one is the smallest, or its encoding has no sparse form.
  ///
  /// - Parameter pattern: What the zeros keep to, as far as it is known.
  public static func packed(_ dense: EncodedMatrix, pattern: SparsityPattern) -> EncodedMatrix? {
    let values: Values
    switch dense.encoding {
    case let floats as PlainFloats where floats.dtype != .float64: values = .floats(floats)
    case let integers as GroupIntegers: values = .integers(integers)
    default: return nil
    }
    let weights = dense.matrix.decoded()
    let places = places(for: pattern)
    let size = dense.parts.reduce(0) { $0 + $1.byteCount }
    return places.compactMap { packed(dense, weights, places: $0, values: values) }
      .filter { $0.parts.reduce(0) { $0 + $1.byteCount } < size }
      .min { a, b in
        a.parts.reduce(0) { $0 + $1.byteCount } < b.parts.reduce(0) { $0 + $1.byteCount }
      }
  }

  /// The forms that zeros of a pattern may have.
  private static func places(for pattern: SparsityPattern) -> [Places] {
    switch pattern {
    case .groups(let kept, let size) where masks(kept: kept, of: size) != nil:
      [.bitmap(block: 1), .groups(kept: kept, of: size)]
    case .blocks(let size): [.bitmap(block: 1), .bitmap(block: size)]
    case .groups, .unstructured: [.bitmap(block: 1)]
    }
  }

  /// The encoding that a matrix with so many zeros, placed by a pattern, will get from `packed`: its own where that is
  /// the smallest. Integers' rows are taken for equally full, which N:M makes them; for others it is an estimate.
  public static func planned(
    _ dense: any WeightEncoding, outputs: Int, inputs: Int, zeros: Int, pattern: SparsityPattern
  ) -> any WeightEncoding {
    let values: Values
    switch dense {
    case let floats as PlainFloats where floats.dtype != .float64: values = .floats(floats)
    case let integers as GroupIntegers: values = .integers(integers)
    default: return dense
    }
    let stored = outputs * inputs - zeros
    let forms = places(for: pattern).map { places in
      let form = SparseEncoding(places: places, values: values)
      let bytes =
        if case .floats = values { form.valueBytes(kept: stored) } else {
          outputs * form.valueBytes(kept: (stored + outputs - 1) / max(1, outputs))
        }
      let encoding = SparseEncoding(places: places, values: values, valueBytes: bytes)
      return (encoding: encoding, size: encoding.byteCount(outputs: outputs, inputs: inputs))
    }
    guard let best = forms.min(by: { $0.size < $1.size }),
      best.size < dense.byteCount(outputs: outputs, inputs: inputs)
    else { return dense }
    return best.encoding
  }

  /// One form; nil when the zeros do not fit it.
  static func packed(
    _ dense: EncodedMatrix, _ weights: Matrix, places: Places, values: Values
  ) -> EncodedMatrix? {
    let outputs = dense.outputs, inputs = dense.inputs
    var encoding = SparseEncoding(places: places, values: values)
    guard inputs > 0, outputs > 0, inputs.isMultiple(of: encoding.columnMultiple) else {
      return nil
    }
    // Whether a weight is stored: what lies in a kept group or block is, zero or not.
    var stored = weights.values.map { $0 != 0 }
    let first: Tensor
    switch places {
    case .groups(let kept, let size):
      let masks = SparseMask.all(kept: kept, of: size)
      let digitOf = Dictionary(uniqueKeysWithValues: zip(masks, 0..<UInt32(masks.count)))
      let digits = digits(masks: masks.count), groups = inputs / size
      let words = (groups + digits - 1) / digits
      var positions = [UInt32](repeating: 0, count: outputs * words)
      for row in 0..<outputs {
        for group in (0..<groups).reversed() {
          let start = row * inputs + group * size
          var own = (0..<size).filter { stored[start + $0] }
          guard own.count <= kept else { return nil }
          // A group with more zeros stores some of them.
          for place in 0..<size where own.count < kept && !own.contains(place) {
            own.append(place)
            stored[start + place] = true
          }
          let mask = own.reduce(UInt32(0)) { $0 | 1 << UInt32($1) }
          guard let digit = digitOf[mask] else { return nil }
          let word = row * words + group / digits
          positions[word] = positions[word] * UInt32(masks.count) + digit
        }
      }
      first = Tensor(.uint32, shape: [outputs, words], copying: positions.map(\.littleEndian))
    case .bitmap(let block):
      let blocks = inputs / block, bytes = (blocks + 7) / 8
      var mask = [UInt8](repeating: 0, count: outputs * bytes)
      for row in 0..<outputs {
        for index in 0..<blocks {
          let own = row * inputs + index * block..<row * inputs + (index + 1) * block
          guard stored[own].contains(true) else { continue }
          mask[row * bytes + index >> 3] |= 1 << UInt8(index & 7)
          for weight in own { stored[weight] = true }
        }
      }
      first = Tensor(.uint8, shape: [outputs, bytes], copying: mask)
    }
    var parts = [first]
    switch values {
    case .floats(let floats):
      // The decoded values convert back exactly.
      let kept = zip(weights.values, stored).filter { $1 }.map { $0.0 }
      parts.append(
        Tensor(.float32, shape: [kept.count], copying: kept).converted(to: floats.dtype))
    case .integers(let integers):
      parts.append(codes(of: dense, integers, stored: stored))
      parts += dense.parts.dropFirst()
    }
    encoding = SparseEncoding(places: places, values: values, valueBytes: parts[1].byteCount)
    return EncodedMatrix(encoding: encoding, outputs: outputs, inputs: inputs, parts: parts)
  }

  /// The codes of stored weights, row by row.
  private static func codes(
    of dense: EncodedMatrix, _ integers: GroupIntegers, stored: [Bool]
  ) -> Tensor {
    let inputs = dense.inputs, rowBytes = integers.packedBytes(inputs)
    var all = [UInt8](repeating: 0, count: inputs)
    var result: [UInt8] = []
    for row in 0..<dense.outputs {
      dense.parts[0].withBytes {
        unpackCodes(
          $0.extracting(row * rowBytes..<(row + 1) * rowBytes), bits: integers.bits, count: inputs,
          into: &all)
      }
      let kept = (0..<inputs).filter { stored[row * inputs + $0] }.map { all[$0] }
      result += packRows(kept, bits: integers.bits, rows: 1, columns: kept.count)
    }
    return Tensor(.uint8, shape: [result.count], copying: result)
  }
}
