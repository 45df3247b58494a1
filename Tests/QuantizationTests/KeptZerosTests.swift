import Encodings
import LinearAlgebra
import Quantization
import Tensors
import TestSupport
import Testing

@Suite struct KeptZerosTests {
  static let encodings = [
    "int2-g16", "int4-g32", "int4-g128-sym", "int8-channel", "nf4-g64", "fp8-channel", "w8a8",
  ]

  /// Half of the weights are zero, some whole rows and columns among them.
  private func sparse(rows: Int, columns: Int) -> Matrix {
    var stream = RandomStream(test: "kept")
    var weight = stream.matrix(rows: rows, columns: columns, deviation: 0.05)
    for index in weight.values.indices {
      let (row, column) = (index / columns, index % columns)
      if stream.unit() < 0.5 || row == 3 || column == 7 { weight.values[index] = 0 }
    }
    return weight
  }

  @Test(arguments: encodings, [false, true])
  func zerosStayZero(_ name: String, _ isQronos: Bool) throws {
    let weight = sparse(rows: 70, columns: 128)
    let h = correlatedMoment(128)
    var cross = h
    for i in cross.values.indices { cross.values[i] *= 1 + 0.01 * Double(i % 13) }
    let encoding = try #require(EncodingRegistry.encoding(named: name))
    let gptq = GPTQ(keepsZeros: true)
    let result =
      isQronos
      ? try Qronos(gptq).quantize(
        weight, statistics: .asymmetric(moment: h, cross: cross), encoding: encoding)
      : try gptq.quantize(weight, moment: h, encoding: encoding)
    let decoded = result.encoded.matrix.decoded()
    #expect(weight.values.indices.allSatisfy { weight.values[$0] != 0 || decoded.values[$0] == 0 })
    // Without being told, error feedback fills zeros.
    let free = try GPTQ().quantize(weight, moment: h, encoding: encoding).encoded.matrix.decoded()
    #expect(
      free.values.count { $0 == 0 } < decoded.values.count { $0 == 0 })
  }

  @Test(arguments: [1, 32, 1000], [false, true])
  func equalsTheUnblockedRecurrence(_ blockSize: Int, _ actOrder: Bool) throws {
    let weight = sparse(rows: 135, columns: 205)
    let h = correlatedMoment(205)
    let encoding = try #require(GroupIntegers.named("int4-g16"))
    let result = try GPTQ(
      blockSize: blockSize, actOrder: actOrder, search: .minmax, keepsZeros: true
    ).quantize(weight, moment: h, encoding: encoding)
    let worst = GPTQTests.worstDistance(
      weight, h, QuantizedParts(result, encoding), damping: 0.01, actOrder: actOrder,
      held: weight.values.map { $0 == 0 })
    #expect(worst < 0.5 + 2e-4)
  }

  @Test func blocksCannotKeepZeros() throws {
    let weight = sparse(rows: 8, columns: 256)
    let encoding = try #require(EncodingRegistry.encoding(named: "Q4_K"))
    #expect(throws: QuantizationError.cannotKeepZeros(encoding: "Q4_K")) {
      try GPTQ(keepsZeros: true).quantize(weight, moment: correlatedMoment(256), encoding: encoding)
    }
  }
}
