import Foundation
import Tensors
import TestSupport
import Testing

@testable import Checkpoints

/// Seeded mutations of real files, for each reader. `CONDENSE_FUZZ=200000 swift test --filter …` runs longer.
@Suite(.serialized) struct FormatFuzzTests {
  static let fixtures = TestData.fixtures + "/"

  private static func read(_ names: [String]) throws -> [[UInt8]] {
    try names.map { try FilePath.read(fixtures + $0) }
  }

  private static func run(
    _ format: any CheckpointFormat.Type, _ name: String, _ seeds: [[UInt8]], words: [String],
    repair: (inout [UInt8], inout RandomStream) -> Void = { _, _ in }
  ) throws {
    let before = FileMutations.peakAddressSpace()
    let started = ContinuousClock.now
    let count = FileMutations.count(default: 6_000)
    let (broken, accepted) = try FileMutations.run(
      format, seeds: seeds,
      words: words.map { $0.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) } },
      count: count, name: name, repair: repair)
    #expect(broken == nil)
    #expect(accepted > 0 && accepted < count, "\(accepted) of \(count) accepted")
    let grown = FileMutations.peakAddressSpace() - before
    // In a long run nothing else shares the process; otherwise other tests' memory counts too.
    #expect(
      grown < (FileMutations.isLongRun ? 96 << 20 : 1 << 30), "\(grown) bytes for small files")
    if FileMutations.isLongRun {
      print(
        "\(name): \(count) inputs, \(accepted) accepted, +\(grown >> 20) MB,"
          + " \(ContinuousClock.now - started)")
    }
  }

  @Test(.timeLimit(.minutes(10))) func gguf() throws {
    try Self.run(
      GGUFFormat.self, "gguf",
      try Self.read(["gguf/keep.gguf", "gguf/small-llama-rope-llama3.gguf"]),
      words: [
        "GGUF", "\u{3}\u{0}\u{0}\u{0}", "general.alignment", "general.architecture", "split.count",
        "llama", "\u{9}\u{0}\u{0}\u{0}\u{8}\u{0}\u{0}\u{0}", "blk.0.attn_q.weight", "output.weight",
        "\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{7F}", "\u{C}\u{0}\u{0}\u{0}",
        "tokenizer.ggml.tokens",
      ])
  }

  static let pickleWords = [
    "(", ")", "]", "}", "e", "u", "t", "R", "b", "Q", "s", "a", "0", "1", "2", "N", "\u{81}",
    "\u{85}",
    "\u{86}", "\u{87}", "\u{93}", "\u{94}", "q\u{0}", "h\u{0}", "h\u{1}", "h\u{2}", "h\u{3}",
    "cposix\nsystem\n", "ctorch._utils\n_rebuild_tensor_v2\n", "ccollections\nOrderedDict\n",
    "ctorch\nFloatStorage\n", "K\u{1}", "K\u{2}", "J\u{FF}\u{FF}\u{FF}\u{7F}",
    "\u{8A}\u{8}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{7F}", "X\u{1}\u{0}\u{0}\u{0}0",
    "X\u{FF}\u{FF}\u{FF}\u{FF}", "]q\u{1}h\u{1}a", "}q\u{1}", "I99999\n", "L1L\n", "\u{95}", ".",
  ]

  @Test(.timeLimit(.minutes(10))) func oldPickles() throws {
    try Self.run(
      PyTorchFormat.self, "legacy pickles",
      try Self.read(["pytorch/views-legacy.pt", "pytorch/training-legacy.pt"]),
      words: Self.pickleWords)
  }

  /// The pickle alone is mutated, inside an archive that stays whole.
  @Test(.timeLimit(.minutes(10))) func pickles() throws {
    let archives = try ["views.pt", "training.pt", "script.pt", "views-protocol4.pt"].map {
      try ZipArchive(path: Self.fixtures + "pytorch/" + $0)
    }
    let folder = try TemporaryFolder()
    var stream = RandomStream(test: "pickles")
    var accepted = 0
    var broken: String?
    let words = Self.pickleWords.map {
      $0.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) }
    }
    let count = FileMutations.count(default: 6_000)
    let before = FileMutations.peakAddressSpace()
    let started = ContinuousClock.now
    for round in 0..<count where broken == nil {
      let archive = archives[round % archives.count]
      let entries = archive.entries.map { entry in
        var stored = ByteReader(archive.bytes).array(entry.range)
        if entry.name.hasSuffix("data.pkl") {
          for _ in 0...stream.integer(below: 4) {
            FileMutations.mutate(&stored, &stream, words: words)
          }
        }
        return HostileArchive.Entry(name: entry.name, stored: stored)
      }
      try FileMutations.replaceFile(at: folder.file("m.pt"), with: HostileArchive.bytes(entries))
      broken = FileMutations.brokenPromise(
        PyTorchFormat.self, folder.file("m.pt"), accepted: &accepted)
    }
    #expect(broken == nil)
    #expect(accepted > 0 && accepted < count)
    let grown = FileMutations.peakAddressSpace() - before
    #expect(grown < (FileMutations.isLongRun ? 96 << 20 : 1 << 30))
    if FileMutations.isLongRun {
      print(
        "pickles: \(count) inputs, \(accepted) accepted, +\(grown >> 20) MB,"
          + " \(ContinuousClock.now - started)")
    }
  }

  static let zipWords = [
    "PK\u{1}\u{2}", "PK\u{3}\u{4}", "PK\u{5}\u{6}", "PK\u{6}\u{6}", "../", "\u{8}\u{0}",
  ]

  @Test(.timeLimit(.minutes(10))) func archives() throws {
    try Self.run(
      PyTorchFormat.self, "archives",
      try Self.read(["pytorch/views.pt", "pytorch/views-deflated.pt", "pytorch/script.pt"]),
      words: Self.zipWords + Self.pickleWords)
  }

  @Test(.timeLimit(.minutes(10))) func arrayArchives() throws {
    try Self.run(
      NumPyArchiveFormat.self, "npz",
      try Self.read(["numpy/arrays-deflated.npz", "numpy/arrays.npz"]), words: Self.zipWords)
  }

  @Test(.timeLimit(.minutes(10))) func arrays() throws {
    let data = (0..<24).map { UInt8($0) }
    func header(_ text: String) -> [UInt8] {
      NumPyHeader.magic + [1, 0, UInt8(text.utf8.count), 0] + Array(text.utf8) + data
    }
    try Self.run(
      NumPyArrayFormat.self, "npy",
      [
        header("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n"),
        header("{'descr': '>i2', 'fortran_order': False, 'shape': (4, 3), }\n"),
      ] + (try Self.read(["numpy/version2.npy"])),
      words: [
        "9223372036854775807", "-1", "0", "4294967296", "(", ")", ",", "'", "True", "False", "<f8",
        ">f2", "|O", "{", "}", "[", "]", "'shape': (2,)", "\"", "\\", "1L",
      ],
      repair: { bytes, stream in
        // The length fits the header again, mostly, so that mutations reach what lies behind it.
        guard stream.integer(below: 4) > 0, bytes.count > 34, bytes[6] == 1 else { return }
        bytes[8] = UInt8(truncatingIfNeeded: bytes.count - 34)
        bytes[9] = 0
      })
  }

  @Test(.timeLimit(.minutes(10))) func llamaC() throws {
    try Self.run(
      LlamaCFormat.self, "llama2.c",
      try Self.read([
        "llama-c/legacy-tied.bin", "llama-c/version1-untied.bin", "llama-c/version2-untied.bin",
        "llama-c/ternary.bin",
      ]),
      words: ["24ka\u{1}\u{0}\u{0}\u{0}", "24ka\u{2}\u{0}\u{0}\u{0}", "\u{FF}\u{FF}\u{FF}\u{FF}"],
      repair: { bytes, stream in
        // Damage to the header counts; the weights' bytes are right whatever they are.
        guard stream.integer(below: 2) == 0, bytes.count > 40 else { return }
        let edges: [UInt8] = [0, 1, 2, 4, 8, 16, 127, 255]
        bytes[stream.integer(below: 40)] = edges[stream.integer(below: edges.count)]
      })
  }
}
