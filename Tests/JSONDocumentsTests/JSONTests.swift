import JSONDocuments
import Testing

@Suite struct JSONTests {
  @Test func readsEveryKindAndKeepsTheOrder() throws {
    let value = try JSONValue(
      parsing: #" {"z": [1, -2.5e1, true, null], "a": {"é\n": "\u00e9\ud83d\ude00/"}} "#)
    #expect(value.object?.keys == ["z", "a"])
    #expect(value["z"] == [1, -25.0, true, .null])
    #expect(value["a"]?["é\n"]?.string == "é😀/")
    #expect(try JSONValue(parsing: value.compactText) == value)
    #expect(try JSONValue(parsing: value.indentedText) == value)
  }

  @Test func keysThatAreOnlyCanonicallyEqualAreTwoKeys() throws {
    let value = try JSONValue(parsing: "{\"\u{E9}\": 1, \"e\u{301}\": 2}")
    #expect(value["\u{E9}"] == 1)
    #expect(value["e\u{301}"] == 2)
  }

  @Test func integersStayExact() throws {
    #expect(try JSONValue(parsing: "9223372036854775807") == .integer(.max))
    #expect(try JSONValue(parsing: "-9223372036854775808") == .integer(.min))
    #expect(try JSONValue(parsing: "9223372036854775808") == .number(9223372036854775808))
  }

  static let hostile: [(String, JSONError.Problem)] = [
    ("", .truncated), ("[1, 2", .truncated), ("{\"a\"", .truncated), ("\"abc", .truncated),
    ("{\"a\": 1, \"a\": 2}", .duplicateKey("a")),
    ("[1] x", .trailingBytes), ("01", .badNumber), ("1.", .badNumber), ("1e999", .badNumber),
    ("\"\\ud800\"", .badEscape), ("\"\\ud800 x\"", .badEscape), ("\"\\x\"", .badEscape),
    ("tru", .truncated), ("nul1", .unexpected(byte: 0x31, expected: "'null'")),
    ("\"a\nb\"", .unexpected(byte: 10, expected: "a string without control characters")),
    ("{1: 2}", .unexpected(byte: 0x31, expected: "a key in quotes")),
    ("[1 2]", .unexpected(byte: 0x32, expected: "',' or ']'")),
  ]

  @Test(arguments: hostile) func refuses(_ text: String, _ problem: JSONError.Problem) {
    let error = #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
    #expect(error?.problem == problem)
  }

  @Test func refusesDeepNesting() {
    for opening in ["[", "{\"a\":"] {
      let error = #expect(throws: JSONError.self) {
        try JSONValue(parsing: String(repeating: opening, count: 100_000))
      }
      #expect(error?.problem == .tooDeep(limit: 128))
    }
  }

  @Test func refusesBytesThatAreNotUTF8() {
    let error = #expect(throws: JSONError.self) { try JSONValue(parsing: [0x22, 0xFF, 0x22]) }
    #expect(error?.problem == .notUTF8)
  }

  @Test func duplicatesAreFoundAmongManyKeys() {
    let keys = (0..<1000).map { "\"k\($0)\": 0" } + ["\"k500\": 1"]
    let error = #expect(throws: JSONError.self) {
      try JSONValue(parsing: "{" + keys.joined(separator: ",") + "}")
    }
    #expect(error?.problem == .duplicateKey("k500"))
  }
}
