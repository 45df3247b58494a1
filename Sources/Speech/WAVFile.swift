// WAV files: samples of one channel, whatever the file's width, channels and rate.
//
// Source   Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0", 1991 (RIFF, fmt, data);
//          "Multiple channel audio data and WAVE files", 2001 (WAVE_FORMAT_EXTENSIBLE)
// Given    untrusted bytes: sizes are checked against the file's end before anything is read
// Checked  SpeechTests: 8, 16, 24 and 32 bits, floats, stereo; hostile bytes

public import Checkpoints
import Tensors

/// Sound of one channel.
public struct Sound: Sendable, Equatable {
  /// Samples a second.
  public let rate: Int
  /// The samples, −1…1.
  public let samples: [Float]

  /// Given samples.
  public init(rate: Int, samples: [Float]) {
    self.rate = rate
    self.samples = samples
  }

  /// Reads a WAV file. Several channels are averaged to one.
  ///
  /// - Throws: `FileError` when the file cannot be read, `CheckpointError` for what is in it: no sound at all, a
  ///   compressed format, a width that is none of 8, 16, 24 and 32 bits.
  public init(wav path: String) throws {
    try self.init(wavBytes: try FilePath.read(path), path: path)
  }

  /// Reads the bytes of a WAV file.
  ///
  /// - Parameter path: What errors call it.
  public init(wavBytes bytes: [UInt8], path: String) throws(CheckpointError) {
    func wrong(_ found: String, _ expected: String) -> CheckpointError {
      CheckpointError(path: path, .badValue(found: found, expected: expected))
    }
    func tag(_ offset: Int) -> String {
      String(decoding: bytes[offset..<offset + 4], as: UTF8.self)
    }
    func integer(_ offset: Int, _ count: Int) -> Int {
      (0..<count).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
    }
    guard bytes.count >= 12, tag(0) == "RIFF", tag(8) == "WAVE" else {
      throw CheckpointError(
        path: path, .unknownFormat(known: ["WAV"], start: Array(bytes.prefix(8))))
    }
    var format: (code: Int, channels: Int, rate: Int, bits: Int)?
    var data: Range<Int>?
    var offset = 12
    while data == nil, offset + 8 <= bytes.count {
      let name = tag(offset), size = integer(offset + 4, 4), start = offset + 8
      if name == "fmt " {
        guard size >= 16, size <= bytes.count - start else {
          throw wrong("a 'fmt ' of \(size) bytes", "16 or more, and all in the file")
        }
        var code = integer(start, 2)
        if code == 0xFFFE, size >= 40 { code = integer(start + 24, 2) }
        format = (code, integer(start + 2, 2), integer(start + 4, 4), integer(start + 14, 2))
      } else if name == "data" {
        // A recorder that streams does not know the size: the rest of the file is meant.
        let isOpen = size == 0xFFFF_FFFF
        guard isOpen || size <= bytes.count - start else {
          throw wrong("\(bytes.count - start) bytes of sound", "\(size), as 'data' says")
        }
        data = start..<(isOpen ? bytes.count : start + size)
      }
      guard size <= bytes.count - start else { break }
      offset = start + size + size % 2
    }
    guard let format else {
      throw CheckpointError(path: path, .missing(key: "fmt ", expected: "a format"))
    }
    guard let data else {
      throw CheckpointError(path: path, .missing(key: "data", expected: "samples"))
    }
    guard format.code == 1 || format.code == 3 else {
      throw CheckpointError(
        path: path, .unsupported("WAV format \(format.code); PCM (1) and floats (3) are read"))
    }
    let widths = format.code == 1 ? [8, 16, 24, 32] : [32, 64]
    guard widths.contains(format.bits) else {
      throw wrong("\(format.bits) bits a sample", widths.map(String.init).joined(separator: ", "))
    }
    guard (1...64).contains(format.channels) else {
      throw wrong("\(format.channels) channels", "1 to 64")
    }
    guard (1000...768_000).contains(format.rate) else {
      throw wrong("\(format.rate) samples a second", "1000 to 768000")
    }
    let width = format.bits / 8, frame = width * format.channels
    let count = data.count / frame
    guard count > 0 else { throw wrong("no samples", "at least one") }
    func sample(_ offset: Int) -> Double {
      switch (format.code, format.bits) {
      case (3, 32): return Double(Float(bitPattern: UInt32(truncatingIfNeeded: integer(offset, 4))))
      case (3, _): return Double(bitPattern: UInt64(bitPattern: Int64(integer(offset, 8))))
      case (_, 8): return Double(integer(offset, 1) - 128) / 128
      default:
        let value = integer(offset, width), half = 1 << (format.bits - 1)
        return Double(value >= half ? value - 2 * half : value) / Double(half)
      }
    }
    var samples: [Float] = []
    samples.reserveCapacity(count)
    for index in 0..<count {
      let start = data.lowerBound + index * frame
      var sum = 0.0
      for channel in 0..<format.channels { sum += sample(start + channel * width) }
      samples.append(Float(sum / Double(format.channels)))
    }
    let bad = countNotFinite(samples.span)
    guard bad == 0 else {
      throw CheckpointError(path: path, .notFinite(count: bad, total: samples.count))
    }
    self.init(rate: format.rate, samples: samples)
  }
}
