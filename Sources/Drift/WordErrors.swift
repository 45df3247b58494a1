// Word errors: the fewest insertions, deletions and replacements of words that make one text of another.
//
// Source   Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals", 1966; as a rate of
//          recognition: Morris, Maier and Green, "From WER and RIL to MER and WIL", INTERSPEECH 2004
// Cost     O(words of one text · words of the other) time, one row of memory
// Checked  WordErrorsTests: the recursive definition

/// How many words of a text are wrong.
public struct WordErrors: Sendable, Equatable {
  /// Insertions, deletions and replacements.
  public var edits: Int
  /// Words of the right text.
  public var words: Int

  /// Given counts.
  public init(edits: Int, words: Int) {
    self.edits = edits
    self.words = words
  }

  /// Compares a text with the right one.
  public init(_ text: String, against right: String) {
    let own = Self.words(of: text), right = Self.words(of: right)
    self.init(edits: Self.distance(own, right), words: right.count)
  }

  /// Edits over words of the right text; a text without words counts as one of one word, so that what is written in its
  /// place counts.
  public var rate: Double { Double(edits) / Double(max(1, words)) }

  /// The words that are compared: in small letters, without apostrophes; other punctuation and symbols part words, as
  /// blanks do.
  public static func words(of text: String) -> [String] {
    var words: [String] = [], word = ""
    for scalar in text.lowercased().unicodeScalars {
      if scalar == "'" || scalar == "\u{2019}" { continue }
      if scalar.properties.isWhitespace || isMark(scalar) {
        if !word.isEmpty { words.append(word) }
        word = ""
      } else {
        word.unicodeScalars.append(scalar)
      }
    }
    if !word.isEmpty { words.append(word) }
    return words
  }

  private static func isMark(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
      .initialPunctuation, .finalPunctuation, .otherPunctuation, .mathSymbol, .currencySymbol,
      .modifierSymbol, .otherSymbol, .control, .format:
      true
    default: false
    }
  }

  /// The fewest edits that make `right` of `own`.
  static func distance(_ own: [String], _ right: [String]) -> Int {
    // row[j]: edits between the words of `own` so far and the first j of `right`.
    var row = Array(0...right.count)
    for (index, word) in own.enumerated() {
      var diagonal = row[0]
      row[0] = index + 1
      for (place, other) in right.enumerated() {
        let replaced = diagonal + (word == other ? 0 : 1)
        diagonal = row[place + 1]
        row[place + 1] = min(replaced, row[place] + 1, diagonal + 1)
      }
    }
    return row[right.count]
  }
}
