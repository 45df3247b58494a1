// Ranks of all matrices for a number of bytes.
//
// Given    the singular values of each weight in the metric of its inputs in the original model; bytes of the weights' file
// Result   the ranks of the largest energy that all matrices can keep alike, found by bisection. Measured on lm-6m at 13.7 MB:
//          perplexity 32.4; the least sum of relative errors over bytes instead (Lagrange) gives 34.8
// Differs  a matrix whose factors would not be smaller stays as it is
// Checked  StructuredPruneTests: the bytes; LowRankTests

import Calibration
import Checkpoints
import Encodings
import LinearAlgebra
import Networks
import Pruning
import Tensors

/// What ranks cost and leave.
struct RankBudget {
  private struct Layer {
    let name: String
    let outputs, inputs: Int
    let dtype: DType
    /// Shares of the output, falling.
    let shares: [Double]

    var largestUsefulRank: Int { LowRank.largestUsefulRank(outputs: outputs, inputs: inputs) }

    func rank(energy: Double) -> Int {
      var sum = 0.0
      for (index, share) in shares.enumerated() {
        sum += share
        if sum >= energy { return index + 1 }
      }
      return max(1, shares.count)
    }
  }

  private let checkpoint: any Checkpoint
  private var layers: [Layer] = []
  private let layouts: [String: MatrixLayout]

  /// Measures the spectra on the original model.
  init(
    _ checkpoint: any Checkpoint, _ network: any Network, _ set: CalibrationSet,
    progress: (String, Double) -> Void
  ) throws {
    self.checkpoint = checkpoint
    layouts = FolderPlan.layouts(network)
    let stream = LayerStream(network: network, set: set)
    for (index, sublayer) in network.sublayers.enumerated() {
      progress("spectra", Double(index) / Double(network.sublayers.count))
      for (group, linears) in sublayer.groups.enumerated() {
        let moment = stream.inputs(ofGroup: group).mean()
        for linear in linears {
          let squares: [Double]
          do throws(PruningError) {
            squares = try WhitenedSpectrum(linear.matrix.decoded(), moment: moment).squares
          } catch {
            throw LayerError(path: checkpoint.path, tensor: linear.weightName, error)
          }
          let total = max(squares.reduce(0, +), .leastNormalMagnitude)
          layers.append(
            Layer(
              name: linear.weightName, outputs: linear.matrix.outputs,
              inputs: linear.matrix.inputs,
              dtype: LowRankWalk.dtype(of: linear.weightName, in: checkpoint),
              shares: squares.map { $0 / total }))
        }
      }
      stream.advance()
    }
  }

  /// The ranks for at most so many bytes.
  func ranks(bytes budget: Int) throws -> [String: Int] {
    func ranks(_ energy: Double) -> [String: Int] {
      Dictionary(layers.map { ($0.name, $0.rank(energy: energy)) }, uniquingKeysWith: { $1 })
    }
    let least = byteCount(ranks(0))
    guard least <= budget else {
      throw LowRankError.smallBudget(bytes: budget, least: least)
    }
    var low = 0.0, high = 1.0
    for _ in 0..<40 {
      let middle = (low + high) / 2
      if byteCount(ranks(middle)) <= budget { low = middle } else { high = middle }
    }
    return ranks(low)
  }

  /// Bytes of the file of weights.
  private func byteCount(_ ranks: [String: Int]) -> Int {
    FolderPlan(
      source: checkpoint,
      replaced: layers.compactMap { layer in
        guard let rank = ranks[layer.name], rank <= layer.largestUsefulRank else { return nil }
        return (layer.name, LowRank(rank: rank, dtype: layer.dtype), "svd")
      }, layouts: layouts
    ).layout.byteCount
  }
}
