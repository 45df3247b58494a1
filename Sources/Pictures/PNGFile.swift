// PNG through libpng's simplified interface, whose errors are values.
//
// Source   http://www.libpng.org/pub/png/libpng-manual.txt, section V. Differs from Pillow where a file states a gamma
//          other than sRGB's: libpng applies it
// Checked  PictureTests: pixels equal Pillow's; hostile bytes

import CPNG
import Checkpoints

enum PNGFile {
  static let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]

  static func read(_ bytes: [UInt8], path: String) throws(CheckpointError) -> Picture {
    var image = unsafe png_image()
    unsafe cpng_begin(&image)
    defer { unsafe png_image_free(&image) }
    // The header is read from the same bytes as the rest: they must stay where they are.
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { unsafe memory.deallocate() }
    unsafe memory.copyBytes(from: bytes)
    guard unsafe png_image_begin_read_from_memory(&image, memory.baseAddress, bytes.count) != 0
    else { throw unsafe failure(image, path) }
    let width = unsafe Int(image.width), height = unsafe Int(image.height)
    try Picture.checkSize(width, height, path: path)
    unsafe image.format = cpng_rgba
    // Sixteen bits without a gamma are sRGB, as eight are.
    unsafe image.flags |= png_uint_32(PNG_IMAGE_FLAG_16BIT_sRGB)
    var rgba = [UInt8](repeating: 0, count: width * height * 4)
    let isRead = unsafe rgba.withUnsafeMutableBytes { target in
      unsafe png_image_finish_read(&image, nil, target.baseAddress, 0, nil) != 0
    }
    guard isRead else { throw unsafe failure(image, path) }
    var pixels: [UInt8] = []
    pixels.reserveCapacity(width * height * 3)
    for start in stride(from: 0, to: rgba.count, by: 4) { pixels += rgba[start..<start + 3] }
    return Picture(width: width, height: height, pixels: pixels)
  }

  private static func failure(_ image: png_image, _ path: String) -> CheckpointError {
    let message = unsafe withUnsafeBytes(of: image.message) { unsafe [UInt8]($0) }
    let text = String(decoding: message.prefix { $0 != 0 }, as: UTF8.self)
    return CheckpointError(
      path: path, .badValue(found: "a damaged PNG (\(text))", expected: "a PNG"))
  }
}
