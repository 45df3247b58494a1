public import Tensors

/// A way to store one weight matrix as a few plain tensors.
///
/// An encoding says how bytes become numbers, never how the numbers were chosen: that is the business
/// of a method. `docs/bundle-format.md` specifies each one.
public protocol WeightEncoding: Sendable {
  /// The name in files and on the command line, such as `int4-g32`.
  var name: String { get }
  /// The encoding that a name stands for, or nil when the name is another encoding's.
  static func named(_ name: String) -> Self?
  /// The names of this encoding, as a message lists them.
  static var nameList: String { get }
  /// The number of columns of a matrix is a multiple of this.
  var columnMultiple: Int { get }
  /// The tensors that hold a matrix `[outputs, inputs]`, in the order of the file.
  func parts(outputs: Int, inputs: Int) -> [EncodedPart]
  /// What is wrong with parts of the right layout, in one line without a full stop, as far as it can be told
  /// without decoding codes; nil when nothing is.
  func problem(outputs: Int, inputs: Int, parts: [Tensor]) -> String?
  /// The matrix over its parts, which have the layout of `parts(outputs:inputs:)`.
  func matrix(outputs: Int, inputs: Int, parts: [Tensor]) -> any LinearOperator
}

/// One stored tensor of an encoded weight.
public struct EncodedPart: Sendable, Equatable {
  /// What follows the weight's name in the file, such as `:codes`; empty for a plain tensor.
  public let suffix: String
  /// The element type.
  public let dtype: DType
  /// The dimensions.
  public let shape: [Int]

  /// A part with its layout.
  public init(suffix: String, dtype: DType, shape: [Int]) {
    self.suffix = suffix
    self.dtype = dtype
    self.shape = shape
  }

  /// Bytes of the part.
  public var byteCount: Int { shape.reduce(dtype.byteCount, *) }
}

extension WeightEncoding {
  /// Any number of columns, unless a conformer says otherwise.
  public var columnMultiple: Int { 1 }

  /// Nothing, unless a conformer says otherwise: most encodings give every byte a meaning.
  public func problem(outputs: Int, inputs: Int, parts: [Tensor]) -> String? { nil }

  /// Bytes of a whole matrix.
  public func byteCount(outputs: Int, inputs: Int) -> Int {
    parts(outputs: outputs, inputs: inputs).reduce(0) { $0 + $1.byteCount }
  }

  /// All stored bits over the number of weights.
  public func bitsPerWeight(outputs: Int, inputs: Int) -> Double {
    Double(8 * byteCount(outputs: outputs, inputs: inputs)) / Double(max(1, outputs * inputs))
  }
}

/// A matrix in its encoding: what a method returns and a file stores.
public struct EncodedMatrix: Sendable {
  /// How the parts are to be read.
  public let encoding: any WeightEncoding
  /// Rows of the matrix.
  public let outputs: Int
  /// Columns of the matrix.
  public let inputs: Int
  /// The stored tensors, in the encoding's order.
  public let parts: [Tensor]

  /// A matrix over parts that have the encoding's layout.
  public init(encoding: any WeightEncoding, outputs: Int, inputs: Int, parts: [Tensor]) {
    let layout = encoding.parts(outputs: outputs, inputs: inputs)
    precondition(layout.count == parts.count)
    for (part, tensor) in zip(layout, parts) {
      precondition(part.dtype == tensor.dtype && part.shape == tensor.shape, "\(part)")
    }
    self.encoding = encoding
    self.outputs = outputs
    self.inputs = inputs
    self.parts = parts
  }

  /// The matrix as the networks use it.
  public var matrix: any LinearOperator {
    encoding.matrix(outputs: outputs, inputs: inputs, parts: parts)
  }
}

/// All encodings. A new one is a file and a line here.
public enum EncodingRegistry {
  /// The kinds of encodings.
  public static let all: [any WeightEncoding.Type] = [
    PlainFloats.self,
    GroupIntegers.self,
    LevelGroups.self,
    W8A8.self,
    GGUFBlocks.self,
    EntropyCoded.self,
    SparseEncoding.self,
    LowRank.self,
    Repaired.self,
  ]

  /// The encoding of a name, or nil when there is none.
  public static func encoding(named name: String) -> (any WeightEncoding)? {
    for kind in all {
      if let encoding = kind.named(name) { return encoding }
    }
    return nil
  }

  /// Every name, as a message lists them.
  public static var nameList: String { all.map { $0.nameList }.joined(separator: ", ") }
}
