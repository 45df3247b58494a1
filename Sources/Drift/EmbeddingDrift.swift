// Cosine of embeddings and rank correlation on labelled pairs.

public import JSONDocuments
public import Networks
public import Tensors

/// What a text encoder does, alone or against a reference.
public struct EmbeddingDrift: Sendable, Equatable {
  /// Cosine between the reference's embedding and the model's.
  public struct Cosine: Sendable, Equatable {
    /// Over all sentences.
    public let mean, p01, min: Double
    /// Of the mean, by bootstrap over sentences.
    public let interval: ClosedRange<Double>
  }

  /// Sentences that were embedded.
  public let sentences: Int
  /// Nil without a reference.
  public let cosine: Cosine?
  /// Nearest neighbours in common; nil without a reference, and for less than two sentences.
  public let neighbours: NeighbourOverlap?
  /// Rank correlation with the labels, 0…100; nil without pairs.
  public let spearman: Double?
  /// The reference's; nil without a reference or pairs.
  public let referenceSpearman: Double?

  /// Every figure at zero, with a reference: the shape of a result before it is measured.
  public static func zero(hasPairs: Bool) -> EmbeddingDrift {
    EmbeddingDrift(
      sentences: 0, cosine: .init(mean: 0, p01: 0, min: 0, interval: 0...0),
      neighbours: .init(count: NeighbourOverlap.usualCount, mean: 0, interval: 0...0),
      spearman: hasPairs ? 0 : nil, referenceSpearman: hasPairs ? 0 : nil)
  }

  /// The keys of `condense eval --json`.
  public var json: JSONValue {
    var object = JSONObject()
    object["sentences"] = .integer(sentences)
    if let cosine {
      object["cosine"] = [
        "mean": .number(cosine.mean), "p01": .number(cosine.p01), "min": .number(cosine.min),
        "ci95": JSONValue(cosine.interval),
      ]
    }
    if let neighbours {
      object["neighbours"] = [
        "count": .integer(neighbours.count), "mean": .number(neighbours.mean),
        "ci95": JSONValue(neighbours.interval),
      ]
    }
    if let spearman { object["spearman"] = .number(spearman) }
    if let referenceSpearman { object["reference_spearman"] = .number(referenceSpearman) }
    return .object(object)
  }

  /// Reads what `json` gives; nil when it is something else.
  public init?(json: JSONValue) {
    guard let sentences = json["sentences"]?.integer else { return nil }
    self.sentences = sentences
    spearman = json["spearman"]?.number
    referenceSpearman = json["reference_spearman"]?.number
    if let figures = json["neighbours"] {
      guard let count = figures["count"]?.integer, let mean = figures["mean"]?.number,
        let interval = ClosedRange(json: figures["ci95"])
      else { return nil }
      neighbours = NeighbourOverlap(count: count, mean: mean, interval: interval)
    } else {
      neighbours = nil
    }
    guard let figures = json["cosine"] else {
      cosine = nil
      return
    }
    guard let mean = figures["mean"]?.number, let p01 = figures["p01"]?.number,
      let min = figures["min"]?.number, let interval = ClosedRange(json: figures["ci95"])
    else { return nil }
    cosine = Cosine(mean: mean, p01: p01, min: min, interval: interval)
  }

  init(
    sentences: Int, cosine: Cosine?, neighbours: NeighbourOverlap?, spearman: Double?,
    referenceSpearman: Double?
  ) {
    self.sentences = sentences
    self.cosine = cosine
    self.neighbours = neighbours
    self.spearman = spearman
    self.referenceSpearman = referenceSpearman
  }
}

/// Two sentences and how alike people found them.
public struct SentencePair: Sendable, Equatable {
  /// Token ids of the sentences.
  public let first, second: [Int32]
  /// The label.
  public let score: Double

  /// A labelled pair.
  public init(first: [Int32], second: [Int32], score: Double) {
    self.first = first
    self.second = second
    self.score = score
  }
}

/// Runs encoders over sentences and compares the embeddings.
public struct EmbeddingEvaluator {
  private let sentences: [[Int32]]
  private let pairs: [SentencePair]

  /// An evaluator of sentences as token ids, and of labelled pairs, which may be none.
  public init(sentences: [[Int32]], pairs: [SentencePair]) {
    self.sentences = sentences
    self.pairs = pairs
  }

  /// The embeddings `[sequences, width]` of sequences in their order, computed in batches of like length.
  public static func embeddings(
    _ sequences: [[Int32]], _ model: any TextEncoder, progress: (Double) -> Void = { _ in }
  ) -> Matrix {
    let order = sequences.indices.sorted { (sequences[$0].count, $0) < (sequences[$1].count, $1) }
    var result: Matrix?
    var batch: [Int] = []
    var tokens = 0
    var done = 0
    func flush() {
      guard !batch.isEmpty else { return }
      let rows = model.embeddings(TokenBatch(batch.map { sequences[$0] }))
      var all = result ?? Matrix(rows: sequences.count, columns: rows.columns)
      for (row, index) in batch.enumerated() {
        all.values.replaceSubrange(all.range(ofRow: index), with: rows.row(row))
      }
      result = all
      done += batch.count
      progress(Double(done) / Double(sequences.count))
      batch = []
      tokens = 0
    }
    for index in order {
      if tokens + sequences[index].count > 2048 { flush() }
      batch.append(index)
      tokens += sequences[index].count
    }
    flush()
    return result ?? Matrix(rows: 0, columns: 0)
  }

  /// The drift of `model` from `reference`; without a reference, the labels alone.
  public func drift(
    of model: any TextEncoder, from reference: (any TextEncoder)?,
    progress: (Double) -> Void = { _ in }
  ) throws(DriftError) -> EmbeddingDrift {
    let own = Self.embeddings(sentences, model, progress: progress)
    guard countNotFinite(own.values.span) == 0 else { throw .notFinite(window: 0) }
    let others = reference.map { Self.embeddings(sentences, $0) }
    if let others, countNotFinite(others.values.span) > 0 { throw .notFinite(window: 0) }
    let cosine = others.map { others -> EmbeddingDrift.Cosine in
      let values = (0..<own.rows).map { Self.cosine(own.row($0), others.row($0)) }
      let sorted = values.sorted()
      return EmbeddingDrift.Cosine(
        mean: values.reduce(0, +) / Double(max(1, values.count)),
        p01: percentile(0.01, ofSorted: sorted), min: sorted.first ?? 0,
        interval: Bootstrap(windows: values.count).intervalOfMean(values))
    }
    return EmbeddingDrift(
      sentences: sentences.count, cosine: cosine,
      neighbours: others.flatMap { NeighbourOverlap(own, $0) }, spearman: correlation(model),
      referenceSpearman: reference.flatMap { correlation($0) })
  }

  private func correlation(_ model: any TextEncoder) -> Double? {
    guard !pairs.isEmpty else { return nil }
    let all = Self.embeddings(pairs.flatMap { [$0.first, $0.second] }, model)
    let cosines = pairs.indices.map { Self.cosine(all.row(2 * $0), all.row(2 * $0 + 1)) }
    return 100 * spearman(cosines, pairs.map(\.score))
  }

  static func cosine(_ a: [Float], _ b: [Float]) -> Double {
    var product = 0.0, lengthA = 0.0, lengthB = 0.0
    for (x, y) in zip(a, b) {
      product += Double(x) * Double(y)
      lengthA += Double(x) * Double(x)
      lengthB += Double(y) * Double(y)
    }
    let scale = (lengthA * lengthB).squareRoot()
    return scale > 0 ? product / scale : 0
  }
}
