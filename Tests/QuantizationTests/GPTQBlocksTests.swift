import CKernels
import Encodings
import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import Quantization

/// GPTQ into ggml's blocks: against the recurrence in Double, and by what it is for.
@Suite struct GPTQBlocksTests {
  static let types = GGUFBlockType.allCases
  static let codebooks: [GGUFBlockType] = [
    .iq1_s, .iq1_m, .iq2_xxs, .iq2_xs, .iq2_s, .iq3_xxs, .iq3_s,
  ]

  /// Inputs that go together, as neurons do: a few common causes, neighbours alike, unequal sizes.
  private static func moment(_ size: Int, _ stream: inout RandomStream) -> DoubleMatrix {
    let samples = 3 * size, causes = 12
    let mixing = stream.matrix(rows: causes, columns: size)
    let sizes = stream.floats(size).map { 0.3 + abs($0) }
    var values = [Double](repeating: 0, count: size * size)
    for _ in 0..<samples {
      let cause = stream.floats(causes)
      var x = stream.floats(size)
      for j in 0..<size {
        for c in 0..<causes { x[j] += cause[c] * mixing.values[c * size + j] * 0.7 }
        if j > 0 { x[j] += 0.5 * x[j - 1] }
      }
      for j in 0..<size { x[j] *= sizes[j] }
      for i in 0..<size {
        for j in 0..<size { values[i * size + j] += Double(x[i] * x[j]) / Double(samples) }
      }
    }
    return DoubleMatrix(size: size, values: values)
  }

  private static let shared: (moment: DoubleMatrix, weight: Matrix) = {
    var stream = RandomStream(test: "GPTQ blocks")
    let moment = Self.moment(512, &stream)
    return (moment, stream.matrix(rows: 37, columns: 512, deviation: 0.04))
  }()

  /// The second moment of the first inputs alone.
  private static func moment(first size: Int) -> DoubleMatrix {
    let values = shared.moment.values
    return DoubleMatrix(
      size: size, values: (0..<size * size).map { values[$0 / size * 512 + $0 % size] })
  }

  private static func bytes(_ encoded: EncodedMatrix) -> [UInt8] {
    encoded.parts[0].withBytes { $0.withUnsafeBytes { [UInt8]($0) } }
  }

  /// The output error falls well below that of rounding which knows H's diagonal.
  @Test(arguments: types) func errorsFall(_ type: GGUFBlockType) throws {
    let (moment, weight) = Self.shared
    let encoding = GGUFBlocks(type)
    let rounded = try RTN().quantize(weight, moment: moment, encoding: encoding)
    let result = try GPTQ().quantize(weight, moment: moment, encoding: encoding)
    // The FP4 formats' scales are coarse, and Q1_0 has one size for 128 columns.
    #expect(result.relativeError < 0.6 * rounded.relativeError, "\(type)")
    #expect(result.isOutputError && result.fallbacks == 0 && result.method == .gptq)
  }

  /// Each value is the nearest that its block's scales offer, to the weight that the recurrence of Algorithm 1, run in
  /// Double over the decoded values, has there.
  @Test(arguments: types.filter { !codebooks.contains($0) })
  func everyCodeFollowsTheRecurrence(_ type: GGUFBlockType) throws {
    let (moment, weight) = Self.shared
    let columns = weight.columns
    let encoding = GGUFBlocks(type)
    let encoded = try GPTQ().quantize(weight, moment: moment, encoding: encoding).encoded
    let decoded = encoded.matrix.decoded()
    let mean = moment.diagonal.reduce(0, +) / Double(columns)
    let u = try inverseFactor(of: moment, damping: 0.01 * mean).values
    let bytes = Self.bytes(encoded), rowBytes = encoding.rowBytes(inputs: columns)
    let codeCount = [
      GGUFBlockType.q8_0: 256, .q6_K: 64, .q5_0: 32, .q5_1: 32, .q5_K: 32, .q3_K: 8, .q2_K: 4,
      .q2_0: 4, .tq1_0: 3, .tq2_0: 3, .q1_0: 2,
    ][type, default: 16]
    for row in [0, 15, 16, 36] {
      // What the blocks offer: [codes, columns].
      var offers: [[Float]] = []
      for code in 0..<codeCount where type != .q8_0 || code != 128 {  // -128 is left out
        var offer: [Float] = []
        for block in 0..<columns / type.blockColumns {
          let start = row * rowBytes + block * type.blockBytes
          var codes = kernel_gguf_codes()
          kernel_gguf_unpack(type.rawValue, Array(bytes[start..<start + type.blockBytes]), &codes)
          withUnsafeMutableBytes(of: &codes.level) { level in
            for column in 0..<256 { level[column] = UInt8(code) }
          }
          var values = [Float](repeating: 0, count: type.blockColumns)
          kernel_gguf_values(type.rawValue, &codes, nil, &values)
          offer += values
        }
        offers.append(offer)
      }
      var w = weight.row(row).map(Double.init)
      for j in 0..<columns {
        let q = Double(decoded.values[row * columns + j])
        let nearest = offers.map { abs(w[j] - Double($0[j])) }.min() ?? 0
        try #require(abs(w[j] - q) <= nearest + 2e-5, "row \(row), column \(j)")
        let error = (w[j] - q) / u[j * columns + j]
        for k in j..<columns { w[k] -= error * u[j * columns + k] }
      }
    }
  }

  /// A group's price |e C⁻¹|², summed over all groups, is tr(D (H + damping) Dᵀ); no other point of the codebook with the
  /// same signs makes the price of its group lower.
  @Test(arguments: [GGUFBlockType.iq2_xxs, .iq3_s, .iq1_m])
  func everyPointIsTheCheapest(_ type: GGUFBlockType) throws {
    let (moment, weight) = Self.shared
    let columns = weight.columns, row = 20
    let encoding = GGUFBlocks(type)
    let encoded = try GPTQ().quantize(weight, moment: moment, encoding: encoding).encoded
    let decoded = encoded.matrix.decoded().row(row)
    let mean = moment.diagonal.reduce(0, +) / Double(columns)
    let u = try inverseFactor(of: moment, damping: 0.01 * mean).values
    let points = type == .iq1_m ? 2048 : type == .iq3_s ? 512 : 256
    let width = type == .iq3_s ? 4 : 8
    let bytes = Self.bytes(encoded), rowBytes = encoding.rowBytes(inputs: columns)
    func price(_ w: [Double], _ first: Int, _ values: (Int) -> Double) -> Double {
      var w = w, sum = 0.0
      for j in first..<first + width {
        let error = (w[j] - values(j)) / u[j * columns + j]
        for k in j..<first + width { w[k] -= error * u[j * columns + k] }
        sum += error * error
      }
      return sum
    }
    var w = weight.row(row).map(Double.init)
    for first in stride(from: 0, to: columns, by: width) {
      let own = price(w, first) { Double(decoded[$0]) }
      let start = row * rowBytes + first / 256 * type.blockBytes
      var codes = kernel_gguf_codes()
      kernel_gguf_unpack(type.rawValue, Array(bytes[start..<start + type.blockBytes]), &codes)
      // Every 7th point is enough to catch a search that is wrong.
      for point in stride(from: first % 7, to: points, by: 7) {
        withUnsafeMutableBytes(of: &codes.index) { index in
          index.storeBytes(
            of: UInt16(point), toByteOffset: first % 256 / width * 2, as: UInt16.self)
        }
        let values = Self.decode(type, codes)
        let other = price(w, first) { Double(values[$0 % 256]) }
        try #require(own <= other * (1 + 1e-3) + 1e-9, "column \(first), point \(point)")
      }
      for j in first..<first + width {
        let error = (w[j] - Double(decoded[j])) / u[j * columns + j]
        for k in j..<columns { w[k] -= error * u[j * columns + k] }
      }
    }
  }

  private static func decode(_ type: GGUFBlockType, _ codes: kernel_gguf_codes) -> [Float] {
    var codes = codes
    var block = [UInt8](repeating: 0, count: type.blockBytes)
    kernel_gguf_pack(type.rawValue, &codes, &block)
    let tensor = Tensor(.uint8, shape: [1, type.blockBytes], copying: block)
    return GGUFBlocks(type).matrix(outputs: 1, inputs: 256, parts: [tensor]).decoded().values
  }

  /// Threads and the other rows change nothing; rows that fill no tile and panels that fill no block are rounded too.
  @Test(arguments: types) func bytesAreReproducible(_ type: GGUFBlockType) throws {
    var stream = RandomStream(test: "ragged")
    let columns = type.blockColumns == 256 ? 512 : 256 + 128
    let moment = Self.moment(first: columns)
    let weight = stream.matrix(rows: 131, columns: columns, deviation: 0.02)
    let encoding = GGUFBlocks(type)
    let once = try withThreads(1) {
      Self.bytes(try GPTQ().quantize(weight, moment: moment, encoding: encoding).encoded)
    }
    let twice = try withThreads(2) {
      Self.bytes(try GPTQ().quantize(weight, moment: moment, encoding: encoding).encoded)
    }
    #expect(once == twice)
  }

  /// Inputs that are never seen, weights of any size: finite values, no trap.
  @Test(arguments: types) func limits(_ type: GGUFBlockType) throws {
    var stream = RandomStream(test: "limits")
    let columns = 256
    var moment = Self.moment(first: columns)
    for dead in [0, 100, 255] {
      for j in 0..<columns {
        moment.values[dead * columns + j] = 0
        moment.values[j * columns + dead] = 0
      }
    }
    let normal = stream.floats(columns)
    let rows = [1, 0, 1e-30, 1e6, 1e30].map { size in normal.map { $0 * size } }
    let weight = Matrix(
      rows: 6, columns: columns,
      values: rows.flatMap { $0 } + normal.map { _ in 0.5 })
    let result = try GPTQ().quantize(weight, moment: moment, encoding: GGUFBlocks(type))
    let values = result.encoded.matrix.decoded()
    #expect(values.values.allSatisfy { $0.isFinite })
    #expect(type == .q1_0 || values.row(1).allSatisfy { $0 == 0 })
    #expect(result.deadInputs == 3)
  }

  /// Without correlations there is nothing to push: as good as the encoder, whose errors are those of the weights.
  @Test(arguments: types) func identity(_ type: GGUFBlockType) throws {
    var stream = RandomStream(test: "identity")
    let weight = stream.matrix(rows: 32, columns: 256, deviation: 0.02)
    var identity = DoubleMatrix(size: 256)
    for j in 0..<256 { identity.values[j * 257] = 1 }
    let rounded = try RTN().quantize(weight, moment: identity, encoding: GGUFBlocks(type))
    let result = try GPTQ().quantize(weight, moment: identity, encoding: GGUFBlocks(type))
    #expect(result.relativeError <= 1.02 * rounded.relativeError)
  }
}
