import Foundation
import Tensors
import TestSupport
import Testing

@testable import Distillation

@Suite struct OptimizerTests {
  /// Values and gradients of five steps of one parameter.
  static func run(
    _ name: OptimizerName, kind: ParameterKind = .vector, decay: Double = 0.1, rows: Int = 1,
    columns: Int = 5000
  ) -> (start: [Float], gradients: [[Float]], end: [Float]) {
    var stream = RandomStream(test: "optimizer")
    let start = stream.floats(rows * columns, deviation: 1)
    let parameter = TrainedParameter("p", kind, rows: rows, columns: columns, values: start)
    let optimizer = name.make([parameter], TrainingOptions())
    var gradients: [[Float]] = []
    for index in 0..<5 {
      let gradient = stream.floats(rows * columns, deviation: 1)
      gradients.append(gradient)
      parameter.gradient = gradient
      optimizer.step(
        parameter, at: 0,
        OptimizerStep(
          index: index, rate: 0.01 * Double(index + 1), gradientScale: 0.5, decay: decay))
    }
    return (start, gradients, parameter.values)
  }

  /// Algorithm 2 of the paper, in Double.
  @Test(arguments: [ParameterKind.matrix, .vector])
  func adamWIsTheRecurrence(_ kind: ParameterKind) {
    let (start, gradients, end) = Self.run(.adamw, kind: kind)
    for i in stride(from: 0, to: start.count, by: 7) {
      var w = Double(start[i]), m = 0.0, v = 0.0
      for (index, gradient) in gradients.enumerated() {
        let g = 0.5 * Double(gradient[i]), rate = 0.01 * Double(index + 1)
        m = 0.9 * m + 0.1 * g
        v = 0.95 * v + 0.05 * g * g
        let t = Double(index + 1)
        let own = m / (1 - pow(0.9, t)), square = v / (1 - pow(0.95, t))
        w -= rate * own / (square.squareRoot() + 1e-8) + (kind == .matrix ? rate * 0.1 * w : 0)
      }
      #expect(abs(Double(end[i]) - w) < 2e-6)
    }
  }

  @Test func lionIsTheRecurrence() {
    let (start, gradients, end) = Self.run(.lion, kind: .matrix, rows: 50, columns: 100)
    for i in stride(from: 0, to: start.count, by: 3) {
      var w = Double(start[i]), m = 0.0
      for (index, gradient) in gradients.enumerated() {
        let g = 0.5 * Double(gradient[i]), rate = 0.01 * Double(index + 1)
        let direction = 0.9 * m + 0.1 * g
        m = 0.99 * m + 0.01 * g
        w -= rate * (direction > 0 ? 1 : direction < 0 ? -1 : 0) + rate * 0.1 * w
      }
      #expect(abs(Double(end[i]) - w) < 2e-6)
    }
  }

  /// The iteration brings every singular value near 1: X Xᵀ of the result has its eigenvalues there, and X keeps
  /// the directions of the momentum.
  @Test(arguments: [(24, 40), (40, 24)]) func muonMakesOrthogonal(_ rows: Int, _ columns: Int) {
    var stream = RandomStream(test: "muon")
    let matrix = stream.matrix(rows: rows, columns: columns, deviation: 3)
    let x = Muon.orthogonalized(matrix)
    // A vector's length through the smaller side lies between the singular values.
    for _ in 0..<20 {
      let isTall = rows > columns, side = min(rows, columns)
      let v = stream.floats(side, deviation: 1).map(Double.init)
      let length = v.reduce(0) { $0 + $1 * $1 }.squareRoot()
      var square = 0.0
      for other in 0..<max(rows, columns) {
        var sum = 0.0
        for i in 0..<side {
          sum += v[i] * Double(x.values[isTall ? other * columns + i : i * columns + other])
        }
        square += sum * sum
      }
      #expect((0.6...1.25).contains(square.squareRoot() / length))
    }
    let along = zip(matrix.values, x.values).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
    #expect(along > 0)
  }

  @Test func schedulesHaveTheirCorners() {
    let cosine = LearningRateSchedule(.cosine, steps: 100, warmup: 10, end: 0.1)
    #expect(cosine.share(at: 0) == 0.1 && cosine.share(at: 9) == 1 && cosine.share(at: 10) == 1)
    #expect(abs(cosine.share(at: 99) - 0.1) < 1e-12)
    #expect(abs(cosine.share(at: 54) - (0.1 + 0.9 * 0.5 * (1 + cos(.pi * 44 / 89)))) < 1e-12)
    let wsd = LearningRateSchedule(.wsd, steps: 101, warmup: 0, end: 0)
    #expect(wsd.share(at: 0) == 1 && wsd.share(at: 80) == 1)
    #expect(abs(wsd.share(at: 90) - 0.5) < 1e-9 && abs(wsd.share(at: 100)) < 1e-9)
    #expect(LearningRateSchedule(.constant, steps: 5, warmup: 0, end: 0).share(at: 4) == 1)
  }

  @Test func threadsChangeNoBit() {
    let ends = [1, 2, 3].map { threads in
      withThreads(threads) { Self.run(.adamw, kind: .matrix, rows: 40, columns: 2000).end }
    }
    #expect(ends[0] == ends[1] && ends[0] == ends[2])
  }
}
