// The JSON of `condense eval`, and members of a document with their paths.

import Drift
public import JSONDocuments

extension DriftSummary {
  /// Reads the figures; `tokens` marks a decoder, `sentences` an encoder, `samples` a network over samples, `recordings`
  /// a speech recognizer.
  init(json: JSONMember) throws(RunReportError) {
    if json["recordings"].value != nil {
      guard let drift = json.value.flatMap({ SpeechDrift(json: $0) }) else {
        throw RunReportError(
          path: json.path, found: "other figures", expected: "'recordings' a count")
      }
      self = .speech(drift)
    } else if json["samples"].value != nil {
      guard let drift = json.value.flatMap({ SampleDrift(json: $0) }) else {
        throw RunReportError(path: json.path, found: "other figures", expected: "'samples' a count")
      }
      self = .samples(drift)
    } else if json["sentences"].value != nil {
      let cosine = json["cosine"]
      self = .encoder(
        EncoderDrift(
          sentences: try json["sentences"].count(),
          cosine: CosineSummary(
            mean: try cosine["mean"].number(), p01: try cosine["p01"].number(),
            min: try cosine["min"].number(), ci95: try Interval(json: cosine["ci95"])),
          neighbours: try json["neighbours"].ifPresent { (value) throws(RunReportError) in
            NeighbourSummary(
              count: try value["count"].count(), mean: try value["mean"].number(),
              ci95: try Interval(json: value["ci95"]))
          },
          spearman: try json["spearman"].ifPresent { (value) throws(RunReportError) in
            try value.number()
          }))
    } else {
      let kl = json["kl"]
      self = .decoder(
        DecoderDrift(
          tokens: try json["tokens"].count(), perplexity: try json["perplexity"].number(),
          perplexityRatio: try json["perplexity_ratio"].number(),
          kl: DivergenceSummary(
            mean: try kl["mean"].number(), median: try kl["median"].number(),
            p99: try kl["p99"].number(), p999: try kl["p999"].number(),
            max: try kl["max"].number(), ci95: try Interval(json: kl["ci95"])),
          top1: try json["top1"].number()))
    }
  }

  /// The figures under the names of `condense eval --json`.
  public var json: JSONValue {
    switch self {
    case .decoder(let drift):
      return [
        "tokens": .integer(drift.tokens), "perplexity": .number(drift.perplexity),
        "perplexity_ratio": .number(drift.perplexityRatio),
        "kl": [
          "mean": .number(drift.kl.mean), "median": .number(drift.kl.median),
          "p99": .number(drift.kl.p99), "p999": .number(drift.kl.p999),
          "max": .number(drift.kl.max), "ci95": drift.kl.ci95.json,
        ],
        "top1": .number(drift.top1),
      ]
    case .encoder(let drift):
      var object = JSONObject([.init(key: "sentences", value: .integer(drift.sentences))])
      object["cosine"] = [
        "mean": .number(drift.cosine.mean), "p01": .number(drift.cosine.p01),
        "min": .number(drift.cosine.min), "ci95": drift.cosine.ci95.json,
      ]
      object["neighbours"] = drift.neighbours.map {
        [
          "count": .integer($0.count), "mean": .number($0.mean), "ci95": $0.ci95.json,
        ]
      }
      object["spearman"] = drift.spearman.map { .number($0) }
      return .object(object)
    case .samples(let drift): return drift.json
    case .speech(let drift): return drift.json
    }
  }
}

extension Interval {
  init(json: JSONMember) throws(RunReportError) {
    let ends = try json.map { (end) throws(RunReportError) in try end.number() }
    guard ends.count == 2 else {
      throw RunReportError(
        path: json.path, found: "a list of \(ends.count)", expected: "[low, high]")
    }
    self.init(ends[0], ends[1])
  }

  var json: JSONValue { [.number(low), .number(high)] }
}

/// A member of a document and how it is reached.
struct JSONMember {
  let value: JSONValue?
  let path: String

  init(_ value: JSONValue?, _ path: String) {
    self.value = value
    self.path = path
  }

  subscript(key: String) -> JSONMember {
    JSONMember(value?[key], path == "the report" ? key : path + "." + key)
  }

  private func error(_ expected: String) -> RunReportError {
    RunReportError(path: path, found: value?.kind ?? "absent", expected: expected)
  }

  func string() throws(RunReportError) -> String {
    guard let text = value?.string else { throw error("a string") }
    return text
  }

  func integer() throws(RunReportError) -> Int {
    guard let integer = value?.integer else { throw error("an integer") }
    return integer
  }

  /// An integer from 0 to 2^53.
  func count() throws(RunReportError) -> Int {
    let limit = 1 << 53
    let value = try integer()
    guard (0...limit).contains(value) else {
      throw RunReportError(path: path, found: "\(value)", expected: "a count")
    }
    return value
  }

  /// A number; `null`, as figures that are not finite are written, is not a number.
  func number() throws(RunReportError) -> Double {
    if value?.isNull == true { return .nan }
    guard let number = value?.number else { throw error("a number") }
    return number
  }

  func object() throws(RunReportError) -> JSONValue {
    guard let value, value.object != nil else { throw error("an object") }
    return value
  }

  func map<Element>(
    _ body: (JSONMember) throws(RunReportError) -> Element
  ) throws(RunReportError) -> [Element] {
    guard let elements = value?.array else { throw error("an array") }
    var result: [Element] = []
    for (index, element) in elements.enumerated() {
      result.append(try body(JSONMember(element, "\(path)[\(index)]")))
    }
    return result
  }

  func ifPresent<Value>(
    _ body: (JSONMember) throws(RunReportError) -> Value
  ) throws(RunReportError) -> Value? {
    value == nil || value?.isNull == true ? nil : try body(self)
  }
}
