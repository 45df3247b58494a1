// Tables of labelled sentence pairs: CSV with the columns sentence1, sentence2, score.
//
// Source   https://www.rfc-editor.org/rfc/rfc4180; a first line that names the columns may be there or not

import Calibration
import Checkpoints
import Drift
import Tokenization

enum SentencePairs {
  /// The pairs of a table, as token ids.
  static func read(_ path: String, tokenizer: Tokenizer, length: SentenceLength) throws
    -> [SentencePair]
  {
    let text = String(decoding: try FilePath.read(path), as: UTF8.self)
    var pairs: [SentencePair] = []
    for (index, record) in try records(of: text, path: path).enumerated() {
      if index == 0, record.fields.map({ $0.lowercased() }) == ["sentence1", "sentence2", "score"] {
        continue
      }
      guard record.fields.count == 3, let score = Double(record.fields[2]), score.isFinite else {
        throw TextError(
          path: path,
          .badLine(line: record.line, expected: "sentence1,sentence2,score with a number"))
      }
      pairs.append(
        SentencePair(
          first: SentenceTokens.ids(of: record.fields[0], tokenizer: tokenizer, length: length),
          second: SentenceTokens.ids(of: record.fields[1], tokenizer: tokenizer, length: length),
          score: score))
    }
    guard !pairs.isEmpty else { throw TextError(path: path, .empty) }
    return pairs
  }

  /// The records of a CSV text, with the line that each starts in.
  static func records(
    of text: String, path: String
  ) throws -> [(fields: [String], line: Int)] {
    var records: [(fields: [String], line: Int)] = []
    var fields: [String] = [], field = "", line = 1, start = 1
    var isQuoted = false, hasContent = false
    func endRecord() {
      guard hasContent || !fields.isEmpty else { return }
      records.append((fields + [field], start))
      fields = []
      field = ""
      hasContent = false
    }
    var scalars = text.unicodeScalars.makeIterator()
    var pending = scalars.next()
    while let scalar = pending {
      pending = scalars.next()
      if scalar == "\n" { line += 1 }
      switch scalar {
      case "\"" where isQuoted && pending == "\"":
        field.unicodeScalars.append(scalar)
        pending = scalars.next()
      case "\"" where isQuoted: isQuoted = false
      case "\"" where field.isEmpty:
        isQuoted = true
        hasContent = true
      case "," where !isQuoted:
        fields.append(field)
        field = ""
        hasContent = true
      case "\r" where !isQuoted && pending == "\n": break
      case "\n" where !isQuoted:
        endRecord()
        start = line
      default:
        field.unicodeScalars.append(scalar)
        hasContent = true
      }
    }
    guard !isQuoted else {
      throw TextError(path: path, .badLine(line: start, expected: "a closing quote"))
    }
    endRecord()
    return records
  }
}
