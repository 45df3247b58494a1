// A small backtracking matcher for the regular expressions in tokenizer files.
//
// Source   R. Cox, "Regular Expression Matching: the Virtual Machine Approach", 2009,
//          https://swtch.com/~rsc/regexp/regexp2.html, the backtracking machine; the stack is on
//          the heap, so that a long text cannot exhaust the thread's.
// Cost     Repeats of one set, as nearly all are, run in a loop and cost one stack entry. A budget
//          of steps per text bounds patterns that backtrack without end: it stops matching.
// Checked  RegexTests: matches equal Oniguruma's; known patterns equal their own scanners

/// A compiled regular expression.
struct Regex: Sendable {
  private static let instructionLimit = 20_000

  private enum Instruction: Sendable {
    case set(Int)
    case loop(set: Int, least: Int, most: Int, isPossessive: Bool)
    /// Tries the first target, on failure the second.
    case split(Int, Int)
    case jump(Int)
    /// Keeps the position in a slot; `again` jumps unless nothing was taken since.
    case mark(slot: Int)
    case again(slot: Int, Int)
    /// The body follows and ends in `match`; then `end`.
    case look(isNegated: Bool, end: Int)
    case behind(set: Int, isNegated: Bool)
    case atomic(end: Int)
    case position(Position)
    case match
  }

  private enum Position: Sendable {
    case lineStart, lineEnd, textStart, textEnd, textEndOrLastNewline, boundary, noBoundary
  }

  private var program: [Instruction] = []
  private var sets: [ScalarSet] = []
  private var slotCount = 0

  /// Compiles a pattern in Oniguruma's syntax.
  init(_ pattern: String) throws(RegexError) {
    try emit(RegexParser.parse(pattern))
    program.append(.match)
  }

  /// The first match at or after `start`; lookahead ends with the text.
  func firstMatch(_ text: Span<UInt8>, from start: Int, _ state: inout RegexState) -> Range<Int>? {
    var position = start
    while position <= text.count {
      if let end = match(text, at: position, &state) { return position..<end }
      guard position < text.count, state.budget > 0 else { return nil }
      position += scalar(text, at: position).length
    }
    return nil
  }

  /// Where the match that starts at `position` ends.
  func match(_ text: Span<UInt8>, at position: Int, _ state: inout RegexState) -> Int? {
    if state.slots.count < slotCount { state.slots = .init(repeating: 0, count: slotCount) }
    return run(0, text, position, &state)
  }
}

/// The matcher's stack, kept from match to match.
struct RegexState: Sendable {
  /// Steps that are left for this text.
  fileprivate(set) var budget = 0
  fileprivate var slots: [Int] = []
  fileprivate var stack: [Frame] = []

  fileprivate struct Frame: Sendable {
    var counter: Int
    var position: Int
    /// A loop can give back down to here; `plain` for other frames.
    var least: Int
    static let plain = -1
    static let slot = -2
  }

  /// Allows a number of steps that is in proportion to a text.
  mutating func start(textLength: Int) { budget = 1_000_000 + 2_000 * textLength }
}

// MARK: - Compiling

extension Regex {
  private mutating func emit(_ node: RegexNode) throws(RegexError) {
    guard program.count < Self.instructionLimit else {
      throw RegexError(reason: "more than \(Self.instructionLimit) steps")
    }
    switch node {
    case .set(let expression): program.append(.set(add(expression)))
    case .sequence(let parts): for part in parts { try emit(part) }
    case .alternatives(let branches): try emit(alternatives: branches)
    case .repeated(let body, let least, let most, let mode):
      try emit(body, least: least, most: most, mode)
    case .lookahead(let body, let isNegated):
      try emit(body) { .look(isNegated: isNegated, end: $0) }
    case .lookbehind(let expression, let isNegated):
      program.append(.behind(set: add(expression), isNegated: isNegated))
    case .atomic(let body): try emit(body) { .atomic(end: $0) }
    case .lineStart: program.append(.position(.lineStart))
    case .lineEnd: program.append(.position(.lineEnd))
    case .textStart: program.append(.position(.textStart))
    case .textEnd: program.append(.position(.textEnd))
    case .textEndOrLastNewline: program.append(.position(.textEndOrLastNewline))
    case .wordBoundary(let isNegated):
      program.append(.position(isNegated ? .noBoundary : .boundary))
    }
  }

  private mutating func add(_ expression: ScalarSetExpression) -> Int {
    sets.append(ScalarSet(expression))
    return sets.count - 1
  }

  /// A body that runs by itself, behind the instruction that needs to know its end.
  private mutating func emit(
    _ body: RegexNode, behind instruction: (Int) -> Instruction
  ) throws(RegexError) {
    let place = program.count
    program.append(.match)
    try emit(body)
    program.append(.match)
    program[place] = instruction(program.count)
  }

  private mutating func emit(alternatives branches: [RegexNode]) throws(RegexError) {
    var jumps: [Int] = []
    for (index, branch) in branches.enumerated() {
      guard index < branches.count - 1 else {
        try emit(branch)
        break
      }
      let split = program.count
      program.append(.match)
      try emit(branch)
      jumps.append(program.count)
      program.append(.match)
      program[split] = .split(split + 1, program.count)
    }
    for jump in jumps { program[jump] = .jump(program.count) }
  }

  private mutating func emit(
    _ body: RegexNode, least: Int, most: Int?, _ mode: RegexNode.RepeatMode
  ) throws(RegexError) {
    if case .set(let expression) = body, mode != .lazy {
      let set = add(expression)
      program.append(
        .loop(set: set, least: least, most: most ?? .max, isPossessive: mode == .possessive))
      return
    }
    if mode == .possessive {
      return try emit(.atomic(.repeated(body, least: least, most: most, .greedy)))
    }
    for _ in 0..<least { try emit(body) }
    let isLazy = mode == .lazy
    guard let most else { return try emit(endless: body, isLazy: isLazy) }
    var splits: [Int] = []
    for _ in least..<max(most, least) {
      splits.append(program.count)
      program.append(.match)
      try emit(body)
    }
    for split in splits {
      program[split] = isLazy ? .split(program.count, split + 1) : .split(split + 1, program.count)
    }
  }

  private mutating func emit(endless body: RegexNode, isLazy: Bool) throws(RegexError) {
    let slot = slotCount
    slotCount += 1
    let split = program.count
    program.append(.match)
    program.append(.mark(slot: slot))
    try emit(body)
    program.append(.again(slot: slot, split))
    program[split] = isLazy ? .split(program.count, split + 1) : .split(split + 1, program.count)
  }
}

// MARK: - Matching

extension Regex {
  private func run(
    _ start: Int, _ text: Span<UInt8>, _ first: Int, _ state: inout RegexState
  ) -> Int? {
    let base = state.stack.count
    defer { state.stack.removeLast(state.stack.count - base) }
    var counter = start
    var position = first
    while true {
      state.budget -= 1
      guard state.budget > 0 else { return nil }
      var isMatch = true
      switch program[counter] {
      case .match: return position
      case .set(let set): isMatch = take(sets[set], text, &position)
      case .loop(let set, let least, let most, let isPossessive):
        isMatch = loop(
          sets[set], text, &position, least: least, most: most, counter,
          keepsStack: isPossessive, &state)
      case .split(let one, let other):
        state.stack.append(.init(counter: other, position: position, least: -1))
        counter = one - 1
      case .jump(let target): counter = target - 1
      case .mark(let slot):
        state.stack.append(.init(counter: slot, position: state.slots[slot], least: -2))
        state.slots[slot] = position
      case .again(let slot, let target): if position > state.slots[slot] { counter = target - 1 }
      case .look(let isNegated, let end):
        isMatch = (run(counter + 1, text, position, &state) == nil) == isNegated
        counter = end - 1
      case .atomic(let end):
        let inner = run(counter + 1, text, position, &state)
        isMatch = inner != nil
        position = inner ?? position
        counter = end - 1
      case .behind(let set, let isNegated):
        var found = false
        if position > 0 {
          let before = scalarStart(text, before: position)
          found = sets[set].contains(scalar(text, at: before).value)
        }
        isMatch = found != isNegated
      case .position(let kind): isMatch = isAt(kind, text, position)
      }
      if isMatch {
        counter += 1
      } else if !backtrack(to: base, text, &counter, &position, &state) {
        return nil
      }
    }
  }

  @inline(__always)
  private func take(_ set: ScalarSet, _ text: Span<UInt8>, _ position: inout Int) -> Bool {
    guard position < text.count else { return false }
    let next = scalar(text, at: position)
    guard set.contains(next.value) else { return false }
    position += next.length
    return true
  }

  /// Takes as many members of a set as there are; what may be given back is one stack entry.
  private func loop(
    _ set: ScalarSet, _ text: Span<UInt8>, _ position: inout Int, least: Int, most: Int,
    _ counter: Int, keepsStack: Bool, _ state: inout RegexState
  ) -> Bool {
    var count = 0
    var leastEnd = position
    let start = position
    while count < most, take(set, text, &position) {
      count += 1
      if count == least { leastEnd = position }
    }
    state.budget -= (position - start) / 8
    guard count >= least else { return false }
    if position > leastEnd, !keepsStack {
      state.stack.append(.init(counter: counter + 1, position: position, least: leastEnd))
    }
    return true
  }

  private func backtrack(
    to base: Int, _ text: Span<UInt8>, _ counter: inout Int, _ position: inout Int,
    _ state: inout RegexState
  ) -> Bool {
    while state.stack.count > base, let frame = state.stack.popLast() {
      switch frame.least {
      case RegexState.Frame.slot: state.slots[frame.counter] = frame.position
      case RegexState.Frame.plain:
        (counter, position) = (frame.counter, frame.position)
        return true
      default:
        (counter, position) = (frame.counter, scalarStart(text, before: frame.position))
        if position > frame.least {
          state.stack.append(
            .init(counter: counter, position: position, least: frame.least))
        }
        return true
      }
    }
    return false
  }

  private func isAt(_ kind: Position, _ text: Span<UInt8>, _ position: Int) -> Bool {
    switch kind {
    case .lineStart:
      return position == 0 || position < text.count && text[position - 1] == 0x0A
    case .lineEnd: return position == text.count || text[position] == 0x0A
    case .textStart: return position == 0
    case .textEnd: return position == text.count
    case .textEndOrLastNewline:
      return position == text.count || position == text.count - 1 && text[position] == 0x0A
    case .boundary, .noBoundary:
      var before = false
      var after = false
      if position > 0 {
        let start = scalarStart(text, before: position)
        before = ScalarClass.isBareWord(scalar(text, at: start).value)
      }
      if position < text.count {
        after = ScalarClass.isBareWord(scalar(text, at: position).value)
      }
      return (before != after) == (kind == .boundary)
    }
  }
}
