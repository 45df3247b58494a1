import Encodings
import LinearAlgebra
import Quantization
import Tensors
import TestSupport
import Testing

/// Every method with every kind of encoding: it works, or it is refused with the list of those that do.
@Suite struct MethodEncodingTests {
  /// The table of docs/algorithms.md: which methods round onto which encodings.
  static let pairs: [(encodings: [String], methods: Set<QuantizationMethod>)] = [
    (["f32", "f16", "bf16"], [.rtn]),
    (
      (2...8).flatMap { ["int\($0)-g64", "int\($0)-channel-sym"] }, [.rtn, .gptq, .qronos, .awq]
    ),
    (LevelGroups.names, [.rtn, .gptq, .qronos, .awq]),
    (GGUFBlockType.allCases.map(\.name), [.rtn, .gptq, .qronos]),
    (["w8a8"], [.rtn, .gptq, .qronos, .awq, .smoothquant]),
    (["ec"], [.ec]),
    // Made of other encodings' results: zeros that are left out, factors by themselves, factors beside codes.
    (["2:4-int4-g64", "low-rank-4-f16", "int3-g64+r4-f16"], []),
  ]

  static func quantizer(_ method: QuantizationMethod) -> any WeightQuantizer {
    switch method {
    case .rtn: RTN()
    case .gptq: GPTQ()
    case .qronos: Qronos()
    case .awq: AWQ()
    case .smoothquant: SmoothQuant()
    case .ec: EntropyCodedGPTQ(bits: 4)
    }
  }

  private struct Sample {
    let weight: Matrix
    let statistics: InputStatistics

    init() {
      var stream = RandomStream(test: "pairs")
      weight = stream.matrix(rows: 5, columns: 256, deviation: 0.05)
      let moment = correlatedMoment(256)
      var cross = moment
      for i in cross.values.indices { cross.values[i] *= 1.05 }
      statistics = .asymmetric(moment: moment, cross: cross)
    }
  }

  private static let sample = Sample()

  @Test(arguments: QuantizationMethod.allCases) func everyPair(_ method: QuantizationMethod) throws
  {
    #expect(type(of: Self.quantizer(method)).method == method)
    for (names, methods) in Self.pairs {
      for name in names {
        let encoding = try #require(EncodingRegistry.encoding(named: name), "\(name)")
        let outcome = Self.outcome(method, encoding)
        switch outcome {
        case .success(let result):
          #expect(methods.contains(method), "\(method) onto \(name)")
          #expect(result.method == method && result.relativeError < 1)
          let decoded = result.encoded.matrix.decoded()
          #expect(decoded.rows == 5 && decoded.values.allSatisfy { $0.isFinite })
        case .failure(let error):
          #expect(!methods.contains(method), "\(method) onto \(name)")
          #expect(
            error
              == .unsupportedPair(
                method: method.rawValue, encoding: name, known: Self.list(of: method)))
        }
      }
    }
  }

  /// What a method does with an encoding.
  private static func outcome(
    _ method: QuantizationMethod, _ encoding: any WeightEncoding
  ) -> Result<QuantizedWeight, QuantizationError> {
    Result { () throws(QuantizationError) in
      try quantizer(method).quantize(
        sample.weight, statistics: sample.statistics, encoding: encoding)
    }
  }

  /// The names of the kinds that a method rounds onto, in the order of the registry.
  private static func list(of method: QuantizationMethod) -> String {
    EncodingRegistry.all.filter { kind in
      pairs.contains { names, methods in
        methods.contains(method) && names.contains { kind.named($0) != nil }
      }
    }.map { $0.nameList }.joined(separator: ", ")
  }

  /// No encoding is left out above but those that pruning makes.
  @Test func everyKindIsListed() {
    for kind in EncodingRegistry.all where kind != SparseEncoding.self && kind != LowRank.self {
      #expect(Self.pairs.contains { $0.encodings.contains { kind.named($0) != nil } }, "\(kind)")
    }
  }
}
