import CKernels
import Foundation
import TestSupport
import Tensors
import Testing

/// Each kernel of one row against its definition in Double. A tolerance counts the roundings: `roundoff` is
/// the relative error of one operation; a sum of n terms in any order is off by at most n of them.
@Suite struct RowKernelTests {
  /// Numbers of all sizes that a network's activations have, and the ends of the range.
  static func samples(_ count: Int) -> [Float] {
    var stream = RandomStream(test: "activations")
    let special: [Float] = [
      0, -0.0, 1, -1, 87, -87, 88, -88, 0.999, 1.001, 1.5, -1.5, 1e-30, -1e-8,
    ]
    return (0..<count).map { index in
      index % 3 == 0 && index / 3 < special.count
        ? special[index / 3] : Float(stream.normal() * [0.1, 2, 20][index % 3])
    }
  }

  /// exp(-x) is within 2 ulp, its sum, the quotient: 6 roundings. Beyond the clamp of the exponential the
  /// result is smaller than any activation that matters.
  static func siluTolerance(_ x: Double, _ expected: Double) -> Double {
    8 * roundoff * abs(expected) + (abs(x) > 86 ? 1e-35 : 0)
  }

  @Test(arguments: kernelLengths) func silu(_ count: Int) throws {
    let x = Self.samples(count)
    let expected = x.map { Double($0) / (1 + exp(-Double($0))) }
    for offset in kernelOffsets {
      let found = try changed(x, offset: offset) { kernel_silu($0, count) }
      #expect(
        firstBeyond(found, expected) { Self.siluTolerance(Double(x[$0]), expected[$0]) } == nil)
    }
  }

  @Test(arguments: kernelLengths) func siluMultiply(_ count: Int) throws {
    let x = Self.samples(count), up = Array(Self.samples(count).reversed())
    let expected = zip(x, up).map { Double($0) / (1 + exp(-Double($0))) * Double($1) }
    for offset in kernelOffsets {
      let found = try changed(x, offset: offset) { kernel_silu_multiply($0, up, count) }
      #expect(
        firstBeyond(found, expected) {
          Self.siluTolerance(Double(x[$0]), expected[$0]) + 1e-37
        } == nil)
    }
  }

  /// erf is off by 1.5e-7 and the roundings of its polynomial; 1 + erf is taken times x / 2.
  @Test(arguments: kernelLengths) func gelu(_ count: Int) throws {
    let x = Self.samples(count)
    let expected = x.map { 0.5 * Double($0) * (1 + erf(Double($0) / 2.0.squareRoot())) }
    for offset in kernelOffsets {
      let found = try changed(x, offset: offset) { kernel_gelu($0, count) }
      #expect(
        firstBeyond(found, expected) {
          abs(Double(x[$0])) / 2 * (1.5e-7 + 8 * roundoff) + 2 * roundoff * abs(expected[$0])
        } == nil)
    }
  }

  /// The exponent 2u carries 5 roundings, which e / (1 + e)² damps to less than half of them.
  @Test(arguments: kernelLengths) func geluTanh(_ count: Int) throws {
    let x = Self.samples(count)
    let expected = x.map { x -> Double in
      let x = Double(x)
      return 0.5 * x * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    }
    for offset in kernelOffsets {
      let found = try changed(x, offset: offset) { kernel_gelu_tanh($0, count) }
      #expect(firstBeyond(found, expected) { 8 * roundoff * abs(Double(x[$0])) } == nil)
    }
  }

  @Test func geluBetweenManyPoints() throws {
    let x = (-80_000...80_000).map { Float($0) * 1e-4 }
    let found = try changed(x) { kernel_gelu($0, x.count) }
    let expected = x.map { 0.5 * Double($0) * (1 + erf(Double($0) / 2.0.squareRoot())) }
    #expect(
      firstBeyond(found, expected) {
        abs(Double(x[$0])) / 2 * (1.5e-7 + 8 * roundoff) + 2 * roundoff * abs(expected[$0])
      } == nil)
  }

  @Test(arguments: kernelLengths.dropFirst(), [1, 0.125] as [Float])
  func softmax(_ count: Int, _ scale: Float) throws {
    let x = Self.samples(count)
    let largest = x.map { Double($0) }.max() ?? 0
    let powers = x.map { exp(Double(scale) * (Double($0) - largest)) }
    let sum = powers.reduce(0, +)
    // Difference and product round the argument; the exponential turns that into a relative error.
    let errors = x.map { 3 * roundoff * abs(Double(scale) * (Double($0) - largest)) + 4 * roundoff }
    let ofSum =
      zip(powers, errors).reduce(0) { $0 + $1.0 * $1.1 } / sum + Double(count) * roundoff
    for offset in kernelOffsets {
      let found = try changed(x, offset: offset) { kernel_softmax($0, scale, count) }
      #expect(
        firstBeyond(found, powers.map { $0 / sum }) {
          powers[$0] / sum * (errors[$0] + ofSum + 3 * roundoff) + 2e-38
        } == nil)
    }
  }

  @Test func softmaxOfLargeValuesStaysFinite() throws {
    let found = try changed([3e38, -3e38, 3e38, -.infinity]) { kernel_softmax($0, 1, 4) }
    #expect(found.map { ($0 * 8).rounded() / 8 } == [0.5, 0, 0.5, 0])
    #expect(try changed([5]) { kernel_softmax($0, 1, 1) } == [1])
  }

  @Test(arguments: kernelLengths.dropFirst()) func layerNorm(_ count: Int) throws {
    var stream = RandomStream(test: "layer norm")
    let x = stream.floats(count).map { $0 + 3 }
    let weight = stream.floats(count), bias = stream.floats(count)
    let n = Double(count)
    let mean = x.reduce(0) { $0 + Double($1) } / n
    let variance = x.reduce(0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / n
    let scale = 1 / (variance + 1e-5).squareRoot()
    let expected = x.indices.map {
      (Double(x[$0]) - mean) * scale * Double(weight[$0]) + Double(bias[$0])
    }
    // The mean is off by n roundings of the mean size; so is every difference. The scale is off by half of
    // its sum's n roundings, and by the differences' error.
    let size = x.reduce(0) { $0 + abs(Double($1)) } / n
    let ofMean = (n + 2) * roundoff * size
    for offset in kernelOffsets {
      let found = try written(count, offset: offset, canary: -1) {
        kernel_layer_norm(x, 1e-5, weight, bias, $0, count)
      }
      #expect(
        firstBeyond(found, expected) { index in
          let term = abs((Double(x[index]) - mean) * scale * Double(weight[index]))
          return 2 * ofMean * scale * abs(Double(weight[index]))
            + term * ((n / 2 + 8) * roundoff + 2 * ofMean * scale)
            + 2 * roundoff * abs(expected[index])
        } == nil)
      let inPlace = try changed(x, offset: offset) {
        kernel_layer_norm($0, 1e-5, weight, bias, $0, count)
      }
      #expect(inPlace == found)
    }
  }

  @Test(arguments: kernelLengths.dropFirst()) func rmsNorm(_ count: Int) {
    var stream = RandomStream(test: "rms norm")
    let x = stream.floats(count), weight = stream.floats(count)
    let mean = x.reduce(0) { $0 + Double($1) * Double($1) } / Double(count)
    let expected = x.indices.map {
      Double(x[$0]) / (mean + 1e-6).squareRoot() * Double(weight[$0])
    }
    var found = x
    var span = found.mutableSpan
    RowKernels.rmsNorm(&span, weight: weight.span, epsilon: 1e-6)
    #expect(
      firstBeyond(found, expected) {
        (Double(count) / 2 + 8) * roundoff * abs(expected[$0])
      } == nil)
  }

  @Test(arguments: kernelLengths) func sumsAndScales(_ count: Int) throws {
    var stream = RandomStream(test: "sums")
    for offset in kernelOffsets {
      let a = stream.floats(count + offset), b = stream.floats(count + offset)
      let x = Array(a[offset...]), y = Array(b[offset...])
      let squares = x.reduce(0) { $0 + Double($1) * Double($1) }
      let n = Double(count)
      let (foundSquares, foundDot) = a.withUnsafeBufferPointer { a in
        b.withUnsafeBufferPointer { b -> (Float, Float) in
          guard let a = a.baseAddress, let b = b.baseAddress else { return (0, 0) }
          return (
            kernel_sum_of_squares(a + offset, count), kernel_dot(a + offset, b + offset, count)
          )
        }
      }
      #expect(abs(Double(foundSquares) - squares) <= n * roundoff * squares)
      let products = zip(x, y).map { Double($0) * Double($1) }
      #expect(
        abs(Double(foundDot) - products.reduce(0, +))
          <= n * roundoff * products.reduce(0) { $0 + abs($1) })
      let scaled = try written(count, offset: offset, canary: -1) {
        kernel_scale_by(x, 0.3, y, $0, count)
      }
      #expect(scaled == zip(x, y).map { $0 * 0.3 * $1 })
      let sum = try changed(y, offset: offset) { kernel_axpy(-0.7, x, $0, count) }
      let expected = zip(x, y).map { Double($1) + Double(-0.7 as Float) * Double($0) }
      #expect(
        firstBeyond(sum, expected) {
          roundoff * (0.7 * abs(Double(x[$0])) + 2 * abs(expected[$0]))
        } == nil)
    }
  }

  @Test(arguments: 0...65) func rotate(_ half: Int) throws {
    var stream = RandomStream(test: "rotation")
    let x = stream.floats(2 * half)
    let angles = (0..<half).map { _ in stream.unit() * 6 }
    let cosines = angles.map { Float(cos($0)) }, sines = angles.map { Float(sin($0)) }
    for offset in kernelOffsets {
      let found = try changed(x, offset: offset) { kernel_rotate($0, cosines, sines, half) }
      for i in 0..<half {
        let a = Double(x[i]), b = Double(x[i + half]), c = Double(cosines[i]), s = Double(sines[i])
        let allowed = 3 * roundoff * (abs(a) + abs(b))
        #expect(abs(Double(found[i]) - (a * c - b * s)) <= allowed)
        #expect(abs(Double(found[i + half]) - (b * c + a * s)) <= allowed)
      }
    }
  }
}
