import Checkpoints
import Encodings
import Networks
import Tensors
import TestSupport
import Testing

@testable import Distillation

/// Gradients of every kind of trained weight against central differences of Σ of random multiples of y = x Wᵀ.
@Suite struct TrainedWeightTests {
  static let outputs = 6, inputs = 40

  static func linear(_ test: String) -> Linear {
    var stream = RandomStream(test: test)
    return Linear(
      name: "layer",
      matrix: DenseMatrix(stream.matrix(rows: outputs, columns: inputs, deviation: 0.3)), bias: nil)
  }

  static func codes(_ linear: Linear, _ encoding: GroupIntegers) -> EncodedMatrix {
    let groups = encoding.groups(inputs: inputs)
    var stream = RandomStream(test: "codes")
    return encoding.encode(
      outputs: outputs, inputs: inputs,
      codes: (0..<outputs * inputs).map { _ in UInt8(stream.integer(below: encoding.top + 1)) },
      scales: (0..<outputs * groups).map { _ in Float16(0.05 + 0.1 * stream.unit()).bitPattern },
      zeros: (0..<outputs * groups).map { _ in UInt8(stream.integer(below: encoding.top + 1)) })
  }

  /// The loss, and with `gradients` those of the weight's parameters.
  static func loss(_ weight: any TrainedWeight, gradients: Bool) -> Double {
    var stream = RandomStream(test: "inputs")
    let x = stream.matrix(rows: 9, columns: inputs, deviation: 1)
    let slope = stream.matrix(rows: 9, columns: outputs, deviation: 1)
    weight.attach()
    let y = weight.layer.matrix.apply(to: x)
    weight.detach()
    if gradients {
      for parameter in weight.parameters { parameter.gradient = [] }
      // In two parts, which add up.
      weight.receive(.product(inputs: x.rows(0..<4), outputs: slope.rows(0..<4)))
      weight.receive(.product(inputs: x.rows(4..<9), outputs: slope.rows(4..<9)))
      weight.finishGradients()
    }
    return zip(y.values, slope.values).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
  }

  static func check(_ weight: any TrainedWeight, step: Float = 1e-2) {
    _ = loss(weight, gradients: true)
    for parameter in weight.parameters {
      var stream = RandomStream(test: parameter.name)
      let direction = stream.floats(parameter.values.count, deviation: 1)
      let expected = zip(parameter.gradient, direction).reduce(0.0) {
        $0 + Double($1.0) * Double($1.1)
      }
      let start = parameter.values
      parameter.values = zip(start, direction).map { $0 + step * $1 }
      let up = loss(weight, gradients: false)
      parameter.values = zip(start, direction).map { $0 - step * $1 }
      let down = loss(weight, gradients: false)
      parameter.values = start
      let slope = (up - down) / Double(2 * step)
      #expect(
        abs(slope - expected) < 2e-3 * (1 + abs(expected)),
        "\(parameter.name): \(slope), expected \(expected)")
    }
  }

  @Test func fullWeights() {
    Self.check(FullWeight(Self.linear("full"), kind: .matrix, keepsZeros: false))
  }

  @Test func keptZerosGetNoGradient() {
    let linear = Self.linear("sparse")
    var matrix = linear.matrix.decoded()
    for i in stride(from: 0, to: matrix.values.count, by: 3) { matrix.values[i] = 0 }
    linear.matrix = DenseMatrix(matrix)
    let weight = FullWeight(linear, kind: .matrix, keepsZeros: true)
    _ = Self.loss(weight, gradients: true)
    let gradient = weight.parameters[0].gradient
    for i in gradient.indices { #expect((gradient[i] == 0) == (i % 3 == 0)) }
  }

  @Test func adapters() {
    let weight = AdaptedWeight(
      Self.linear("adapted"), encoded: nil, rank: 3, alpha: 6, seed: 1)
    var stream = RandomStream(test: "left")
    weight.parameters[1].values = stream.floats(Self.outputs * 3, deviation: 0.3)
    Self.check(weight)
    weight.attach()
    let adapted = weight.layer.matrix
    guard case .floats(let merged) = weight.result() else {
      Issue.record("not merged")
      return
    }
    let x = stream.matrix(rows: 7, columns: Self.inputs, deviation: 1)
    let a = adapted.apply(to: x), b = DenseMatrix(merged).apply(to: x)
    let decoded = adapted.decoded()
    for i in a.values.indices { #expect(abs(a.values[i] - b.values[i]) < 1e-4) }
    for i in merged.values.indices { #expect(abs(decoded.values[i] - merged.values[i]) < 1e-5) }
  }

  @Test(arguments: ["int2-g16", "int4-g16-sym", "int3-channel"]) func scales(_ name: String) throws
  {
    let encoding = try #require(GroupIntegers.named(name))
    let linear = Self.linear("scaled")
    let grid = try #require(WeightGrid(Self.codes(linear, encoding)))
    Self.check(ScaledWeight(linear, grid: grid, trainsZeros: false))
    // Zero points are rounded, so that their gradient is compared with the formula without rounding.
    guard grid.hasZeros else { return }
    let weight = ScaledWeight(linear, grid: grid, trainsZeros: true)
    _ = Self.loss(weight, gradients: true)
    let zeros = weight.parameters[1], start = zeros.values
    let base = Self.loss(weight, gradients: false)
    for place in [0, 3] where start[place] < grid.top {
      zeros.values[place] = start[place] + 1
      let slope = Self.loss(weight, gradients: false) - base
      zeros.values = start
      #expect(abs(slope - Double(zeros.gradient[place])) < 1e-3 * (1 + abs(slope)))
    }
  }

  /// Untouched parameters give the codes that came, bit for bit.
  @Test(arguments: ["int2-g16", "int5-g32", "int4-channel-sym"])
  func codesSurvive(_ name: String) throws {
    let encoding = try #require(GroupIntegers.named(name))
    let linear = Self.linear("codes")
    let codes = Self.codes(linear, encoding)
    let grid = try #require(WeightGrid(codes))
    let weights: [any TrainedWeight] = [
      ScaledWeight(linear, grid: grid, trainsZeros: true),
      FakeQuantizedWeight(linear, grid: grid, floats: nil),
      FakeQuantizedWeight(linear, grid: grid, floats: linear.matrix.decoded()),
    ]
    for weight in weights {
      guard case .encoded(let result) = weight.result() else {
        Issue.record("no codes")
        continue
      }
      for (part, expected) in zip(result.parts, codes.parts) {
        #expect(Array(part.bytes) == Array(expected.bytes))
      }
      weight.attach()
      let seen = weight.layer.matrix.decoded(), stored = codes.matrix.decoded()
      for i in stored.values.indices { #expect(abs(seen.values[i] - stored.values[i]) < 1e-6) }
    }
  }

  /// The forward pass sees just the numbers that are stored, after any step; the formulas in Double.
  @Test func fakeQuantization() throws {
    let encoding = try #require(GroupIntegers.named("int2-g16"))
    let linear = Self.linear("fake")
    let grid = try #require(WeightGrid(Self.codes(linear, encoding)))
    let weight = FakeQuantizedWeight(linear, grid: grid, floats: linear.matrix.decoded())
    var stream = RandomStream(test: "steps")
    let latent = weight.parameters[0], scales = weight.parameters[1]
    latent.values = latent.values.map { $0 + Float(0.05 * stream.gaussian()) }
    scales.values = scales.values.map { _ in Float(Float16(1 + 0.1 * stream.gaussian())) }
    _ = Self.loss(weight, gradients: true)
    var inputs = RandomStream(test: "inputs")
    let x = inputs.matrix(rows: 9, columns: Self.inputs, deviation: 1)
    let slope = inputs.matrix(rows: 9, columns: Self.outputs, deviation: 1)
    let groups = grid.groups
    var ofScales = [Double](repeating: 0, count: Self.outputs * groups)
    for row in 0..<Self.outputs {
      for column in 0..<Self.inputs {
        let place = row * groups + column / 16, index = row * Self.inputs + column
        let gradient = (0..<9).reduce(0.0) {
          $0 + Double(slope.values[$1 * Self.outputs + row])
            * Double(x.values[$1 * Self.inputs + column])
        }
        let zero = Double(grid.zeros[place])
        let s = Double(grid.scales[place]) * Double(scales.values[place])
        let u = Double(latent.values[index]) / s + zero
        let code = min(max(u.rounded(.toNearestOrEven), 0), 3)
        let isInside = u >= -0.5 && u <= 3.5
        ofScales[place] +=
          gradient * Double(grid.scales[place]) * (isInside ? code - u : code - zero)
        #expect(abs(Double(latent.gradient[index]) - (isInside ? gradient : 0)) < 1e-4)
      }
    }
    for (found, expected) in zip(scales.gradient, ofScales) {
      #expect(abs(Double(found) - expected) < 1e-3 * (1 + abs(expected)))
    }
    weight.attach()
    let seen = weight.layer.matrix.decoded()
    guard case .encoded(let stored) = weight.result() else {
      Issue.record("no codes")
      return
    }
    // Scales are stored as halves.
    for (a, b) in zip(seen.values, stored.matrix.decoded().values) {
      #expect(abs(a - b) <= 0.0006 * abs(b))
    }
  }
}

extension Tensor {
  /// All bytes.
  fileprivate var bytes: [UInt8] {
    withBytes { span in span.withUnsafeBytes { [UInt8]($0) } }
  }
}
