// Sound files as one array of samples: Whisper's features.

import Checkpoints
import Speech
import Tensors

/// Sounds as the rows of an array.
public struct FeatureArray {
  /// The files, in the order of the samples.
  public let files: [String]
  /// Bands of a frame.
  public let bands: Int

  /// - Parameter paths: WAV files, and folders whose `.wav` files are taken by name.
  public init(paths: [String], bands: Int) throws {
    files = try SampleFiles.find(
      paths, endings: [".wav"], found: "a folder without sounds", expected: "WAV files")
    self.bands = bands
  }

  /// Writes `[files, 3000, bands]` in float32, a sound at a time.
  ///
  /// - Returns: The dimensions.
  public func write(to path: String, progress: (Double) -> Void = { _ in }) throws -> [Int] {
    let features = LogMel(bands: bands)
    let shape = [files.count, LogMel.frames, bands]
    try NumPyFile.write(shape: shape, to: path) { index in
      progress(Double(index) / Double(files.count))
      return features.features(of: try Sound(wav: files[index])).values
    }
    return shape
  }
}
