import Encodings
import Tensors
import TestSupport
import Testing

@Suite struct RepairedTests {
  /// A matrix of codes of a base, from random bytes where any mean something, and factors.
  static func sample(
    _ base: any WeightEncoding, outputs: Int, inputs: Int, rank: Int
  ) throws -> (encoded: EncodedMatrix, base: EncodedMatrix) {
    var stream = RandomStream(test: "repaired \(base.name)")
    let parts = base.parts(outputs: outputs, inputs: inputs).map { part in
      let count = part.shape.reduce(1, *)
      return part.dtype == .uint8
        ? Tensor(
          .uint8, shape: part.shape,
          copying: (0..<count).map { _ in UInt8(stream.integer(below: 256)) })
        : Tensor(.float32, shape: part.shape, copying: stream.floats(count, deviation: 0.25))
          .converted(to: part.dtype)
    }
    let quantized =
      base is GGUFBlocks
      ? GGUFBlocks(.q4_K).encode(
        stream.matrix(rows: outputs, columns: inputs), importance: nil)
      : EncodedMatrix(encoding: base, outputs: outputs, inputs: inputs, parts: parts)
    let repaired = try #require(Repaired(base, rank: rank))
    let encoded = repaired.encode(
      quantized, left: stream.matrix(rows: outputs, columns: rank),
      right: stream.matrix(rows: rank, columns: inputs))
    return (encoded, quantized)
  }

  static let bases: [(base: any WeightEncoding, inputs: Int)] = [
    (GroupIntegers(bits: 3, grouping: .columns(32), isSymmetric: false), 77),
    (GroupIntegers(bits: 4, grouping: .channel, isSymmetric: true), 33),
    (LevelGroups(.nf4, grouping: .columns(16)), 50), (GGUFBlocks(.q4_K), 256),
  ]

  /// Rows and products are those of base and factors, in Double.
  @Test(arguments: bases.indices, [1, 5])
  func decodesAndMultipliesTheSum(_ index: Int, rank: Int) throws {
    let (base, inputs) = Self.bases[index], outputs = 37
    let (encoded, quantized) = try Self.sample(base, outputs: outputs, inputs: inputs, rank: rank)
    let factors = encoded.parts.suffix(2).map { $0.floats().map(Double.init) }
    let left = factors[0], right = factors[1]
    let own = quantized.matrix.decoded().values
    func weight(_ row: Int, _ column: Int) -> Double {
      (0..<rank).reduce(Double(own[row * inputs + column])) {
        $0 + left[row * rank + $1] * right[$1 * inputs + column]
      }
    }
    let decoded = encoded.matrix.decoded()
    for row in 0..<outputs {
      for column in 0..<inputs {
        let expected = weight(row, column)
        let found = Double(decoded.values[row * inputs + column])
        #expect(abs(found - expected) < 1e-5 * (10 + abs(expected)))
      }
    }
    var stream = RandomStream(test: "inputs")
    for tokens in [1, 3, 40] {
      let x = stream.matrix(rows: tokens, columns: inputs)
      let found = encoded.matrix.apply(to: x)
      for token in 0..<tokens {
        for row in 0..<outputs {
          var expected = 0.0, size = 0.0
          for column in 0..<inputs {
            let product = weight(row, column) * Double(x.values[token * inputs + column])
            expected += product
            size += abs(product)
          }
          let value = Double(found.values[token * outputs + row])
          #expect(abs(value - expected) < 1e-5 * (1 + size))
        }
      }
    }
    let more = 2 * rank * (outputs + inputs)
    #expect(
      encoded.encoding.byteCount(outputs: outputs, inputs: inputs)
        == base.byteCount(outputs: outputs, inputs: inputs) + more)
    #expect(encoded.matrix.storedBits == quantized.matrix.storedBits + 8 * more)
  }

  /// The base says what is wrong with its parts.
  @Test func partsAndNames() throws {
    let encoding = try #require(
      EncodingRegistry.encoding(named: "int3-g64+r16-f16") as? Repaired)
    #expect(encoding.base.name == "int3-g64" && encoding.rank == 16)
    #expect(encoding.name == "int3-g64+r16-f16" && encoding.exactFloats == nil)
    #expect(
      encoding.parts(outputs: 8, inputs: 70).map(\.suffix)
        == [":codes", ":scales", ":zeros", ":left", ":right"])
    #expect(
      encoding.parts(outputs: 8, inputs: 70).suffix(2).map(\.shape) == [[8, 16], [16, 70]])
    for name in ["nf4-g64+r1-f16", "fp8-channel+r32-f16", "Q4_K+r8-f16", "int2-channel-sym+r5-f16"]
    {
      #expect(EncodingRegistry.encoding(named: name)?.name == name)
    }
    #expect(EncodingRegistry.encoding(named: "Q4_K+r8-f16")?.columnMultiple == 256)
    for name in [
      "int3-g64+r0-f16", "int3-g64+r016-f16", "int3-g64+r-1-f16", "int3-g64+r+1-f16",
      "int3-g64+r16-f32", "int3-g64+r16", "int3-g64+16-f16", "int3-g64+r2000000-f16",
      "int3-g64+r8-f16+r8-f16", "f16+r8-f16", "w8a8+r8-f16", "low-rank-8-f16+r8-f16", "ec+r8-f16",
      "+r8-f16", "int3-g64+", "int3-g64+r99999999999999999999-f16",
    ] { #expect(EncodingRegistry.encoding(named: name) == nil, "\(name)") }
    #expect(Repaired(PlainFloats(.float16), rank: 4) == nil)
  }
}
