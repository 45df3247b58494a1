import Drift
import Foundation
import FoundationXML
import JSONDocuments
import Testing

@testable import Pipeline

@Suite struct RunReportTests {
  static let samples = [
    SampleReports.small, SampleReports.large, SampleReports.encoder, SampleReports.hostile,
  ]

  @Test("the JSON reads back equal", arguments: samples)
  func jsonRoundTrip(_ report: RunReport) throws {
    let text = report.json.indentedText
    #expect(try RunReport(json: JSONValue(parsing: text)) == report)
    #expect(report.json["schema"] == 1)
  }

  @Test func zerosAreToldAndPlotted() throws {
    var report = SampleReports.small
    #expect(!report.html.contains("Zeros by layer"))
    let layer = try #require(report.stages[0].layers.indices.first)
    report.stages[0].layers[layer].sparsity = 0.625
    #expect(try RunReport(json: report.json) == report)
    #expect(report.html.contains("Zeros by layer") && report.html.contains("0.625000"))
    #expect(report.markdown.contains("zeros") && report.markdown.contains("0.625000"))
  }

  @Test func driftHasTheNamesOfEval() throws {
    let decoder = try #require(SampleReports.small.stages[0].referenceDrift).json
    #expect(decoder.object?.keys == ["tokens", "perplexity", "perplexity_ratio", "kl", "top1"])
    #expect(
      decoder["kl"]?.object?.keys == ["mean", "median", "p99", "p999", "max", "ci95"])
    let encoder = try #require(SampleReports.encoder.stages[0].referenceDrift).json
    #expect(encoder.object?.keys == ["sentences", "cosine", "neighbours", "spearman"])
    #expect(encoder["cosine"]?.object?.keys == ["mean", "p01", "min", "ci95"])
  }

  /// Each member replaced by another kind of value, or taken away, is an error that names it.
  static let damages: [(String, String, String)] = [
    ("\"schema\": 1,", "\"schema\": 2,", "schema is 2, expected 1"),
    ("\"model\": \"lm-6m\",", "", "model is absent, expected a string"),
    ("\"bytes\": 4123456", "\"bytes\": 1.5", "stages[0].bytes is a number, expected an integer"),
    (
      "\"tokens\": 60945", "\"tokens\": \"many\"",
      "stages[0].drift.reference.tokens is a string, expected an integer"
    ),
    (
      "\"verdict\": \"undecided\"", "\"verdict\": \"maybe\"",
      "stages[0].gates[0].verdict is 'maybe', expected passed, failed, undecided"
    ),
    (
      "\"ci95\": [0.0196,0.0221]", "\"ci95\": [0.0196]",
      "stages[0].gates[0].ci95 is a list of 1, expected [low, high]"
    ),
    (
      "\"fallbacks\": 1", "\"fallbacks\": 9223372036854775807",
      "stages[0].layers[1].fallbacks is 9223372036854775807, expected a count"
    ),
    (
      "\"used\": 61440", "\"used\": []",
      "stages[0].calibration.used is an array, expected an integer"
    ),
    ("\"layers\": []", "\"layers\": 4", "stages[1].layers is an integer, expected an array"),
  ]

  @Test("a damaged report names the member", arguments: damages)
  func damaged(_ old: String, _ new: String, _ expected: String) throws {
    let text = SampleReports.small.json.indentedText
    try #require(text.contains(old))
    let damaged = text.replacing(old, with: new)
    let error = #expect(throws: RunReportError.self) {
      try RunReport(json: JSONValue(parsing: damaged))
    }
    #expect(error?.description == expected)
  }

  @Test func anyOtherDocumentIsAnError() {
    for value: JSONValue in [.null, 1, "x", [], [:], ["schema": 1]] {
      #expect(throws: RunReportError.self) { try RunReport(json: value) }
    }
  }

  @Test func theWorstGateDecides() {
    var report = SampleReports.small
    #expect(report.verdict == .failed)
    report.stages[0].gates.removeAll { $0.verdict == .failed }
    #expect(report.verdict == .undecided)
    report.stages[0].gates.removeAll { $0.verdict == .undecided }
    #expect(report.verdict == .passed)
    report.stages[0].gates = []
    #expect(report.verdict == nil)
  }

  // MARK: the page

  /// An XML parser is the oracle: the page is also well-formed XML.
  @Test("the page is well-formed", arguments: samples)
  func pageIsWellFormed(_ report: RunReport) {
    let page = report.html
    let parser = XMLParser(data: Data(page.utf8))
    let seen = SeenElements()
    parser.delegate = seen
    #expect(parser.parse(), "\(String(describing: parser.parserError))")
    #expect(!seen.names.contains("script") && !seen.names.contains("link"))
    #expect(!seen.attributes.contains("src") && !seen.attributes.contains("href"))
    #expect(!seen.attributes.contains { $0.hasPrefix("on") })
    #expect(seen.styles == 1 && seen.names.contains("svg"))
  }

  private final class SeenElements: NSObject, XMLParserDelegate {
    var names: Set<String> = []
    var attributes: Set<String> = []
    var styles = 0

    func parser(
      _ parser: XMLParser, didStartElement name: String, namespaceURI: String?,
      qualifiedName: String?, attributes: [String: String]
    ) {
      names.insert(name)
      self.attributes.formUnion(attributes.keys)
      if name == "style" { styles += 1 }
    }
  }

  @Test func namesAreEscaped() {
    let page = SampleReports.hostile.html
    #expect(!page.contains("<script"))
    #expect(page.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;&#39;|`"))
    #expect(!page.unicodeScalars.contains("\u{0}"))
    let markdown = SampleReports.hostile.markdown
    #expect(!markdown.contains("<script"))
    // Every table line has as many cells as its head, whatever the names hold.
    for block in markdown.components(separatedBy: "\n\n") where block.hasPrefix("| ") {
      let counts = block.split(separator: "\n").map { line in
        line.replacing("\\|", with: "").count { $0 == "|" }
      }
      #expect(Set(counts).count == 1, "\(block)")
    }
  }

  @Test func figuresThatAreNotNumbersAreShownAsAbsent() {
    var report = SampleReports.small
    report.stages[0].referenceDrift = .decoder(
      DecoderDrift(
        tokens: 0, perplexity: .infinity, perplexityRatio: .nan,
        kl: DivergenceSummary(
          mean: .nan, median: .nan, p99: .infinity, p999: .nan, max: .infinity,
          ci95: Interval(.nan, .infinity)), top1: .nan))
    report.stages[0].layers[0].relativeOutputError = .nan
    report.stages[0].layers[1].relativeOutputError = .infinity
    report.stages[0].seconds = .nan
    report.stages[1].bytes = 0
    for text in [report.html, report.markdown] {
      #expect(!text.contains("nan") && !text.contains("inf"))
    }
    report.stages[0].bytes = .max
    report.referenceBytes = .max
    #expect(report.html.contains("9223372 TB") && report.markdown.contains("9223372 TB"))
    report.stages = []
    #expect(report.html.contains("nothing was measured"))
    #expect(report.markdown.contains("No stage ran."))
  }

  /// Keep the files with `CONDENSE_REPORTS=folder` to look at the page in a browser.
  @Test func writesThreeFiles() throws {
    let kept = ProcessInfo.processInfo.environment["CONDENSE_REPORTS"]
    let folder = URL(
      filePath: kept ?? FileManager.default.temporaryDirectory.path + "/report-\(UUID().uuidString)"
    )
    defer { if kept == nil { try? FileManager.default.removeItem(at: folder) } }
    for (name, report) in zip(["small", "large", "encoder", "hostile"], Self.samples) {
      let directory = folder.appending(path: name)
      try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
      try report.write(to: directory.path)
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted() == [
          "drift.json", "report.html", "report.md",
        ])
      let json = try String(contentsOf: directory.appending(path: "drift.json"), encoding: .utf8)
      #expect(try RunReport(json: JSONValue(parsing: json)) == report)
    }
    #expect(throws: (any Error).self) {
      try SampleReports.small.write(to: folder.path + "/none/there")
    }
  }
}
