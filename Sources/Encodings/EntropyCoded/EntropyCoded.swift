// Integer codes of any size behind an entropy coder: weight = step of the column · code · scale of the row.
//
// Source   Lifar, Savkin, Ordentlich, Polyanskiy, "WaterSIC", arXiv:2603.04956: steps per column, then an entropy
//          coder; Duda, arXiv:1311.2540 (rANS); Giesen, arXiv:1402.3392 (interleaving)
// Layout   W:codes   U8 [N]   the stream, see EntropyCodedStream; N is part of the encoding's name
// Decode   weight = (code · step) · scale, in binary32
// Size     that of the codes' information under classes of rows and columns; the table of a code follows from
//          the sum of its row's class and its column's, so that no table is stored
// Checked  EntropyCodedTests: sizes against the entropy, counted; a slow decoder made from the document alone

public import Tensors

/// `ec-N`: an entropy-coded matrix of N bytes.
public struct EntropyCoded: WeightEncoding, Equatable {
  /// Bytes of the stream. 0 stands for a matrix that is yet to be encoded.
  public let streamBytes: Int

  /// An encoding whose stream has so many bytes; 0 asks a method for as many as it needs.
  public init(streamBytes: Int = 0) {
    precondition(streamBytes >= 0)
    self.streamBytes = streamBytes
  }

  /// Such as `ec-123456`; `ec` when nothing is encoded yet.
  public var name: String { streamBytes == 0 ? "ec" : "ec-\(streamBytes)" }

  /// The names.
  public static let nameList = "ec (entropy-coded; ec-BYTES in files)"

  /// The encoding of a name.
  public static func named(_ name: String) -> EntropyCoded? {
    if name == "ec" { return EntropyCoded() }
    guard name.hasPrefix("ec-"), let bytes = Int(name.dropFirst(3)), bytes > 0, bytes <= 1 << 48,
      name == "ec-\(bytes)"
    else { return nil }
    return EntropyCoded(streamBytes: bytes)
  }

  /// The stream.
  public func parts(outputs: Int, inputs: Int) -> [EncodedPart] {
    [EncodedPart(suffix: ":codes", dtype: .uint8, shape: [streamBytes])]
  }

  /// The matrix over its stream. A damaged stream gives some finite matrix; `check` says what is wrong.
  public func matrix(outputs: Int, inputs: Int, parts: [Tensor]) -> any LinearOperator {
    EntropyCodedMatrix(outputs: outputs, inputs: inputs, stream: parts[0])
  }

  /// What is wrong with the head, the lists and the index.
  public func problem(outputs: Int, inputs: Int, parts: [Tensor]) -> String? {
    do throws(EntropyCodedError) {
      _ = try parts[0].withBytes { bytes throws(EntropyCodedError) in
        try EntropyCodedStream(bytes, outputs: outputs, inputs: inputs)
      }
      return nil
    } catch {
      return error.description
    }
  }

  /// Decodes a whole stream and checks every claim in it.
  public static func check(
    outputs: Int, inputs: Int, parts: [Tensor]
  ) throws(EntropyCodedError) {
    guard parts.count == 1, outputs >= 0, inputs >= 0 else {
      throw EntropyCodedError(description: "\(parts.count) parts, not 1")
    }
    let head = try parts[0].withBytes { bytes throws(EntropyCodedError) in
      try EntropyCodedStream(bytes, outputs: outputs, inputs: inputs)
    }
    let decoded = DecodedCodes(head, inputs: inputs, stream: parts[0])
    if let block = decoded.damagedBlock {
      throw EntropyCodedError(description: "the codes of block \(block) do not end as they should")
    }
  }
}
