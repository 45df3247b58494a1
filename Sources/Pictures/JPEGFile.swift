// JPEG through TurboJPEG, whose errors are values.
//
// Source   https://libjpeg-turbo.org/Documentation/Documentation, TurboJPEG C API 2
// Checked  PictureTests: pixels equal Pillow's; hostile bytes

import CTurboJPEG
import Checkpoints

enum JPEGFile {
  static let signature: [UInt8] = [0xFF, 0xD8, 0xFF]

  static func read(_ bytes: [UInt8], path: String) throws(CheckpointError) -> Picture {
    guard let handle = unsafe tjInitDecompress() else {
      throw CheckpointError(path: path, .unsupported("JPEG: the library gives no decoder"))
    }
    defer { unsafe _ = tjDestroy(handle) }
    var width: Int32 = 0, height: Int32 = 0, sampling: Int32 = 0, colors: Int32 = 0
    let count = UInt(bytes.count)
    let header = unsafe bytes.withUnsafeBufferPointer { source in
      unsafe tjDecompressHeader3(
        handle, source.baseAddress, count, &width, &height, &sampling, &colors)
    }
    guard header == 0 else { throw unsafe failure(handle, path) }
    guard colors != TJCS_CMYK.rawValue, colors != TJCS_YCCK.rawValue else {
      throw CheckpointError(path: path, .unsupported("a JPEG of four inks; convert it to RGB"))
    }
    try Picture.checkSize(Int(width), Int(height), path: path)
    var pixels = [UInt8](repeating: 0, count: Int(width) * Int(height) * 3)
    let status = unsafe bytes.withUnsafeBufferPointer { source in
      unsafe pixels.withUnsafeMutableBufferPointer { target in
        unsafe tjDecompress2(
          handle, source.baseAddress, count, target.baseAddress, width, 0, height,
          Int32(TJPF_RGB.rawValue), TJFLAG_ACCURATEDCT)
      }
    }
    // A warning too: a file that ends early has gray where pixels are missing.
    guard status == 0 else { throw unsafe failure(handle, path) }
    return Picture(width: Int(width), height: Int(height), pixels: pixels)
  }

  private static func failure(_ handle: tjhandle, _ path: String) -> CheckpointError {
    let text = unsafe tjGetErrorStr2(handle).map { unsafe String(cString: $0) } ?? "unknown"
    return CheckpointError(
      path: path, .badValue(found: "a damaged JPEG (\(text))", expected: "a JPEG"))
  }
}
