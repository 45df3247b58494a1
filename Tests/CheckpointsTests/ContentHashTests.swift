import Checkpoints
import Tensors
import TestSupport
import Testing

@Suite struct ContentHashTests {
  /// The vectors of FIPS 180-4's examples and of the empty message.
  @Test func knownHashes() {
    let vectors = [
      ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
      ),
      (
        String(repeating: "a", count: 1_000_000),
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
      ),
    ]
    for (text, digits) in vectors { #expect(ContentHash.of(Array(text.utf8)) == digits) }
  }

  @Test func filesTensorsAndPieces() throws {
    let folder = try TemporaryFolder()
    let bytes = (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* $0) }
    let digits = ContentHash.of(bytes)
    try OutputFile.write(bytes, to: folder.file("f"))
    #expect(try ContentHash.of(file: folder.file("f")) == digits)
    #expect(ContentHash.of(Tensor(.uint8, shape: [5000], copying: bytes)) == digits)
    var hash = ContentHash()
    for start in stride(from: 0, to: 5000, by: 777) {
      hash.update(Array(bytes[start..<min(start + 777, 5000)]).span.bytes)
    }
    #expect(hash.digits == digits)
    #expect(throws: FileError.self) { try ContentHash.of(file: folder.file("none")) }
  }

  /// Two texts are not their concatenation.
  @Test func textsAreSeparated() {
    func digits(_ texts: [String]) -> String {
      var hash = ContentHash()
      for text in texts { hash.update(text) }
      return hash.digits
    }
    #expect(digits(["ab", "c"]) != digits(["a", "bc"]))
    #expect(digits(["abc"]) != digits(["abc", ""]))
  }
}
