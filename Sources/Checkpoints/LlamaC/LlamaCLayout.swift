// Where each weight of a llama2.c file lies. See LlamaCHeader.swift for the sources.

import Tensors

/// The tensors of a file in their order, by the names that transformers gives them.
struct LlamaCLayout {
  /// A tensor, or a table that is left out.
  struct Item: Equatable {
    /// What is done with the stored rows.
    enum Rows: Equatable {
      case asStored
      /// llama2.c rotates neighbours (0, 1), (2, 3) …, transformers the halves of a head: the rows of
      /// each head are stored as 0, half, 1, half + 1 …
      case interleavedHeads
      /// Follows from the configuration.
      case leftOut
    }

    let name: String
    let shape: [Int]
    let offset: Int
    let rows: Rows
    /// Whether it is stored as float32 whatever the matrices are.
    let isFloat: Bool
  }

  private(set) var items: [Item] = []
  /// Bytes of the whole file.
  private(set) var byteCount: Int
  private let storage: LlamaCHeader.Storage

  init(_ header: LlamaCHeader) { self.init(header, storage: header.storage) }

  init(_ h: LlamaCHeader, storage: LlamaCHeader.Storage) {
    self.storage = storage
    byteCount = storage == .legacy ? 28 : 256
    let queryRows = h.heads * h.headSize
    switch storage {
    case .legacy:
      add("model.embed_tokens", [h.vocabulary, h.width])
      addNorms("input_layernorm", h)
    case .floats, .groups:
      addNorms("input_layernorm", h)
      addNorms("post_attention_layernorm", h)
      add("model.norm", [h.width], isFloat: true)
      add("model.embed_tokens", [h.vocabulary, h.width])
    case .ternary:
      add("model.norm", [h.width], isFloat: true)
      add("model.embed_tokens", [h.vocabulary, h.width], isFloat: true)
    }
    addLayers("self_attn.q_proj", [queryRows, h.width], h, rows: .interleavedHeads)
    addLayers("self_attn.k_proj", [h.keyWidth, h.width], h, rows: .interleavedHeads)
    addLayers("self_attn.v_proj", [h.keyWidth, h.width], h)
    addLayers("self_attn.o_proj", [h.width, queryRows], h)
    if storage == .legacy { addNorms("post_attention_layernorm", h) }
    addLayers("mlp.gate_proj", [h.innerWidth, h.width], h)
    addLayers("mlp.down_proj", [h.width, h.innerWidth], h)
    addLayers("mlp.up_proj", [h.innerWidth, h.width], h)
    if storage == .legacy {
      add("model.norm", [h.width])
      add("rotary cosines", [h.context, h.headSize / 2], rows: .leftOut)
      add("rotary sines", [h.context, h.headSize / 2], rows: .leftOut)
    }
    if !h.isTied { add("lm_head", [h.vocabulary, h.width]) }
  }

  private mutating func add(
    _ name: String, _ shape: [Int], rows: Item.Rows = .asStored, isFloat: Bool = false
  ) {
    let item = Item(
      name: name + ".weight", shape: shape, offset: byteCount, rows: rows, isFloat: isFloat)
    items.append(item)
    byteCount += Self.storedBytes(of: item, as: storage)
  }

  private mutating func addNorms(_ name: String, _ h: LlamaCHeader) {
    for layer in 0..<h.layers { add("model.layers.\(layer).\(name)", [h.width], isFloat: true) }
  }

  private mutating func addLayers(
    _ name: String, _ shape: [Int], _ h: LlamaCHeader, rows: Item.Rows = .asStored
  ) {
    for layer in 0..<h.layers { add("model.layers.\(layer).\(name)", shape, rows: rows) }
  }

  /// Bytes of a tensor in the file. The header's limits keep every product below 2^60.
  static func storedBytes(of item: Item, as storage: LlamaCHeader.Storage) -> Int {
    let count = item.shape.reduce(1, *)
    if item.isFloat { return 4 * count }
    return switch storage {
    case .legacy, .floats: 4 * count
    case .groups(let size): count + 4 * (count / size)
    case .ternary: 4 + (count + 3) / 4
    }
  }
}
