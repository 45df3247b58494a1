// Which format a tokenizer file has: its content says, whatever its name.

internal import JSONDocuments

/// The formats that are read.
enum TokenizerFormat {
  case json, sentencePiece, llamaC, tiktoken, mergeList, unknown

  init(of bytes: [UInt8]) {
    let start = bytes.prefix(4096)
    let line = Array(start.prefix { $0 != 0x0A })
    if start.first(where: { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }) == UInt8(ascii: "{") {
      self = .json
    } else if LlamaCVocabulary.recognizes(Array(start)) {
      self = .llamaC
    } else if start.first == 0x0A {
      // The first field of a SentencePiece model is field 1, a message.
      self = .sentencePiece
    } else if TiktokenRanks.record(line[...]) != nil {
      self = .tiktoken
    } else if line.has(Array("#version".utf8), at: 0) || MergeList.pair(line[...]) != nil {
      self = .mergeList
    } else {
      self = .unknown
    }
  }

  /// Reads a file of this format.
  func read(_ bytes: [UInt8]) throws(TokenizerError.Problem) -> TokenizerParts {
    switch self {
    case .json:
      let document: JSONValue
      do throws(JSONError) {
        document = try JSONValue(parsing: bytes)
      } catch {
        throw .json(error)
      }
      return try TokenizerFile(document).read()
    case .sentencePiece: return try SentencePieceModel(bytes).read()
    case .llamaC: return try SentencePieceModel(pieces: try LlamaCVocabulary(bytes).pieces).read()
    case .tiktoken: return try TiktokenRanks(bytes).read()
    case .mergeList: return try MergeList(bytes).read()
    case .unknown: throw .unknownFormat
    }
  }
}
