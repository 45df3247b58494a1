import Checkpoints
import Encodings
import JSONDocuments
import Tensors
import TestSupport
import Testing

@Suite struct WeightManifestTests {
  private static func problem(_ text: String) throws -> CheckpointError.Problem? {
    let json = try JSONValue(parsing: text)
    do throws(CheckpointError.Problem) {
      _ = try WeightManifest(json: json)
      return nil
    } catch {
      return error
    }
  }

  private static func weight(_ members: String) -> String {
    #"{"version":1,"weights":{"w":{\#(members)}}}"#
  }

  @Test func readsWhatItWrites() throws {
    let encoding = GroupIntegers(bits: 3, grouping: .columns(64), isSymmetric: true)
    let manifest = WeightManifest([
      .init(name: "b", encoding: encoding, outputs: 3, inputs: 70, method: "gptq"),
      .init(name: "a", encoding: PlainFloats(.bfloat16), outputs: 0, inputs: 1, method: "rtn"),
    ])
    let read = try WeightManifest(json: try JSONValue(parsing: manifest.json.compactText))
    #expect(read.json == manifest.json)
    #expect(read.entries.map(\.name) == ["b", "a"])
    #expect(read["b"]?.encoding.name == "int3-g64-sym" && read["b"]?.inputs == 70)
    #expect(read["c"] == nil)
  }

  @Test func damagedManifests() throws {
    let cases: [(String, CheckpointError.Problem)] = [
      ("{}", .missing(key: "condense.version", expected: "an integer")),
      (
        #"{"version":2}"#, .unsupported("version 2 of the weight manifest (this program reads 1)")
      ),
      (#"{"version":1}"#, .missing(key: "condense.weights", expected: "an object")),
      (
        #"{"version":1,"weights":{"w":3}}"#,
        .missing(key: "condense.weights.w.encoding", expected: "a string")
      ),
      (Self.weight(#""encoding":"int9-g32""#), .unsupported("the encoding 'int9-g32' of 'w'")),
      (
        Self.weight(#""encoding":"f32","shape":[1]"#),
        .missing(key: "condense.weights.w.shape", expected: "two integers")
      ),
      (
        Self.weight(#""encoding":"f32","shape":[1,-1],"method":"m""#),
        .missing(key: "condense.weights.w.shape", expected: "two integers")
      ),
      (
        Self.weight(#""encoding":"f32","shape":[1,2]"#),
        .missing(key: "condense.weights.w.method", expected: "a string")
      ),
      (
        Self.weight(#""encoding":"f64","shape":[2147483647,2147483647],"method":"m""#),
        .badShape([2_147_483_647, 2_147_483_647])
      ),
    ]
    for (text, expected) in cases { #expect(try Self.problem(text) == expected, "\(text)") }
  }

  /// A manifest that claims more than the file holds is refused when the weight is used, and its sizes can
  /// be computed without overflow.
  @Test func sizesThatTheFileDoesNotHave() throws {
    let folder = try TemporaryFolder()
    try OutputFile.write("{}", to: folder.file("config.json"))
    for (name, shape, part) in [
      ("f64", "[2147483647,67108863]", "w"), ("int4-g32", "[2147483647,67108863]", "w:codes"),
      ("int8-channel", "[3,1]", "w:codes"),
    ] {
      let text = Self.weight(#""encoding":"\#(name)","shape":\#(shape),"method":"m""#)
      let layout = SafetensorsLayout(
        items: [.init(name: part, dtype: .float64, shape: [3])],
        metadata: [(WeightManifest.metadataKey, text)])
      var writer = try SafetensorsWriter(path: folder.file("model.safetensors"), layout: layout)
      try writer.write(Tensor(.float64, shape: [3], copying: [1, 2, 3] as [Double]))
      try writer.finish()
      let checkpoint = try CheckpointFolder(path: folder.path)
      #expect(checkpoint.logicalTensors.map(\.name) == ["w"])
      #expect(checkpoint.logicalTensors[0].bitsPerWeight > 0)
      let entry = try #require(checkpoint.manifest["w"])
      #expect(throws: CheckpointError.self) {
        try checkpoint.weight("w", outputs: entry.outputs, inputs: entry.inputs)
      }
      #expect(throws: CheckpointError.self) { try checkpoint.weight("w", outputs: 1, inputs: 3) }
    }
  }

  @Test func metadataThatIsNoJSON() throws {
    #expect(throws: CheckpointError.self) {
      try WeightManifest(metadata: ["condense": "{"], path: "x")
    }
    #expect(try WeightManifest(metadata: ["other": "{"], path: "x").entries.isEmpty)
  }
}
