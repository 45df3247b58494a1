import TestSupport
import Testing

@testable import Tensors

/// Windows of images against the definition, pixel by pixel in Double.
@Suite struct PatchTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let height, width, channels, outputs, groups: Int
    var kernel = (y: 3, x: 3), stride = (y: 1, x: 1), dilation = (y: 1, x: 1)
    var padding = (top: 1, bottom: 1, left: 1, right: 1)

    var testDescription: String { "\(height)x\(width)x\(channels) to \(outputs), \(groups) groups" }
    var geometry: PatchGeometry? {
      PatchGeometry(
        height: height, width: width, channels: channels, kernel: kernel, stride: stride,
        dilation: dilation, padding: padding)
    }
  }

  static let cases = [
    Case(height: 8, width: 8, channels: 3, outputs: 16, groups: 1),
    Case(height: 7, width: 9, channels: 16, outputs: 33, groups: 1, stride: (2, 2)),
    Case(
      height: 9, width: 8, channels: 4, outputs: 6, groups: 2, stride: (2, 1), dilation: (2, 1),
      padding: (2, 1, 0, 2)),
    Case(height: 6, width: 6, channels: 5, outputs: 5, groups: 5),
    Case(height: 6, width: 6, channels: 5, outputs: 10, groups: 5, kernel: (2, 3)),
    Case(
      height: 1, width: 20, channels: 6, outputs: 7, groups: 1, kernel: (1, 5), dilation: (1, 2),
      padding: (0, 0, 4, 4)),
    Case(
      height: 5, width: 5, channels: 8, outputs: 40, groups: 1, kernel: (1, 1),
      padding: (0, 0, 0, 0)),
    Case(
      height: 5, width: 5, channels: 8, outputs: 3, groups: 1, kernel: (5, 5), padding: (0, 0, 0, 0)
    ),
  ]
  static let images = 3

  private static func random(_ rows: Int, _ columns: Int, _ name: String) -> Matrix {
    var stream = RandomStream(seed: 1, name: name)
    return Matrix(
      rows: rows, columns: columns,
      values: (0..<rows * columns).map { _ in Float(stream.gaussian()) })
  }

  /// Calls `body` with each output pixel and the pixel of the image behind each place of its window; nil outside.
  private static func forEachWindow(
    _ g: PatchGeometry, _ body: (_ output: Int, _ window: Int, _ pixel: Int?) -> Void
  ) {
    for image in 0..<images {
      for y in 0..<g.outHeight {
        for x in 0..<g.outWidth {
          for ky in 0..<g.kernelHeight {
            for kx in 0..<g.kernelWidth {
              let row = y * g.strideY + ky * g.dilationY - g.padTop
              let column = x * g.strideX + kx * g.dilationX - g.padLeft
              let isInside = (0..<g.height).contains(row) && (0..<g.width).contains(column)
              body(
                image * g.outPixels + y * g.outWidth + x, ky * g.kernelWidth + kx,
                isInside ? image * g.pixels + row * g.width + column : nil)
            }
          }
        }
      }
    }
  }

  private static func expectNear(_ found: Matrix, _ expected: [Double], _ size: Double) {
    #expect(found.values.count == expected.count)
    let worst = zip(found.values, expected).reduce(0) { max($0, abs(Double($1.0) - $1.1)) }
    #expect(worst < 1e-5 * size, "\(worst)")
  }

  @Test(arguments: cases) func convolutionsEqualTheirDefinition(_ item: Case) throws {
    let g = try #require(item.geometry), own = item.channels / item.groups
    let share = item.outputs / item.groups
    let x = Self.random(Self.images * g.pixels, item.channels, "x")
    let w = Self.random(item.outputs, g.windowPixels * own, "w")
    let bias = Self.random(1, item.outputs, "b").values
    var expected = (0..<Self.images * g.outPixels).flatMap { _ in bias.map(Double.init) }
    Self.forEachWindow(g) { output, window, pixel in
      guard let pixel else { return }
      for o in 0..<item.outputs {
        for c in 0..<own {
          expected[output * item.outputs + o] +=
            Double(x.values[pixel * item.channels + o / share * own + c])
            * Double(w.values[o * w.columns + window * own + c])
        }
      }
    }
    let fused = DenseMatrix(w).apply(toPatchesOf: x, g, groups: item.groups, bias: bias)
    Self.expectNear(fused, expected, 30)
    // Products with few rows are summed in another order.
    if item.groups == 1, fused.rows > 4 {
      #expect(DenseMatrix(w).apply(to: x.patches(g), bias: bias) == fused)
    }
    ParallelLoop.threads = 1
    defer { ParallelLoop.threads = ParallelLoop.coreCount }
    #expect(DenseMatrix(w).apply(toPatchesOf: x, g, groups: item.groups, bias: bias) == fused)
  }

  /// Σ patches ∘ g = Σ x ∘ fold(g), for every g: what makes fold the gradient of patches.
  @Test(arguments: cases) func foldingIsTheTransposeOfUnfolding(_ item: Case) throws {
    let g = try #require(item.geometry), own = item.channels / item.groups
    let x = Self.random(Self.images * g.pixels, item.channels, "x")
    let patches = x.patches(g, groups: item.groups)
    #expect(patches.rows == Self.images * g.outPixels * item.groups)
    let gradient = Self.random(patches.rows, patches.columns, "g")
    var expected = [Double](repeating: 0, count: x.values.count)
    Self.forEachWindow(g) { output, window, pixel in
      guard let pixel else { return }
      for group in 0..<item.groups {
        for c in 0..<own {
          let place = (output * item.groups + group) * patches.columns + window * own + c
          #expect(patches.values[place] == x.values[pixel * item.channels + group * own + c])
          expected[pixel * item.channels + group * own + c] += Double(gradient.values[place])
        }
      }
    }
    Self.expectNear(gradient.folded(g, groups: item.groups), expected, 30)
  }

  @Test(arguments: cases) func poolingEqualsItsDefinition(_ item: Case) throws {
    let g = try #require(item.geometry), channels = item.channels
    let x = Self.random(Self.images * g.pixels, channels, "x")
    let tape = GradientTape()
    final class Keeper: GradientObserver {
      func wants(_ parameter: String) -> Bool { true }
      func receive(_ parameter: String, _ gradient: ParameterGradient) {
        if case .matrix(let value) = gradient { matrix = value }
      }
      var matrix: Matrix?
    }
    for kind in [Pooling.largest, .mean(countsPadding: false), .mean(countsPadding: true)] {
      let recorded = tape.leaf(x) { $1.receive("x", .matrix($0)) }
      let found = recorded.pooled(g, kind)
      var windows = [[Int]](repeating: [], count: Self.images * g.outPixels)
      Self.forEachWindow(g) { output, _, pixel in
        if let pixel { windows[output].append(pixel) }
      }
      let gradient = Self.random(found.rows, channels, "g")
      var expected: [Double] = [], back = [Double](repeating: 0, count: x.values.count)
      for (output, pixels) in windows.enumerated() {
        for c in 0..<channels {
          let values = pixels.map { Double(x.values[$0 * channels + c]) }
          let g0 = Double(gradient.values[output * channels + c])
          switch kind {
          case .largest:
            let best = values.indices.max { values[$0] < values[$1] } ?? 0
            expected.append(values[best])
            back[pixels[best] * channels + c] += g0
          case .mean(let countsPadding):
            let count = Double(countsPadding ? g.windowPixels : values.count)
            expected.append(values.reduce(0, +) / count)
            for pixel in pixels { back[pixel * channels + c] += g0 / count }
          }
        }
      }
      Self.expectNear(found.unrecorded, expected, 3)
      let keeper = Keeper()
      GradientRecord.walk(from: found, gradient: gradient, observer: keeper)
      Self.expectNear(try #require(keeper.matrix), back, 30)
    }
  }

  @Test func windowsThatDoNotFitAreRefused() {
    #expect(PatchGeometry(height: 2, width: 9, channels: 1, kernel: (3, 3)) == nil)
    #expect(PatchGeometry(height: 9, width: 9, channels: 1, kernel: (3, 3), stride: (0, 1)) == nil)
    #expect(
      PatchGeometry(height: 9, width: 9, channels: 1, kernel: (3, 3), dilation: (1, 5)) == nil)
    #expect(PatchGeometry(height: 9, width: 9, channels: 1 << 21, kernel: (3, 3)) == nil)
  }
}
