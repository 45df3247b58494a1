// A string or a regular expression that a component searches for, and what is done at matches.

/// What a component searches for.
enum TextPattern: Sendable {
  /// Exactly these bytes; not empty.
  case string([UInt8])
  case regex(Regex)
  /// A pattern whose pieces cover the text.
  case known(KnownPattern)

  /// Calls `body` with each match and each stretch between matches, in order.
  ///
  /// Of two adjoining matches an empty second one does not count, as in Oniguruma's iterator.
  func forEachPart(
    of text: Span<UInt8>, _ range: Range<Int>, _ state: inout RegexState,
    _ body: (_ part: Range<Int>, _ isMatch: Bool) -> Void
  ) {
    var done = range.lowerBound
    func emit(_ match: Range<Int>) {
      if done < match.lowerBound { body(done..<match.lowerBound, false) }
      body(match, true)
      done = match.upperBound
    }
    switch self {
    case .string(let wanted):
      var index = range.lowerBound
      while index + wanted.count <= range.upperBound {
        if text[index] == wanted[0],
          equal(text, index..<index + wanted.count, wanted.span, at: 0)
        {
          emit(index..<index + wanted.count)
          index += wanted.count
        } else {
          index += 1
        }
      }
    case .known(let pattern):
      var pieces: [Range<Int>] = []
      pattern.split(text, range, into: &pieces)
      for piece in pieces { emit(piece) }
    case .regex(let regex):
      // The expression sees nothing outside the range.
      let part = text.extracting(range)
      state.start(textLength: part.count)
      var position = 0
      var lastEnd: Int?
      while position <= part.count,
        let match = regex.firstMatch(part, from: position, &state)
      {
        if match.isEmpty, match.lowerBound == lastEnd {
          position = match.upperBound
          position += position < part.count ? scalar(part, at: position).length : 1
          continue
        }
        emit(match.lowerBound + range.lowerBound..<match.upperBound + range.lowerBound)
        position = match.upperBound
        lastEnd = match.upperBound
      }
    }
    if done < range.upperBound { body(done..<range.upperBound, false) }
  }

  /// The text with every match replaced.
  func replacingMatches(
    in text: [UInt8], with replacement: [UInt8], _ state: inout RegexState
  ) -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(text.count)
    forEachPart(of: text.span, 0..<text.count, &state) { part, isMatch in
      if isMatch { output += replacement } else { output += text[part] }
    }
    return output
  }
}

/// What becomes of the matches of a pattern that cuts text.
enum SplitBehavior: String, Sendable {
  case removed = "Removed"
  case isolated = "Isolated"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"

  /// Appends the pieces that the parts make; empty pieces are left out.
  func join(_ parts: [(range: Range<Int>, isMatch: Bool)], into pieces: inout [Range<Int>]) {
    let start = pieces.count
    /// Extends the last piece of this call, or starts one.
    func extend(_ range: Range<Int>) {
      if pieces.count > start {
        pieces[pieces.count - 1] = pieces[pieces.count - 1].lowerBound..<range.upperBound
      } else {
        pieces.append(range)
      }
    }
    var previous = false
    switch self {
    case .removed: for part in parts where !part.isMatch { pieces.append(part.range) }
    case .isolated: for part in parts { pieces.append(part.range) }
    case .mergedWithPrevious:
      for part in parts {
        if part.isMatch, !previous { extend(part.range) } else { pieces.append(part.range) }
        previous = part.isMatch
      }
    case .contiguous:
      for part in parts {
        if part.isMatch == previous { extend(part.range) } else { pieces.append(part.range) }
        previous = part.isMatch
      }
    case .mergedWithNext:
      var reversed: [Range<Int>] = []
      for part in parts.reversed() {
        if part.isMatch, !previous, let last = reversed.last {
          reversed[reversed.count - 1] = part.range.lowerBound..<last.upperBound
        } else {
          reversed.append(part.range)
        }
        previous = part.isMatch
      }
      pieces += reversed.reversed()
    }
    if pieces[start...].contains(where: \.isEmpty) {
      let kept = pieces[start...].filter { !$0.isEmpty }
      pieces.removeSubrange(start...)
      pieces += kept
    }
  }
}
