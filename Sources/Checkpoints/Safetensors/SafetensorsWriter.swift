// Writes one safetensors file: header first, so the layout is planned before a byte of data exists.

import JSONDocuments
public import Tensors

/// What a safetensors file will hold: names, types and shapes, in the order of the data.
public struct SafetensorsLayout: Sendable {
  /// One tensor to come.
  public struct Item: Sendable, Equatable {
    /// The name.
    public let name: String
    /// The element type.
    public let dtype: DType
    /// The dimensions.
    public let shape: [Int]

    /// A tensor to come.
    public init(name: String, dtype: DType, shape: [Int]) {
      self.name = name
      self.dtype = dtype
      self.shape = shape
    }

    /// Its bytes.
    public var byteCount: Int { shape.reduce(dtype.byteCount, *) }
  }

  /// The tensors in the order of the data.
  public let items: [Item]
  /// The length and the header, padded with spaces so that the data starts on a multiple of 64 bytes.
  public let header: [UInt8]
  /// Bytes of the whole file.
  public let byteCount: Int

  /// Data starts on a multiple of this.
  public static let alignment = 64

  /// A layout. Metadata is written in the order given.
  ///
  /// - Parameter reserve: The header takes at least this many bytes, filled with spaces.
  public init(items: [Item], metadata: [(key: String, value: String)], reserve: Int = 0) {
    var object = JSONObject()
    var members: [JSONObject.Member] = []
    if !metadata.isEmpty {
      object = JSONObject(metadata.map { .init(key: $0.key, value: .string($0.value)) })
      members.append(.init(key: "__metadata__", value: .object(object)))
    }
    var offset = 0
    for item in items {
      members.append(
        .init(
          key: item.name,
          value: [
            "dtype": .string(item.dtype.rawValue),
            "shape": .array(item.shape.map { .integer($0) }),
            "data_offsets": [.integer(offset), .integer(offset + item.byteCount)],
          ]))
      offset += item.byteCount
    }
    var text = Array(JSONValue.object(JSONObject(members)).compactText.utf8)
    if text.count + 8 < reserve {
      text += [UInt8](repeating: 0x20, count: reserve - text.count - 8)
    }
    let rest = (8 + text.count) % Self.alignment
    if rest > 0 { text += [UInt8](repeating: 0x20, count: Self.alignment - rest) }
    var header: [UInt8] = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }
    header += text
    self.items = items
    self.header = header
    byteCount = header.count + offset
  }
}

/// Writes the tensors of a layout, one after the other.
public struct SafetensorsWriter: ~Copyable {
  private var file: OutputFile
  private let layout: SafetensorsLayout
  private var next = 0

  /// Starts the file and writes its header.
  public init(path: String, layout: SafetensorsLayout) throws(FileError) {
    var file = try OutputFile(path: path)
    try file.write(layout.header)
    self.file = file
    self.layout = layout
  }

  /// Appends the next tensor, which must have the type and shape of the layout.
  public mutating func write(_ tensor: Tensor) throws(FileError) {
    let item = layout.items[next]
    precondition(
      tensor.dtype == item.dtype && tensor.shape == item.shape,
      "\(item.name): \(tensor.dtype) \(tensor.shape) written where \(item.dtype) \(item.shape) stands"
    )
    next += 1
    let written = tensor.withBytes { span -> FileError? in
      do throws(FileError) { try file.write(span) } catch { return error }
      return nil
    }
    if let written { throw written }
  }

  /// Appends the next tensor, converted to the layout's type.
  public mutating func write(_ tensor: Tensor, as dtype: DType) throws(FileError) {
    let item = layout.items[next]
    precondition(dtype == item.dtype && tensor.shape == item.shape, item.name)
    next += 1
    try file.write(tensor, as: dtype)
  }

  /// Completes the file under its name.
  public consuming func finish() throws(FileError) {
    precondition(next == layout.items.count, "\(next) of \(layout.items.count) tensors written")
    precondition(file.byteCount == layout.byteCount)
    try file.finish()
  }
}
