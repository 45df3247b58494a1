// Sound files as one array of samples: Whisper's features.

import Checkpoints
import Speech
import Tensors

/// Sounds as the rows of an array.
public struct FeatureArray {
  /// The files, in the order of the samples.
  public let files: [String]
  private let features: LogMel

  /// - Parameters:
  ///   - paths: WAV files, and folders whose `.wav` files are taken by name.
  ///   - bands: Of a frame.
  ///   - seconds: Of a sound, which is cut or filled with silence.
  public init(paths: [String], bands: Int, seconds: Int) throws {
    files = try SampleFiles.find(
      paths, endings: [".wav"], found: "a folder without sounds", expected: "WAV files")
    features = LogMel(bands: bands, frames: 100 * seconds)
  }

  /// Writes `[files, frames, bands]` in float32, a hundred frames a second, a sound at a time.
  ///
  /// - Returns: The dimensions.
  public func write(to path: String, progress: (Double) -> Void = { _ in }) throws -> [Int] {
    let shape = [files.count, features.frames, features.bands]
    try NumPyFile.write(shape: shape, to: path) { index in
      progress(Double(index) / Double(files.count))
      return features.features(of: try Sound(wav: files[index])).values
    }
    return shape
  }
}
