// The sizes with a number of parameters at which a model loses least.
//
// Every candidate has the target's size: layers, heads and width are given, and the MLPs get the channels that fit. So
// candidates are compared by what they lose alone, measured on held-out text with the weights fitted as they will be. The
// search climbs: from the model that has all its heads and width and as many layers as still fit, one step on one axis at a
// time, to the best neighbour, until none is better.

import Calibration
import Checkpoints
import JSONDocuments
public import Networks
import Pruning

/// A candidate and what it loses.
public struct StructureCandidate: Sendable, Equatable {
  /// Its sizes.
  public let sizes: StructuralSizes
  /// Its parameters.
  public let parameters: Int
  /// Its loss on held-out text: nats a token, or 1 less the mean cosine of embeddings.
  public let loss: Double

  /// What the lineage says of it.
  var json: JSONValue {
    [
      "layers": .integer(sizes.layers), "heads": .integer(sizes.heads),
      "key_heads": .integer(sizes.keyHeads), "ffn": .integer(sizes.inner),
      "width": .integer(sizes.width), "parameters": .integer(parameters), "loss": .number(loss),
    ]
  }
}

/// Sizes that a search may give a network.
struct StructureSpace {
  let structure: NetworkStructure
  let shapes: [(name: String, shape: [Int])]

  /// Parameters of the network as it is.
  var parameters: Int { structure.parameters(shapes, sizes: structure.sizes) }

  private var granule: Int { StructuralSizes.granule(of: structure.sizes.inner) }
  private var widthStep: Int {
    let granule = StructuralSizes.granule(of: structure.sizes.width)
    return max(granule, structure.sizes.width / 16 / granule * granule)
  }
  /// MLPs thinner than an eighth of what they were, and streams thinner than half, are no candidates.
  private var leastInner: Int { max(granule, structure.sizes.inner / 8 / granule * granule) }
  private var leastWidth: Int {
    structure.fixedWidth == nil ? structure.sizes.width / 2 : structure.sizes.width
  }
  private var headOptions: [(heads: Int, keyHeads: Int)] {
    let all = structure.sizes.headOptions
    guard structure.fixedHeads == nil else {
      return [(structure.sizes.heads, structure.sizes.keyHeads)]
    }
    return all
  }

  /// The fewest parameters of a candidate.
  var least: Int {
    let heads = headOptions[0]
    return structure.parameters(
      shapes,
      sizes: StructuralSizes(
        layers: 1, heads: heads.heads, keyHeads: heads.keyHeads, inner: leastInner,
        width: leastWidth))
  }

  /// The sizes with the widest MLPs that fit; nil when even the thinnest do not.
  func fitted(_ sizes: StructuralSizes, to target: Int) -> StructuralSizes? {
    var sizes = sizes
    sizes.inner = 0
    let rest = target - structure.parameters(shapes, sizes: sizes)
    sizes.inner = granule
    let step = structure.parameters(shapes, sizes: sizes) - (target - rest)
    sizes.inner = min(structure.sizes.inner, rest / max(1, step) * granule)
    return rest >= 0 && sizes.inner >= leastInner ? sizes : nil
  }

  /// Where the search starts: all but the MLPs as they are; with fewer layers, then heads, then width where they do not fit.
  func start(_ target: Int) -> StructuralSizes? {
    let old = structure.sizes
    for width in stride(from: old.width, through: leastWidth, by: -widthStep) {
      for option in headOptions.reversed() {
        for layers in stride(from: old.layers, through: 1, by: -1) {
          let sizes = StructuralSizes(
            layers: layers, heads: option.heads, keyHeads: option.keyHeads, inner: 0, width: width)
          if let fitted = fitted(sizes, to: target) { return fitted }
        }
      }
    }
    return nil
  }

  /// Sizes one step away, fitted to the target.
  func neighbours(of sizes: StructuralSizes, target: Int) -> [StructuralSizes] {
    let old = structure.sizes
    var all: [StructuralSizes] = []
    func add(_ change: (inout StructuralSizes) -> Void) {
      var next = sizes
      change(&next)
      if let fitted = fitted(next, to: target), fitted != sizes, fitted != old {
        all.append(fitted)
      }
    }
    for layers in [sizes.layers - 1, sizes.layers + 1] where (1...old.layers).contains(layers) {
      add { $0.layers = layers }
    }
    if let place = headOptions.firstIndex(where: {
      $0.heads == sizes.heads && $0.keyHeads == sizes.keyHeads
    }) {
      // Two steps reach past numbers that keep many keys for few heads.
      for other in [place - 1, place + 1, place - 2, place + 2]
      where headOptions.indices.contains(other) {
        add { ($0.heads, $0.keyHeads) = headOptions[other] }
      }
    }
    for width in [sizes.width - widthStep, sizes.width + widthStep]
    where (leastWidth...old.width).contains(width) {
      add { $0.width = width }
    }
    return all
  }
}

/// Climbs from size to size.
struct StructuredSearch {
  let space: StructureSpace
  let target: Int
  /// The loss of a model of some sizes.
  let measure: (StructuralSizes) throws -> Double
  let progress: (String) -> Void

  /// All candidates in the order in which they were measured, the best of them first among equals.
  func run() throws -> (best: StructureCandidate, all: [StructureCandidate]) {
    guard target < space.parameters else {
      throw StructureError.targetTooLarge(asked: target, parameters: space.parameters)
    }
    guard let start = space.start(target) else {
      throw StructureError.targetTooSmall(asked: target, least: space.least)
    }
    var all: [StructureCandidate] = [], known: [StructuralSizes: Int] = [:]
    func candidate(_ sizes: StructuralSizes) throws -> StructureCandidate {
      if let place = known[sizes] { return all[place] }
      progress("\(all.count + 1)")
      let candidate = StructureCandidate(
        sizes: sizes, parameters: space.structure.parameters(space.shapes, sizes: sizes),
        loss: try measure(sizes))
      known[sizes] = all.count
      all.append(candidate)
      return candidate
    }
    var best = try candidate(start)
    while true {
      let next = try space.neighbours(of: best.sizes, target: target).map(candidate).min {
        $0.loss < $1.loss
      }
      guard let next, next.loss < best.loss else { return (best, all) }
      best = next
    }
  }
}
