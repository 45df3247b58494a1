import Checkpoints
import JSONDocuments
import Tensors
import TestSupport
import Testing

@Suite struct SafetensorsWriterTests {
  static let fixture = TestData.fixtures + "/safetensors/all-types.safetensors"

  private static func bytes(_ tensor: Tensor) -> [UInt8] {
    tensor.withBytes { $0.withUnsafeBytes { [UInt8]($0) } }
  }

  /// What the `safetensors` package wrote, in its order.
  @Test(arguments: DType.allCases) func anotherWritersFile(_ dtype: DType) throws {
    let file = try SafetensorsFile(path: Self.fixture)
    let tensor = try #require(file.tensor("tensor \(dtype.rawValue)"))
    #expect(tensor.dtype == dtype && tensor.shape == [2, 3])
    #expect(
      tensor.floats() == (dtype == .bool ? [0, 1, 0, 1, 0, 1] : [1, 8, 15, 22, 29, 36]))
    #expect(file.tensor("scalar")?.floats() == [1.5])
    #expect(file.tensor("scalar")?.shape == [])
    #expect(file.tensor("empty")?.shape == [0, 4])
    #expect(file.tensor("naïve \"quoted\" \\ 名")?.integers() == [7])
    #expect(file.header.metadata == ["line\nbreak": "ü \"\\ \t"])
    #expect(file.tensor("none") == nil)
  }

  /// The same tensors written by us: the same JSON and the same data; only the filling between differs.
  @Test func theSameBytesAsAnotherWriter() throws {
    let source = try SafetensorsFile(path: Self.fixture)
    let folder = try TemporaryFolder()
    let layout = SafetensorsLayout(
      items: source.header.entries.map { .init(name: $0.name, dtype: $0.dtype, shape: $0.shape) },
      metadata: source.header.metadata.map { ($0.key, $0.value) })
    var writer = try SafetensorsWriter(path: folder.file("m"), layout: layout)
    for name in source.tensorNames { try writer.write(try #require(source.tensor(name))) }
    try writer.finish()
    let theirs = try FilePath.read(Self.fixture), ours = try FilePath.read(folder.file("m"))
    let written = try SafetensorsFile(path: folder.file("m"))
    #expect(written.header.dataStart % 64 == 0 && ours.count == layout.byteCount)
    func header(_ bytes: [UInt8], _ file: SafetensorsFile) -> String {
      let text = String(decoding: bytes[8..<file.header.dataStart], as: UTF8.self)
      return String(text.reversed().drop { $0 == " " }.reversed())
    }
    #expect(header(ours, written) == header(theirs, source))
    #expect(ours[written.header.dataStart...] == theirs[source.header.dataStart...])
    #expect(written.header.entries == source.header.entries)
    #expect(written.header.metadata == source.header.metadata)
  }

  @Test func roundTrips() throws {
    let folder = try TemporaryFolder()
    var stream = RandomStream(test: "round trip")
    for count in [0, 1, 2, 9] {
      var tensors: [(name: String, tensor: Tensor)] = []
      for index in 0..<count {
        let shape = (0..<stream.integer(below: 4)).map { _ in stream.integer(below: 5) }
        let dtype = DType.allCases[stream.integer(below: DType.allCases.count)]
        let bytes = (0..<shape.reduce(dtype.byteCount, *)).map { _ in
          UInt8(truncatingIfNeeded: stream.next())
        }
        tensors.append(("t\(index)", Tensor(dtype, shape: shape, copying: bytes)))
      }
      let layout = SafetensorsLayout(
        items: tensors.map { .init(name: $0.name, dtype: $0.tensor.dtype, shape: $0.tensor.shape) },
        metadata: count % 2 == 0 ? [] : [("a", "1"), ("b", "\u{1F600}\u{0}")])
      #expect(layout.header.count % 64 == 0)
      var writer = try SafetensorsWriter(path: folder.file("m"), layout: layout)
      for (_, tensor) in tensors { try writer.write(tensor) }
      try writer.finish()
      let file = try SafetensorsFile(path: folder.file("m"))
      #expect(file.tensorNames.sorted() == tensors.map(\.name))
      #expect(file.header.metadata == (count % 2 == 0 ? [:] : ["a": "1", "b": "\u{1F600}\u{0}"]))
      #expect(file.byteCount == layout.byteCount)
      for (name, tensor) in tensors {
        let found = try #require(file.tensor(name))
        #expect(found.dtype == tensor.dtype && found.shape == tensor.shape)
        #expect(Self.bytes(found) == Self.bytes(tensor))
      }
    }
  }

  /// A writer that is given up leaves nothing.
  @Test func unfinishedFiles() throws {
    let folder = try TemporaryFolder()
    let layout = SafetensorsLayout(
      items: [.init(name: "a", dtype: .uint8, shape: [3])], metadata: [])
    do { _ = try SafetensorsWriter(path: folder.file("m"), layout: layout) }
    #expect(try FilePath.names(in: folder.path) == [])
  }
}
