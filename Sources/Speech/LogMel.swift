// The logarithm of a sound's power in bands as ears have them: what Whisper reads.
//
// Source   Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", arXiv:2212.04356, section 2.2;
//          bands and their heights: Slaney, "Auditory Toolbox", 1998, as in transformers' WhisperFeatureExtractor
// Given    a sound, which is cut or filled with silence to a window, of 30 seconds where nothing else is asked for
// Result   [frames, bands]: a frame of 25 ms every 10 ms, 3000 of them in 30 seconds
// Differs  the Fourier transform of 400 samples is a product with its matrix, in float32
// Checked  SpeechTests: equal to transformers within 1e-4

import Foundation
public import Tensors

/// Whisper's features.
public struct LogMel: Sendable {
  /// Samples a second.
  public static let rate = 16_000
  /// Samples of a frame, and from one frame to the next.
  private static let window = 400, hop = 160
  /// Frames of 30 seconds.
  public static let usualFrames = 3000

  /// Bands: 80, or 128 since Whisper large-v3.
  public let bands: Int
  /// Frames of a window.
  public let frames: Int
  private let transform: DenseMatrix
  private let filters: DenseMatrix

  /// Features of so many bands, in windows of so many frames, at least two.
  public init(bands: Int = 80, frames: Int = usualFrames) {
    precondition(bands > 0 && frames > 1)
    self.bands = bands
    self.frames = frames
    transform = DenseMatrix(Self.fourier())
    filters = DenseMatrix(Self.filters(bands: bands))
  }

  /// Cosines, then sines, of each frequency under Hann's window: `[2 · 201, 400]`.
  private static func fourier() -> Matrix {
    let bins = window / 2 + 1
    var result = Matrix(rows: 2 * bins, columns: window)
    for bin in 0..<bins {
      for sample in 0..<window {
        let hann = 0.5 - 0.5 * cos(2 * .pi * Double(sample) / Double(window))
        // The product of both is reduced first: large angles lose digits.
        let angle = 2 * .pi * Double(bin * sample % window) / Double(window)
        result.values[bin * window + sample] = Float(hann * cos(angle))
        result.values[(bins + bin) * window + sample] = Float(hann * sin(angle))
      }
    }
    return result
  }

  /// Triangles between neighbouring centers, each of area one: `[bands, 201]`.
  static func filters(bands: Int) -> Matrix {
    func mel(_ hertz: Double) -> Double {
      hertz < 1000 ? 3 * hertz / 200 : 15 + log(hertz / 1000) * 27 / log(6.4)
    }
    func hertz(_ mel: Double) -> Double {
      mel < 15 ? 200 * mel / 3 : 1000 * exp(log(6.4) / 27 * (mel - 15))
    }
    let top = mel(Double(rate) / 2), bins = window / 2 + 1
    let edges = (0..<bands + 2).map { hertz(top * Double($0) / Double(bands + 1)) }
    var result = Matrix(rows: bands, columns: bins)
    for band in 0..<bands {
      let (low, center, high) = (edges[band], edges[band + 1], edges[band + 2])
      for bin in 0..<bins {
        let frequency = Double(bin) * Double(rate) / Double(window)
        let height = min((frequency - low) / (center - low), (high - frequency) / (high - center))
        result.values[band * bins + bin] = Float(max(0, height) * 2 / (high - low))
      }
    }
    return result
  }

  /// Samples of a window.
  private var length: Int { frames * Self.hop }
  /// Seconds of a window.
  public var seconds: Double { Double(length) / Double(Self.rate) }

  /// A sound of any rate and length as windows one after the other; the last may be shorter. A rest that is shorter than
  /// one frame of 25 ms is left out.
  public func windows(of sound: Sound) -> [Sound] {
    let samples = sound.resampled(to: Self.rate).samples
    return stride(from: 0, to: samples.count, by: length)
      .filter { $0 == 0 || samples.count - $0 >= Self.window }
      .map { Sound(rate: Self.rate, samples: Array(samples[$0..<min($0 + length, samples.count)])) }
  }

  /// The features of a sound of any rate, `[frames, bands]`.
  public func features(of sound: Sound) -> Matrix {
    var samples = Array(sound.resampled(to: Self.rate).samples.prefix(length))
    samples += [Float](repeating: 0, count: length - samples.count)
    // Frames are centered; beyond the ends the sound goes back as in a mirror.
    func sample(_ index: Int) -> Float {
      samples[index < 0 ? -index : index >= length ? 2 * length - 2 - index : index]
    }
    var pieces = Matrix(rows: frames, columns: Self.window)
    for frame in 0..<frames {
      let start = frame * Self.hop - Self.window / 2
      for index in 0..<Self.window {
        pieces.values[frame * Self.window + index] = sample(start + index)
      }
    }
    let parts = transform.apply(to: pieces), bins = Self.window / 2 + 1
    var power = Matrix(rows: frames, columns: bins)
    for frame in 0..<frames {
      for bin in 0..<bins {
        let real = parts.values[frame * 2 * bins + bin]
        let imaginary = parts.values[frame * 2 * bins + bins + bin]
        power.values[frame * bins + bin] = real * real + imaginary * imaginary
      }
    }
    var result = filters.apply(to: power)
    for index in result.values.indices {
      result.values[index] = log10(max(result.values[index], 1e-10))
    }
    let floor = (result.values.max() ?? 0) - 8
    for index in result.values.indices {
      result.values[index] = (max(result.values[index], floor) + 4) / 4
    }
    return result
  }
}
