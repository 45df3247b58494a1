import CKernels
import Foundation
import TestSupport
import Tensors
import Testing

/// Backward passes of row functions against central differences of the functions' definitions in Double.
@Suite struct GradientRowTests {
  /// Σ gradient · f(x), differentiated by x[i] with a step of 1e-4: the error is about 1e-8 of the scale.
  static func slopes(
    _ x: [Float], _ gradient: [Float], _ function: ([Double]) -> [Double]
  ) -> [Double] {
    let x = x.map { Double($0) }
    return x.indices.map { index in
      var up = x, down = x
      up[index] += 1e-4
      down[index] -= 1e-4
      return zip(zip(function(up), function(down)), gradient).reduce(0.0) {
        $0 + ($1.0.0 - $1.0.1) / 2e-4 * Double($1.1)
      }
    }
  }

  /// The largest distance, in terms of the largest value.
  static func distance(_ found: [Float], _ expected: [Double]) -> Double {
    let scale = expected.reduce(1e-6) { max($0, abs($1)) }
    return zip(found, expected).reduce(0.0) { max($0, abs(Double($1.0) - $1.1)) } / scale
  }

  @Test(arguments: [1, 2, 7, 33, 130]) func norms(_ count: Int) {
    var stream = RandomStream(test: "norms")
    let x = stream.floats(count, deviation: 2), weight = stream.floats(count)
    let g = stream.floats(count)
    let epsilon: Float = 1e-3
    let rms = Self.slopes(x, g) { x in
      let scale =
        1 / (x.reduce(0) { $0 + $1 * $1 } / Double(count) + Double(epsilon)).squareRoot()
      return zip(x, weight).map { $0 * scale * Double($1) }
    }
    var found = g
    var span = found.mutableSpan
    RowGradients.rmsNorm(&span, input: x.span, weight: weight.span, epsilon: epsilon)
    // Alone, a value's gradient is what epsilon leaves of it: terms that cancel.
    if count > 1 { #expect(Self.distance(found, rms) < 3e-6) }

    let layer = Self.slopes(x, g) { x in
      let mean = x.reduce(0, +) / Double(count)
      let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(count)
      return zip(x, weight).map {
        ($0 - mean) / (variance + Double(epsilon)).squareRoot() * Double($1)
      }
    }
    var normalized = x
    var row = normalized.mutableSpan
    let inverse = RowGradients.normalize(&row, epsilon: epsilon)
    found = g
    span = found.mutableSpan
    RowGradients.layerNorm(
      &span, normalized: normalized.span, inverse: inverse, weight: weight.span)
    if count > 1 { #expect(Self.distance(found, layer) < 1e-5) }
  }

  @Test func rmsNormWeight() {
    var stream = RandomStream(test: "weight")
    let x = stream.floats(40), g = stream.floats(40)
    var sum = [Double](repeating: 1, count: 40)
    var span = sum.mutableSpan
    RowGradients.addRMSNormWeight(g.span, input: x.span, epsilon: 1e-3, to: &span)
    let squares = x.reduce(0.0) { $0 + Double($1) * Double($1) }
    let expected = zip(x, g).map {
      1 + Double($0) * Double($1) / (squares / 40 + 1e-3).squareRoot()
    }
    #expect(Self.distance(sum.map { Float($0) }, expected) < 1e-6)
  }

  @Test(arguments: [1, 5, 64]) func softmaxAndCrossEntropy(_ count: Int) {
    var stream = RandomStream(test: "softmax")
    let x = stream.floats(count, deviation: 2), g = stream.floats(count)
    func softmax(_ x: [Double], _ scale: Double) -> [Double] {
      let terms = x.map { exp(scale * $0) }
      return terms.map { $0 / terms.reduce(0, +) }
    }
    let expected = Self.slopes(x, g) { softmax($0, Double(Float(0.3))) }
    let p = softmax(x.map { Double($0) }, Double(Float(0.3))).map { Float($0) }
    var found = g
    var span = found.mutableSpan
    RowGradients.softmax(&span, probabilities: p.span, scale: 0.3)
    if count > 1 { #expect(Self.distance(found, expected) < 3e-6) }

    let label = count / 2
    var logits = x
    span = logits.mutableSpan
    let loss = RowGradients.crossEntropy(&span, label: label)
    let log = { (x: [Double]) in -Foundation.log(softmax(x, 1)[label]) }
    #expect(abs(loss - log(x.map { Double($0) })) < 1e-6)
    let ofLogits = Self.slopes(x, [1]) { [log($0)] }
    if count > 1 { #expect(Self.distance(logits, ofLogits) < 1e-6) }
  }

  /// The derivatives' formulas in Double, which central differences confirm.
  @Test func activations() throws {
    let root = 2.0.squareRoot()
    let tanhSlope = { (x: Double) -> Double in
      let u = (2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x), t = tanh(u)
      let slope = (2 / Double.pi).squareRoot() * (1 + 3 * 0.044715 * x * x)
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope
    }
    let cases:
      [(
        kernel: (UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int) -> Void,
        f: (Double) -> Double, slope: (Double) -> Double
      )] = [
        (
          kernel_silu_gradient, { $0 / (1 + exp(-$0)) },
          { x in
            let p = 1 / (1 + exp(-x))
            return p * (1 + x * (1 - p))
          }
        ),
        (
          kernel_gelu_gradient, { 0.5 * $0 * (1 + erf($0 / root)) },
          { x in
            0.5 * (1 + erf(x / root)) + x * exp(-x * x / 2) / (2 * Double.pi).squareRoot()
          }
        ),
        (
          kernel_gelu_tanh_gradient,
          { x in
            0.5 * x
              * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
          }, tanhSlope
        ),
      ]
    for (index, one) in cases.enumerated() {
      for x in stride(from: -6.0, through: 6.0, by: 0.37) {
        let difference = (one.f(x + 1e-5) - one.f(x - 1e-5)) / 2e-5
        #expect(abs(difference - one.slope(x)) < 1e-8, "definition \(index) at \(x)")
      }
      for count in kernelLengths {
        let x = RowKernelTests.samples(count), g = x.reversed().map { 0.5 * $0 + 1 }
        for offset in kernelOffsets {
          let found = try changed(g, offset: offset) { one.kernel(x, $0, count) }
          let expected = zip(x, g).map { one.slope(Double($0)) * Double($1) }
          #expect(
            firstBeyond(found, expected) {
              // A few roundings of sums of terms up to 1 + |x|, and erf's own error.
              abs(Double(g[$0])) * (1 + min(10, abs(Double(x[$0])))) * (2e-7 + 8 * roundoff)
            } == nil, "kernel \(index)")
        }
      }
    }
  }
}

@Suite(.serialized) struct GradientProductTests {
  static let sizes = [(1, 1, 1), (3, 70, 33), (130, 600, 40), (1100, 37, 65), (5, 1030, 7)]

  private struct Decoded: LinearOperator {
    let matrix: Matrix
    var outputs: Int { matrix.rows }
    var inputs: Int { matrix.columns }
    var storedBits: Int { 0 }
    func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) {
      for (index, value) in matrix.rows(rows).values.enumerated() { target[index] = value }
    }
  }

  private struct InPlace: LinearOperator {
    let matrix: Matrix
    var outputs: Int { matrix.rows }
    var inputs: Int { matrix.columns }
    var storedBits: Int { 0 }
    func decode(rows: Range<Int>, into target: inout MutableSpan<Float>) { fatalError("in place") }
    func withRowsInPlace(_ rows: Range<Int>, _ body: (Span<Float>) -> Void) -> Bool {
      body(matrix.values.span.extracting(rows.lowerBound * inputs..<rows.upperBound * inputs))
      return true
    }
  }

  /// Values beyond `depth` roundings of the sum of the terms' sizes.
  private func wrong(
    _ found: Matrix, depth: Int, _ term: (_ row: Int, _ column: Int, _ p: Int) -> Double
  ) -> Int {
    var wrong = 0
    for row in 0..<found.rows {
      for column in 0..<found.columns {
        var sum = 0.0, size = 0.0
        for p in 0..<depth {
          sum += term(row, column, p)
          size += abs(term(row, column, p))
        }
        let distance = abs(Double(found.values[row * found.columns + column]) - sum)
        if !(distance <= Double(depth + 2) * roundoff * size) { wrong += 1 }
      }
    }
    return wrong
  }

  @Test(arguments: sizes) func againstThreeLoops(_ tokens: Int, _ outputs: Int, _ inputs: Int) {
    var stream = RandomStream(test: "products")
    let weight = stream.matrix(rows: outputs, columns: inputs)
    let x = stream.matrix(rows: tokens, columns: inputs)
    let g = stream.matrix(rows: tokens, columns: outputs)
    let ofInput = withThreads(2) { Decoded(matrix: weight).applyTransposed(to: g) }
    #expect(
      wrong(ofInput, depth: outputs) { row, column, p in
        Double(g.values[row * outputs + p]) * Double(weight.values[p * inputs + column])
      } == 0)
    #expect(withThreads(1) { Decoded(matrix: weight).applyTransposed(to: g) } == ofInput)
    #expect(InPlace(matrix: weight).applyTransposed(to: g) == ofInput)
    let ofWeight = withThreads(2) { g.transposedProduct(x) }
    #expect(ofWeight.rows == outputs && ofWeight.columns == inputs)
    #expect(
      wrong(ofWeight, depth: tokens) { row, column, p in
        Double(g.values[p * outputs + row]) * Double(x.values[p * inputs + column])
      } == 0)
    #expect(withThreads(1) { g.transposedProduct(x) } == ofWeight)
    let sums = (0..<outputs).map { output in
      Float((0..<tokens).reduce(0.0) { $0 + Double(g.values[$1 * outputs + output]) })
    }
    #expect(g.columnSums() == sums)
  }
}

@Suite struct GradientTapeTests {
  final class Sums: GradientObserver {
    var order: [String] = []
    var found: [String: [Float]] = [:]
    func wants(_ parameter: String) -> Bool { true }
    func receive(_ parameter: String, _ gradient: ParameterGradient) {
      guard case .vector(let values) = gradient else { return }
      order.append(parameter)
      found[parameter] = values
    }
  }

  private func leaf(_ tape: GradientTape, _ name: String, _ values: [Float], rows: Int = 1)
    -> Matrix
  {
    tape.leaf(Matrix(rows: rows, columns: values.count / rows, values: values)) {
      $1.receive(name, .vector($0.values))
    }
  }

  @Test func gradientsOfAllUsesAddUp() {
    let tape = GradientTape()
    let a = leaf(tape, "a", [1, 2, 3, 4], rows: 2), b = leaf(tape, "b", [5, 6])
    var sum = a.rows(1..<2)
    sum.add(b)
    sum.add(b)
    let result = Matrix.stack([sum, a, Matrix(rows: 1, columns: 2)])
    #expect(result.values == [13, 16, 1, 2, 3, 4, 0, 0])
    let sums = Sums()
    GradientRecord.walk(
      from: result, gradient: Matrix(rows: 4, columns: 2, values: [1, 2, 10, 20, 30, 40, 7, 7]),
      observer: sums)
    #expect(sums.found["a"] == [10, 20, 31, 42])
    #expect(sums.found["b"] == [2, 4])
    #expect(sums.order == ["b", "a"], "each once, in the reverse order of recording")
  }

  @Test func whatIsNotReachedGetsNothing() {
    let tape = GradientTape()
    let a = leaf(tape, "a", [1]), b = leaf(tape, "b", [2])
    var unused = a
    unused.add(b)
    let sums = Sums()
    GradientRecord.walk(from: a, gradient: Matrix(rows: 1, columns: 1, values: [3]), observer: sums)
    #expect(sums.found == ["a": [3]])
    #expect(a == Matrix(rows: 1, columns: 1, values: [1]), "a record is no part of a value")
    #expect(a.unrecorded.record == nil)
  }

  /// What an operation holds goes as soon as the walk has passed it, and without a walk with its result.
  @Test func memoryIsFreedOnTheWay() {
    final class Witness: Sendable {}
    final class Watch: GradientObserver {
      weak var later: Witness?
      var isLaterGone = false
      func wants(_ parameter: String) -> Bool { true }
      func receive(_ parameter: String, _ gradient: ParameterGradient) {
        isLaterGone = later == nil
      }
    }
    let tape = GradientTape(), watch = Watch()
    let a = leaf(tape, "a", [1])
    var result = a
    do {
      let witness = Witness()
      watch.later = witness
      result.record = GradientRecord(of: [a.record]) { gradient, _ in
        withExtendedLifetime(witness) { [gradient] }
      }
    }
    #expect(watch.later != nil)
    GradientRecord.walk(
      from: result, gradient: Matrix(rows: 1, columns: 1, values: [1]), observer: watch)
    #expect(watch.isLaterGone)
  }

  @Test func aPassIsWalkedOnce() async {
    await #expect(processExitsWith: .failure) {
      let tape = GradientTape()
      let a = tape.leaf(Matrix(rows: 1, columns: 1)) { _, _ in }
      for _ in 0..<2 {
        GradientRecord.walk(from: a, gradient: Matrix(rows: 1, columns: 1), observer: Sums())
      }
    }
  }
}
