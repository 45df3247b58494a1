import Drift
import JSONDocuments

@testable import Pipeline

/// Reports with figures that look like real ones.
enum SampleReports {
  static let hash = String(repeating: "0123456789abcdef", count: 4)

  static func kl(_ mean: Double) -> DivergenceSummary {
    DivergenceSummary(
      mean: mean, median: mean * 0.4, p99: mean * 9, p999: mean * 31, max: mean * 104,
      ci95: Interval(mean * 0.96, mean * 1.05))
  }

  static func decoder(_ mean: Double) -> DriftSummary {
    .decoder(
      DecoderDrift(
        tokens: 60_945, perplexity: 23.4137 * (1 + mean), perplexityRatio: 1 + mean, kl: kl(mean),
        top1: 1 - mean * 3.1))
  }

  /// Two layers, every verdict, a slice.
  static var small: RunReport {
    var quantize = StageReport(
      name: "gptq4", kind: "quantize",
      options: ["method": "gptq", "encoding": "int4-g32", "act-order": true],
      inputHash: hash, outputHash: String(hash.reversed()), bytes: 4_123_456, bitsPerWeight: 4.531,
      seconds: 12.34)
    quantize.referenceDrift = decoder(0.0212)
    quantize.inputDrift = decoder(0.0212)
    quantize.slices = [SliceDrift(name: "dialogue", drift: decoder(0.0483))]
    quantize.gates = [
      GateResult(
        metric: "max-kl", limit: 0.02, value: 0.0212, ci95: Interval(0.0196, 0.0221),
        verdict: .undecided),
      GateResult(
        metric: "min-top1", limit: 0.9, value: 0.9343, ci95: Interval(0.932, 0.936),
        verdict: .passed),
      GateResult(metric: "max-fallbacks", limit: 0, value: 1, verdict: .failed),
      GateResult(
        metric: "max-kl", slice: "dialogue", limit: 0.06, value: 0.0483,
        ci95: Interval(0.045, 0.052), verdict: .passed),
    ]
    quantize.layers = [
      LayerResult(
        tensor: "model.layers.0.mlp.down_proj.weight", encoding: "int4-g32", method: "gptq",
        bitsPerWeight: 4.53, relativeOutputError: 0.00123, seconds: 0.42),
      LayerResult(
        tensor: "lm_head.weight", encoding: "int8-g32", method: "rtn", bitsPerWeight: 8.53,
        relativeOutputError: nil, seconds: 0.05, fallbacks: 1),
    ]
    quantize.calibration = CalibrationUse(asked: 65_536, used: 61_440)
    var pack = StageReport(
      name: "pack", kind: "pack", options: ["dtype": "f16", "self-test": true],
      inputHash: String(hash.reversed()), outputHash: hash, bytes: 4_200_000, bitsPerWeight: 4.61,
      seconds: 0.31)
    pack.referenceDrift = decoder(0.0213)
    return RunReport(
      toolVersion: "0.1.0", model: "lm-6m", architecture: "LlamaForCausalLM",
      referenceBytes: 23_100_000, stages: [quantize, pack])
  }

  /// A decoder of 12 blocks with four stages.
  static var large: RunReport {
    var report = small
    var rtn = report.stages[0]
    rtn.name = "rtn8"
    rtn.gates = [
      GateResult(
        metric: "max-kl", limit: 0.01, value: 0.0007, ci95: Interval(0.00068, 0.00074),
        verdict: .passed)
    ]
    rtn.referenceDrift = decoder(0.0007)
    rtn.slices = []
    rtn.bytes = 7_900_000
    rtn.bitsPerWeight = 8.53
    rtn.layers = []
    rtn.options = ["method": "rtn", "encoding": "int8-g32"]
    let kinds = [
      "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
      "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
    ]
    var layers: [LayerResult] = []
    for block in 0..<12 {
      for (index, kind) in kinds.enumerated() {
        let wave = Double((block * 7 + index * 13) % 11) / 11
        let base = [0.0004, 0.0003, 0.002, 0.004, 0.0015, 0.0019, 0.0082][index]
        layers.append(
          LayerResult(
            tensor: "model.layers.\(block).\(kind).weight",
            encoding: kind == "mlp.down_proj" ? "int6-g32" : "int4-g32", method: "gptq",
            bitsPerWeight: kind == "mlp.down_proj" ? 6.53 : 4.53,
            relativeOutputError: base * (0.6 + wave) * (1 + Double(block) / 8),
            seconds: 0.31 + wave))
      }
    }
    report.stages[0].layers = layers + report.stages[0].layers
    report.stages.insert(rtn, at: 0)
    return report
  }

  static var encoder: RunReport {
    func drift(_ loss: Double) -> DriftSummary {
      .encoder(
        EncoderDrift(
          sentences: 1000,
          cosine: CosineSummary(
            mean: 1 - loss, p01: 1 - loss * 4, min: 1 - loss * 9,
            ci95: Interval(1 - loss * 1.06, 1 - loss * 0.95)),
          neighbours: NeighbourSummary(
            count: 10, mean: 1 - loss * 20, ci95: Interval(1 - loss * 22, 1 - loss * 18)),
          spearman: 82.03 - loss * 40))
    }
    var stage = StageReport(
      name: "quantize", kind: "quantize", options: ["method": "gptq", "encoding": "int4-g32"],
      inputHash: hash, outputHash: hash, bytes: 14_100_000, bitsPerWeight: 4.53, seconds: 71)
    stage.referenceDrift = drift(0.0021)
    stage.inputDrift = drift(0.0021)
    stage.gates = [
      GateResult(
        metric: "min-cosine", limit: 0.99, value: 0.9979, ci95: Interval(0.9977, 0.998),
        verdict: .passed)
    ]
    let kinds = [
      "attention.self.query", "attention.self.key", "attention.self.value",
      "attention.output.dense", "intermediate.dense", "output.dense",
    ]
    stage.layers = (0..<6).flatMap { block in
      kinds.enumerated().map { index, kind in
        LayerResult(
          tensor: "encoder.layer.\(block).\(kind).weight", encoding: "int4-g32", method: "gptq",
          bitsPerWeight: 4.53,
          relativeOutputError: 0.002 * Double(index + 1) * Double(block + 2) / 5,
          seconds: 0.8)
      }
    }
    return RunReport(
      toolVersion: "0.1.0", model: "all-MiniLM-L6-v2", architecture: "BertModel",
      referenceBytes: 90_900_000, stages: [stage])
  }

  /// Names that try to break out of every document.
  static var hostile: RunReport {
    var report = small
    let name = "<script>alert(1)</script> & \"'|`[x](y)*_\u{0}\n</td></table>]]>"
    report.model = name
    report.architecture = name
    report.toolVersion = name
    report.stages[0].name = name
    report.stages[0].options = .object(JSONObject([.init(key: name, value: .string(name))]))
    report.stages[0].inputHash = name
    report.stages[0].slices[0].name = name
    report.stages[0].gates[0].metric = name
    report.stages[0].layers[0].tensor = name
    report.stages[0].layers[0].encoding = name
    report.stages[0].layers[1].tensor = ""
    report.stages[0].layers[1].method = name
    return report
  }
}
