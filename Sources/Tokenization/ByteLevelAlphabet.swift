// The alphabet in which byte-level tokenizers write bytes, so that a vocabulary is readable JSON.
//
// Source   https://github.com/openai/gpt-2, encoder.py, bytes_to_unicode: printable Latin-1 stands
//          for itself, every other byte for the next free scalar from U+0100 on.

/// Bytes to characters and back.
enum ByteLevelAlphabet {
  /// The scalar that stands for each byte.
  static let scalars: [UInt32] = {
    var scalars: [UInt32] = []
    var next: UInt32 = 0x100
    for byte in UInt32(0)...0xFF {
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: scalars.append(byte)
      default:
        scalars.append(next)
        next += 1
      }
    }
    return scalars
  }()

  /// The byte of each scalar below U+0144, -1 for none.
  private static let bytes: [Int16] = {
    var bytes = [Int16](repeating: -1, count: 0x144)
    for (byte, scalar) in scalars.enumerated() { bytes[Int(scalar)] = Int16(byte) }
    return bytes
  }()

  /// Bytes written in the alphabet.
  static func encode(_ text: [UInt8]) -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(text.count + text.count / 4)
    for byte in text { output.append(scalar: scalars[Int(byte)]) }
    return output
  }

  /// The bytes of a text in the alphabet, or `nil` when it has other characters.
  static func decode(_ token: Span<UInt8>) -> [UInt8]? {
    var output: [UInt8] = []
    output.reserveCapacity(token.count)
    var index = 0
    while index < token.count {
      let next = scalar(token, at: index)
      guard next.value < 0x144, bytes[Int(next.value)] >= 0 else { return nil }
      output.append(UInt8(truncatingIfNeeded: bytes[Int(next.value)]))
      index += next.length
    }
    return output
  }
}
