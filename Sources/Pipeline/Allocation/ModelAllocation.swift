// From a sensitivity table and a goal to what each tensor becomes.

import Checkpoints
import Encodings
import Quantization

/// What an allocation decided.
struct ModelAllocation {
  /// Every target is an encoding, or a copy.
  let assignment: EncodingAssignment
  /// The rates of entropy-coded tensors; nil when there are none.
  let rates: RatePlan?
  /// The drift of the model by the linear model.
  let predictedDrift: Double

  /// - Parameters:
  ///   - limit: Bits over all open tensors, or a drift.
  ///   - tiesGroups: Tensors that read the same inputs share an encoding.
  /// - Throws: `AllocationError` when the goal cannot be met.
  init(
    _ table: SensitivityTable, _ assignment: EncodingAssignment, limit: Limit, tiesGroups: Bool
  ) throws(AllocationError) {
    let open = table.entries.filter { $0.points.allSatisfy { $0.encoding == "ec" } }
    let listed = table.entries.filter { !$0.points.allSatisfy { $0.encoding == "ec" } }
    guard open.isEmpty || listed.isEmpty else {
      throw AllocationError(
        description:
          "a goal for the whole model cannot share bits between ec and lists of encodings; use one of them"
      )
    }
    if listed.isEmpty {
      let curves = open.map { entry in
        (
          tensor: entry.tensor,
          curve: RateCurve(
            weights: entry.weights,
            points: entry.points.map { ($0.bits, $0.error * entry.driftPerError) })
        )
      }
      switch limit {
      case .bits(let bits):
        let least = RatePlan.range.lowerBound * Double(open.reduce(0) { $0 + $1.weights })
        guard bits >= least else {
          throw AllocationError(
            description:
              "\(Int(bits / 8)) bytes are left for weights that take at least \(Int(least / 8)) at "
              + "\(RatePlan.range.lowerBound) bits")
        }
        rates = RatePlan(curves, totalBits: bits)
      case .drift(let drift): rates = RatePlan(curves, drift: drift)
      }
      self.assignment = assignment
      predictedDrift = rates?.predicted.drift ?? 0
      return
    }
    rates = nil
    // One curve a tie; tensors that share one have the same list of encodings.
    var ties: [[SensitivityTable.Entry]] = []
    for entry in listed {
      let names = entry.points.map(\.encoding).sorted()
      let place = ties.firstIndex {
        tiesGroups && $0[0].group == entry.group && $0[0].points.map(\.encoding).sorted() == names
      }
      if let place { ties[place].append(entry) } else { ties.append([entry]) }
    }
    let curves = ties.map { tie in
      SensitivityCurve(
        weights: tie.reduce(0) { $0 + $1.weights },
        points: tie[0].points.map { choice in
          var bytes = 0, drift = 0.0
          for entry in tie {
            guard let own = entry.points.first(where: { $0.encoding == choice.encoding }) else {
              continue
            }
            bytes += Int((own.bits * Double(entry.weights) / 8).rounded())
            drift += own.error * entry.driftPerError
          }
          return .init(bytes: bytes, drift: drift)
        })
    }
    let choice: [Int]?
    switch limit {
    case .bits(let bits): choice = RateAllocation.choose(curves, bytes: Int(bits / 8))
    case .drift(let drift): choice = RateAllocation.choose(curves, drift: drift)
    }
    guard let choice else {
      let least = curves.reduce(0) { $0 + ($1.points.map(\.bytes).min() ?? 0) }
      let drift = curves.reduce(0.0) { $0 + ($1.points.map(\.drift).min() ?? 0) }
      switch limit {
      case .bits(let bits):
        throw AllocationError(
          description:
            "\(Int(bits / 8)) bytes are left for weights that take at least \(least) in the encodings "
            + "listed; list smaller ones or raise the limit")
      case .drift(let limit):
        throw AllocationError(
          description:
            "the encodings listed are predicted to drift by at least \(Figures.text(drift, 6)), the limit "
            + "is \(Figures.text(limit, 6)); list finer ones or raise the limit")
      }
    }
    var encodings: [String: String] = [:]
    for (tie, index) in zip(ties, choice) {
      for entry in tie { encodings[entry.tensor] = tie[0].points[index].encoding }
    }
    self.assignment = assignment.choosing(encodings)
    predictedDrift = RateAllocation.total(curves, choice).drift
  }

  /// What is given.
  enum Limit {
    /// Bits of all open tensors.
    case bits(Double)
    /// Of the model.
    case drift(Double)
  }
}
