import Encodings
import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Quantization

/// FP8 and NF4 as targets of the methods: against the recurrence in Double, and by what they are for.
@Suite(.serialized) struct LevelGroupsRoundingTests {
  static let encodings = ["fp8-channel", "fp8-g32", "nf4-g64", "nf4-g16"]

  /// What each group of a row offers: scale · level.
  static func offers(_ encoded: EncodedMatrix, _ encoding: LevelGroups, row: Int, column: Int)
    -> [Double]
  {
    let groups = encoding.groups(inputs: encoded.inputs)
    let group = column / encoding.groupSize(inputs: encoded.inputs)
    let scale = Double(encoded.parts[1].floats()[row * groups + group])
    return encoding.table.filter { !$0.isNaN }.map { scale * Double($0) }
  }

  /// Algorithm 1 in Double over the decoded values: each is the nearest that its group offers to the weight as the
  /// feedback has made it. Without feedback the factor is the identity.
  static func worstMiss(
    _ weight: Matrix, _ h: DoubleMatrix?, _ encoded: EncodedMatrix, _ encoding: LevelGroups,
    actOrder: Bool
  ) -> Double {
    let n = weight.columns, decoded = encoded.matrix.decoded()
    var order = Array(0..<n), u = [Double](repeating: 0, count: n * n)
    for i in 0..<n { u[i * n + i] = 1 }
    if let h {
      let diagonal = h.diagonal
      if actOrder {
        order.sort { diagonal[$0] == diagonal[$1] ? $0 < $1 : diagonal[$0] > diagonal[$1] }
      }
      var permuted = DoubleMatrix(size: n)
      for i in 0..<n { for j in 0..<n { permuted[i, j] = h[order[i], order[j]] } }
      u = GPTQTests.factor(permuted, damping: 0.01 * diagonal.reduce(0, +) / Double(n))
    }
    var worst = 0.0
    for row in 0..<weight.rows {
      var w = order.map { Double(weight.values[row * n + $0]) }
      for i in 0..<n {
        let q = Double(decoded.values[row * n + order[i]])
        let nearest =
          offers(encoded, encoding, row: row, column: order[i])
          .map { abs($0 - w[i]) }.min() ?? 0
        worst = max(worst, abs(w[i] - q) - nearest)
        let error = (w[i] - q) / u[i * n + i]
        for j in i..<n { w[j] -= error * u[i * n + j] }
      }
    }
    return worst
  }

  @Test(arguments: encodings, [false, true])
  func gptqFollowsTheRecurrence(_ name: String, _ actOrder: Bool) throws {
    var stream = RandomStream(test: "levels")
    let weight = stream.matrix(rows: 6, columns: 145, deviation: 0.05)
    let h = correlatedMoment(145)
    let encoding = try #require(LevelGroups.named(name))
    let result = try GPTQ(actOrder: actOrder).quantize(weight, moment: h, encoding: encoding)
    #expect(
      Self.worstMiss(weight, h, result.encoded, encoding, actOrder: actOrder) < 2e-6)
    // The comparison notices other codes.
    #expect(
      Self.worstMiss(weight, h, result.encoded, encoding, actOrder: !actOrder) > 1e-4)
  }

  @Test(arguments: encodings, GridSearch.allCases)
  func rtnFindsTheNearest(_ name: String, _ search: GridSearch) throws {
    var stream = RandomStream(test: "levels rtn")
    let weight = stream.matrix(rows: 7, columns: 100, deviation: 0.05)
    let encoding = try #require(LevelGroups.named(name))
    let result = try RTN(search: search).quantize(weight, moment: nil, encoding: encoding)
    #expect(Self.worstMiss(weight, nil, result.encoded, encoding, actOrder: false) < 1e-8)
  }

  /// The search lowers the error of every matrix, feedback that of the outputs.
  @Test(arguments: encodings) func searchAndFeedbackHelp(_ name: String) throws {
    var stream = RandomStream(test: "levels help")
    let weight = stream.matrix(rows: 40, columns: 256, deviation: 0.05)
    let h = correlatedMoment(256)
    let encoding = try #require(LevelGroups.named(name))
    let range = try RTN(search: .minmax).quantize(weight, moment: nil, encoding: encoding)
    let searched = try RTN().quantize(weight, moment: nil, encoding: encoding)
    #expect(searched.relativeError < 0.99 * range.relativeError)
    let rounded = try RTN().quantize(weight, moment: h, encoding: encoding)
    let pushed = try GPTQ().quantize(weight, moment: h, encoding: encoding)
    #expect(pushed.relativeError < 0.7 * rounded.relativeError)
  }

  /// A row of zeros stays zero; tiny and huge weights become finite numbers, or the error that names them.
  @Test(arguments: encodings) func limits(_ name: String) throws {
    let encoding = try #require(LevelGroups.named(name))
    var stream = RandomStream(test: "levels limits")
    let normal = stream.floats(64)
    for size in [0, 0x1p-140, 1e-30, 1e-10, 1, 1e4] as [Float] {
      let weight = Matrix(rows: 1, columns: 64, values: normal.map { $0 * size })
      for search in GridSearch.allCases {
        let result = try RTN(search: search).quantize(weight, moment: nil, encoding: encoding)
        let decoded = result.encoded.matrix.decoded()
        #expect(decoded.values.allSatisfy { $0.isFinite })
        #expect(size > 0 || decoded.values.allSatisfy { $0 == 0 })
        let isHeld = size >= 1 || (size >= 1e-30 && encoding.levels == .fp8)
        #expect(!isHeld || result.relativeError < 0.02)
      }
    }
    let huge = Matrix(rows: 1, columns: 64, values: normal.map { $0 * 1e37 })
    if encoding.levels == .nf4 {
      #expect(throws: QuantizationError.self) {
        try RTN().quantize(huge, moment: nil, encoding: encoding)
      }
    } else {
      let result = try RTN().quantize(huge, moment: nil, encoding: encoding)
      #expect(result.encoded.matrix.decoded().values.allSatisfy { $0.isFinite })
    }
  }
}
