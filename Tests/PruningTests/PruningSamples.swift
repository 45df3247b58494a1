import Encodings
import LinearAlgebra
import Tensors
import TestSupport

/// The mean of x xᵀ of correlated inputs of different sizes.
func correlatedMoment(_ size: Int, samples: Int? = nil, dead: Set<Int> = []) -> DoubleMatrix {
  var stream = RandomStream(test: "moment")
  let count = samples ?? 2 * size + 7
  let sizes = (0..<size).map { _ in 0.3 + abs(stream.normal()) }
  var h = DoubleMatrix(size: size)
  for _ in 0..<count {
    var last = 0.0
    let x = (0..<size).map { index -> Double in
      last = 0.8 * last + 0.6 * stream.normal()
      return dead.contains(index) ? 0 : last * sizes[index]
    }
    for i in 0..<size { for j in 0..<size { h[i, j] += x[i] * x[j] / Double(count) } }
  }
  return h
}

/// The inverse by Gauss and Jordan.
func inverse(_ h: DoubleMatrix, damping: Double = 0) -> DoubleMatrix {
  let n = h.size
  var a = h, result = DoubleMatrix(size: n)
  for i in 0..<n {
    a[i, i] += damping
    result[i, i] = 1
  }
  for pivot in 0..<n {
    let scale = 1 / a[pivot, pivot]
    for j in 0..<n {
      a[pivot, j] *= scale
      result[pivot, j] *= scale
    }
    for i in 0..<n where i != pivot {
      let factor = a[i, pivot]
      guard factor != 0 else { continue }
      for j in 0..<n {
        a[i, j] -= factor * a[pivot, j]
        result[i, j] -= factor * result[pivot, j]
      }
    }
  }
  return result
}

/// The mean of H's diagonal.
func meanDiagonal(_ h: DoubleMatrix) -> Double { h.diagonal.reduce(0, +) / Double(h.size) }

/// tr(D H Dᵀ) in Double.
func squaredError(_ a: Matrix, _ b: Matrix, _ h: DoubleMatrix) -> Double {
  var sum = 0.0
  for row in 0..<a.rows {
    let d = a.range(ofRow: row).map { Double(a.values[$0]) - Double(b.values[$0]) }
    for i in d.indices { for j in d.indices { sum += d[i] * h[i, j] * d[j] } }
  }
  return sum
}

/// How many weights are not zero in the fullest group of M.
func mostKept(_ weight: Matrix, of size: Int) -> Int {
  stride(from: 0, to: weight.values.count, by: size).map { start in
    weight.values[start..<start + size].count { $0 != 0 }
  }.max() ?? 0
}
