import Foundation
import Tensors
import TestSupport
import Testing

@testable import Checkpoints

/// Pickles that no torch.save wrote.
@Suite struct HostilePickleTests {
  /// An archive whose model is this pickle, with one storage "0" of eight floats.
  static func archive(_ pickle: [UInt8], script: Bool = false) -> [UInt8] {
    var entries = [
      HostileArchive.Entry(name: "m/data.pkl", stored: pickle),
      HostileArchive.Entry(name: "m/data/0", stored: [UInt8](repeating: 0, count: 32)),
    ]
    if script { entries.append(.init(name: "m/constants.pkl", stored: [])) }
    return HostileArchive.bytes(entries)
  }

  private static func open(_ pickle: [UInt8], script: Bool = false) throws -> (
    TensorFile?, CheckpointError.Problem?
  ) {
    let folder = try TemporaryFolder()
    try Data(archive(pickle, script: script)).write(to: URL(filePath: folder.file("m.pt")))
    do {
      return (try PyTorchFormat.open(folder.file("m.pt")) as? TensorFile, nil)
    } catch let error as CheckpointError {
      #expect(!error.description.contains("\n"))
      return (nil, error.problem)
    }
  }

  private static func text(_ text: String) -> [UInt8] {
    [0x8C, UInt8(text.utf8.count)] + Array(text.utf8)
  }

  private static func number(_ value: Int) -> [UInt8] {
    [0x8A, 8] + (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }

  private static func global(_ module: String, _ name: String) -> [UInt8] {
    Array("c\(module)\n\(name)\n".utf8)
  }

  /// `{"w": tensor}` over storage "0", which the pickle says has `count` floats.
  private static func tensor(
    offset: Int = 0, shape: [Int], strides: [Int], count: Int = 8, key: String = "0"
  ) -> [UInt8] {
    var pickle: [UInt8] = [0x80, 2] + Array("}".utf8) + text("w")
    pickle += global("torch._utils", "_rebuild_tensor_v2") + Array("((".utf8) + text("storage")
    pickle += global("torch", "FloatStorage") + text(key) + text("cpu") + number(count)
    pickle += Array("tQ".utf8) + number(offset) + Array("(".utf8) + shape.flatMap(number)
    pickle += Array("t(".utf8) + strides.flatMap(number) + [0x74, 0x89] + Array("}tRs.".utf8)
    return pickle
  }

  @Test func theBaseIsGood() throws {
    let (file, problem) = try Self.open(Self.tensor(shape: [2, 4], strides: [4, 1]))
    #expect(problem == nil && file?.tensor("w")?.shape == [2, 4])
  }

  /// The file that the command would make is not there, and the error names the function.
  @Test(arguments: [
    ("posix", "system"), ("os", "system"), ("nt", "system"), ("builtins", "eval"),
    ("builtins", "exec"), ("builtins", "getattr"), ("subprocess", "Popen"), ("torch", "load"),
    ("torch.hub", "load"), ("operator", "attrgetter"), ("__builtin__", "apply"),
    ("torch._utils", "_rebuild_qtensor"), ("torch.storage", "_load_from_bytes"),
    ("__torch__.a", "B"), ("torch.jit._pickle", "build_intlist"), ("numpy", "ndarray"),
  ]) func nothingRuns(_ module: String, _ name: String) throws {
    let folder = try TemporaryFolder()
    let marker = folder.file("ran")
    let call = Self.text("touch " + marker) + [0x85] + Array("R.".utf8)
    for pickle in [
      [0x80, 2] + Self.global(module, name) + call,
      [0x80, 4] + Self.text(module) + Self.text(name) + [0x93] + call,
      // A class with arguments, in the opcodes of old protocols.
      Array("(".utf8) + Self.text("touch " + marker) + Array("i\(module)\n\(name)\n.".utf8),
    ] {
      let (_, problem) = try Self.open(pickle)
      #expect(problem == .foreignGlobal("\(module).\(name)"))
      #expect(FilePath.kind(of: marker) == nil)
    }
  }

  /// A name with a line feed or an escape sequence stays a line of text.
  @Test func namesAreMadePrintable() throws {
    let pickle =
      [0x80, 4] + Self.text("a\nb\u{1B}[31m") + Self.text("c") + [0x93] + Array(".".utf8)
    #expect(try Self.open(pickle).1 == .foreignGlobal("a?b?[31m.c"))
  }

  /// Inside a TorchScript archive its classes are records; other names are refused there too.
  @Test func archiveClassesAreInert() throws {
    let record =
      [0x80, 2] + Self.global("__torch__.a", "B") + Array(")".utf8) + [0x81]
      + Self.tensor(shape: [8], strides: [1]).dropFirst(2).dropLast() + Array("b.".utf8)
    let (file, problem) = try Self.open(record, script: true)
    #expect(problem == nil && file?.tensorNames == ["w"])
    #expect(
      try Self.open([0x80, 2] + Self.global("os", "system") + Array(".".utf8), script: true).1
        == .foreignGlobal("os.system"))
  }

  @Test func tensorsBeyondTheirStorage() throws {
    func problem(
      _ offset: Int, _ shape: [Int], _ strides: [Int], count: Int = 8
    ) throws -> CheckpointError.Problem? {
      try Self.open(Self.tensor(offset: offset, shape: shape, strides: strides, count: count)).1
    }
    func beyond(_ offset: Int, _ shape: [Int]) -> CheckpointError.Problem {
      .beyondStorage(offset: offset, shape: shape, bytes: 32)
    }
    #expect(try problem(0, [9], [1]) == beyond(0, [9]))
    #expect(try problem(1, [2, 4], [4, 1]) == beyond(1, [2, 4]))
    #expect(try problem(-1, [2], [1]) == beyond(-1, [2]))
    #expect(try problem(.max, [2], [1]) == beyond(.max, [2]))
    #expect(try problem(0, [2], [-1]) == beyond(0, [2]))
    #expect(try problem(0, [2, 2], [.max, 1]) == beyond(0, [2, 2]))
    #expect(try problem(0, [-2], [1]) == .badShape([-2]))
    #expect(try problem(0, [1 << 62, 8], [0, 0]) == .badShape([1 << 62, 8]))
    #expect(try problem(0, [2], [1, 1]) == .badShape([2]))
    #expect(
      try problem(0, [2], [1], count: 9)
        == .sizeMismatch(shape: [9], bytes: 32, expected: 36))
    #expect(
      try problem(0, [2], [1], count: .max)
        == .sizeMismatch(shape: [.max], bytes: 32, expected: .max))
    #expect(
      try Self.open(Self.tensor(shape: [2], strides: [1], key: "../../etc/passwd")).1
        == .missingEntry("m/data/../../etc/passwd"))
  }

  /// A stride of zero makes much of little: up to the limit, which the error names.
  @Test func broadcastBombs() throws {
    let (small, _) = try Self.open(Self.tensor(shape: [1000, 8], strides: [0, 1]))
    #expect(small?.tensor("w")?.count == 8000)
    let (_, problem) = try Self.open(Self.tensor(shape: [1 << 40], strides: [0]))
    guard case .tooLarge(_, let bytes, let limit)? = problem else {
      Issue.record("\(String(describing: problem))")
      return
    }
    #expect(bytes == 1 << 42 && limit < 65 << 20)
  }

  /// A list of itself, and lists of lists that name a value 2^40 times.
  @Test func cyclesAndLaughs() throws {
    let cycle = Array("]q\u{0}h\u{0}a.".utf8)
    #expect(
      try Self.open(cycle).1 == .tooMany(what: "levels of nested values", count: 65, limit: 64))
    let ring = Array("}q\u{0}".utf8) + Self.text("a") + Array("h\u{0}s.".utf8)
    #expect(
      try Self.open(ring).1 == .tooMany(what: "levels of nested values", count: 65, limit: 64))
    var laughs = Array("]".utf8)
    for _ in 0..<40 { laughs += Array("q\u{1}]h\u{1}ah\u{1}a".utf8) }
    guard case .tooLarge(_, _, let limit)? = try Self.open(laughs + Array(".".utf8)).1 else {
      Issue.record("2^40 values were let through")
      return
    }
    #expect(limit < 36 << 20)
  }

  /// Depth costs no stack, neither while it is read nor when it is let go.
  @Test func deepNesting() throws {
    let depth = 200_000
    let pickle =
      [UInt8](repeating: UInt8(ascii: "N"), count: 1) + [UInt8](repeating: 0x85, count: depth)
      + Array(".".utf8)
    #expect(
      try Self.open(pickle).1 == .tooMany(what: "levels of nested values", count: 65, limit: 64))
  }

  /// Memory is charged: a few megabytes of opcodes do not become gigabytes of values.
  @Test func valueBombs() throws {
    for opcode in [")", "]", "}", "N", "("] {
      let pickle = [UInt8](
        repeating: UInt8(ascii: opcode.unicodeScalars.first ?? "N"), count: 3 << 20)
      guard case .tooLarge(_, _, let limit)? = try Self.open(pickle + Array(".".utf8)).1 else {
        Issue.record("\(opcode) was let through")
        continue
      }
      #expect(limit < 36 << 20)
    }
  }

  @Test(arguments: [
    ("", "truncated"), (".", "nothing on its stack"), ("(.", "mark"), ("e.", "no mark"),
    ("h\u{5}.", "memo"),
    ("g99999999999999999999\n.", "decimal"), ("Nr\u{FF}", "truncated"), ("NR.", "tuple"),
    ("(NNNu.", "key without a value"), ("]Nb.", "state"), ("N)R.", "no function"), ("2", "repeat"),
    ("\u{1}", "opcode"), ("Na.", "nothing on its stack"), ("NNa.", "no container"),
    ("NP1\n.", "persistent"), ("N)Q.", "no storage"), ("X\u{7F}\u{7F}\u{7F}\u{7F}ab.", "truncated"),
    ("]p5000\n.", "memo"), ("I999999999999999999999\n.", "decimal"),
    ("N.", "no tensor"),
  ]) func damagedOpcodes(_ pickle: String, _ words: String) throws {
    // Latin-1, so that bytes above 127 stay one byte.
    let bytes = pickle.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) }
    let problem = try #require(try Self.open(bytes).1)
    let text = words == "no tensor" ? "a tensor" : words
    #expect(problem.description.contains(text), "\(problem)")
  }

  /// Storages of the old format that lie about their size, stand twice or are missing.
  @Test func oldFiles() throws {
    let good = try FilePath.read(TestData.fixtures + "/pytorch/training-legacy.pt")
    let folder = try TemporaryFolder()
    func problem(_ bytes: [UInt8]) throws -> CheckpointError.Problem? {
      try? FileManager.default.removeItem(atPath: folder.file("m"))
      try Data(bytes).write(to: URL(filePath: folder.file("m")))
      return openingError(PyTorchFormat.self, folder.file("m"))?.problem
    }
    #expect(try problem(good) == nil)
    #expect(try problem(good + [0]) == .unusedBytes(from: good.count, to: good.count + 1))
    #expect(
      try problem(Array(good.dropLast()))
        == .truncated(
          needed: UInt64(good.count), available: good.count - 1))
    for step in 1..<16 {
      #expect(try problem(Array(good.prefix(good.count * step / 16))) != nil)
    }
    #expect(
      try problem(Array("not a pickle at all".utf8))
        == .damaged(what: "neither an archive nor pickles of torch.save", offset: 0))
  }
}
