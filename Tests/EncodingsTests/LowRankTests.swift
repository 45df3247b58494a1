import Encodings
import Tensors
import TestSupport
import Testing

@Suite struct LowRankTests {
  /// Sizes on both sides of a panel's width; few tokens and many.
  @Test(arguments: [(5, 1, 7), (33, 8, 64), (64, 17, 31)], [DType.float32, .float16, .bfloat16])
  func productsAndRowsAreThoseOfTheFactors(
    _ size: (outputs: Int, rank: Int, inputs: Int), _ dtype: DType
  ) {
    var stream = RandomStream(test: "low rank")
    let left = stream.matrix(rows: size.outputs, columns: size.rank)
    let right = stream.matrix(rows: size.rank, columns: size.inputs)
    let encoded = LowRank(rank: size.rank, dtype: dtype).encode(left: left, right: right)
    #expect(encoded.encoding.name == "low-rank-\(size.rank)-\(dtype.rawValue.lowercased())")
    #expect(
      encoded.encoding.byteCount(outputs: size.outputs, inputs: size.inputs)
        == dtype.byteCount * size.rank * (size.outputs + size.inputs))
    // The factors as they are stored.
    let a = encoded.parts[0].floats().map(Double.init),
      b = encoded.parts[1].floats().map(Double.init)
    func weight(_ row: Int, _ column: Int) -> Double {
      (0..<size.rank).reduce(0.0) {
        $0 + a[row * size.rank + $1] * b[$1 * size.inputs + column]
      }
    }
    let decoded = encoded.matrix.decoded()
    for row in 0..<size.outputs {
      for column in 0..<size.inputs {
        let found = Double(decoded.values[row * size.inputs + column])
        #expect(abs(found - weight(row, column)) < 1e-5 * Double(size.rank))
      }
    }
    for tokens in [1, 3, 50] {
      let x = stream.matrix(rows: tokens, columns: size.inputs)
      let found = encoded.matrix.apply(to: x)
      for token in 0..<tokens {
        for row in 0..<size.outputs {
          let expected = (0..<size.inputs).reduce(0.0) {
            $0 + weight(row, $1) * Double(x.values[token * size.inputs + $1])
          }
          let value = Double(found.values[token * size.outputs + row])
          #expect(abs(value - expected) < 1e-4 * Double(size.rank).squareRoot() * 8)
        }
      }
    }
  }

  @Test func names() {
    #expect(LowRank.named("low-rank-64-f16") == LowRank(rank: 64, dtype: .float16))
    #expect(LowRank.named("low-rank-1-bf16") == LowRank(rank: 1, dtype: .bfloat16))
    for name in [
      "low-rank-0-f16", "low-rank-064-f16", "low-rank--1-f16", "low-rank-64-f64", "low-rank-64",
      "low-rank-64-F16", "low-rank-9999999999-f16", "lowrank-64-f16", "low-rank-64-f16-x",
    ] { #expect(LowRank.named(name) == nil, "\(name)") }
    #expect(EncodingRegistry.encoding(named: "low-rank-7-f32")?.name == "low-rank-7-f32")
  }

  /// Factors of the largest useful rank are smaller than the matrix, of the next rank not.
  @Test(arguments: [(256, 768), (1, 1), (3, 5), (64, 64)])
  func usefulRanksAreSmaller(_ size: (outputs: Int, inputs: Int)) {
    let rank = LowRank.largestUsefulRank(outputs: size.outputs, inputs: size.inputs)
    #expect(rank * (size.outputs + size.inputs) < size.outputs * size.inputs || rank == 0)
    #expect((rank + 1) * (size.outputs + size.inputs) >= size.outputs * size.inputs)
  }
}
