// Seeded damage for files of any format, and what a reader of such files promises.

public import Checkpoints
import Foundation
public import Tensors

/// Makes damaged copies of files and says whether a reader kept its promises.
public enum FileMutations {
  /// How many inputs a fuzz test tries: `CONDENSE_FUZZ`, or a number that takes a few seconds.
  public static func count(default count: Int) -> Int {
    ProcessInfo.processInfo.environment["CONDENSE_FUZZ"].flatMap(Int.init) ?? count
  }

  /// Whether this is a long run of a fuzz test alone, whose memory can be told from that of others.
  public static var isLongRun: Bool {
    ProcessInfo.processInfo.environment["CONDENSE_FUZZ"] != nil
  }

  /// The largest address space that the process has had, in bytes.
  public static func peakAddressSpace() -> Int {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmPeak:") }
    return 1024 * (line?.split(separator: " ").compactMap { Int($0) }.first ?? 0)
  }

  /// Changes one thing: a bit, a number, a piece moved, doubled or lost, a word of the format put in.
  public static func mutate(_ bytes: inout [UInt8], _ stream: inout RandomStream, words: [[UInt8]])
  {
    func position() -> Int { stream.integer(below: bytes.count) }
    guard !bytes.isEmpty else { return bytes.append(UInt8(stream.integer(below: 256))) }
    switch stream.integer(below: 9) {
    case 0: bytes[position()] ^= 1 << UInt8(stream.integer(below: 8))
    case 1: bytes[position()] = UInt8(stream.integer(below: 256))
    case 2: bytes.insert(UInt8(stream.integer(below: 256)), at: position())
    case 3:
      let start = position()
      bytes.removeSubrange(start..<min(bytes.count, start + 1 + stream.integer(below: 16)))
    case 4:
      // Numbers at the edge of what fits.
      let edges: [UInt64] = [0, 1, 0x7F, 0xFF, 0x7FFF_FFFF, 0xFFFF_FFFF, .max, 1 << 62, 1 << 32]
      let value = edges[stream.integer(below: edges.count)]
      let size = [1, 2, 4, 8][stream.integer(below: 4)]
      let start = position()
      for index in 0..<size where start + index < bytes.count {
        bytes[start + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
      }
    case 5:
      let word = words[stream.integer(below: words.count)]
      bytes.insert(contentsOf: word, at: position())
    case 6:
      let word = words[stream.integer(below: words.count)]
      let start = position()
      bytes.replaceSubrange(start..<min(bytes.count, start + word.count), with: word)
    case 7:
      let start = position()
      let piece = Array(bytes[start..<min(bytes.count, start + 1 + stream.integer(below: 60))])
      bytes.insert(contentsOf: piece, at: position())
    default: bytes.removeLast(min(bytes.count - 1, stream.integer(below: 64)))
    }
  }

  /// Puts a new file in the place of an old one: what is mapped must not shrink.
  public static func replaceFile(at path: String, with bytes: [UInt8]) throws {
    unlink(path)
    guard let file = fopen(path, "w") else { throw CocoaError(.fileWriteUnknown) }
    defer { fclose(file) }
    guard fwrite(bytes, 1, bytes.count, file) == bytes.count else {
      throw CocoaError(.fileWriteUnknown)
    }
  }

  /// Opens a file and uses every tensor. Nil when the reader kept its promises: tensors of the size that
  /// they say, or a `CheckpointError` in one line.
  public static func brokenPromise(
    _ format: any CheckpointFormat.Type, _ path: String, accepted: inout Int
  ) -> String? {
    do {
      let checkpoint = try format.open(path)
      for name in checkpoint.tensorNames {
        guard let tensor = checkpoint.tensor(name) else { return "'\(name)' is listed, not there" }
        guard
          elementCount(of: tensor.shape).map({ $0 * tensor.dtype.byteCount }) == tensor.byteCount
        else { return "'\(name)': \(tensor.shape) \(tensor.dtype) in \(tensor.byteCount) bytes" }
        // Touches both ends of the data.
        if tensor.count > 0 {
          _ = tensor.floats(elements: 0..<1)
          _ = tensor.floats(elements: tensor.count - 1..<tensor.count)
        }
      }
      accepted += 1
      return nil
    } catch let error as CheckpointError {
      let line = error.description
      return line.contains("\n") || line.utf8.count > 5000 ? "not a line: \(line.prefix(500))" : nil
    } catch {
      return "another error: \(error)"
    }
  }

  /// Tries mutations of files in turn. Nil when nothing broke.
  ///
  /// - Parameter repair: Mends what would hide the damage behind it, such as a length or a checksum.
  public static func run(
    _ format: any CheckpointFormat.Type, seeds: [[UInt8]], words: [[UInt8]], count: Int,
    name: String, repair: (inout [UInt8], inout RandomStream) -> Void = { _, _ in }
  ) throws -> (broken: String?, accepted: Int) {
    let folder = try TemporaryFolder()
    let path = folder.file("input")
    var stream = RandomStream(test: name)
    var accepted = 0
    for round in 0..<count {
      var bytes = seeds[round % seeds.count]
      for _ in 0...stream.integer(below: 4) { mutate(&bytes, &stream, words: words) }
      repair(&bytes, &stream)
      try replaceFile(at: path, with: bytes)
      if let broken = brokenPromise(format, path, accepted: &accepted) {
        return ("round \(round): \(broken)", accepted)
      }
    }
    return (nil, accepted)
  }
}

/// What two checkpoints must agree in.
public func differences(
  _ checkpoint: any Checkpoint, _ expected: [String: Tensor]
) -> [String] {
  var result: [String] = []
  let names = Set(checkpoint.tensorNames)
  if names.count != checkpoint.tensorNames.count { result.append("a name stands twice") }
  result += names.symmetricDifference(expected.keys).sorted().map { "'\($0)' is in one only" }
  for (name, tensor) in expected.sorted(by: { $0.key < $1.key }) {
    guard let found = checkpoint.tensor(name) else { continue }
    if found.dtype != tensor.dtype || found.shape != tensor.shape {
      result.append("'\(name)': \(found.dtype) \(found.shape), not \(tensor.dtype) \(tensor.shape)")
    } else if bytes(of: found) != bytes(of: tensor) {
      result.append("'\(name)' has other values")
    }
  }
  return result
}

/// The stored bytes.
public func bytes(of tensor: Tensor) -> [UInt8] {
  tensor.withBytes { $0.withUnsafeBytes { [UInt8]($0) } }
}

/// The tensors of a safetensors file by name.
public func safetensors(_ path: String) throws -> [String: Tensor] {
  let file = try SafetensorsFile(path: path)
  return Dictionary(
    uniqueKeysWithValues: file.tensorNames.compactMap { name in
      file.tensor(name).map { (name, $0) }
    })
}

/// The error of opening a file; nil when it opens.
public func openingError(
  _ format: any CheckpointFormat.Type, _ path: String
) -> CheckpointError? {
  do {
    _ = try format.open(path)
    return nil
  } catch {
    return error as? CheckpointError
  }
}
