// From a picture to the numbers that a network reads, as a checkpoint's preprocessor_config.json says.
//
// Source   the image processors of transformers: resize, crop the middle, rescale, normalize, in this order
// Checked  PicturePreparationTests: equal to transformers' image processors over Pillow

public import Checkpoints
public import JSONDocuments

/// The steps before a vision network.
public struct PicturePreparation: Sendable, Equatable {
  /// The size that a picture gets first.
  public enum Size: Sendable, Equatable {
    /// Both sides.
    case exactly(width: Int, height: Int)
    /// The shorter side; the other follows.
    case shortestEdge(Int)
  }

  /// nil where pictures keep their size.
  public let size: Size?
  /// How they get it.
  public let resampling: Resampling
  /// The part from the middle that is kept; nil for all.
  public let crop: (width: Int, height: Int)?
  /// What each byte is multiplied by.
  public let scale: Float
  /// Of each channel: `(x · scale − mean) / deviation`.
  public let mean, deviation: [Float]

  /// Whether the steps are the same.
  public static func == (left: PicturePreparation, right: PicturePreparation) -> Bool {
    left.size == right.size && left.resampling == right.resampling
      && left.crop.map { [$0.width, $0.height] } == right.crop.map { [$0.width, $0.height] }
      && left.scale == right.scale && left.mean == right.mean && left.deviation == right.deviation
  }

  /// Reads a configuration.
  ///
  /// - Parameter path: What errors call it.
  public init(_ json: JSONValue, path: String) throws(CheckpointError) {
    func wrong(_ key: String, _ expected: String) -> CheckpointError {
      CheckpointError(
        path: path, tensor: key,
        .badValue(found: json[key]?.compactText ?? "nothing", expected: expected))
    }
    func flag(_ key: String, _ standard: Bool) throws(CheckpointError) -> Bool {
      guard let value = json[key], !value.isNull else { return standard }
      guard let flag = value.bool else { throw wrong(key, "true or false") }
      return flag
    }
    func side(_ value: JSONValue?) -> Int? {
      value?.integer.flatMap { (1...1 << 14).contains($0) ? $0 : nil }
    }
    func both(_ key: String) throws(CheckpointError) -> (width: Int, height: Int)? {
      if let edge = side(json[key]) { return (edge, edge) }
      guard let width = side(json[key]?["width"]), let height = side(json[key]?["height"]) else {
        return nil
      }
      return (width, height)
    }
    if try flag("do_resize", true) {
      if let edge = side(json["size"]?["shortest_edge"]) {
        size = .shortestEdge(edge)
      } else if let (width, height) = try both("size") {
        size = .exactly(width: width, height: height)
      } else {
        throw wrong("size", "height and width, or shortest_edge")
      }
    } else {
      size = nil
    }
    let number = json["resample"].flatMap { $0.isNull ? nil : $0 }
    guard let filter = number.map({ $0.integer.flatMap(Resampling.init) }) ?? .bilinear else {
      throw wrong("resample", "0 to 5")
    }
    resampling = filter
    if try flag("do_center_crop", false) {
      guard let part = try both("crop_size") else { throw wrong("crop_size", "height and width") }
      crop = part
    } else {
      crop = nil
    }
    scale = try flag("do_rescale", true) ? Float(json["rescale_factor"]?.number ?? 1 / 255) : 1
    func channels(_ key: String) throws(CheckpointError) -> [Float] {
      let values = json[key]?.array?.compactMap(\.number) ?? []
      guard values.count == 3 else { throw wrong(key, "three numbers") }
      return values.map { Float($0) }
    }
    if try flag("do_normalize", true) {
      mean = try channels("image_mean")
      deviation = try channels("image_std")
      guard deviation.allSatisfy({ $0 > 0 }) else { throw wrong("image_std", "numbers above 0") }
    } else {
      mean = [0, 0, 0]
      deviation = [1, 1, 1]
    }
  }

  /// The numbers of a picture, `[height, width, 3]`.
  public func values(of picture: Picture) -> (width: Int, height: Int, values: [Float]) {
    let picture = cropped(sized(picture))
    let values = picture.pixels.enumerated().map { index, byte in
      (Float(byte) * scale - mean[index % 3]) / deviation[index % 3]
    }
    return (picture.width, picture.height, values)
  }

  private func sized(_ picture: Picture) -> Picture {
    switch size {
    case nil: return picture
    case .exactly(let width, let height):
      return picture.resized(width: width, height: height, resampling)
    case .shortestEdge(let edge):
      let short = min(picture.width, picture.height), long = max(picture.width, picture.height)
      let other = edge * long / short
      return picture.width <= picture.height
        ? picture.resized(width: edge, height: other, resampling)
        : picture.resized(width: other, height: edge, resampling)
    }
  }

  /// The middle; black where the picture is smaller.
  private func cropped(_ picture: Picture) -> Picture {
    guard let crop else { return picture }
    // Python rounds both halves down; what is added on a smaller side starts at half of it, rounded up.
    func offset(_ size: Int, _ wanted: Int) -> Int {
      size >= wanted ? (size - wanted) / 2 : -((wanted - size + 1) / 2)
    }
    let top = offset(picture.height, crop.height), left = offset(picture.width, crop.width)
    var pixels = [UInt8](repeating: 0, count: crop.width * crop.height * 3)
    for row in 0..<crop.height where (0..<picture.height).contains(row + top) {
      for column in 0..<crop.width where (0..<picture.width).contains(column + left) {
        let from = ((row + top) * picture.width + column + left) * 3
        let to = (row * crop.width + column) * 3
        for channel in 0..<3 { pixels[to + channel] = picture.pixels[from + channel] }
      }
    }
    return Picture(width: crop.width, height: crop.height, pixels: pixels)
  }
}
