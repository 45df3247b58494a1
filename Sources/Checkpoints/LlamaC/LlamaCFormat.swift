// llama2.c's model files as Llama checkpoints: the configuration and the names of transformers.

import JSONDocuments
import Tensors

/// llama2.c model files, and the ternary ones of bitllama2.c.
public enum LlamaCFormat: CheckpointFormat {
  /// What messages call it.
  public static let formatName = "llama2.c model"

  /// The magic bytes; or, for the old header that has none, seven plausible numbers in a file that has
  /// exactly the size that they say, or that is named `.bin`.
  public static func recognizes(_ start: [UInt8], path: String) -> Bool {
    if start.starts(with: [0x32, 0x34, 0x6B, 0x61]) { return true }
    guard let header = try? LlamaCHeader(of: StoredBytes(copying: Array(start.prefix(28)))),
      let size = FilePath.byteCount(of: path)
    else { return false }
    return path.hasSuffix(".bin") || LlamaCLayout(header).byteCount == size
  }

  /// Opens a file. Float matrices are views of it; the rotation's rows are put in order when they are used.
  public static func open(_ path: String) throws -> any Checkpoint {
    let bytes = try StoredBytes(mapping: path)
    let header: LlamaCHeader
    let layout: LlamaCLayout
    let tensors: [FoundTensor]
    do throws(CheckpointError.Problem) {
      header = try LlamaCHeader(of: bytes)
      // Items are made for as many layers as the header says: the bytes must be there first.
      guard header.layers <= bytes.count / 8 else {
        throw .truncated(needed: UInt64(8 * header.layers), available: bytes.count)
      }
      layout = LlamaCLayout(header)
      guard layout.byteCount <= bytes.count else {
        throw .truncated(needed: UInt64(layout.byteCount), available: bytes.count)
      }
      guard layout.byteCount == bytes.count else {
        throw .unusedBytes(from: layout.byteCount, to: bytes.count)
      }
      tensors = try Self.tensors(header, layout, bytes)
    } catch {
      throw CheckpointError(path: path, error)
    }
    return try TensorFile(
      path: path, formatName: name(of: header), configuration: configuration(of: header),
      tensors: tensors, skipped: layout.items.filter { $0.rows == .leftOut }.map(\.name),
      byteCount: bytes.count)
  }

  private static func tensors(
    _ header: LlamaCHeader, _ layout: LlamaCLayout, _ bytes: StoredBytes
  ) throws(CheckpointError.Problem) -> [FoundTensor] {
    var tensors: [FoundTensor] = []
    for item in layout.items where item.rows != .leftOut {
      let headSize = item.rows == .interleavedHeads ? header.headSize : nil
      if item.isFloat || header.storage == .legacy || header.storage == .floats {
        tensors.append(FoundTensor(name: item.name, try floats(item, bytes, headSize)))
      } else {
        let matrix = LlamaCMatrix(
          storage: header.storage, rows: item.shape[0], columns: item.shape[1], bytes: bytes,
          offset: item.offset, headSize: headSize)
        if header.storage == .ternary { try matrix.checkTernary() }
        tensors.append(
          FoundTensor(name: item.name, dtype: .float32, shape: item.shape) { matrix.tensor() })
      }
    }
    if header.storage == .ternary { tensors += ternaryNorms(header) }
    return tensors
  }

  /// A view in the order of transformers: head by head, first its even rows, then its odd ones.
  private static func floats(
    _ item: LlamaCLayout.Item, _ bytes: StoredBytes, _ headSize: Int?
  ) throws(CheckpointError.Problem) -> StridedView {
    let range = item.offset..<item.offset + item.shape.reduce(4, *)
    var walk = item.shape
    var strides = StridedView.rowMajorStrides(item.shape)
    if let headSize {
      let columns = item.shape[1]
      walk = [item.shape[0] / headSize, 2, headSize / 2, columns]
      strides = [headSize * columns, columns, 2 * columns, 1]
    }
    guard
      let view = StridedView(
        dtype: .float32, shape: item.shape, strides: strides, walk: walk, storage: bytes,
        range: range)
    else { throw .badShape(item.shape) }
    return view
  }

  private static func name(of header: LlamaCHeader) -> String {
    switch header.storage {
    case .legacy, .floats: formatName
    case .groups(let size): "\(formatName), int8 in groups of \(size)"
    case .ternary: "bitllama2.c model, ternary"
    }
  }

  /// BitNet normalizes the input of every matrix to a root mean square of 1/width, without weights:
  /// `SimpleRMSNorm` in bitlinear.py. In the names of transformers that is four norms a layer.
  private static func ternaryNorms(_ header: LlamaCHeader) -> [FoundTensor] {
    var tensors: [FoundTensor] = []
    for layer in 0..<header.layers {
      for (name, width) in [
        ("input_layernorm", header.width), ("self_attn.attn_sub_norm", header.width),
        ("post_attention_layernorm", header.width), ("mlp.ffn_sub_norm", header.innerWidth),
      ] {
        tensors.append(
          FoundTensor(
            name: "model.layers.\(layer).\(name).weight", dtype: .float32, shape: [width]
          ) {
            Tensor(
              .float32, shape: [width],
              copying: [Float](repeating: 1 / Float(width), count: width))
          })
      }
    }
    return tensors
  }

  /// What `config.json` would say. The epsilon and the base are constants of run.c.
  private static func configuration(of header: LlamaCHeader) -> JSONValue {
    let isTernary = header.storage == .ternary
    return [
      "architectures": [isTernary ? "BitNetForCausalLM" : "LlamaForCausalLM"],
      "model_type": isTernary ? "bitnet" : "llama",
      "hidden_size": .integer(header.width),
      "intermediate_size": .integer(header.innerWidth),
      "num_hidden_layers": .integer(header.layers),
      "num_attention_heads": .integer(header.heads),
      "num_key_value_heads": .integer(header.keyHeads),
      "vocab_size": .integer(header.vocabulary),
      "max_position_embeddings": .integer(header.context),
      "hidden_act": "silu",
      // runbit.c adds nothing where it normalizes a matrix's input, and 1e-5 in the last norm only.
      "rms_norm_eps": .number(isTernary ? 1e-12 : 1e-5),
      "rope_theta": 10000.0,
      "tie_word_embeddings": .bool(header.isTied),
      "bos_token_id": 1,
      "eos_token_id": 2,
    ]
  }
}
