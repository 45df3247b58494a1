// Another rate of samples: a sinc that passes what both rates can hold, in a window.
//
// Source   Smith, "Digital Audio Resampling", CCRMA; Hann's window over `zeroCrossings` on either side, and the band's
//          end a hundredth below half the lower rate, as in torchaudio
// Checked  SpeechTests: tones keep their pitch and size; what the new rate cannot hold is gone

import Foundation
import Tensors

extension Sound {
  private static let zeroCrossings = 16.0
  private static let rollOff = 0.99

  /// The sound at another rate.
  public func resampled(to newRate: Int) -> Sound {
    precondition(newRate > 0)
    if newRate == rate { return self }
    let band = Double(min(rate, newRate)) * Self.rollOff
    let reach = Self.zeroCrossings / band * Double(rate)
    let count = Int((Double(samples.count) * Double(newRate) / Double(rate)).rounded(.up))
    let source = samples, rate = rate
    var result = [Float](repeating: 0, count: count)
    ParallelLoop.overRows(of: &result, rowLength: 1, blockRows: 1024) { rows, part in
      for (place, index) in rows.enumerated() {
        // Where the new sample lies among the old ones.
        let center = Double(index) * Double(rate) / Double(newRate)
        let first = max(0, Int((center - reach).rounded(.up)))
        let last = min(source.count - 1, Int(center + reach))
        var sum = 0.0
        for old in first...max(first, last) where old < source.count {
          let t = (Double(old) - center) / Double(rate) * band
          let sinc = t == 0 ? 1 : sin(.pi * t) / (.pi * t)
          let window = cos(.pi * t / (2 * Self.zeroCrossings))
          sum += Double(source[old]) * sinc * window * window
        }
        part[place] = Float(sum * band / Double(rate))
      }
    }
    return Sound(rate: newRate, samples: result)
  }
}
