// How a sentence-transformers folder turns token vectors into one embedding: modules.json.

import Checkpoints
import JSONDocuments
import Tensors

/// What a sentence encoder does after its last branch.
struct SentencePooling {
  enum Mode {
    case mean, firstToken, largest
  }

  /// What happens to the pooled vector.
  private enum Step {
    case dense(SentenceDense)
    /// Division by its length.
    case normalize
  }

  let mode: Mode
  private let steps: [Step]
  /// Values of an embedding.
  let width: Int
  let maximumTokens: Int?

  /// Reads `modules.json` and what it names. A folder without it pools by the mean and does not normalize.
  ///
  /// - Parameter width: Values of a token's vector.
  init(_ checkpoint: any Checkpoint, width: Int) throws(CheckpointError) {
    guard checkpoint.sideFileNames.contains("modules.json") else {
      mode = .mean
      steps = []
      self.width = width
      maximumTokens = nil
      return
    }
    guard let modules = try checkpoint.sideJSON("modules.json").array else {
      throw CheckpointError(
        path: checkpoint.path + "/modules.json", .missing(key: "modules", expected: "a list"))
    }
    var mode: Mode?
    var steps: [Step] = []
    var width = width
    for (index, module) in modules.enumerated() {
      let type = module["type"]?.string ?? "nothing"
      let folder = module["path"]?.string ?? ""
      switch type.split(separator: ".").last {
      case "Transformer" where index == 0: break
      case "Pooling" where mode == nil && steps.isEmpty:
        mode = try Self.mode(folder + "/config.json", checkpoint)
      case "Normalize" where mode != nil: steps.append(.normalize)
      case "Dense" where mode != nil:
        let dense = try SentenceDense(folder, width: width, checkpoint)
        width = dense.width
        steps.append(.dense(dense))
      default:
        throw CheckpointError(
          path: checkpoint.path + "/modules.json",
          .unsupported("the module '\(type)' in place \(index)"))
      }
    }
    self.mode = mode ?? .mean
    self.steps = steps
    self.width = width
    maximumTokens = try Self.maximumTokens(checkpoint)
  }

  /// `max_seq_length` of sentence-transformers up to 5, or the tokenizer's `model_max_length`.
  private static func maximumTokens(_ checkpoint: any Checkpoint) throws(CheckpointError) -> Int? {
    for (file, key) in [
      ("sentence_bert_config.json", "max_seq_length"),
      ("tokenizer_config.json", "model_max_length"),
    ] where checkpoint.sideFileNames.contains(file) {
      if let length = try checkpoint.sideJSON(file)[key]?.integer { return length }
    }
    return nil
  }

  private static func mode(
    _ name: String, _ checkpoint: any Checkpoint
  ) throws(CheckpointError) -> Mode {
    let json = try checkpoint.sideJSON(name)
    if let mode = json["pooling_mode"]?.string {
      switch mode {
      case "mean": return .mean
      case "cls": return .firstToken
      case "max": return .largest
      default:
        throw CheckpointError(path: checkpoint.path + "/" + name, .unsupported("pooling '\(mode)'"))
      }
    }
    let modes: [(String, Mode?)] = [
      ("pooling_mode_mean_tokens", .mean), ("pooling_mode_cls_token", .firstToken),
      ("pooling_mode_max_tokens", .largest), ("pooling_mode_mean_sqrt_len_tokens", nil),
      ("pooling_mode_weightedmean_tokens", nil), ("pooling_mode_lasttoken", nil),
    ]
    let chosen = modes.filter { json[$0.0]?.bool == true }
    guard chosen.count == 1, let mode = chosen[0].1 else {
      throw CheckpointError(
        path: checkpoint.path + "/" + name,
        .unsupported("the pooling \(chosen.map(\.0)); one of mean, cls and max is"))
    }
    return mode
  }

  /// One vector a sequence.
  func apply(_ hidden: Matrix, _ batch: TokenBatch) -> Matrix {
    var result = Matrix(rows: batch.sequences.count, columns: hidden.columns)
    for (index, sequence) in batch.sequences.enumerated() {
      let target = result.range(ofRow: index).lowerBound
      for column in 0..<hidden.columns {
        result.values[target + column] = pooled(hidden, sequence, column)
      }
    }
    if let record = hidden.record {
      let input = hidden.unrecorded
      result.record = GradientRecord(of: [record]) { [mode] gradient, _ in
        [Self.gradient(gradient, of: mode, input, batch.sequences)]
      }
    }
    for step in steps {
      switch step {
      case .dense(let dense): result = dense.apply(result)
      case .normalize: Self.normalize(&result)
      }
    }
    return result
  }

  private func pooled(_ hidden: Matrix, _ sequence: Range<Int>, _ column: Int) -> Float {
    switch mode {
    case .firstToken: return hidden.values[sequence.lowerBound * hidden.columns + column]
    case .mean:
      var sum = 0.0
      for row in sequence { sum += Double(hidden.values[row * hidden.columns + column]) }
      return Float(sum / Double(sequence.count))
    case .largest:
      return hidden.values[Self.largestRow(hidden, sequence, column) * hidden.columns + column]
    }
  }

  /// The first row of a sequence that holds the largest value of a column.
  private static func largestRow(_ hidden: Matrix, _ sequence: Range<Int>, _ column: Int) -> Int {
    var best = sequence.lowerBound
    for row in sequence
    where hidden.values[row * hidden.columns + column]
      > hidden.values[best * hidden.columns + column]
    { best = row }
    return best
  }

  /// The pooled value's gradient, given to the rows that it was made from.
  private static func gradient(
    _ gradient: Matrix, of mode: Mode, _ hidden: Matrix, _ sequences: [Range<Int>]
  ) -> Matrix {
    let columns = hidden.columns
    var result = Matrix(rows: hidden.rows, columns: columns)
    for (index, sequence) in sequences.enumerated() {
      let own = gradient.row(index)
      for column in 0..<columns {
        switch mode {
        case .firstToken: result.values[sequence.lowerBound * columns + column] = own[column]
        case .mean:
          let part = own[column] / Float(sequence.count)
          for row in sequence { result.values[row * columns + column] = part }
        case .largest:
          let row = largestRow(hidden, sequence, column)
          result.values[row * columns + column] = own[column]
        }
      }
    }
    return result
  }

  /// Divides each row by its length.
  private static func normalize(_ x: inout Matrix) {
    let columns = x.columns
    var lengths: [Double] = []
    for index in 0..<x.rows {
      let row = x.row(index)
      let sum = row.reduce(0.0) { $0 + Double($1) * Double($1) }
      let length = max(sum.squareRoot(), 1e-12)
      lengths.append(length)
      for column in 0..<columns {
        x.values[index * columns + column] = Float(Double(row[column]) / length)
      }
    }
    guard let record = x.record else { return }
    let unit = x.unrecorded
    x.record = GradientRecord(of: [record]) { [lengths] gradient, _ in
      // With e = x / |x|: (g - e (e . g)) / |x|.
      var result = gradient
      for index in 0..<unit.rows {
        let e = unit.row(index), g = result.row(index)
        let along = zip(e, g).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        for column in 0..<columns {
          result.values[index * columns + column] = Float(
            (Double(g[column]) - Double(e[column]) * along) / lengths[index])
        }
      }
      return [result]
    }
  }
}
