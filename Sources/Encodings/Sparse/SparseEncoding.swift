// Matrices whose zeros are not stored: where the others lie, and their values as floats or group integers.
//
// Layout   N:M      W:positions U32 [outputs, words]   which N of every M consecutive inputs are stored: a group is a digit
//                                                      below C(M, N), the place of its mask among the masks of N bits of
//                                                      M in ascending order; as many digits a word as fit, the first the
//                                                      least significant
//          bitmap   W:mask      U8  [outputs, bytes]   a bit an input, lowest first; every row starts on a byte
//          1xB      W:mask      U8  [outputs, bytes]   the same with a bit a block of B inputs
//          floats   W:values    F32, F16 or BF16 [count]  the stored weights, row by row
//          integers W:codes     U8  [bytes]            the stored weights' codes, row by row, each row from a byte on;
//                   W:scales, W:zeros                  as the group integers have them: groups count inputs, stored or not
// Decode   a weight that is not stored is 0
// Size     C(4, 2) = 6, twelve digits a word: 2/3 bits a weight say where, and C(8, 4) = 70, five digits: 0.8 bits; a bitmap
//          takes 1 bit. Kept chosen by size against the dense matrix, `packed`
// Checked  SparseEncodingTests: against a definition weight by weight; read_bundle.py, written from the document

public import Tensors

/// `2:4-f16`, `4:8-int4-g128`, `bitmap-f16-BYTES`, `1x16-int8-channel-BYTES`.
public struct SparseEncoding: WeightEncoding, Equatable {
  /// How the stored weights are found.
  public enum Places: Sendable, Equatable {
    /// So many of every group of inputs.
    case groups(kept: Int, of: Int)
    /// A bit for each block of so many inputs.
    case bitmap(block: Int)
  }

  /// How their values are stored.
  public enum Values: Sendable, Equatable {
    /// Floats.
    case floats(PlainFloats)
    /// Codes on grids.
    case integers(GroupIntegers)
  }

  /// Where the stored weights lie.
  public let places: Places
  /// Their values.
  public let values: Values
  /// Bytes of the values or codes of a bitmap; 0 where they follow from the shape.
  public let valueBytes: Int

  /// Groups are at most so long, and have at most so many masks.
  static let longestGroup = 16, mostMasks = 1 << 16

  /// An encoding.
  ///
  /// - Parameter valueBytes: Bytes of the values or codes of a bitmap.
  public init(places: Places, values: Values, valueBytes: Int = 0) {
    self.places = places
    self.values = values
    if case .groups = places { self.valueBytes = 0 } else { self.valueBytes = valueBytes }
  }

  /// The name of the places.
  private var placesName: String {
    switch places {
    case .groups(let kept, let size): "\(kept):\(size)"
    case .bitmap(1): "bitmap"
    case .bitmap(let block): "1x\(block)"
    }
  }

  /// The encoding of the values, were there no zeros.
  public var dense: any WeightEncoding {
    switch values {
    case .floats(let floats): floats
    case .integers(let integers): integers
    }
  }

  /// Such as `2:4-int4-g128` or `bitmap-f16-123456`.
  public var name: String {
    let base = placesName + "-" + dense.name
    if case .bitmap = places { return base + "-\(valueBytes)" }
    return base
  }

  /// The names.
  public static let nameList =
    "of pruned weights N:M, bitmap and 1xB before f32, f16, bf16 or group integers, such as 2:4-int4-g128"

  /// The encoding of a name.
  public static func named(_ name: String) -> SparseEncoding? {
    guard let dash = name.firstIndex(of: "-") else { return nil }
    let first = String(name[..<dash])
    var rest = name[name.index(after: dash)...]
    let places: Places
    switch SparsityPattern(first) {
    case .groups(let kept, let size):
      guard let masks = masks(kept: kept, of: size), masks > 1 else { return nil }
      places = .groups(kept: kept, of: size)
    case .blocks(let size): places = .bitmap(block: size)
    case .unstructured, nil:
      guard first == "bitmap" else { return nil }
      places = .bitmap(block: 1)
    }
    var bytes = 0
    if case .bitmap = places {
      guard let last = rest.lastIndex(of: "-"), let count = Int(rest[rest.index(after: last)...]),
        (0...1 << 48).contains(count)
      else { return nil }
      bytes = count
      rest = rest[..<last]
    }
    let values: Values
    if let integers = GroupIntegers.named(String(rest)) {
      values = .integers(integers)
    } else if let floats = PlainFloats.named(String(rest)), floats.dtype != .float64 {
      values = .floats(floats)
    } else {
      return nil
    }
    let encoding = SparseEncoding(places: places, values: values, valueBytes: bytes)
    return encoding.name == name ? encoding : nil
  }

  /// Groups and blocks are whole.
  public var columnMultiple: Int {
    switch places {
    case .groups(_, let size): size
    case .bitmap(let block): block
    }
  }

  /// What the zeros keep to, as far as the places say.
  public var pattern: SparsityPattern {
    switch places {
    case .groups(let kept, let size): .groups(kept: kept, of: size)
    case .bitmap(1): .unstructured
    case .bitmap(let block): .blocks(block)
    }
  }

  /// Weights that are stored; of integers in a bitmap at most so many.
  public func storedCount(outputs: Int, inputs: Int) -> Int {
    if case .groups(let kept, let size) = places { return outputs * (inputs / size * kept) }
    switch values {
    case .floats(let floats): return valueBytes / floats.dtype.byteCount
    case .integers(let integers): return min(outputs * inputs, 8 * valueBytes / integers.bits)
    }
  }

  /// How many masks of `size` bits have `kept` set; nil when they are too many for a digit.
  static func masks(kept: Int, of size: Int) -> Int? {
    guard (1..<size).contains(kept), size <= longestGroup else { return nil }
    var count = 1
    for i in 1...kept { count = count * (size - kept + i) / i }
    return count <= mostMasks ? count : nil
  }

  /// Digits of a word.
  static func digits(masks: Int) -> Int {
    var count = 1, product = masks
    while product * masks <= 1 << 32 {
      product *= masks
      count += 1
    }
    return count
  }

  /// Bytes of a row's codes or values.
  func valueBytes(kept: Int) -> Int {
    switch values {
    case .floats(let floats): kept * floats.dtype.byteCount
    case .integers(let integers): integers.packedBytes(kept)
    }
  }

  /// Places, then values.
  public func parts(outputs: Int, inputs: Int) -> [EncodedPart] {
    var bytes = valueBytes
    var parts: [EncodedPart]
    switch places {
    case .groups(let kept, let size):
      let groups = inputs / size
      let digits = Self.digits(masks: Self.masks(kept: kept, of: size) ?? 2)
      parts = [
        EncodedPart(
          suffix: ":positions", dtype: .uint32, shape: [outputs, (groups + digits - 1) / digits])
      ]
      bytes = outputs * valueBytes(kept: groups * kept)
    case .bitmap(let block):
      parts = [
        EncodedPart(suffix: ":mask", dtype: .uint8, shape: [outputs, (inputs / block + 7) / 8])
      ]
    }
    switch values {
    case .floats(let floats):
      parts.append(
        EncodedPart(
          suffix: ":values", dtype: floats.dtype, shape: [bytes / floats.dtype.byteCount]))
    case .integers(let integers):
      parts.append(EncodedPart(suffix: ":codes", dtype: .uint8, shape: [bytes]))
      parts += integers.parts(outputs: outputs, inputs: inputs).dropFirst()
    }
    return parts
  }

  /// The matrix over its parts; damaged places give some finite matrix.
  public func matrix(outputs: Int, inputs: Int, parts: [Tensor]) -> any LinearOperator {
    SparseMatrix(self, outputs: outputs, inputs: inputs, parts: parts)
  }

  /// What is wrong with the places.
  public func problem(outputs: Int, inputs: Int, parts: [Tensor]) -> String? {
    guard inputs.isMultiple(of: columnMultiple) else {
      return "\(inputs) inputs are no multiple of \(columnMultiple)"
    }
    return SparseMask(self, outputs: outputs, inputs: inputs, places: parts[0])
      .problem(in: self, outputs: outputs)
  }
}

extension WeightEncoding {
  /// The type of the floats that a matrix decodes to without any loss; nil when it stands for other numbers.
  public var exactFloats: DType? {
    if let floats = self as? PlainFloats { return floats.dtype }
    if let sparse = self as? SparseEncoding, case .floats(let floats) = sparse.values {
      return floats.dtype
    }
    return nil
  }
}
