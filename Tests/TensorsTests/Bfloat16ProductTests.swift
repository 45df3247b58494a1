import Tensors
import TestSupport
import Testing

@Suite struct Bfloat16ProductTests {
  /// To nearest even, by the definition on the bits.
  static func rounded(_ x: Float) -> Double {
    let bits = x.bitPattern, low = bits & 0xFFFF, high = bits & ~0xFFFF
    let isUp = low > 0x8000 || low == 0x8000 && high & 0x10000 != 0
    return Double(Float(bitPattern: isUp ? high &+ 0x10000 : high))
  }

  @Test(arguments: [(5, 7, 9), (13, 33, 64), (250, 40, 31), (61, 3, 1)])
  func products(_ tokens: Int, _ outputs: Int, _ inputs: Int) {
    var stream = RandomStream(test: "bfloat16")
    let x = stream.matrix(rows: tokens, columns: inputs, deviation: 1)
    let w = stream.matrix(rows: outputs, columns: inputs, deviation: 1)
    let g = stream.matrix(rows: tokens, columns: outputs, deviation: 1)
    let dense = DenseMatrix(w, precision: .bfloat16)
    func check(_ result: Matrix, _ count: Int, _ a: (Int, Int) -> Float, _ b: (Int, Int) -> Float) {
      for i in 0..<result.rows {
        for j in 0..<result.columns {
          var sum = 0.0, size = 0.0
          for p in 0..<count {
            let product = Self.rounded(a(i, p)) * Self.rounded(b(p, j))
            sum += product
            size += abs(product)
          }
          // Sums of `count` terms in float32.
          let bound = size * Double(count + 2) * 0x1p-24 + 1e-30
          #expect(abs(Double(result.values[i * result.columns + j]) - sum) <= bound)
        }
      }
    }
    let y = dense.apply(to: x)
    check(y, inputs, { x.values[$0 * inputs + $1] }, { w.values[$1 * inputs + $0] })
    let back = dense.applyTransposed(to: g)
    check(back, outputs, { g.values[$0 * outputs + $1] }, { w.values[$0 * inputs + $1] })
    var sum = Matrix(rows: outputs, columns: inputs)
    sum.addTransposedProduct(g, x, precision: .bfloat16)
    check(sum, tokens, { g.values[$1 * outputs + $0] }, { x.values[$0 * inputs + $1] })
    let once = sum
    sum.addTransposedProduct(g, x, precision: .bfloat16)
    for (a, b) in zip(sum.values, once.values) { #expect(abs(a - 2 * b) <= abs(b) * 1e-6) }
    let threads = [1, 3].map { withThreads($0) { dense.apply(to: x) } }
    #expect(threads[0] == y && threads[1] == y)
  }
}
