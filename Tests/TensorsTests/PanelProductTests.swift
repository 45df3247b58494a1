import CKernels
import TestSupport
import Tensors
import Testing

@Suite struct PanelProductTests {
  static let width = PanelProduct.width

  @Test(arguments: [1, 2, 15, 16, 17, 33, 100]) func packingTurnsRowsIntoColumns(_ depth: Int) {
    var stream = RandomStream(test: "pack")
    for count in [1, 2, 31, 32] {
      let stride = depth + 3
      let rows = stream.floats((count - 1) * stride + depth)
      var panel = [Float](repeating: -1, count: depth * Self.width + 5)
      var span = panel.mutableSpan
      PanelProduct.pack(rows: rows.span, stride: stride, count: count, depth: depth, into: &span)
      let expected = (0..<depth * Self.width).map { index -> Float in
        let p = index / Self.width, j = index % Self.width
        return j < count ? rows[j * stride + p] : 0
      }
      #expect(panel == expected + [-1, -1, -1, -1, -1])

      let columns = stream.floats((depth - 1) * (count + 2) + count)
      span = panel.mutableSpan
      PanelProduct.pack(
        columns: columns.span, stride: count + 2, count: count, depth: depth, into: &span)
      let packed = (0..<depth * Self.width).map { index -> Float in
        let p = index / Self.width, j = index % Self.width
        return j < count ? columns[p * (count + 2) + j] : 0
      }
      #expect(panel == packed + [-1, -1, -1, -1, -1])
    }
  }

  /// Every number of rows up to 30 and of columns, against three loops; rows do not depend on each other.
  @Test(arguments: 1...30) func products(_ rows: Int) throws {
    var stream = RandomStream(test: "product")
    for (depth, columns) in [(1, 32), (7, 1), (33, 31), (64, 32), (127, 5), (300, 17)] {
      let leftStride = depth + 1, resultStride = columns + 2
      let left = stream.floats((rows - 1) * leftStride + depth)
      let right = stream.floats(columns * depth)
      var panel = [Float](repeating: 0, count: depth * Self.width)
      var span = panel.mutableSpan
      PanelProduct.pack(
        rows: right.span, stride: depth, count: columns, depth: depth, into: &span)
      func product(_ rows: Range<Int>) throws -> [Float] {
        try written((rows.count - 1) * resultStride + columns, offset: 1, canary: -7) { target in
          left.withUnsafeBufferPointer { left in
            guard let start = left.baseAddress else { return }
            kernel_multiply_panel(
              start + rows.lowerBound * leftStride, leftStride, rows.count, panel, depth, target,
              resultStride, columns)
          }
        }
      }
      let found = try product(0..<rows)
      for i in 0..<rows {
        for j in 0..<columns {
          var sum = 0.0, size = 0.0
          for p in 0..<depth {
            let term = Double(left[i * leftStride + p]) * Double(right[j * depth + p])
            sum += term
            size += abs(term)
          }
          #expect(
            abs(Double(found[i * resultStride + j]) - sum) <= Double(depth) * roundoff * size)
        }
        if i > 0 {
          let gap = found[i * resultStride - 2..<i * resultStride]
          #expect(gap.allSatisfy { $0 == -7 }, "written between the rows")
        }
        let alone = try product(i..<i + 1)
        #expect(alone == Array(found[i * resultStride..<i * resultStride + columns]))
      }
    }
  }
}
