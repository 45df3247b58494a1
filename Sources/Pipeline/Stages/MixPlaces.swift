// Where each matrix of a model stands, in the words of llama.cpp's file types.

import Checkpoints

/// The places of a model's matrices.
struct MixPlaces {
  private let layers: Int
  private let queriesPerKey: Int
  private let isTied: Bool
  private let isCalibrated: Bool

  init(_ sites: [MatrixSite], isCalibrated: Bool) {
    let named = sites.map { (site: $0, place: Self.words($0)) }
    layers = named.reduce(0) { max($0, ($1.place.layer ?? -1) + 1) }
    let query = named.first { $0.place.part == .query }?.site.outputs ?? 1
    let key = named.first { $0.place.part == .key }?.site.outputs ?? 1
    queriesPerKey = query / max(1, key)
    isTied = sites.contains { $0.role == .embedding(isHead: true) }
    self.isCalibrated = isCalibrated
  }

  /// The place of a matrix.
  func place(of site: MatrixSite) -> GGUFMix.Place {
    let words = Self.words(site)
    return GGUFMix.Place(
      part: words.part, layer: words.layer ?? 0, layers: layers, queriesPerKey: queriesPerKey,
      isTied: isTied, isCalibrated: isCalibrated, columns: site.inputs)
  }

  private static func words(_ site: MatrixSite) -> (part: GGUFMix.Part, layer: Int?) {
    switch site.role {
    case .embedding: return (.embedding, nil)
    case .head: return (.output, nil)
    case .branch, .unknown: break
    }
    // All architectures share these names.
    let name = GGUFArchitecture.llama.fileName(of: site.name) ?? site.name
    let words = name.split(separator: ".")
    guard words.count == 4, words[0] == "blk", let layer = Int(words[1]) else {
      return (.other, nil)
    }
    switch words[2] {
    case "attn_q": return (.query, layer)
    case "attn_k": return (.key, layer)
    case "attn_v": return (.value, layer)
    case "attn_output": return (.attentionOutput, layer)
    case "ffn_gate": return (.gate, layer)
    case "ffn_up": return (.up, layer)
    case "ffn_down": return (.down, layer)
    default: return (.other, layer)
    }
  }
}
