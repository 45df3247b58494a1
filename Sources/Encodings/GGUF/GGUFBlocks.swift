// ggml's block formats as encodings: what GGUF files hold, and what llama.cpp runs.
//
// Layout   W:blocks  U8  [outputs, inputs / blockColumns * blockBytes]  each row's blocks as in a GGUF file
// Decode   float32 values equal to those of PyPI's gguf (gguf.quants), bit for bit
// Checked  GGUFDecodingTests: blocks written by gguf and numpy; GGUFEncodingTests

import CKernels
public import Tensors

/// `Q4_0`, `Q4_K`, `IQ2_XXS` …: one ggml block format.
public struct GGUFBlocks: WeightEncoding, Equatable {
  /// The format.
  public let type: GGUFBlockType

  /// A format as an encoding.
  public init(_ type: GGUFBlockType) { self.type = type }

  /// The name that llama.cpp prints, such as `Q4_K`.
  public var name: String { type.name }

  /// The names.
  public static var nameList: String {
    GGUFBlockType.allCases.map { $0.name }.joined(separator: ", ")
  }

  /// The format of a name.
  public static func named(_ name: String) -> GGUFBlocks? {
    GGUFBlockType.named(name).map { GGUFBlocks($0) }
  }

  /// Inputs come in whole blocks.
  public var columnMultiple: Int { type.blockColumns }

  /// Bytes of a row of `inputs` columns, a multiple of the block's.
  public func rowBytes(inputs: Int) -> Int {
    precondition(
      inputs % type.blockColumns == 0,
      "\(inputs) inputs, not a multiple of \(type.blockColumns) as \(name) needs")
    return inputs / type.blockColumns * type.blockBytes
  }

  /// The blocks.
  public func parts(outputs: Int, inputs: Int) -> [EncodedPart] {
    [
      EncodedPart(
        suffix: ":blocks", dtype: .uint8, shape: [outputs, rowBytes(inputs: inputs)])
    ]
  }

  /// The matrix over its blocks.
  public func matrix(outputs: Int, inputs: Int, parts: [Tensor]) -> any LinearOperator {
    GGUFBlockMatrix(
      type: type, outputs: outputs, inputs: inputs, rowBytes: rowBytes(inputs: inputs),
      blocks: parts[0])
  }
}

/// Blocks as a matrix: rows are decoded from where they lie.
struct GGUFBlockMatrix: LinearOperator {
  let type: GGUFBlockType
  let outputs: Int
  let inputs: Int
  let rowBytes: Int
  let blocks: Tensor

  var storedBits: Int { 8 * blocks.byteCount }

  func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) {
    let count = rows.count * inputs / type.blockColumns
    precondition(rows.lowerBound >= 0 && rows.upperBound <= outputs)
    precondition(rows.count * inputs <= target.count)
    blocks.withBytes { bytes in
      decodeBlocks(
        bytes.extracting(rows.lowerBound * rowBytes..<rows.upperBound * rowBytes), count: count,
        into: &target)
    }
  }

  private func decodeBlocks(
    _ bytes: RawSpan, count: Int, into target: inout MutableSpan<Float>
  ) {
    let type = type
    let grid = GGUFCodebook.of(type)?.values ?? []
    unsafe bytes.withUnsafeBytes { bytes in
      unsafe target.withUnsafeMutableBufferPointer { target in
        unsafe grid.withUnsafeBytes { grid in
          guard let from = bytes.baseAddress, let to = target.baseAddress else { return }
          unsafe kernel_gguf_decode(
            type.rawValue, from.assumingMemoryBound(to: UInt8.self), type.blockBytes,
            type.blockColumns, count, grid.baseAddress?.assumingMemoryBound(to: UInt8.self), to)
        }
      }
    }
  }
}
