import Foundation
import JSONDocuments
import Testing

@testable import Pipeline

/// The documents in `docs/` that the code generates.
@Suite struct RecipeDocumentsTests {
  static let docs = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appending(path: "docs")
  static let command =
    "CONDENSE_WRITE_DOCS=1 swift test -c release -Xswiftc -enable-testing "
    + "--filter RecipeDocumentsTests"
  static let writes = ProcessInfo.processInfo.environment["CONDENSE_WRITE_DOCS"] == "1"
  static let start = "<!-- generated from the code: keys -->\n"
  static let end = "<!-- end of the generated part -->\n"

  @Test func schemaIsUpToDate() throws {
    let file = Self.docs.appending(path: "recipe.schema.json")
    let generated = Recipe.jsonSchema.indentedText + "\n"
    if Self.writes { try generated.write(to: file, atomically: true, encoding: .utf8) }
    #expect(
      try String(contentsOf: file, encoding: .utf8) == generated,
      "docs/recipe.schema.json is out of date, write it again with: \(Self.command)")
  }

  @Test func keyTablesAreUpToDate() throws {
    let file = Self.docs.appending(path: "recipes.md")
    var text = try String(contentsOf: file, encoding: .utf8)
    let parts = text.components(separatedBy: Self.start)
    let tail = try #require(parts.last?.components(separatedBy: Self.end).last)
    let expected = parts[0] + Self.start + "\n" + Recipe.keyTables + "\n" + Self.end + tail
    if Self.writes {
      try expected.write(to: file, atomically: true, encoding: .utf8)
      text = expected
    }
    #expect(
      text == expected,
      "docs/recipes.md is out of date, write its tables again with: \(Self.command)")
  }

  @Test func theSchemaKnowsEveryKeyAndItsDefault() throws {
    let schema = Recipe.jsonSchema
    let stages = schema["properties"]?["stages"]?["items"]?["properties"]
    #expect(stages?.object?.keys == ["prune", "distill", "quantize", "pack"])
    let quantize = stages?["quantize"]
    #expect(quantize?["required"] == ["encoding"])
    #expect(quantize?["properties"]?["block-size"]?["default"] == 128)
    #expect(quantize?["properties"]?["method"]?["default"] == "gptq")
    #expect(quantize?["additionalProperties"] == false)
  }

  /// The recipe that the documentation shows must be one.
  @Test func theExampleCanBeRead() throws {
    let text = try String(contentsOf: Self.docs.appending(path: "recipes.md"), encoding: .utf8)
    let example = try #require(text.components(separatedBy: "```yaml\n").dropFirst().first)
    let yaml = try #require(example.components(separatedBy: "```").first)
    let recipe = try readRecipe(yaml)
    #expect(recipe.stages.map(\.kind) == ["quantize", "pack"])
  }
}
