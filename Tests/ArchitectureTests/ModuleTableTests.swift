// Holds the module table of docs/architecture.md true: against Package.swift and against every import.

import Foundation
import TestSupport
import Testing

@Suite struct ModuleTableTests {
  @Test func everyTargetStandsInTheTable() throws {
    let table = try ModuleTable()
    #expect(Set(table.rows.map(\.name)) == Set(try PackageModules().dependencies.keys))
  }

  @Test func importsPointToSmallerNumbers() throws {
    let table = try ModuleTable()
    for row in table.rows {
      for name in row.imports {
        guard let other = table[name] else { continue }
        #expect(
          other.number < row.number, "\(row.number) \(row.name) imports \(other.number) \(name)")
      }
    }
  }

  @Test func thePackageDeclaresNothingElse() throws {
    let table = try ModuleTable()
    for (name, dependencies) in try PackageModules().dependencies {
      let allowed = try #require(table[name], "\(name) is not in the table").imports
      let others = dependencies.subtracting(allowed)
      #expect(others.isEmpty, "Package.swift: \(name), which the table does not allow \(others)")
    }
  }

  @Test func sourcesImportNothingElse() throws {
    let table = try ModuleTable()
    let modules = Set(table.rows.flatMap { [$0.name] + $0.imports })
    for row in table.rows {
      for (file, name) in try SourceImports.of(row.name) where modules.contains(name) {
        #expect(
          row.imports.contains(name), "\(file) imports \(name), which the table does not allow")
      }
    }
  }

  @Test func inferenceNeedsNoLinearAlgebraAndNoTool() throws {
    let package = try PackageModules()
    var closure: Set<String> = [], waiting = ["CondenseInference"]
    while let name = waiting.popLast() {
      guard closure.insert(name).inserted else { continue }
      waiting += package.dependencies[name] ?? []
      waiting += try SourceImports.of(name).map(\.module)
    }
    for name in [
      "COpenBLAS", "CLAPACKE", "LinearAlgebra", "CHDF5", "CHDF5Reader", "HDF5Files", "Yams",
      "ArgumentParser",
      "Calibration", "Pipeline",
    ] { #expect(!closure.contains(name), "CondenseInference reaches \(name)") }
    #expect(closure.contains("Tensors") && closure.contains("Crypto"))
  }

  /// One file speaks to a network, for one command.
  @Test func oneFileSpeaksToANetwork() throws {
    let root = TestData.root + "Sources"
    let files = try FileManager.default.subpathsOfDirectory(atPath: root).filter {
      $0.hasSuffix(".swift")
    }
    let found = try files.filter {
      let text = try String(contentsOfFile: root + "/" + $0, encoding: .utf8)
      return text.contains("FoundationNetworking") || text.contains("URLSession(")
    }
    #expect(found == ["Pipeline/Collect/HTTPClient.swift"])
  }

  @Test func noTargetIsADrawer() throws {
    let drawers = ["common", "core", "util", "helper", "misc", "shared"]
    for name in try PackageModules().dependencies.keys {
      #expect(!drawers.contains { name.lowercased().contains($0) }, "\(name)")
    }
  }
}

/// The table of the document.
struct ModuleTable {
  struct Row {
    let number: Int
    let name: String
    let imports: Set<String>
  }

  let rows: [Row]

  subscript(name: String) -> Row? { rows.first { $0.name == name } }

  /// Rows are `| number | names | what it owns | imports |`, names in backquotes.
  init() throws {
    let text = try String(contentsOfFile: TestData.root + "/docs/architecture.md", encoding: .utf8)
    rows = text.split(separator: "\n").flatMap { line -> [Row] in
      let cells = line.split(separator: "|", omittingEmptySubsequences: false)
      guard cells.count == 6, let number = Int(cells[1].trimmingCharacters(in: .whitespaces)) else {
        return []
      }
      return quoted(cells[2], by: "`").map {
        Row(number: number, name: $0, imports: Set(quoted(cells[4], by: "`")))
      }
    }
    try #require(!rows.isEmpty, "docs/architecture.md has no module table")
  }
}

/// The targets of Package.swift that are not for tests.
struct PackageModules {
  let dependencies: [String: Set<String>]

  init() throws {
    let text = try String(contentsOfFile: TestData.root + "/Package.swift", encoding: .utf8)
    var products: [String: String] = [:]
    for part in text.components(separatedBy: "\nlet ").dropFirst() {
      let words = part.components(separatedBy: " = Target.Dependency.product(")
      if words.count == 2 { products[words[0]] = quoted(Substring(words[1]), by: "\"").first }
    }
    let targets = text.components(separatedBy: "  targets: [").last ?? ""
    var dependencies: [String: Set<String>] = [:]
    for kind in ["module(", ".target(", ".executableTarget(", ".systemLibrary("] {
      for part in targets.components(separatedBy: kind).dropFirst() {
        let call = Self.untilClosed(part)
        guard !call.contains("path: \"Tests/"), let name = quoted(call, by: "\"").first else {
          continue
        }
        var list = ""
        if kind != ".systemLibrary(", let start = call.firstIndex(of: "[") {
          list = String(call[start...].dropFirst().prefix { $0 != "]" })
        }
        let names = list.split(separator: ",").map { item in
          let word = item.trimmingCharacters(in: .whitespacesAndNewlines)
          return products[word] ?? word.trimmingCharacters(in: CharacterSet(charactersIn: "\""))
        }
        dependencies[name] = Set(names.filter { !$0.isEmpty })
      }
    }
    self.dependencies = dependencies
    try #require(!dependencies.isEmpty, "Package.swift has no targets that this test can read")
  }

  /// The arguments of a call, up to its closing parenthesis.
  private static func untilClosed(_ text: String) -> Substring {
    var depth = 1
    for index in text.indices {
      if text[index] == "(" { depth += 1 }
      if text[index] == ")" { depth -= 1 }
      if depth == 0 { return text[..<index] }
    }
    return text[...]
  }
}

/// The imports of a module's Swift files.
enum SourceImports {
  static func of(_ module: String) throws -> [(file: String, module: String)] {
    let folder = TestData.root + "/Sources/" + module
    guard let files = FileManager.default.enumerator(atPath: folder) else { return [] }
    var imports: [(file: String, module: String)] = []
    for case let file as String in files where file.hasSuffix(".swift") {
      let text = try String(contentsOfFile: folder + "/" + file, encoding: .utf8)
      for line in text.split(separator: "\n") {
        var words = line.split(separator: " ")
        if let first = words.first, ["public", "internal", "package", "@testable"].contains(first) {
          words.removeFirst()
        }
        guard words.count >= 2, words[0] == "import" else { continue }
        imports.append((module + "/" + file, String(words[1])))
      }
    }
    return imports
  }
}

/// What stands between pairs of a mark.
func quoted(_ text: Substring, by mark: Character) -> [String] {
  let parts = text.split(separator: mark, omittingEmptySubsequences: false)
  return stride(from: 1, to: parts.count - 1, by: 2).map { String(parts[$0]) }
}
