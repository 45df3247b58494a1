// Another size of a picture: each pixel a weighted mean of those that it covers, first along rows, then along columns.
//
// Source   Pillow 13, src/libImaging/Resample.c: weights in 22 bits, so that results are the same integers; bicubic with
//          a = −0.5 (Keys, IEEE TASSP 29, 1981)
// Given    [height, width, 3] in eight bits
// Result   the pixels that `Image.resize(size, resample)` gives
// Checked  PictureTests: equal to Pillow, larger and smaller

import Foundation
import Tensors

/// How a picture gets another size; the numbers are Pillow's and those of `preprocessor_config.json`.
public enum Resampling: Int, Sendable, CaseIterable {
  case nearest = 0
  case lanczos = 1
  case bilinear = 2
  case bicubic = 3
  case box = 4
  case hamming = 5

  /// Pixels on either side that a weight reaches at full size.
  private var support: Double {
    switch self {
    case .nearest: 0
    case .lanczos: 3
    case .bilinear, .hamming: 1
    case .bicubic: 2
    case .box: 0.5
    }
  }

  private func weight(_ x: Double) -> Double {
    func sinc(_ x: Double) -> Double { x == 0 ? 1 : sin(x * .pi) / (x * .pi) }
    switch self {
    case .nearest: return 0
    case .lanczos: return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0
    case .bilinear: return max(0, 1 - abs(x))
    case .box: return x > -0.5 && x <= 0.5 ? 1 : 0
    case .hamming:
      let size = abs(x)
      return size == 0 ? 1 : size >= 1 ? 0 : sinc(size) * (0.54 + 0.46 * cos(size * .pi))
    case .bicubic:
      let a = -0.5, size = abs(x)
      if size < 1 { return ((a + 2) * size - (a + 3)) * size * size + 1 }
      return size < 2 ? (((size - 5) * size + 8) * size - 4) * a : 0
    }
  }

  private static let bits = 22

  /// What a pixel of the result is made of.
  fileprivate struct Taps {
    let start: Int
    let weights: [Int]
  }

  fileprivate func taps(from size: Int, to newSize: Int) -> [Taps] {
    let scale = Double(size) / Double(newSize)
    let stretch = max(scale, 1), reach = support * stretch
    return (0..<newSize).map { place in
      let center = (Double(place) + 0.5) * scale
      let start = max(0, Int(center - reach + 0.5)), end = min(size, Int(center + reach + 0.5))
      let weights = (start..<max(start, end)).map { weight((Double($0) - center + 0.5) / stretch) }
      let sum = weights.reduce(0, +)
      return Taps(
        start: start,
        weights: weights.map {
          Int(((sum == 0 ? $0 : $0 * (1 / sum)) * Double(1 << Self.bits)).rounded())
        })
    }
  }

  fileprivate static func rounded(_ sum: Int) -> UInt8 {
    UInt8(clamping: (sum + 1 << (bits - 1)) >> bits)
  }
}

extension Picture {
  /// The picture in another size.
  public func resized(width newWidth: Int, height newHeight: Int, _ filter: Resampling) -> Picture {
    precondition(newWidth > 0 && newHeight > 0)
    if newWidth == width, newHeight == height { return self }
    if filter == .nearest { return nearest(newWidth, newHeight) }
    var rows = pixels
    if newWidth != width {
      let taps = filter.taps(from: width, to: newWidth)
      rows = [UInt8](repeating: 0, count: newWidth * height * 3)
      for row in 0..<height {
        for (column, tap) in taps.enumerated() {
          for channel in 0..<3 {
            var sum = 0
            for (offset, weight) in tap.weights.enumerated() {
              sum += weight * Int(pixels[(row * width + tap.start + offset) * 3 + channel])
            }
            rows[(row * newWidth + column) * 3 + channel] = Resampling.rounded(sum)
          }
        }
      }
    }
    guard newHeight != height else {
      return Picture(width: newWidth, height: newHeight, pixels: rows)
    }
    var result = [UInt8](repeating: 0, count: newWidth * newHeight * 3)
    let length = newWidth * 3
    for (row, tap) in filter.taps(from: height, to: newHeight).enumerated() {
      for place in 0..<length {
        var sum = 0
        for (offset, weight) in tap.weights.enumerated() {
          sum += weight * Int(rows[(tap.start + offset) * length + place])
        }
        result[row * length + place] = Resampling.rounded(sum)
      }
    }
    return Picture(width: newWidth, height: newHeight, pixels: result)
  }

  private func nearest(_ newWidth: Int, _ newHeight: Int) -> Picture {
    let scaleX = Double(width) / Double(newWidth), scaleY = Double(height) / Double(newHeight)
    var result: [UInt8] = []
    result.reserveCapacity(newWidth * newHeight * 3)
    for row in 0..<newHeight {
      let y = min(height - 1, Int((Double(row) + 0.5) * scaleY))
      for column in 0..<newWidth {
        let x = min(width - 1, Int((Double(column) + 0.5) * scaleX))
        let from = (y * width + x) * 3
        result += pixels[from..<from + 3]
      }
    }
    return Picture(width: newWidth, height: newHeight, pixels: result)
  }
}
