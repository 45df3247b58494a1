// The encoder family's configuration: sizes, where positions start, what the tensors are called.

import Checkpoints
import JSONDocuments

/// What the `config.json` of an encoder says: BERT, RoBERTa, XLM-R, CamemBERT, DistilBERT.
struct BertConfiguration {
  /// The members of the family that differ in more than numbers.
  enum Member: String, CaseIterable {
    case bert, roberta, camembert, distilbert
    case xlmRoberta = "xlm-roberta"
  }

  let member: Member
  let vocabularySize: Int
  let width: Int
  let innerWidth: Int
  let layers: Int
  let heads: Int
  /// Rows of the table of positions.
  let positionRows: Int
  /// Rows of the table of token types; nil for none.
  let types: Int?
  /// The id that stands for no token: RoBERTa numbers positions from the row after it, and does not count such
  /// tokens. nil where positions start at row 0.
  let paddingID: Int?
  let epsilon: Float
  let activation: Activation
  let names: BertNames

  /// The longest sequence that the table of positions has rows for.
  var contextLimit: Int { positionRows - (paddingID.map { $0 + 1 } ?? 0) }

  init(_ checkpoint: any Checkpoint) throws(CheckpointError) {
    let reader = ConfigurationReader(checkpoint)
    let type = try reader.text("model_type", default: "")
    guard let member = Member(rawValue: type) else {
      throw reader.wrong("model_type", .string(type), expected: "a BERT-like architecture")
    }
    self.member = member
    names = member == .distilbert ? .distilBert : .bert
    let keys = names.sizeKeys
    vocabularySize = try reader.size("vocab_size")
    width = try reader.size(keys.width)
    innerWidth = try reader.size(keys.inner)
    layers = try reader.size(keys.layers)
    heads = try reader.size(keys.heads)
    positionRows = try reader.size("max_position_embeddings", default: 512)
    types = member == .distilbert ? nil : try reader.size("type_vocab_size", default: 2)
    guard width % heads == 0 else {
      throw reader.wrong(keys.width, .integer(width), expected: "a multiple of \(heads) heads")
    }
    let kind = try reader.text("position_embedding_type", default: "absolute")
    guard kind == "absolute" else {
      throw reader.wrong("position_embedding_type", .string(kind), expected: "absolute")
    }
    switch member {
    case .bert, .distilbert: paddingID = nil
    case .roberta, .camembert, .xlmRoberta:
      let id = reader.value("pad_token_id").map { $0.integer ?? -1 } ?? 1
      guard (0..<positionRows - 1).contains(id) else {
        throw reader.wrong(
          "pad_token_id", reader.value("pad_token_id"),
          expected: "an id below max_position_embeddings − 1: positions are counted from it")
      }
      paddingID = id
    }
    activation = try reader.activation(
      member == .distilbert ? "activation" : "hidden_act", default: "gelu")
    epsilon = Float(try reader.number("layer_norm_eps", default: 1e-12))
  }
}

/// What the parts of an encoder are called.
struct BertNames {
  /// Before everything in a checkpoint of a model with a task head, and the heads' own tensors there.
  let roots: [String]
  let headPrefixes: [String]
  /// Before a layer's number.
  let layer: String
  let query, key, value, attentionOutput, attentionNorm: String
  let inner, outer, outputNorm: String
  let sizeKeys: StructuralSizeKeys

  static let bert = BertNames(
    roots: ["bert.", "roberta."], headPrefixes: ["cls.", "lm_head.", "classifier."],
    layer: "encoder.layer.", query: "attention.self.query", key: "attention.self.key",
    value: "attention.self.value", attentionOutput: "attention.output.dense",
    attentionNorm: "attention.output.LayerNorm", inner: "intermediate.dense",
    outer: "output.dense", outputNorm: "output.LayerNorm", sizeKeys: StructuralSizeKeys())

  static let distilBert = BertNames(
    roots: ["distilbert."],
    headPrefixes: [
      "vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "pre_classifier.", "classifier.",
    ],
    layer: "transformer.layer.", query: "attention.q_lin", key: "attention.k_lin",
    value: "attention.v_lin", attentionOutput: "attention.out_lin",
    attentionNorm: "sa_layer_norm", inner: "ffn.lin1", outer: "ffn.lin2",
    outputNorm: "output_layer_norm",
    sizeKeys: StructuralSizeKeys(
      layers: "n_layers", inner: "hidden_dim", width: "dim", heads: "n_heads"))
}
