// Reads a pickle as data: the opcodes of protocols 0 to 5, of which none may call anything but the few
// functions of PickleGlobal, which are all ours.
//
// Source   Lib/pickletools.py of CPython 3.14, the opcode table; torch/serialization.py and
//          torch/_weights_only_unpickler.py of PyTorch 2.13 for what torch.save writes
// Limits   everything that grows is charged against half of the file's size and 64 MB

import Tensors

/// The stack, the memo and the tables of values. One machine may run several pickles of one file in turn.
struct PickleMachine {
  var reader: ByteReader
  /// Whether classes of an archive's own code become records.
  let inArchive: Bool
  var budget: DecodedBudget
  private var stack: [PickleValue] = []
  private var marks: [Int] = []
  private var memo: [PickleValue] = []
  private(set) var containers: [[PickleValue]] = []
  private(set) var tensors: [PickledTensor] = []
  private(set) var storages: [PickledStorage] = []
  private(set) var records: [PickledRecord] = []
  private(set) var classNames: [String] = []
  private var globals: [GlobalName: PickleGlobal] = [:]

  /// Globals are looked up once for each place in the file that has other bytes than the last.
  private struct GlobalName: Hashable {
    let module: String
    let name: String
  }

  init(_ reader: ByteReader, inArchive: Bool, fileBytes: Int) {
    self.reader = reader
    self.inArchive = inArchive
    budget = DecodedBudget(growingWithin: fileBytes)
  }

  /// Runs one pickle from the reader's place to its STOP.
  mutating func run() throws(CheckpointError.Problem) -> PickleValue {
    stack.removeAll(keepingCapacity: true)
    marks.removeAll(keepingCapacity: true)
    memo.removeAll(keepingCapacity: true)
    while true {
      let code = try reader.byte()
      if code == UInt8(ascii: ".") {
        let value = try pop()
        if case .mark = value { throw damaged("a mark where a value is expected") }
        return value
      }
      try step(code)
    }
  }

  private mutating func step(_ code: UInt8) throws(CheckpointError.Problem) {
    switch code {
    case UInt8(ascii: "0"):
      if case .mark = try pop() { marks.removeLast() }
    case UInt8(ascii: "1"): _ = try popToMark()
    case UInt8(ascii: "2"):
      guard let top = stack.last, !Self.isMark(top) else { throw damaged("nothing to repeat") }
      try push(top)
    case UInt8(ascii: "("):
      try budget.take(32, Self.valuesTake)
      marks.append(stack.count)
      stack.append(.mark)
    case 0x80:
      let version = try reader.byte()
      guard version <= 5 else { throw .unsupported("pickle protocol \(version)") }
    case 0x95: try reader.skip(8)
    case UInt8(ascii: "N"), UInt8(ascii: "F"), UInt8(ascii: "G"), UInt8(ascii: "I"),
      UInt8(ascii: "J"), UInt8(ascii: "K"), UInt8(ascii: "L"), UInt8(ascii: "M"), 0x88, 0x89,
      0x8A, 0x8B:
      try push(try number(code))
    case UInt8(ascii: "S"), UInt8(ascii: "T"), UInt8(ascii: "U"), UInt8(ascii: "V"),
      UInt8(ascii: "X"), UInt8(ascii: "B"), UInt8(ascii: "C"), 0x8C, 0x8D, 0x8E, 0x96:
      try push(try text(code))
    case UInt8(ascii: "p"), UInt8(ascii: "q"), UInt8(ascii: "r"), 0x94, UInt8(ascii: "g"),
      UInt8(ascii: "h"), UInt8(ascii: "j"):
      try remember(code)
    case UInt8(ascii: "c"), UInt8(ascii: "i"), 0x93: try global(code)
    case UInt8(ascii: "R"), UInt8(ascii: "o"), 0x81, 0x92, UInt8(ascii: "b"), UInt8(ascii: "P"),
      UInt8(ascii: "Q"):
      try object(code)
    default: try container(code)
    }
  }

  // MARK: - The stack

  static let valuesTake = "the pickle's values take"

  func damaged(_ what: String) -> CheckpointError.Problem {
    .damaged(what: "the pickle has " + what, offset: reader.offset - 1)
  }

  private static func isMark(_ value: PickleValue) -> Bool {
    if case .mark = value { return true }
    return false
  }

  mutating func push(_ value: PickleValue) throws(CheckpointError.Problem) {
    // Twice its size, since arrays grow by doubling. What is popped is not given back: time is bounded too.
    try budget.take(32, Self.valuesTake)
    stack.append(value)
  }

  mutating func pop() throws(CheckpointError.Problem) -> PickleValue {
    guard let value = stack.popLast() else { throw damaged("nothing on its stack") }
    return value
  }

  /// The values above the topmost mark, which goes too.
  mutating func popToMark() throws(CheckpointError.Problem) -> [PickleValue] {
    guard let mark = marks.popLast(), mark < stack.count else {
      throw damaged("no mark on its stack")
    }
    let values = Array(stack[(mark + 1)...])
    stack.removeSubrange(mark...)
    return values
  }

  /// The value that SETITEMS and the like add to.
  func top() throws(CheckpointError.Problem) -> PickleValue {
    guard let top = stack.last else { throw damaged("nothing on its stack") }
    return top
  }

  mutating func makeContainer(_ values: [PickleValue]) throws(CheckpointError.Problem) -> Int32 {
    try budget.take(96 + 16 * values.count, Self.valuesTake)
    containers.append(values)
    return Int32(containers.count - 1)
  }

  mutating func add(_ values: [PickleValue], to index: Int32) throws(CheckpointError.Problem) {
    try budget.take(32 * values.count, Self.valuesTake)
    containers[Int(index)] += values
  }

  mutating func make(_ tensor: PickledTensor) throws(CheckpointError.Problem) -> PickleValue {
    try budget.take(320 + 32 * tensor.shape.count, Self.valuesTake)
    tensors.append(tensor)
    return .tensor(Int32(tensors.count - 1))
  }

  mutating func make(_ storage: PickledStorage) throws(CheckpointError.Problem) -> PickleValue {
    try budget.take(96, Self.valuesTake)
    storages.append(storage)
    return .storage(Int32(storages.count - 1))
  }

  mutating func makeRecord(of name: Int32) throws(CheckpointError.Problem) -> PickleValue {
    try budget.take(64, Self.valuesTake)
    records.append(PickledRecord(className: name, state: .none))
    return .record(Int32(records.count - 1))
  }

  mutating func setState(of record: Int32, _ state: PickleValue) {
    records[Int(record)].state = state
  }

  // MARK: - The memo

  private mutating func remember(_ code: UInt8) throws(CheckpointError.Problem) {
    switch code {
    case UInt8(ascii: "g"): try push(try recalled(try decimal()))
    case UInt8(ascii: "h"): try push(try recalled(Int(try reader.byte())))
    case UInt8(ascii: "j"): try push(try recalled(Int(try reader.integer(4))))
    case UInt8(ascii: "p"): try store(at: try decimal())
    case UInt8(ascii: "q"): try store(at: Int(try reader.byte()))
    case UInt8(ascii: "r"): try store(at: Int(try reader.integer(4)))
    default: try store(at: memo.count)
    }
  }

  private func recalled(_ index: Int) throws(CheckpointError.Problem) -> PickleValue {
    guard memo.indices.contains(index), !Self.isMark(memo[index]) else {
      throw damaged("no value number \(index) in its memo")
    }
    return memo[index]
  }

  private mutating func store(at index: Int) throws(CheckpointError.Problem) {
    let value = try top()
    // Writers number the memo from 0 or 1 on. An index far beyond is no writer's.
    guard index >= 0, index <= memo.count + 1024 else {
      throw damaged("the number \(index) in a memo of \(memo.count)")
    }
    if index >= memo.count {
      let added = index + 1 - memo.count
      try budget.take(32 * added, Self.valuesTake)
      memo += [PickleValue](repeating: .mark, count: added)
    }
    memo[index] = value
  }

  // MARK: - Globals

  private mutating func global(_ code: UInt8) throws(CheckpointError.Problem) {
    var module = ""
    var name = ""
    if code == 0x93 {
      let second = try pop()
      let first = try pop()
      module = try string(first)
      name = try string(second)
    } else {
      module = String(decoding: reader.array(try nameLine()), as: UTF8.self)
      name = String(decoding: reader.array(try nameLine()), as: UTF8.self)
    }
    let global = try lookUp(module, name)
    if code == UInt8(ascii: "i") {
      let arguments = try popToMark()
      try push(try call(global, arguments))
    } else {
      try push(.global(global))
    }
  }

  private mutating func nameLine() throws(CheckpointError.Problem) -> Range<Int> {
    let line = try reader.line()
    guard line.count <= 1024 else { throw damaged("a name of \(line.count) bytes") }
    return line
  }

  private mutating func lookUp(
    _ module: String, _ name: String
  ) throws(CheckpointError.Problem) -> PickleGlobal {
    let key = GlobalName(module: module, name: name)
    if let known = globals[key] { return known }
    let global: PickleGlobal
    if let known = PickleGlobal.named(module, name, inArchive: inArchive) {
      global = known
    } else if inArchive, module == "__torch__" || module.hasPrefix("__torch__.") {
      try budget.take(128 + module.utf8.count + name.utf8.count, Self.valuesTake)
      classNames.append(module + "." + name)
      global = .archiveClass(Int32(classNames.count - 1))
    } else if module == "torch" || module == "torch.storage", Self.isElementType(name) {
      throw .unknownType("torch." + name)
    } else {
      throw .foreignGlobal(
        CheckpointError.printable(module + "." + name, limit: 120))
    }
    try budget.take(128 + 2 * (module.utf8.count + name.utf8.count), Self.valuesTake)
    globals[key] = global
    return global
  }

  /// Types that exist in torch and not here: complex, quantized, 8-bit floats.
  private static func isElementType(_ name: String) -> Bool {
    name.hasSuffix("Storage") || name.hasPrefix("complex") || name.hasPrefix("float")
      || name.hasPrefix("qint") || name.hasPrefix("quint")
  }

  /// A value that must be a text, as a string.
  func string(_ value: PickleValue) throws(CheckpointError.Problem) -> String {
    guard case .text(let start, let count) = value, count <= 1 << 16,
      let text = reader.text(start..<start + Int(count))
    else { throw damaged("no text where one is expected") }
    return text
  }
}
