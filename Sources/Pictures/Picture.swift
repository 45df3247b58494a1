// A picture in memory, and the files that it comes from.

public import Checkpoints
import Tensors

/// Pixels of eight bits in red, green and blue.
public struct Picture: Sendable, Equatable {
  /// Columns.
  public let width: Int
  /// Rows.
  public let height: Int
  /// `[height, width, 3]`.
  public let pixels: [UInt8]

  /// Pixels of a larger picture are not allocated: a file of a few bytes can claim any size.
  static let pixelLimit = 1 << 27

  /// A picture of given pixels.
  public init(width: Int, height: Int, pixels: [UInt8]) {
    precondition(
      pixels.count == width * height * 3, "\(pixels.count) bytes of \(width) x \(height)")
    self.width = width
    self.height = height
    self.pixels = pixels
  }

  /// Reads a PNG or a JPEG file; its content says which it is.
  ///
  /// Grays and palettes become colors, transparency is left out, and the orientation that a camera notes is not applied:
  /// as Pillow's `convert("RGB")`.
  /// - Throws: `FileError` when the file cannot be read, `CheckpointError` for what is in it.
  public init(path: String) throws {
    try self.init(decoding: try FilePath.read(path), path: path)
  }

  /// Reads the bytes of a PNG or a JPEG file.
  ///
  /// - Parameter path: What errors call it.
  public init(decoding bytes: [UInt8], path: String) throws(CheckpointError) {
    if bytes.starts(with: PNGFile.signature) {
      self = try PNGFile.read(bytes, path: path)
    } else if bytes.starts(with: JPEGFile.signature) {
      self = try JPEGFile.read(bytes, path: path)
    } else {
      throw CheckpointError(
        path: path, .unknownFormat(known: ["PNG", "JPEG"], start: Array(bytes.prefix(8))))
    }
  }

  static func checkSize(_ width: Int, _ height: Int, path: String) throws(CheckpointError) {
    let (count, isTooLarge) = width.multipliedReportingOverflow(by: height)
    guard width > 0, height > 0, !isTooLarge, count <= pixelLimit else {
      throw CheckpointError(
        path: path,
        .badValue(
          found: "a picture of \(width) x \(height)", expected: "1 to \(pixelLimit) pixels"))
    }
  }
}
