// How far a model is from a teacher, by the teacher's log alone.
//
// What is exact     perplexity, its ratio, top-1, and a lower bound of the KL divergence: that of the distributions in
//                   which all tokens outside the list are one, Σ_list p ln(p/q) + m_p ln(m_p/m_q) with m = 1 − Σ_list
// What is estimated the KL divergence itself, without bias, from the samples outside the list. With H the logged
//                   entropy, Σ_outside p ln p = −H − Σ_list p ln p is known, and
//                     KL = Σ_list p ln(p/q) + Σ_outside p ln p − (1/N) Σ_samples outside ln q
//                   in expectation. Replacing ln q by ln q − c, with c the outside's mean of ln p, changes nothing in
//                   expectation and takes out most of the variance that the number of such samples has.
// Checked           TeacherLogDriftTests: against the divergence of whole distributions

import Checkpoints
public import CondenseInference
import Drift
import Foundation
public import HDF5Files
public import JSONDocuments
import Networks
import Tensors

/// What a model does on the text of a teacher log.
public struct TeacherLogDrift: Sendable, Equatable {
  /// A mean over all rows with its interval, by bootstrap over windows.
  public struct Mean: Sendable, Equatable {
    /// The mean.
    public let mean: Double
    /// 95 % of it.
    public let interval: ClosedRange<Double>
  }

  /// Scored rows.
  public let tokens: Int
  /// exp(mean negative log-likelihood) of the model.
  public let perplexity: Double
  /// Over the teacher's perplexity; exact.
  public let perplexityRatio: Mean
  /// The KL divergence of the teacher from the model in nats, estimated; nil when the log has no samples at
  /// temperature 1.
  public let divergence: Mean?
  /// A lower bound of the KL divergence, exact; nil when the log has no lists.
  public let divergenceBound: Mean?
  /// The bound's points over all rows: 50 %, 99 %, 99.9 %, 100 %.
  public let boundPoints: [Double]
  /// Share of rows where both argmaxes agree; exact; nil when the log has no lists.
  public let top1: Mean?

  /// The keys of `condense eval --teacher-log --json`.
  public var json: JSONValue {
    var object = JSONObject()
    object["tokens"] = .integer(tokens)
    object["perplexity"] = .number(perplexity)
    object["perplexity_ratio"] = .number(perplexityRatio.mean)
    object["perplexity_ratio_ci95"] = Self.json(perplexityRatio.interval)
    if let divergence {
      object["kl"] = [
        "mean": .number(divergence.mean), "ci95": Self.json(divergence.interval),
        "estimated": true,
      ]
    }
    if let bound = divergenceBound {
      object["kl_lower_bound"] = [
        "mean": .number(bound.mean), "median": .number(boundPoints[0]),
        "p99": .number(boundPoints[1]), "p999": .number(boundPoints[2]),
        "max": .number(boundPoints[3]), "ci95": Self.json(bound.interval),
      ]
    }
    if let top1 {
      object["top1"] = .number(top1.mean)
      object["top1_ci95"] = Self.json(top1.interval)
    }
    return .object(object)
  }

  /// Lines for people.
  public var text: String {
    func line(_ name: String, _ value: Mean, _ digits: Int) -> String {
      name + Figures.text(value.mean, digits)
        + "  (95 %: \(Figures.text(value.interval.lowerBound, digits)) … "
        + "\(Figures.text(value.interval.upperBound, digits)))"
    }
    var lines = [
      "tokens scored      \(tokens)", "perplexity         \(Figures.text(perplexity, 4))",
      line("perplexity ratio   ", perplexityRatio, 5),
    ]
    if let divergence { lines.append(line("KL, estimated      ", divergence, 6)) }
    if let divergenceBound { lines.append(line("KL, at least       ", divergenceBound, 6)) }
    if let top1 { lines.append("top-1 agreement    \(Figures.text(top1.mean * 100, 3)) %") }
    return lines.joined(separator: "\n")
  }

  private static func json(_ interval: ClosedRange<Double>) -> JSONValue {
    [.number(interval.lowerBound), .number(interval.upperBound)]
  }
}

/// Measures models against a teacher log.
public struct TeacherLogEvaluation {
  private let log: TeacherLog
  private let windows: Int

  /// An evaluation over the first windows of a log; nil takes all.
  public init(log: TeacherLog, windows: Int? = nil) {
    self.log = log
    self.windows = min(windows ?? .max, log.windowCount)
  }

  /// An evaluation over the first windows of the log at a path.
  public init(path: String, windows: Int? = nil) throws {
    self.init(log: try TeacherLog(path: path), windows: windows)
  }

  private static let batchTokens = 2048, logitBudget = 1 << 24

  /// What one row gives.
  struct Score: Sendable {
    var modelLoss = 0.0, teacherLoss = 0.0, bound = 0.0, divergence = 0.0
    var agrees = false
  }

  /// The drift of a model from the teacher.
  ///
  /// - Throws: `CheckpointError` when the log is of another vocabulary or tokenizer, or damaged; `DriftError` when
  ///   the model gives logits that are no numbers.
  public func drift(
    of model: Model, progress: (Double) -> Void = { _ in }
  ) throws -> TeacherLogDrift {
    let network = try model.languageModel()
    try log.requireMatch(
      tokenizerHash: model.tokenizer.map {
        tokenizerHash($0, vocabulary: network.vocabularySize)
      }, vocabulary: network.vocabularySize)
    guard log.manifest.rows > 0, windows > 0 else {
      throw CheckpointError(
        path: log.path, .badValue(found: "no rows", expected: "a log of at least one"))
    }
    var scores: [[Score]] = []
    var first = 0
    while first < windows {
      var end = first, tokens = 0
      var batch: [TeacherLogWindow] = []
      while end < windows, batch.isEmpty || tokens < Self.batchTokens {
        let window = try log.window(end)
        tokens += window.tokens.count
        if !window.rows.isEmpty { batch.append(window) }
        end += 1
      }
      let scored = score(batch, network)
      let areNumbers = scored.allSatisfy {
        $0.allSatisfy {
          $0.modelLoss.isFinite && $0.bound.isFinite && $0.divergence.isFinite
        }
      }
      guard areNumbers else { throw DriftError.notFinite(window: first) }
      scores += scored
      first = end
      progress(Double(end) / Double(windows))
    }
    return summarize(scores)
  }

  private func score(_ windows: [TeacherLogWindow], _ network: any LanguageModel) -> [[Score]] {
    guard !windows.isEmpty else { return [] }
    let batch = TokenBatch(windows.map(\.tokens))
    let hidden = network.hidden(batch)
    let step = max(1, Self.logitBudget / network.vocabularySize)
    return windows.indices.map { index in
      let window = windows[index]
      let start = batch.sequences[index].lowerBound + window.rows.lowerBound
      var scores: [Score] = []
      for first in stride(from: 0, to: window.rows.count, by: step) {
        let part = first..<min(first + step, window.rows.count)
        let logits = network.logits(
          hidden.rows(start + part.lowerBound..<start + part.upperBound))
        scores += ParallelLoop.map(part.count) { row in
          Self.score(
            logits.values.span.extracting(logits.range(ofRow: row)), window,
            row: part.lowerBound + row, manifest: log.manifest)
        }
      }
      return scores
    }
  }

  /// One row of logits against one row of the log.
  static func score(
    _ logits: Span<Float>, _ window: TeacherLogWindow, row: Int, manifest: TeacherLogManifest
  ) -> Score {
    var score = Score()
    let sum = logSumExp(logits), k = manifest.topCount
    let next = Int(window.tokens[window.rows.lowerBound + row + 1])
    score.modelLoss = sum - Double(logits[next])
    score.teacherLoss = -Double(window.trueLogProbabilities[row])
    guard k > 0 else { return score }
    var listed = 0.0, own = 0.0, list = 0.0, cross = 0.0
    for index in row * k..<(row + 1) * k where window.topTokens[index] >= 0 {
      let log = Double(window.topLogProbabilities[index])
      let probability = exp(log), other = Double(logits[Int(window.topTokens[index])]) - sum
      listed += probability
      own += exp(other)
      list += probability * log
      cross += probability * other
    }
    var best = 0
    for id in logits.indices where logits[id] > logits[best] { best = id }
    score.agrees = Int(window.topTokens[row * k]) == best
    let mass = window.otherMass.isEmpty ? max(0, 1 - listed) : Double(window.otherMass[row])
    // A model that leaves nothing outside the list differs from a teacher that does by much, not by infinity.
    let rest = max(1 - own, 1e-12)
    score.bound =
      list - cross + (mass > 0 ? mass * (Foundation.log(mass) - Foundation.log(rest)) : 0)
    guard manifest.sampleCount > 0, manifest.temperature == 1 else { return score }
    // The mean of ln p outside the list; it cannot exceed the list's last entry.
    let last = Double(window.topLogProbabilities[(row + 1) * k - 1])
    let outside = -Double(window.entropies[row]) - list
    let mean = mass > 0 ? min(max(outside / mass, last - 30), last) : last
    var excess = 0.0
    for sample in window.sampleOffsets[row]..<window.sampleOffsets[row + 1] {
      let id = window.sampleTokens[sample]
      guard !window.topTokens[row * k..<(row + 1) * k].contains(id) else { continue }
      excess +=
        Double(window.sampleCounts[sample]) * (mean - Double(logits[Int(id)]) + sum)
    }
    score.divergence = list - cross + excess / Double(manifest.sampleCount)
    return score
  }

  private func summarize(_ scores: [[Score]]) -> TeacherLogDrift {
    let bootstrap = Bootstrap(windows: scores.count)
    let counts = scores.map { Double($0.count) }
    func mean(_ value: (Score) -> Double) -> TeacherLogDrift.Mean {
      let sums = scores.map { $0.reduce(0.0) { $0 + value($1) } }
      return .init(
        mean: sums.reduce(0, +) / counts.reduce(0, +),
        interval: bootstrap.interval { windows in
          windows.reduce(0.0) { $0 + sums[$1] } / windows.reduce(0.0) { $0 + counts[$1] }
        })
    }
    let manifest = log.manifest, hasList = manifest.topCount > 0
    let ratio = mean { $0.modelLoss - $0.teacherLoss }
    let bounds = scores.flatMap { $0.map(\.bound) }.sorted()
    return TeacherLogDrift(
      tokens: bounds.count, perplexity: exp(mean(\.modelLoss).mean),
      perplexityRatio: .init(
        mean: exp(ratio.mean),
        interval: exp(ratio.interval.lowerBound)...exp(ratio.interval.upperBound)),
      divergence: hasList && manifest.sampleCount > 0 && manifest.temperature == 1
        ? mean(\.divergence) : nil,
      divergenceBound: hasList ? mean(\.bound) : nil,
      boundPoints: [0.5, 0.99, 0.999, 1].map { percentile($0, ofSorted: bounds) },
      top1: hasList ? mean { $0.agrees ? 1 : 0 } : nil)
  }
}
