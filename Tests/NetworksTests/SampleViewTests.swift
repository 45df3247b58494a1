import Foundation
import Tensors
import TestSupport
import Testing

@testable import Networks

/// Views of pictures: the definition, pixel by pixel.
@Suite struct SampleViewTests {
  static let normalization = SampleNormalization(mean: [0.5, 0.25], deviation: [0.5, 2])

  /// Three pictures of 4 x 5 with two channels, whose bytes are all different.
  static func array(_ folder: TemporaryFolder) throws -> SampleArray {
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4, 5, 2), }"
    let padded = header.padding(toLength: 117, withPad: " ", startingAt: 0) + "\n"
    var bytes: [UInt8] = [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59, 1, 0, 118, 0]
    bytes += Array(padded.utf8) + (0..<120).map { UInt8($0 + 1) }
    try Data(bytes).write(to: URL(filePath: folder.file("a.npy")))
    return try SampleArray(path: folder.file("a.npy"), shape: SampleShape([4, 5, 2]))
  }

  static func normalized(_ byte: Int, channel: Int) -> Float {
    (Float(byte) / 255 - normalization.mean[channel]) / normalization.deviation[channel]
  }

  @Test func theFirstViewIsThePicture() throws {
    let folder = try TemporaryFolder(), array = try Self.array(folder)
    let views = try SampleViews([array, array], SampleAugmentation("flip,shift=2,mix")!, seed: 3)
    #expect(views.count == 6)
    let found = views.features([.init(sample: 4, view: 0)], Self.normalization)
    #expect(found == array.features(1..<2, Self.normalization))
  }

  /// Every view is the picture under one of the moves and mirrors, with black outside; all of them come up.
  @Test func viewsAreMovesAndMirrors() throws {
    let folder = try TemporaryFolder(), array = try Self.array(folder)
    let views = try SampleViews([array], SampleAugmentation("flip,shift=1")!, seed: 1)
    var seen: Set<String> = []
    for view in 1..<200 {
      let found = views.features([.init(sample: 2, view: view)], Self.normalization).values
      var matches: [String] = []
      for isFlipped in [false, true] {
        for down in -1...1 {
          for right in -1...1 {
            let expected = (0..<40).map { place -> Float in
              let channel = place % 2, column = place / 2 % 5 - right, row = place / 10 - down
              guard (0..<4).contains(row), (0..<5).contains(column) else {
                return Self.normalized(0, channel: channel)
              }
              let from = isFlipped ? 4 - column : column
              return Self.normalized(80 + row * 10 + from * 2 + channel + 1, channel: channel)
            }
            if zip(found, expected).allSatisfy({ abs($0 - $1) < 1e-6 }) {
              matches.append("\(isFlipped) \(down) \(right)")
            }
          }
        }
      }
      #expect(matches.count == 1, "view \(view): \(matches)")
      seen.formUnion(matches)
    }
    #expect(seen.count == 18)
    let again = try SampleViews([array], SampleAugmentation("flip,shift=1")!, seed: 1)
    let places = (0..<3).map { SampleView(sample: $0, view: 7) }
    #expect(
      again.features(places, Self.normalization) == views.features(places, Self.normalization))
  }

  /// A mixed view lies on the line between two pictures.
  @Test func mixesAreShares() throws {
    let folder = try TemporaryFolder(), array = try Self.array(folder)
    let views = try SampleViews([array], SampleAugmentation("mix")!, seed: 5)
    let own = array.features(0..<1, Self.normalization).values
    var isMixed = 0
    for view in 1..<30 {
      let found = views.features([.init(sample: 0, view: view)], Self.normalization).values
      let fits = (0..<3).contains { other in
        let right = array.features(other..<other + 1, Self.normalization).values
        let gap = right[0] - own[0]
        let share = gap == 0 ? 0 : (found[0] - own[0]) / gap
        return (0...1).contains(share)
          && zip(found, zip(own, right)).allSatisfy {
            abs($0 - $1.0 - share * ($1.1 - $1.0)) < 1e-5
          }
      }
      #expect(fits, "view \(view)")
      isMixed += found == own ? 0 : 1
    }
    #expect(isMixed > 10)
  }

  @Test func wordsAreRead() throws {
    for text in ["flip", "shift=4", "mix", "flip,shift=64,mix", "none"] {
      #expect(SampleAugmentation(text)?.description == text)
    }
    for text in ["", "flip=1", "shift", "shift=0", "shift=65", "shift=x", "turn", "flip,,mix"] {
      #expect(SampleAugmentation(text) == nil, "\(text)")
    }
  }
}
