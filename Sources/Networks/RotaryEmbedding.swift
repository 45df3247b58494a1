// Rotary position embedding and the ways to stretch it.
//
// Source   Su et al., "RoFormer", arXiv:2104.09864. Stretching: linear (Chen et al., arXiv:2306.15595);
//          dynamic NTK (bloc97, 2023, as in transformers); YaRN (Peng et al., arXiv:2309.00071);
//          LongRoPE (Ding et al., arXiv:2402.13753, as in Phi-3); llama3 (Llama 3.1's own, Meta, 2024).
// Result   angles position * frequency for the pairs (i, i + half) of a head
// Checked  FamilyFixtureTests: logits equal those of transformers for each way

import Checkpoints
import Foundation
import JSONDocuments

/// The rotation of queries and keys.
struct RotaryEmbedding {
  /// How the frequencies are stretched beyond the original context.
  enum Scaling: Equatable {
    case none
    case linear(factor: Double)
    case dynamic(factor: Double, originalContext: Int)
    case yarn(Yarn)
    /// Frequencies are divided by factors of their own, others for sequences beyond the original context.
    case long(short: [Double], long: [Double], originalContext: Int, attentionFactor: Double)
    case llama3(
      factor: Double, lowFrequency: Double, highFrequency: Double, originalContext: Int)
  }

  struct Yarn: Equatable {
    var factor: Double
    var originalContext: Int
    var betaFast: Double
    var betaSlow: Double
    var truncates: Bool
    var attentionFactor: Double
  }

  /// Channels of a head.
  let fullHead: Int
  /// Channels of a head that are rotated, the first ones.
  let headSize: Int
  let base: Double
  let scaling: Scaling

  /// Whether the angles change with the length of the sequence.
  var dependsOnLength: Bool {
    switch scaling {
    case .dynamic, .long: true
    default: false
    }
  }

  /// Cosines and sines for positions `0..<count`, each `[count, headSize / 2]`.
  struct Table {
    let half: Int
    let cosines: [Float]
    let sines: [Float]
  }

  /// The table for sequences of `length` tokens in all; only dynamic scaling depends on the length.
  func table(length: Int) -> Table {
    let half = headSize / 2
    let frequencies = frequencies(length: length)
    var factor = 1.0
    if case .yarn(let yarn) = scaling { factor = yarn.attentionFactor }
    if case .long(_, _, _, let attention) = scaling { factor = attention }
    var cosines = [Float](repeating: 0, count: length * half)
    var sines = cosines
    for position in 0..<length {
      for i in 0..<half {
        // The angle is rounded to float32 first, as the reference implementation does.
        let angle = Double(Float(position) * frequencies[i])
        cosines[position * half + i] = Float(cos(angle) * factor)
        sines[position * half + i] = Float(sin(angle) * factor)
      }
    }
    return Table(half: half, cosines: cosines, sines: sines)
  }

  private func plainFrequencies(base: Double) -> [Double] {
    (0..<headSize / 2).map { 1 / pow(base, Double(2 * $0) / Double(headSize)) }
  }

  func frequencies(length: Int) -> [Float] {
    let plain = plainFrequencies(base: base)
    let scaled: [Double]
    switch scaling {
    case .none: scaled = plain
    case .linear(let factor): scaled = plain.map { $0 / factor }
    case .dynamic(let factor, let original):
      guard length > original else { return plain.map { Float($0) } }
      let stretch = factor * Double(length) / Double(original) - (factor - 1)
      scaled = plainFrequencies(
        base: base * pow(stretch, Double(headSize) / Double(headSize - 2)))
    case .long(let short, let long, let original, _):
      scaled = zip(plain, length > original ? long : short).map { $0 / $1 }
    case .yarn(let yarn): scaled = Self.yarn(plain, yarn, headSize: headSize, base: base)
    case .llama3(let factor, let low, let high, let original):
      scaled = plain.map { frequency in
        let wavelength = 2 * Double.pi / frequency
        if wavelength > Double(original) / low { return frequency / factor }
        if wavelength < Double(original) / high { return frequency }
        let smooth = (Double(original) / wavelength - low) / (high - low)
        return (1 - smooth) * frequency / factor + smooth * frequency
      }
    }
    return scaled.map { Float($0) }
  }

  private static func yarn(
    _ plain: [Double], _ yarn: Yarn, headSize: Int, base: Double
  ) -> [Double] {
    // The dimension at which a frequency makes this many turns within the original context.
    func dimension(turns: Double) -> Double {
      Double(headSize) * log(Double(yarn.originalContext) / (turns * 2 * Double.pi))
        / (2 * log(base))
    }
    var low = dimension(turns: yarn.betaFast)
    var high = dimension(turns: yarn.betaSlow)
    if yarn.truncates {
      low = low.rounded(.down)
      high = high.rounded(.up)
    }
    low = max(low, 0)
    high = min(high, Double(headSize - 1))
    if low == high { high += 0.001 }
    return plain.enumerated().map { index, frequency in
      let ramp = min(max((Double(index) - low) / (high - low), 0), 1)
      return frequency / yarn.factor * ramp + frequency * (1 - ramp)
    }
  }
}

extension RotaryEmbedding {
  /// Reads `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (transformers 4).
  init(
    _ reader: ConfigurationReader, headSize: Int, contextLimit: Int
  ) throws(CheckpointError) {
    let key = reader.value("rope_parameters") != nil ? "rope_parameters" : "rope_scaling"
    let rope = ConfigurationReader(
      path: reader.path, json: reader.value(key) ?? .object(JSONObject()))
    if let value = reader.value(key), value.object == nil {
      throw reader.wrong(key, value, expected: "an object")
    }
    let theta = rope.value("rope_theta") != nil ? rope : reader
    let type = try rope.text("rope_type", default: try rope.text("type", default: "default"))
    let partial = try rope.positive(
      "partial_rotary_factor", default: try reader.positive("partial_rotary_factor", default: 1))
    let fullHead = headSize
    let headSize = Int(Double(headSize) * partial)
    guard headSize > 0, headSize <= fullHead, headSize % 2 == 0 else {
      throw reader.wrong(
        "partial_rotary_factor", .number(partial),
        expected: "an even number of the \(fullHead) channels of a head")
    }
    // transformers 4 keeps Phi-3's beside the scaling.
    let original = try rope.size(
      "original_max_position_embeddings",
      default: try reader.size("original_max_position_embeddings", default: contextLimit))
    self.fullHead = fullHead
    self.headSize = headSize
    base = try theta.positive("rope_theta", default: 10000)
    switch type {
    case "default": scaling = .none
    case "linear": scaling = .linear(factor: try rope.positive("factor"))
    case "dynamic":
      guard headSize > 2 else {
        throw reader.wrong("head_dim", .integer(headSize), expected: "above 2")
      }
      scaling = .dynamic(factor: try rope.positive("factor"), originalContext: contextLimit)
    case "llama3":
      let low = try rope.positive("low_freq_factor")
      let high = try rope.positive("high_freq_factor")
      guard low < high else {
        throw reader.wrong("low_freq_factor", .number(low), expected: "less than high_freq_factor")
      }
      scaling = .llama3(
        factor: try rope.positive("factor"), lowFrequency: low, highFrequency: high,
        originalContext: original)
    case "yarn":
      let factor = try rope.positive("factor")
      func magnitude(_ scale: Double = 1) -> Double {
        factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1
      }
      var attention = magnitude()
      let mscale = try rope.number("mscale", default: 0)
      let mscaleAll = try rope.number("mscale_all_dim", default: 0)
      if mscale != 0, mscaleAll != 0 { attention = magnitude(mscale) / magnitude(mscaleAll) }
      scaling = .yarn(
        Yarn(
          factor: factor, originalContext: original,
          betaFast: try rope.positive("beta_fast", default: 32),
          betaSlow: try rope.positive("beta_slow", default: 1),
          truncates: try rope.flag("truncate", default: true),
          attentionFactor: try rope.positive("attention_factor", default: attention)))
    case "longrope", "su":
      func factors(_ key: String) throws(CheckpointError) -> [Double] {
        let values = rope.value(key)?.array?.compactMap(\.number) ?? []
        guard values.count == headSize / 2, values.allSatisfy({ $0 > 0 }) else {
          throw reader.wrong(key, rope.value(key), expected: "\(headSize / 2) factors above 0")
        }
        return values
      }
      let factor = Double(contextLimit) / Double(original)
      let attention = factor <= 1 ? 1 : (1 + log(factor) / log(Double(original))).squareRoot()
      scaling = .long(
        short: try factors("short_factor"), long: try factors("long_factor"),
        originalContext: original,
        attentionFactor: try rope.positive("attention_factor", default: attention))
    default:
      throw reader.wrong(
        key + ".rope_type", .string(type),
        expected: "default, linear, dynamic, yarn, longrope or llama3")
    }
  }
}
