import Encodings
import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Pruning

@Suite struct MaskTests {
  static let patterns = ["unstructured", "2:4", "4:8", "1:3", "3:4", "1x16", "1x2"]

  @Test(arguments: [0, 1, 2, 17, 500, 999, 1000])
  func theSmallestAreThoseOfSorting(_ count: Int) {
    var stream = RandomStream(test: "smallest")
    // Few different values, zeros and what is below them: ties go by place.
    let values = (0..<1000).map { _ in Float((stream.normal() * 2).rounded()) }
      .map { $0 < 0 ? MaskSelection.ofZero : $0 * 1e-20 }
    let expected = Set(
      values.indices.sorted { (values[$0], $0) < (values[$1], $1) }.prefix(count))
    let found = MaskSelection.removed(values[...], count: count)
    #expect(Set(found.indices.filter { found[$0] }) == expected)
  }

  @Test func namesArePatterns() {
    for name in Self.patterns { #expect(SparsityPattern(name)?.name == name) }
    for name in [
      "", "4:2", "4:4", "0:4", "2:4:8", ":", "2:", "x", "1x1", "2x4", "1x", "02:4", "-1:4", "2:257",
      "Unstructured", "1x257",
    ] { #expect(SparsityPattern(name) == nil, "\(name)") }
  }

  /// Every method, every pattern: what was asked is what was reached, to the weight.
  @Test(arguments: patterns, PruningMethod.allCases)
  func countsAreExact(_ name: String, _ method: PruningMethod) throws {
    var stream = RandomStream(test: "exact")
    let weight = stream.matrix(rows: 137, columns: 48, deviation: 0.05)
    let pattern = try #require(SparsityPattern(name))
    let h = correlatedMoment(48)
    for sparsity in [0.1, 0.5, 0.613, 0.97] {
      let goal = try SparsityGoal(pattern, sparsity: sparsity, outputs: 137, inputs: 48)
      let result = try method.pruner.prune(weight, statistics: .moment(h), goal: goal)
      #expect(result.zeros == goal.zeros)
      switch pattern {
      case .unstructured:
        #expect(goal.zeros == Int((sparsity * 137 * 48).rounded()))
      case .groups(let kept, let size):
        #expect(goal.zeros == 137 * 48 / size * (size - kept))
        #expect(mostKept(result.weight, of: size) == kept)
      case .blocks(let size):
        #expect(abs(Double(goal.zeros) - sparsity * 137 * 48) <= Double(size) / 2)
        for start in stride(from: 0, to: weight.values.count, by: size) {
          let zeros = result.weight.values[start..<start + size].count { $0 == 0 }
          #expect(zeros == 0 || zeros == size)
        }
      }
    }
  }

  /// What is zero stays zero and counts; a matrix that has more zeros than asked keeps them.
  @Test(arguments: ["unstructured", "2:4"], PruningMethod.allCases)
  func zerosStayAndCount(_ name: String, _ method: PruningMethod) throws {
    var stream = RandomStream(test: "zeros")
    var weight = stream.matrix(rows: 40, columns: 64)
    for index in weight.values.indices where index % 5 < 2 { weight.values[index] = 0 }
    let before = weight.values.count { $0 == 0 }
    let pattern = try #require(SparsityPattern(name))
    for sparsity in [0.2, 0.5] {
      let goal = try SparsityGoal(pattern, sparsity: sparsity, outputs: 40, inputs: 64)
      let result = try method.pruner.prune(
        weight, statistics: .moment(correlatedMoment(64)), goal: goal)
      #expect(
        weight.values.indices.allSatisfy {
          weight.values[$0] != 0 || result.weight.values[$0] == 0
        })
      if name == "unstructured" { #expect(result.zeros == max(goal.zeros, before)) }
    }
  }

  @Test(arguments: PruningMethod.allCases)
  func hardCases(_ method: PruningMethod) throws {
    var stream = RandomStream(test: "hard")
    let weight = stream.matrix(rows: 20, columns: 32, deviation: 1e-25)
    let goal = try SparsityGoal(.unstructured, sparsity: 0.5, outputs: 20, inputs: 32)
    // Fewer samples than inputs, dead inputs, and nothing but dead inputs.
    for h in [
      correlatedMoment(32, samples: 3), correlatedMoment(32, dead: [0, 7, 31]),
      DoubleMatrix(size: 32),
    ] {
      let result = try method.pruner.prune(weight, statistics: .moment(h), goal: goal)
      #expect(result.zeros == goal.zeros && result.weight.values.allSatisfy(\.isFinite))
      #expect(result.deadInputs == h.diagonal.count { $0 == 0 })
      #expect((0...1.001).contains(result.relativeError))
    }
    var broken = weight
    broken.values[5] = .nan
    broken.values[6] = .infinity
    #expect(throws: PruningError.notFinite(count: 2, total: 640)) {
      try method.pruner.prune(broken, statistics: .moment(correlatedMoment(32)), goal: goal)
    }
    var h = correlatedMoment(32)
    h[3, 3] = .nan
    #expect(throws: PruningError.badStatistics) {
      try method.pruner.prune(weight, statistics: .moment(h), goal: goal)
    }
    #expect(throws: PruningError.raggedColumns(pattern: "2:4", columns: 30, multiple: 4)) {
      try SparsityGoal(.groups(kept: 2, of: 4), sparsity: 0.5, outputs: 20, inputs: 30)
    }
  }

  @Test(arguments: PruningMethod.allCases, patterns)
  func threadsChangeNothing(_ method: PruningMethod, _ name: String) throws {
    var stream = RandomStream(test: "threads")
    let weight = stream.matrix(rows: 300, columns: 48)
    let goal = try SparsityGoal(
      #require(SparsityPattern(name)), sparsity: 0.6, outputs: 300, inputs: 48)
    let h = correlatedMoment(48)
    let one = try withThreads(1) {
      try method.pruner.prune(weight, statistics: .moment(h), goal: goal)
    }
    let two = try withThreads(2) {
      try method.pruner.prune(weight, statistics: .moment(h), goal: goal)
    }
    #expect(one.weight == two.weight)
  }
}

@Suite struct WandaTests {
  /// The least |w| ‖x‖ of each row, by sorting in Double.
  @Test func equalsSorting() throws {
    var stream = RandomStream(test: "wanda")
    let weight = stream.matrix(rows: 31, columns: 40, deviation: 0.02)
    let h = correlatedMoment(40, dead: [4])
    let goal = try SparsityGoal(.unstructured, sparsity: 0.55, outputs: 31, inputs: 40)
    let result = try Wanda().prune(weight, statistics: .diagonal(h.diagonal), goal: goal)
    for row in 0..<31 {
      let zeros = weight.range(ofRow: row).filter { result.weight.values[$0] == 0 }
      #expect(zeros.count == 22)
      let worth = (0..<40).map { column in
        abs(Double(weight.values[row * 40 + column])) * max(h[column, column], 1e-12).squareRoot()
      }
      let expected = worth.indices.sorted { worth[$0] < worth[$1] }.prefix(22)
      #expect(Set(zeros.map { $0 - row * 40 }) == Set(expected))
    }
    #expect(
      weight.values.indices.allSatisfy {
        result.weight.values[$0] == 0 || result.weight.values[$0] == weight.values[$0]
      })
    #expect(throws: PruningError.needsStatistics(method: "wanda")) {
      try Wanda().prune(weight, statistics: .none, goal: goal)
    }
  }
}

extension PruningMethod {
  /// The method with its usual options.
  var pruner: any WeightPruner {
    switch self {
    case .magnitude: Magnitude()
    case .wanda: Wanda()
    case .sparsegpt: SparseGPT()
    case .alps: ALPS()
    }
  }
}
