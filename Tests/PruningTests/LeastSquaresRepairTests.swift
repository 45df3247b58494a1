import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Pruning

@Suite struct LeastSquaresRepairTests {
  let inputs = 11, outputs = 3, samples = 60
  let y: [[Double]]
  let t: [[Double]]
  let weight: Matrix

  init() {
    var stream = RandomStream(test: "repair")
    var y: [[Double]] = [], t: [[Double]] = []
    for _ in 0..<60 {
      let x = (0..<14).map { _ in stream.normal() }
      // Inputs share what they are made of; the last of them is another one's copy.
      var row = (0..<10).map { (i: Int) -> Double in x[i] + 0.7 * x[i + 1] }
      row.append(row[2])
      y.append(row)
      t.append((0..<3).map { (o: Int) -> Double in x[o] - 2 * x[o + 5] + 0.5 * x[o + 11] })
    }
    self.y = y
    self.t = t
    weight = stream.matrix(rows: 3, columns: 11)
  }

  private func statistics() -> (moment: DoubleMatrix, targets: [Double], energy: Double) {
    var moment = DoubleMatrix(size: inputs), energy = 0.0
    var targets = [Double](repeating: 0, count: outputs * inputs)
    for (y, t) in zip(y, t) {
      for i in 0..<inputs {
        for j in 0..<inputs { moment[i, j] += y[i] * y[j] / Double(samples) }
        for o in 0..<outputs { targets[o * inputs + i] += t[o] * y[i] / Double(samples) }
      }
      energy += t.reduce(0) { $0 + $1 * $1 } / Double(samples)
    }
    return (moment, targets, energy)
  }

  /// mean ‖w y − t‖² of one output, from the samples.
  private func error(_ w: [Double], _ output: Int) -> Double {
    zip(y, t).reduce(0.0) { sum, pair in
      let value = zip(w, pair.0).reduce(0.0) { $0 + $1.0 * $1.1 } - pair.1[output]
      return sum + value * value / Double(samples)
    }
  }

  /// The minimum by its definition: (M + d) w = c + d w₀ by Gauss and Jordan, output by output.
  @Test(arguments: [0.001, 0.1, 10.0]) func solvesTheNormalEquations(_ damping: Double) throws {
    let (moment, targets, _) = statistics()
    let d = damping * meanDiagonal(moment)
    let fitted = try LeastSquaresRepair(damping: damping).fit(
      weight, moment: moment, targets: targets)
    let back = inverse(moment, damping: d)
    for o in 0..<outputs {
      let right = (0..<inputs).map {
        targets[o * inputs + $0] + d * Double(weight.values[o * inputs + $0])
      }
      for i in 0..<inputs {
        let expected = (0..<inputs).reduce(0.0) { $0 + back[i, $1] * right[$1] }
        #expect(
          abs(Double(fitted.values[o * inputs + i]) - expected) < 1e-5 * max(1, abs(expected)))
      }
    }
  }

  @Test func noDirectionIsBetter() throws {
    let (moment, targets, energy) = statistics()
    let fitted = try LeastSquaresRepair(damping: 1e-6).fit(
      weight, moment: moment, targets: targets)
    var whole = 0.0
    for o in 0..<outputs {
      let w = fitted.row(o).map(Double.init), own = error(w, o)
      whole += own
      #expect(own <= error(weight.row(o).map(Double.init), o))
      for i in 0..<inputs {
        for step in [-0.01, 0.01] {
          var moved = w
          moved[i] += step
          #expect(error(moved, o) > own - 1e-9)
        }
      }
    }
    let told = LeastSquaresRepair.error(
      of: fitted, moment: moment, targets: targets, energy: energy)
    #expect(abs(told - whole) < 1e-6 * max(1, whole))
  }

  /// What gives its targets already stays to the bit, whatever the damping.
  @Test func whatIsRightStays() throws {
    let (moment, _, _) = statistics()
    var targets = [Double](repeating: 0, count: outputs * inputs)
    for o in 0..<outputs {
      for j in 0..<inputs {
        for i in 0..<inputs {
          targets[o * inputs + j] += Double(weight.values[o * inputs + i]) * moment[i, j]
        }
      }
    }
    #expect(
      try LeastSquaresRepair(damping: 1).fit(weight, moment: moment, targets: targets) == weight)
  }

  @Test func deadInputsAndBadNumbers() throws {
    let zero = DoubleMatrix(size: inputs)
    let none = [Double](repeating: 0, count: outputs * inputs)
    #expect(try LeastSquaresRepair().fit(weight, moment: zero, targets: none) == weight)
    var bad = statistics().moment
    bad[3, 3] = .infinity
    #expect(throws: FactorizationError.self) {
      try LeastSquaresRepair().fit(weight, moment: bad, targets: none)
    }
  }

  @Test func energyIsThatOfTheOutputs() {
    let (moment, _, _) = statistics()
    var expected = 0.0
    for y in y {
      for o in [0, 2] {
        let value = (0..<inputs).reduce(0.0) {
          $0 + Double(weight.values[o * inputs + $1]) * y[$1]
        }
        expected += value * value / Double(samples)
      }
    }
    let found = LeastSquaresRepair.energy(of: weight, rows: [0, 2], moment: moment)
    #expect(abs(found - expected) < 1e-9 * expected)
  }
}
