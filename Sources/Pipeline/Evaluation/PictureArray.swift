// Picture files as one array of samples, prepared as a checkpoint says: what networks over samples are measured on and
// calibrated with.

import Checkpoints
import JSONDocuments
import Pictures
import Tensors

/// Pictures as the rows of an array.
public struct PictureArray {
  /// The files, in the order of the samples.
  public let files: [String]
  private let preparation: PicturePreparation

  /// Finds the pictures.
  ///
  /// - Parameters:
  ///   - paths: Files, and folders whose `.png`, `.jpg` and `.jpeg` files are taken by name.
  ///   - preparation: A `preprocessor_config.json`, or a checkpoint folder or a bundle that has one.
  public init(paths: [String], preparation path: String) throws {
    files = try SampleFiles.find(
      paths, endings: [".png", ".jpg", ".jpeg"], found: "a folder without pictures",
      expected: "PNG or JPEG files")
    let name = "preprocessor_config.json"
    if path.hasSuffix(".json") {
      preparation = try PicturePreparation(try CheckpointFolder.json(at: path), path: path)
    } else {
      let checkpoint = try AnyCheckpoint.open(path)
      guard checkpoint.sideFileNames.contains(name) else {
        throw CheckpointError(path: path, .missingFile(name))
      }
      preparation = try PicturePreparation(
        try JSONValue(parsing: try checkpoint.sideFile(name)), path: FilePath.join(path, name))
    }
  }

  /// Writes `[files, height, width, 3]` in float32, a picture at a time.
  ///
  /// - Returns: The dimensions.
  public func write(to path: String, progress: (Double) -> Void = { _ in }) throws -> [Int] {
    func prepared(_ index: Int) throws -> (width: Int, height: Int, values: [Float]) {
      preparation.values(of: try Picture(path: files[index]))
    }
    let first = try prepared(0)
    let shape = [files.count, first.height, first.width, 3]
    try NumPyFile.write(shape: shape, to: path) { index in
      progress(Double(index) / Double(files.count))
      let next = index == 0 ? first : try prepared(index)
      guard next.width == first.width, next.height == first.height else {
        throw CheckpointError(
          path: files[index],
          .badValue(
            found: "\(next.width) x \(next.height) after its preparation",
            expected: "\(first.width) x \(first.height), as \(files[0]); an array has one size"))
      }
      return next.values
    }
    return shape
  }
}
