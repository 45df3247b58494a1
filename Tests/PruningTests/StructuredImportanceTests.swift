import Tensors
import TestSupport
import Testing

@testable import Pruning

/// The criteria against their definitions in Double.
@Suite struct StructuredImportanceTests {
  static let groups = [(groups: 9, size: 1), (groups: 5, size: 4), (groups: 70, size: 1)]

  @Test(arguments: groups) func activationsAreMeansOfNorms(_ shape: (groups: Int, size: Int)) {
    var stream = RandomStream(test: "activation")
    let x = stream.matrix(rows: 37, columns: shape.groups * shape.size)
    var importance = ActivationImportance(groups: shape.groups, groupSize: shape.size)
    withThreads(2) {
      importance.add(x.rows(0..<20))
      importance.add(x.rows(20..<37))
    }
    for (group, found) in importance.means.enumerated() {
      let expected =
        (0..<37).reduce(0.0) { sum, row in
          let squares = (0..<shape.size).reduce(0.0) {
            let value = Double(x.values[row * x.columns + group * shape.size + $1])
            return $0 + value * value
          }
          return sum + squares.squareRoot()
        } / 37
      #expect(abs(found - expected) < 1e-6 * expected)
    }
  }

  @Test(arguments: groups) func gatesAreSquaredSums(_ shape: (groups: Int, size: Int)) {
    var stream = RandomStream(test: "gates")
    let x = stream.matrix(rows: 30, columns: shape.groups * shape.size)
    let d = stream.matrix(rows: 30, columns: x.columns)
    var importance = GateImportance(groups: shape.groups, groupSize: shape.size)
    importance.add(x.rows(0..<12), gradient: d.rows(0..<12), sequences: [0..<5, 5..<12])
    importance.add(x.rows(12..<30), gradient: d.rows(12..<30), sequences: [0..<18])
    for (group, found) in importance.means.enumerated() {
      var expected = 0.0
      for rows in [0..<5, 5..<12, 12..<30] {
        var sum = 0.0
        for row in rows {
          for i in 0..<shape.size {
            let index = row * x.columns + group * shape.size + i
            sum += Double(x.values[index]) * Double(d.values[index])
          }
        }
        expected += sum * sum / 3
      }
      #expect(abs(found - expected) < 1e-9 * max(1, expected))
    }
  }

  @Test func influenceIsTheMeanAngle() {
    var stream = RandomStream(test: "influence")
    let a = stream.matrix(rows: 21, columns: 13)
    var b = a
    for i in b.values.indices { b.values[i] += 0.5 * Float(stream.normal()) }
    var influence = BlockInfluence()
    influence.add(before: a.rows(0..<8), behind: b.rows(0..<8))
    influence.add(before: a.rows(8..<21), behind: b.rows(8..<21))
    let expected =
      (0..<21).reduce(0.0) { sum, row in
        let x = a.row(row).map(Double.init), y = b.row(row).map(Double.init)
        func product(_ u: [Double], _ v: [Double]) -> Double {
          zip(u, v).reduce(0) { $0 + $1.0 * $1.1 }
        }
        return sum + 1 - product(x, y) / (product(x, x) * product(y, y)).squareRoot()
      } / 21
    #expect(abs(influence.mean - expected) < 1e-6)
    var same = BlockInfluence()
    same.add(before: a, behind: a)
    #expect(abs(same.mean) < 1e-6)
    #expect(BlockInfluence().mean == 0)
  }
}
