// Views of samples: pictures mirrored, moved and mixed, each the same for whoever asks with the same seed. So a teacher's
// log and a student that reads it see the very same pictures.
//
// Source   moves and mirrors: He et al., 2015, arXiv:1512.03385, section 4.2; mixing: Zhang et al., "mixup", ICLR 2018,
//          arXiv:1710.09412; one view for teacher and student: Beyer et al., "Knowledge distillation: A good teacher is
//          patient and consistent", CVPR 2022, arXiv:2106.05237
// Given    a sample [height, width, channels], and the number of a view
// Result   view 0 is the sample itself; any other comes from a random stream of its own (seed, sample, view)
// Checked  SampleViewTests: the definition, pixel by pixel

public import Checkpoints
public import Tensors

/// How the views of a sample differ from it.
public struct SampleAugmentation: Sendable, Equatable, CustomStringConvertible {
  /// Half of the views are mirrored, left to right.
  public var flips = false
  /// Views are moved by up to so many pixels in both directions; what comes in from outside is 0, which is black.
  public var shift = 0
  /// Views are mixed with another sample's, in shares that are drawn evenly.
  public var mixes = false

  /// No augmentation.
  public init() {}

  /// Whether all views are the sample itself.
  public var isNone: Bool { self == SampleAugmentation() }

  /// Reads a list such as `flip,shift=4,mix`, or `none`; nil when it is none.
  public init?(_ text: String) {
    if text == "none" { return }
    for word in text.split(separator: ",", omittingEmptySubsequences: false) {
      let parts = word.split(separator: "=", omittingEmptySubsequences: false)
      switch (parts.first, parts.count) {
      case ("flip", 1): flips = true
      case ("mix", 1): mixes = true
      case ("shift", 2):
        guard let pixels = Int(parts[1]), (1...64).contains(pixels) else { return nil }
        shift = pixels
      default: return nil
      }
    }
  }

  /// As it is read.
  public var description: String {
    let words = [flips ? "flip" : nil, shift > 0 ? "shift=\(shift)" : nil, mixes ? "mix" : nil]
      .compactMap { $0 }
    return words.isEmpty ? "none" : words.joined(separator: ",")
  }
}

/// A sample in one of its views.
public struct SampleView: Sendable, Equatable {
  /// Its number among all samples.
  public let sample: Int
  /// The number of the view; 0 is the sample itself.
  public let view: Int

  /// A view.
  public init(sample: Int, view: Int) {
    self.sample = sample
    self.view = view
  }
}

/// The views of the samples of one or more arrays.
public struct SampleViews: Sendable {
  /// The arrays, one after the other.
  public let arrays: [SampleArray]
  /// How views differ.
  public let augmentation: SampleAugmentation
  /// Of the random streams.
  public let seed: UInt64

  /// The views of arrays of one shape.
  ///
  /// - Throws: `CheckpointError` for pixels to be moved in what has no height and width.
  public init(
    _ arrays: [SampleArray], _ augmentation: SampleAugmentation = SampleAugmentation(),
    seed: UInt64 = 0
  ) throws(CheckpointError) {
    precondition(!arrays.isEmpty && arrays.allSatisfy { $0.shape == arrays[0].shape })
    if augmentation.flips || augmentation.shift > 0, arrays[0].shape.dimensions.count != 3 {
      throw CheckpointError(
        path: arrays[0].path,
        .badValue(
          found: "samples of \(arrays[0].shape) for the augmentation \(augmentation)",
          expected: "pictures, [height, width, channels]; mix alone works on all samples"))
    }
    if augmentation.mixes, let array = arrays.first(where: \.holdsIds) {
      throw CheckpointError(
        path: array.path,
        .badValue(found: "ids for the augmentation mix", expected: "numbers that can be mixed"))
    }
    self.arrays = arrays
    self.augmentation = augmentation
    self.seed = seed
  }

  /// Samples of all arrays.
  public var count: Int { arrays.reduce(0) { $0 + $1.count } }
  /// Of one sample.
  public var shape: SampleShape { arrays[0].shape }

  /// Views as a network reads them, `[views * rows, channels]`.
  public func features(_ views: [SampleView], _ normalization: SampleNormalization) -> Matrix {
    let size = shape.values
    var result = Matrix(rows: views.count * shape.rows, columns: shape.channels)
    ParallelLoop.overRows(of: &result.values, rowLength: size, blockRows: 4) { range, part in
      for (index, place) in range.enumerated() {
        let values = values(of: views[place], normalization)
        for i in 0..<size { part[index * size + i] = values[i] }
      }
    }
    return result
  }

  private func values(of view: SampleView, _ normalization: SampleNormalization) -> [Float] {
    if view.view == 0 || augmentation.isNone { return plain(view.sample, normalization) }
    var stream = RandomStream(seed: seed, name: "view \(view.view) of sample \(view.sample)")
    var values = moved(view.sample, &stream, normalization)
    guard augmentation.mixes else { return values }
    let share = Float(stream.unit())
    let other = moved(stream.integer(below: count), &stream, normalization)
    for i in values.indices { values[i] = share * values[i] + (1 - share) * other[i] }
    return values
  }

  private func plain(_ sample: Int, _ normalization: SampleNormalization) -> [Float] {
    var rest = sample
    for array in arrays {
      if rest < array.count { return array.features(rest..<rest + 1, normalization).values }
      rest -= array.count
    }
    preconditionFailure("sample \(sample) of \(count)")
  }

  /// A sample, perhaps mirrored, and moved.
  private func moved(
    _ sample: Int, _ stream: inout RandomStream, _ normalization: SampleNormalization
  ) -> [Float] {
    let source = plain(sample, normalization)
    let isFlipped = augmentation.flips && stream.unit() < 0.5
    func offset() -> Int {
      augmentation.shift == 0
        ? 0 : stream.integer(below: 2 * augmentation.shift + 1) - augmentation.shift
    }
    let down = offset(), right = offset()
    guard isFlipped || down != 0 || right != 0 else { return source }
    let height = shape.dimensions[0], width = shape.dimensions[1], channels = shape.channels
    let outside = arrays[0].zero(normalization)
    var result = [Float](repeating: 0, count: source.count)
    for row in 0..<height {
      for column in 0..<width {
        let own = column - right
        let from = isFlipped ? width - 1 - own : own
        let isInside = (0..<height).contains(row - down) && (0..<width).contains(own)
        for channel in 0..<channels {
          result[(row * width + column) * channels + channel] =
            isInside
            ? source[((row - down) * width + from) * channels + channel]
            : outside[channel % outside.count]
        }
      }
    }
    return result
  }
}
