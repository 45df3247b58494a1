// The loss curve in the files of those who plot elsewhere: a table, and TensorBoard's event files.

import Checkpoints
public import Distillation
import Glibc
import Tensors

/// Writes a curve while it grows.
public final class LossCurveFiles {
  private let csv: String?
  private let events: EventFile?
  private var written = 0

  /// Files to write; nil for those that nobody wants.
  public init(csv: String?, tensorboard: String?) throws {
    self.csv = csv
    events = try tensorboard.map { try EventFile(folder: $0) }
  }

  /// Writes the points that are new; a run that goes on gives its earlier ones first.
  public func add(_ curve: [TrainingPoint]) throws {
    guard curve.count > written else { return }
    if let csv { try OutputFile.write(Self.table(curve), to: csv) }
    for point in curve[written...] {
      try events?.add(step: point.step, Self.scalars(point))
    }
    written = curve.count
  }

  private static func scalars(_ point: TrainingPoint) -> [(name: String, value: Double)] {
    var scalars = [
      ("train/divergence", point.divergence), ("train/text", point.text),
      ("train/representation", point.representation), ("train/learning_rate", point.rate),
      ("train/gradient_length", point.gradientLength),
    ]
    if let validation = point.validation {
      scalars += [
        ("validation/divergence", validation.divergence), ("validation/text", validation.text),
      ]
      if let accuracy = validation.accuracy { scalars.append(("validation/accuracy", accuracy)) }
    }
    return scalars
  }

  /// Comma-separated, a line a point; validations where there were some.
  static func table(_ curve: [TrainingPoint]) -> String {
    var lines = [
      "step,tokens,divergence,text,representation,learning_rate,gradient_length,validation_divergence,validation_text"
    ]
    for point in curve {
      var fields = ["\(point.step)", "\(point.tokens)"]
      fields += [
        point.divergence, point.text, point.representation, point.rate, point.gradientLength,
      ].map { "\($0)" }
      fields += [point.validation?.divergence, point.validation?.text].map {
        $0.map { "\($0)" } ?? ""
      }
      lines.append(fields.joined(separator: ","))
    }
    return lines.joined(separator: "\n") + "\n"
  }
}

/// TensorBoard's event file: records of protocol buffers, each with checksums of its length and its bytes.
///
/// Layout of a record: u64 length, u32 masked CRC-32C of the length, the bytes, u32 masked CRC-32C of the bytes
/// (TensorFlow, `tsl/lib/io/record_writer.h`). An event has the fields wall_time = 1 (double), step = 2,
/// file_version = 3, summary = 5; a summary has values = 1 with tag = 1 and simple_value = 2 (`event.proto`).
final class EventFile {
  private let path: String
  private let descriptor: Int32

  init(folder: String) throws {
    try FilePath.makeFolder(folder)
    // TensorBoard reads files of this name in the order of their times.
    path = FilePath.join(folder, "events.out.tfevents.\(time(nil)).condense.\(getpid())")
    descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644 as mode_t)
    guard descriptor >= 0 else { throw FileError(path: path, operation: "create", code: errno) }
    try write(Self.record(Self.event(step: 0) { Self.field(3, text: "brain.Event:2", to: &$0) }))
  }

  deinit { close(descriptor) }

  func add(step: Int, _ scalars: [(name: String, value: Double)]) throws {
    try write(
      Self.record(
        Self.event(step: step) { event in
          var summary: [UInt8] = []
          for scalar in scalars {
            var value: [UInt8] = []
            Self.field(1, text: scalar.name, to: &value)
            value.append(2 << 3 | 5)
            Self.append(UInt64(Float(scalar.value).bitPattern), bytes: 4, to: &value)
            Self.field(1, bytes: value, to: &summary)
          }
          Self.field(5, bytes: summary, to: &event)
        }))
  }

  private func write(_ bytes: [UInt8]) throws {
    let count = unsafe bytes.withUnsafeBytes {
      unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
    }
    guard count == bytes.count else {
      throw FileError(path: path, operation: "write", code: count < 0 ? errno : ENOSPC)
    }
  }

  private static func event(step: Int, _ rest: (inout [UInt8]) -> Void) -> [UInt8] {
    var event: [UInt8] = [1 << 3 | 1]
    append(Double(time(nil)).bitPattern, bytes: 8, to: &event)
    event.append(2 << 3)
    append(varint: UInt64(step), to: &event)
    rest(&event)
    return event
  }

  private static func field(_ number: UInt8, text: String, to bytes: inout [UInt8]) {
    field(number, bytes: Array(text.utf8), to: &bytes)
  }

  private static func field(_ number: UInt8, bytes own: [UInt8], to bytes: inout [UInt8]) {
    bytes.append(number << 3 | 2)
    append(varint: UInt64(own.count), to: &bytes)
    bytes += own
  }

  private static func append(varint value: UInt64, to bytes: inout [UInt8]) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  private static func append(_ value: UInt64, bytes count: Int, to bytes: inout [UInt8]) {
    for index in 0..<count { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * UInt64(index)))) }
  }

  static func record(_ data: [UInt8]) -> [UInt8] {
    var length: [UInt8] = []
    append(UInt64(data.count), bytes: 8, to: &length)
    var record = length
    append(UInt64(masked(length)), bytes: 4, to: &record)
    record += data
    append(UInt64(masked(data)), bytes: 4, to: &record)
    return record
  }

  /// CRC-32C (Castagnoli), rotated and offset so that a checksum of checksums is none.
  private static func masked(_ bytes: [UInt8]) -> UInt32 {
    var crc = ~UInt32(0)
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
    }
    crc = ~crc
    return (crc >> 15 | crc << 17) &+ 0xA282_EAD8
  }
}
