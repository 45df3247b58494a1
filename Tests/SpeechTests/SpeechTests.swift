import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@testable import Speech

/// Against transformers and the definitions; see Tests/Fixtures/speech.
@Suite struct SpeechTests {
  static let folder = TestData.fixtures + "/speech/"
  static let files = ["mono16", "mono8", "stereo24", "float32"]

  private func expected(_ name: String) throws -> Tensor {
    try #require(try SafetensorsFile(path: Self.folder + "expected.safetensors").tensor(name))
  }

  @Test(arguments: files) func samplesOfEveryWidth(_ name: String) throws {
    let sound = try Sound(wav: Self.folder + name + ".wav")
    #expect(sound.rate == 16_000)
    #expect(sound.samples == (try expected(name).floats()))
  }

  @Test(arguments: [80, 128]) func featuresEqualTransformers(_ bands: Int) throws {
    let features = LogMel(bands: bands).features(of: try Sound(wav: Self.folder + "mono16.wav"))
    let expected = try expected("mel\(bands)")
    #expect(features.rows == 3000 && features.columns == bands && expected.columns == bands)
    let worst = zip(features.values, expected.floats()).map { abs($0 - $1) }.max() ?? 1
    #expect(worst < 1e-4, "\(worst)")
  }

  /// Windows follow each other; a rest shorter than a frame is no window, unless there is nothing else.
  @Test func soundsAreCutIntoWindows() {
    let features = LogMel(frames: 100)
    #expect(features.seconds == 1)
    func lengths(_ count: Int, rate: Int = 16_000) -> [Int] {
      features.windows(of: Sound(rate: rate, samples: [Float](repeating: 0.5, count: count)))
        .map(\.samples.count)
    }
    #expect(lengths(16_000) == [16_000] && lengths(40_000) == [16_000, 16_000, 8000])
    #expect(lengths(16_399) == [16_000] && lengths(16_400) == [16_000, 400])
    #expect(lengths(3) == [3])
    #expect(lengths(12_000, rate: 8000) == [16_000, 8000])
  }

  /// A shorter window is the longer one's start, but for the floor, which is eight decades below the loudest.
  @Test func shorterWindowsHaveTheSameFrames() throws {
    let sound = try Sound(wav: Self.folder + "mono16.wav")
    let long = LogMel().features(of: sound), short = LogMel(frames: 40).features(of: sound)
    #expect(short.rows == 40)
    let worst = zip(short.values, long.values).map { abs($0 - $1) }.max() ?? 1
    #expect(worst < 1e-5, "\(worst)")
  }

  /// The sum of squares of the part of a sound that is a tone of this frequency, over all.
  private func share(of frequency: Double, in sound: Sound) -> (share: Double, size: Double) {
    // The ends, where the filter sees the sound begin, are left out.
    let samples = sound.samples.dropFirst(sound.rate / 20).dropLast(sound.rate / 20)
    var real = 0.0, imaginary = 0.0, all = 0.0
    for (index, sample) in samples.enumerated() {
      let angle = 2 * Double.pi * frequency * Double(index) / Double(sound.rate)
      real += Double(sample) * cos(angle)
      imaginary += Double(sample) * sin(angle)
      all += Double(sample) * Double(sample)
    }
    let count = Double(samples.count)
    return (
      2 * (real * real + imaginary * imaginary) / (count * max(all, 1e-30)),
      (all / count * 2).squareRoot()
    )
  }

  private func tone(_ frequency: Double, rate: Int) -> Sound {
    Sound(
      rate: rate,
      samples: (0..<rate).map {
        Float(0.5 * sin(2 * Double.pi * frequency * Double($0) / Double(rate)))
      })
  }

  @Test(arguments: [8000, 22_050, 44_100, 48_000]) func tonesKeepTheirPitch(_ rate: Int) {
    let found = tone(1000, rate: rate).resampled(to: 16_000)
    #expect(abs(found.samples.count - 16_000) <= 1)
    let (share, size) = share(of: 1000, in: found)
    #expect(share > 0.9999 && abs(size - 0.5) < 1e-3, "\(share) \(size)")
  }

  /// 9,000 turns a second would come back as 7,000.
  @Test func whatTheNewRateCannotHoldIsGone() {
    let found = tone(9000, rate: 44_100).resampled(to: 16_000)
    #expect(share(of: 7000, in: found).size < 5e-3)
  }

  static let hostile: [(String, [UInt8], String)] = {
    func header(
      code: Int = 1, channels: Int = 1, rate: Int = 16_000, bits: Int = 16, data: Int = 4,
      bytes: [UInt8] = [1, 2, 3, 4]
    ) -> [UInt8] {
      func little(_ value: Int, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
      }
      return Array("RIFF".utf8) + little(36 + data, 4) + Array("WAVEfmt ".utf8) + little(16, 4)
        + little(code, 2) + little(channels, 2) + little(rate, 4) + little(0, 4) + little(2, 2)
        + little(bits, 2) + Array("data".utf8) + little(data, 4) + bytes
    }
    return [
      ("empty", [], "WAV"), ("a picture", Array("\u{89}PNG and more".utf8), "WAV"),
      ("no samples", header(data: 0, bytes: []), "no samples"),
      ("cut", header(data: 400), "400"), ("compressed", header(code: 85), "85"),
      ("12 bits", header(bits: 12), "12 bits"), ("no channels", header(channels: 0), "0 channels"),
      ("no rate", header(rate: 0), "0 samples a second"),
      ("not a number", header(code: 3, bits: 32, bytes: [0, 0, 0xC0, 0x7F]), "1 of 1"),
      ("no data", Array(header()[..<36]), "data"),
      ("no format", Array("RIFFxxxxWAVEdata".utf8) + [2, 0, 0, 0, 1, 1], "fmt"),
    ]
  }()

  @Test(arguments: hostile.indices) func refuses(_ index: Int) throws {
    let (name, bytes, part) = Self.hostile[index]
    let error = #expect(throws: CheckpointError.self) { try Sound(wavBytes: bytes, path: "f") }
    #expect("\(try #require(error))".contains(part), "\(name): \(String(describing: error))")
  }

  @Test(arguments: files) func damagedBytes(_ name: String) throws {
    let whole = try FilePath.read(Self.folder + name + ".wav")
    for length in 0..<min(whole.count, 300) {
      _ = try? Sound(wavBytes: Array(whole[..<length]), path: name)
    }
    var stream = RandomStream(test: name)
    for _ in 0..<2000 {
      var damaged = Array(whole.prefix(200))
      damaged[stream.integer(below: 60)] = UInt8(stream.integer(below: 256))
      _ = try? Sound(wavBytes: damaged, path: name)
    }
  }
}
