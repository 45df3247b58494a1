import LinearAlgebra
import Tensors
import TestSupport
import Testing

@Suite struct BLASTests {
  @Test(arguments: [false, true]) func productsAgainstThreeLoops(_ transposed: Bool) {
    var stream = RandomStream(test: "blas")
    for (rows, columns, depth) in [(1, 1, 1), (3, 5, 7), (33, 17, 64), (2, 0, 3), (2, 3, 0)] {
      let aStride = (transposed ? rows : depth) + 1, bStride = columns + 2, cStride = columns + 3
      let a = stream.floats((transposed ? depth : rows) * aStride)
      let b = stream.floats(depth * bStride), before = stream.floats(rows * cStride)
      var c = before
      var span = c.mutableSpan
      BLAS.addProduct(
        scale: -0.5, a.span, transposed: transposed, aStride: aStride, b.span, bStride: bStride,
        to: &span, cStride: cStride, rows: rows, columns: columns, depth: depth)
      for i in 0..<rows {
        for j in 0..<cStride {
          var sum = Double(before[i * cStride + j]), size = abs(sum)
          for p in 0..<depth where j < columns {
            let left = transposed ? a[p * aStride + i] : a[i * aStride + p]
            let term = -0.5 * Double(left) * Double(b[p * bStride + j])
            sum += term
            size += abs(term)
          }
          let allowed = j < columns ? Double(depth + 2) * 0x1p-24 * size : 0
          #expect(abs(Double(c[i * cStride + j]) - sum) <= allowed)
        }
      }
    }
  }

  /// Products in double, of several blocks of rows, the same bits with one thread and with two.
  @Test(arguments: [false, true]) func doubleProductsAgainstThreeLoops(_ transposed: Bool) {
    var stream = RandomStream(test: "double products")
    for (rows, columns, depth) in [(1, 1, 1), (3, 5, 7), (150, 17, 64), (2, 0, 3), (2, 3, 0)] {
      let a = stream.floats(rows * depth).map(Double.init)
      let b = stream.floats(depth * columns).map(Double.init)
      func product() -> [Double] {
        BLAS.product(a, b, transposed: transposed, rows: rows, depth: depth, columns: columns)
      }
      let found = withThreads(2, product)
      #expect(found == withThreads(1, product))
      for i in 0..<rows {
        for j in 0..<columns {
          var sum = 0.0, size = 0.0
          for p in 0..<depth {
            let term = a[i * depth + p] * b[transposed ? j * depth + p : p * columns + j]
            sum += term
            size += abs(term)
          }
          #expect(abs(found[i * columns + j] - sum) <= Double(depth + 2) * 0x1p-53 * size)
        }
      }
    }
  }
}
