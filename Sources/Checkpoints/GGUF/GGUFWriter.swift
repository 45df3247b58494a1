// Writes a GGUF file: header first, so the layout is planned before a byte of data exists.

import Encodings
public import Tensors

/// What a GGUF file will hold.
public struct GGUFLayout: Sendable {
  /// One tensor to come.
  public struct Item: Sendable {
    /// The name, in llama.cpp's words.
    public let name: String
    /// How it will be stored.
    public let type: GGUFTensorType
    /// The dimensions, outermost first.
    public let shape: [Int]

    /// A tensor to come; the rows of blocks divide into them.
    public init(name: String, type: GGUFTensorType, shape: [Int]) {
      precondition(type.rowBytes(shape.last ?? 1) != nil, "\(name): \(shape)")
      self.name = name
      self.type = type
      self.shape = shape
    }

    /// Its bytes.
    public var byteCount: Int {
      shape.dropLast().reduce(type.rowBytes(shape.last ?? 1) ?? 0, *)
    }
  }

  /// The tensors in the order of the data.
  public let items: [Item]
  /// Everything before the data, filled up to the alignment.
  public let header: [UInt8]
  /// Bytes of the whole file.
  public let byteCount: Int

  /// A layout of version 3.
  public init(items: [Item], metadata: GGUFMetadata) {
    var header = GGUFHeader.magic
    header.append(UInt32(3))
    header.append(UInt64(items.count))
    header.append(UInt64(metadata.keys.count))
    header += metadata.encoded
    var offset = 0
    for item in items {
      header.append(UInt64(item.name.utf8.count))
      header += Array(item.name.utf8)
      header.append(UInt32(item.shape.count))
      for dimension in item.shape.reversed() { header.append(UInt64(dimension)) }
      header.append(item.type.number)
      header.append(UInt64(offset))
      offset += Self.padded(item.byteCount)
    }
    header += [UInt8](repeating: 0, count: Self.padded(header.count) - header.count)
    self.items = items
    self.header = header
    byteCount = header.count + offset
  }

  /// Bytes with the filling after them.
  static func padded(_ bytes: Int) -> Int {
    (bytes + GGUFHeader.usualAlignment - 1) / GGUFHeader.usualAlignment
      * GGUFHeader.usualAlignment
  }
}

/// Writes the tensors of a layout, one after the other.
public struct GGUFWriter: ~Copyable {
  private var file: OutputFile
  private let layout: GGUFLayout
  private var next = 0

  /// Starts the file and writes its header.
  public init(path: String, layout: GGUFLayout) throws(FileError) {
    var file = try OutputFile(path: path)
    try file.write(layout.header)
    self.file = file
    self.layout = layout
  }

  /// Appends the next tensor: the numbers or blocks of the layout.
  public mutating func write(_ tensor: Tensor) throws(FileError) {
    let item = layout.items[next]
    next += 1
    if case .plain(let dtype) = item.type {
      try file.write(tensor, as: dtype)
    } else {
      try file.write(tensor, as: .uint8)
    }
    let filling = GGUFLayout.padded(item.byteCount) - item.byteCount
    precondition(file.byteCount % GGUFHeader.usualAlignment == item.byteCount % 32, item.name)
    try file.write([UInt8](repeating: 0, count: filling))
  }

  /// Completes the file under its name.
  public consuming func finish() throws(FileError) {
    precondition(next == layout.items.count, "\(next) of \(layout.items.count) tensors written")
    precondition(file.byteCount == layout.byteCount)
    try file.finish()
  }
}
