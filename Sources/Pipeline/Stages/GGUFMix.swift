// llama.cpp's file types: which block type each matrix of a model gets.
//
// Source   llama.cpp, src/llama-quant.cpp (llama_tensor_get_type_impl), the rules that apply to dense models
// Given    a file type's name, a matrix's place in the model, whether there is calibration
// Result   the block type; files have the size of llama-quantize's
// Checked  GGUFMixTests: the types of every tensor as llama-quantize chose them, by fixture

import Encodings

/// A file type such as `Q4_K_M`.
public struct GGUFMix: Sendable, Equatable {
  /// The name, as llama-quantize knows it.
  public let name: String
  /// The type of most matrices.
  let base: GGUFBlockType
  /// `general.file_type` in GGUF's metadata.
  let number: Int

  /// The file types, in llama.cpp's order of quality within a family.
  private static let table: [(name: String, base: GGUFBlockType, number: Int)] = [
    ("Q4_0", .q4_0, 2), ("Q4_1", .q4_1, 3), ("Q5_0", .q5_0, 8), ("Q5_1", .q5_1, 9),
    ("Q8_0", .q8_0, 7), ("Q2_K", .q2_K, 10), ("Q2_K_S", .q2_K, 21), ("Q3_K_S", .q3_K, 11),
    ("Q3_K_M", .q3_K, 12), ("Q3_K_L", .q3_K, 13), ("Q4_K_S", .q4_K, 14), ("Q4_K_M", .q4_K, 15),
    ("Q5_K_S", .q5_K, 16), ("Q5_K_M", .q5_K, 17), ("Q6_K", .q6_K, 18), ("IQ1_S", .iq1_s, 24),
    ("IQ1_M", .iq1_m, 31), ("IQ2_XXS", .iq2_xxs, 19), ("IQ2_XS", .iq2_xs, 20),
    ("IQ2_S", .iq2_xs, 28), ("IQ2_M", .iq2_s, 29), ("IQ3_XXS", .iq3_xxs, 23),
    ("IQ3_XS", .iq3_s, 22), ("IQ3_S", .iq3_s, 26), ("IQ3_M", .iq3_s, 27), ("IQ4_NL", .iq4_nl, 25),
    ("IQ4_XS", .iq4_xs, 30), ("TQ1_0", .tq1_0, 36), ("TQ2_0", .tq2_0, 37),
    ("MXFP4", .mxfp4, 38), ("NVFP4", .nvfp4, 39),
  ]
  private static let aliases = ["Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"]

  /// The names.
  public static var names: [String] { table.map(\.name) + aliases.keys.sorted() }

  /// The file type of a name; nil when there is none.
  public static func named(_ name: String) -> GGUFMix? {
    let own = aliases[name] ?? name
    return table.first { $0.name == own }.map {
      GGUFMix(name: $0.name, base: $0.base, number: $0.number)
    }
  }

  /// `general.file_type` of a model whose matrices mostly have one type.
  static func number(mostly type: GGUFBlockType) -> Int? {
    // Where several file types share a base, the one in the middle is what people mean.
    let own = aliases[type.name] ?? type.name
    return table.first { $0.name == own }?.number ?? table.first { $0.base == type }?.number
  }

  /// What a matrix is to the rules.
  enum Part {
    case output, embedding, query, key, value, attentionOutput, gate, up, down, other
  }

  /// Where a matrix stands.
  struct Place {
    let part: Part
    /// The layer and the number of layers.
    let layer, layers: Int
    /// Queries that share a key.
    let queriesPerKey: Int
    /// Whether the embedding is the output layer too.
    let isTied: Bool
    /// Whether there are activation statistics.
    let isCalibrated: Bool
    /// The matrix's columns.
    let columns: Int
  }

  /// The type of a matrix, and the type it should have had where its rows do not divide into blocks.
  func type(_ place: Place) -> (type: GGUFBlockType, insteadOf: GGUFBlockType?) {
    let wanted = wantedType(place)
    guard place.columns % wanted.blockColumns != 0 else { return (wanted, nil) }
    let smaller: GGUFBlockType =
      switch wanted {
      case .iq1_s, .iq1_m, .iq2_xxs, .iq2_xs, .iq2_s, .iq3_xxs, .iq3_s, .iq4_xs: .iq4_nl
      case .q2_K, .q3_K, .tq1_0, .tq2_0: .q4_0
      case .q4_K: .q5_0
      case .q5_K: .q5_1
      default: .q8_0
      }
    return (smaller, wanted)
  }

  private func wantedType(_ place: Place) -> GGUFBlockType {
    switch place.part {
    case .output: outputType(place)
    case .embedding: place.isTied ? outputType(place) : embeddingType
    case .value: valueType(place)
    case .query, .key:
      switch name {
      case "IQ3_XS": .iq3_xxs
      case "IQ3_XXS": .iq2_s
      default: base
      }
    case .attentionOutput: attentionOutputType
    case .gate, .up:
      name == "IQ3_XS" && place.layer >= place.layers / 8 && place.layer < 7 * place.layers / 8
        ? .iq3_xxs : base
    case .down: downType(place)
    case .other: base
    }
  }

  private func outputType(_ place: Place) -> GGUFBlockType {
    switch name {
    case "MXFP4", "NVFP4": .q8_0
    case "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS":
      place.columns % base.blockColumns == 0 ? .q5_K : .q8_0
    case "Q8_0": .q8_0
    default: place.columns % base.blockColumns == 0 ? .q6_K : .q8_0
    }
  }

  private var embeddingType: GGUFBlockType {
    switch name {
    case "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS": .q2_K
    case "IQ2_S", "IQ2_M", "IQ3_XXS": .iq3_s
    case "TQ1_0", "TQ2_0": .q4_K
    case "MXFP4", "NVFP4": .q8_0
    default: base
    }
  }

  /// Early and late layers, and every third between.
  private func getsMoreBits(_ place: Place) -> Bool {
    let eighth = place.layers / 8
    return place.layer < eighth || place.layer >= 7 * place.layers / 8
      || (place.layer - eighth) % 3 == 2
  }

  private func valueType(_ place: Place) -> GGUFBlockType {
    let isShared = place.queriesPerKey >= 4
    switch name {
    case "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS": return isShared ? .q4_K : .q2_K
    case "IQ2_S", "IQ2_M": return isShared ? .q4_K : .iq3_s
    case "Q2_K": return isShared ? .q4_K : .q3_K
    case "Q2_K_S": return isShared ? .q4_K : base
    case "IQ3_XXS": return isShared ? .q4_K : place.isCalibrated ? .iq3_xxs : .iq3_s
    case "IQ3_XS", "IQ3_S": return isShared ? .q4_K : base
    case "IQ3_M": return .q4_K
    case "Q3_K_M": return place.layer < 2 ? .q5_K : .q4_K
    case "Q3_K_L": return .q5_K
    case "IQ4_NL", "IQ4_XS": return isShared ? .q5_K : base
    case "Q4_K_M", "Q5_K_M": return getsMoreBits(place) ? .q6_K : base
    case "Q4_K_S": return place.layer < 4 ? .q5_K : base
    default: return base
    }
  }

  private var attentionOutputType: GGUFBlockType {
    switch name {
    case "IQ1_S", "IQ1_M": .iq2_xxs
    case "IQ2_S", "IQ2_M", "IQ3_XXS": .iq3_s
    case "Q2_K": .q3_K
    case "Q3_K_M", "IQ3_M": .q4_K
    case "Q3_K_L": .q5_K
    default: base
    }
  }

  private func downType(_ place: Place) -> GGUFBlockType {
    let isFirstEighth = place.layer < place.layers / 8
    switch name {
    case "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS": return isFirstEighth ? .q2_K : base
    case "IQ2_S", "IQ2_M": return isFirstEighth ? .iq3_s : base
    case "Q2_K": return .q3_K
    case "Q2_K_S": return isFirstEighth ? .q4_K : base
    case "IQ3_XXS": return place.isCalibrated ? base : isFirstEighth ? .q4_K : .q3_K
    case "IQ3_M": return isFirstEighth ? .q4_K : base
    case "Q3_K_M": return place.layer < place.layers / 16 ? .q5_K : .q4_K
    case "Q3_K_L": return .q5_K
    case "Q4_K_M", "Q5_K_M": return getsMoreBits(place) ? .q6_K : base
    case "Q4_K_S": return isFirstEighth ? .q5_K : base
    case "IQ4_NL", "IQ4_XS": return isFirstEighth && !place.isCalibrated ? .q5_K : base
    case "Q4_0": return isFirstEighth && place.isCalibrated ? .q4_1 : base
    case "Q5_0": return isFirstEighth && place.isCalibrated ? .q5_1 : base
    default: return base
    }
  }
}
