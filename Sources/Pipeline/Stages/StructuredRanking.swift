// In which order a network's heads and channels can go, measured once on the network as it is given. Any sizes are then a
// prefix of each order.

import Calibration
import Checkpoints
import LinearAlgebra
import Networks
import Pruning
import Tensors

/// The orders of removal.
struct StructuredRanking: Sendable {
  /// For each layer the groups of heads that share keys and values, the first to go first.
  var groups: [[Int]]
  /// For each layer the heads of the queries, likewise: inside groups that stay, all lose as many.
  var heads: [[Int]]
  /// For each layer the MLP's channels, likewise.
  var inner: [[Int]]
  /// Channels of the stream, likewise; the natural order where nobody asked.
  var width: [Int]
  /// For each norm of the stream the mean share of each channel in its square, `[width]`.
  var shares: [String: [Double]] = [:]

  /// The last ones go first.
  init(lastFirst sizes: StructuralSizes) {
    func last(_ count: Int) -> [Int] { (0..<count).reversed() }
    groups = [[Int]](repeating: last(sizes.keyHeads), count: sizes.layers)
    heads = [[Int]](repeating: last(sizes.heads), count: sizes.layers)
    inner = [[Int]](repeating: last(sizes.inner), count: sizes.layers)
    width = last(sizes.width)
  }

  /// What stays at given sizes.
  func cut(
    layers: [StructuredCut.Layer], to new: StructuralSizes, of old: StructuralSizes
  ) -> StructuredCut {
    var cut = StructuredCut(all: old)
    cut.layers = layers
    let share = old.heads / old.keyHeads
    for layer in 0..<old.layers {
      let groups = Set(self.groups[layer].suffix(new.keyHeads))
      var left = [Int: Int](uniqueKeysWithValues: groups.map { ($0, new.heads / new.keyHeads) })
      var kept: [Int] = []
      // The last to go stay, until their group is full.
      for head in heads[layer].reversed() {
        guard let room = left[head / share], room > 0 else { continue }
        left[head / share] = room - 1
        kept.append(head)
      }
      cut.heads[layer] = kept.sorted()
      cut.inner[layer] = inner[layer].suffix(new.inner).sorted()
    }
    cut.width = width.suffix(new.width).sorted()
    return cut
  }

  /// Factors of the norms of the stream, whose means run over fewer channels behind a cut: the mean square of those that
  /// stay over that of all.
  func normFactors(_ width: [Int]) -> [String: Float] {
    shares.compactMapValues { shares in
      guard width.count < shares.count else { return nil }
      let kept = width.reduce(0.0) { $0 + shares[$1] } / Double(width.count)
      let all = shares.reduce(0, +) / Double(shares.count)
      return all > 0 ? Float((kept / all).squareRoot()) : 1
    }
  }
}

/// Measures rankings.
struct StructuredMeasurement {
  let network: any StructuredNetwork
  let set: CalibrationSet?
  let importance: ChannelImportance
  /// Whether channels of the stream will go.
  let cutsWidth: Bool
  let damping: Double
  let progress: (Double) -> Void

  /// Tokens of a backward pass: what the loss feels is an average that few tokens give.
  static let gradientTokens = 16384

  /// The orders of removal.
  ///
  /// - Throws: `FactorizationError` for statistics that are no numbers.
  func ranking() throws -> StructuredRanking {
    let structure = network.structure, sizes = structure.sizes
    var ranking = StructuredRanking(lastFirst: sizes)
    let curvature = importance == .curvature ? measureCurvature() : nil
    let gates = importance == .taylor ? measureGates() : nil
    guard let set, importance != .order, importance != .magnitude else {
      return importance == .magnitude ? byMagnitude(ranking, structure) : ranking
    }
    let batches = set.batches(tokens: LayerStream.batchTokens).map {
      TokenBatch(Array(set.sequences[$0]))
    }
    var hidden = batches.map { network.embed($0, position: 0) }
    var readers: [(moment: DoubleMatrix, layers: [Linear])] = []
    var widthSums = ActivationImportance(groups: sizes.width, groupSize: 1)
    for (index, sublayer) in network.sublayers.enumerated() {
      progress(Double(index) / Double(network.sublayers.count))
      let isAttention = structure.branches[index].isAttention
      guard let output = sublayer.groups.last?.first, let layer = structure.branches[index].layer
      else { continue }
      let n = output.matrix.inputs
      var moment = SecondMoment(width: n)
      let headSize = structure.headSize
      var sizes = ActivationImportance(
        groups: isAttention ? n / headSize : n, groupSize: isAttention ? headSize : 1)
      var readerMoment = SecondMoment(width: network.embedding.matrix.inputs)
      for (place, batch) in batches.enumerated() {
        let x = sublayer.run(
          hidden[place], batch, cache: nil, inputOf: sublayer.groups.count - 1)
        if importance == .activation {
          sizes.add(x)
        } else if importance != .taylor {
          moment.add(x)
        }
        if cutsWidth {
          let read = sublayer.run(hidden[place], batch, cache: nil, inputOf: 0)
          widthSums.add(read)
          readerMoment.add(read)
        }
        addShares(of: hidden[place], before: sublayer, to: &ranking)
        hidden[place] = sublayer.run(hidden[place], batch, cache: nil, inputOf: nil)
      }
      if cutsWidth { readers.append((readerMoment.mean(), sublayer.groups[0])) }
      let scores: Scores
      switch importance {
      case .activation: scores = .values(sizes.means)
      case .taylor: scores = .values(gates?[output.weightName] ?? [])
      default: scores = .moment(moment.mean(), curvature?.layers[output.weightName]?.output)
      }
      func order(_ groupSize: Int, _ unit: Int) throws -> [Int] {
        try Self.order(scores, of: output, groupSize: groupSize, unit: unit, damping)
      }
      if isAttention {
        let share = structure.sizes.heads / structure.sizes.keyHeads
        ranking.groups[layer] = try order(share * headSize, headSize)
        ranking.heads[layer] = try order(headSize, headSize)
      } else {
        ranking.inner[layer] = try order(1, 1)
      }
    }
    if cutsWidth {
      try rankWidth(readers, hidden, widthSums.means, curvature, &ranking)
    }
    return ranking
  }

  /// What a layer's channels are judged by.
  private enum Scores {
    /// One for each channel, or for each head.
    case values([Double])
    /// The moment of the inputs, and the metric of the outputs; nil for the identity.
    case moment(DoubleMatrix, DoubleMatrix?)
  }

  /// Groups of a layer's inputs, the first to go first.
  private static func order(
    _ scores: Scores, of output: Linear, groupSize: Int, unit: Int, _ damping: Double
  ) throws -> [Int] {
    switch scores {
    case .values(let values): return ascending(summed(values, by: groupSize / unit))
    case .moment(let moment, let metric):
      let weight = output.matrix.decoded()
      return try GroupElimination(
        [.init(moment: moment, gram: weight.gram(metric: metric), groupSize: groupSize)],
        damping: damping
      ).order
    }
  }

  /// Means over neighbours.
  private static func summed(_ values: [Double], by count: Int) -> [Double] {
    stride(from: 0, to: values.count, by: count).map { start in
      values[start..<start + count].reduce(0, +)
    }
  }

  /// Indices, the least value first; of equal ones the later first.
  private static func ascending(_ values: [Double]) -> [Int] {
    values.indices.sorted { (values[$0], -$0) < (values[$1], -$1) }
  }

  /// By the squares of weights.
  private func byMagnitude(
    _ ranking: StructuredRanking, _ structure: NetworkStructure
  ) -> StructuredRanking {
    var ranking = ranking
    let sizes = structure.sizes, share = sizes.heads / sizes.keyHeads
    var width = [Double](repeating: 0, count: sizes.width)
    for (sublayer, branch) in zip(network.sublayers, structure.branches) {
      guard let output = sublayer.groups.last?.first, let layer = branch.layer else { continue }
      var squares = Self.columnSquares(output.matrix.decoded())
      for reader in sublayer.groups[0] {
        let weight = reader.matrix.decoded()
        if !branch.isAttention {
          for (row, square) in Self.rowSquares(weight).enumerated() { squares[row] += square }
        }
        for (column, square) in Self.columnSquares(weight).enumerated() {
          width[column] += square
        }
      }
      if branch.isAttention {
        let heads = Self.summed(squares, by: structure.headSize)
        ranking.groups[layer] = Self.ascending(Self.summed(heads, by: share))
        ranking.heads[layer] = Self.ascending(heads)
      } else {
        ranking.inner[layer] = Self.ascending(squares)
      }
    }
    ranking.width = Self.ascending(width)
    return ranking
  }

  private static func columnSquares(_ matrix: Matrix) -> [Double] {
    var sums = [Double](repeating: 0, count: matrix.columns)
    for row in 0..<matrix.rows {
      for (column, index) in matrix.range(ofRow: row).enumerated() {
        sums[column] += Double(matrix.values[index]) * Double(matrix.values[index])
      }
    }
    return sums
  }

  private static func rowSquares(_ matrix: Matrix) -> [Double] {
    (0..<matrix.rows).map { row in
      matrix.values[matrix.range(ofRow: row)].reduce(0.0) { $0 + Double($1) * Double($1) }
    }
  }

  // MARK: - The stream

  /// Adds each channel's share of the square of a norm's input.
  private func addShares(
    of hidden: Matrix, before sublayer: any Sublayer, to ranking: inout StructuredRanking
  ) {
    guard cutsWidth, case .norm(let name) = sublayer.sources[0] else { return }
    Self.add(
      hidden, to: &ranking.shares[name, default: [Double](repeating: 0, count: hidden.columns)])
  }

  private static func add(_ hidden: Matrix, to shares: inout [Double]) {
    for row in 0..<hidden.rows {
      let values = hidden.values.span.extracting(hidden.range(ofRow: row))
      let scale = 1 / max(Double(dot(values, values)), .leastNormalMagnitude)
      for i in values.indices { shares[i] += Double(values[i]) * Double(values[i]) * scale }
    }
  }

  private func rankWidth(
    _ readers: [(moment: DoubleMatrix, layers: [Linear])], _ hidden: [Matrix], _ means: [Double],
    _ curvature: LossCurvature?, _ ranking: inout StructuredRanking
  ) throws {
    guard let model = network as? any LanguageModel, let stream = model.rotatableStream else {
      return
    }
    var last = SecondMoment(width: model.head.matrix.inputs)
    var shares = [Double](repeating: 0, count: model.head.matrix.inputs)
    for part in hidden {
      last.add(model.normalize(part))
      Self.add(part, to: &shares)
    }
    ranking.shares[stream.finalNorm] = shares
    guard importance == .reconstruction || importance == .curvature else {
      ranking.width = Self.ascending(means)
      return
    }
    var problems: [GroupElimination.Problem] = []
    for (moment, layers) in readers + [(last.mean(), [model.head])] {
      // All layers of a group read one input: their errors add up. Without a metric each counts by its own share.
      var gram = DoubleMatrix(size: moment.size)
      for linear in layers {
        var weight = linear.matrix.decoded(), metric = curvature?.layers[linear.weightName]?.output
        if linear === model.head, let head = curvature?.head {
          // The logits' curvature is nearly diagonal: rows count by the roots of p (1 − p).
          weight.scaleRows(by: head.outputDiagonal.map { Float($0.squareRoot()) })
          metric = nil
        }
        var part = weight.gram(metric: metric)
        let energy =
          curvature == nil ? zip(part.values, moment.values).reduce(0.0) { $0 + $1.0 * $1.1 } : 1
        let scale = energy > 0 ? 1 / energy : 0
        for i in part.values.indices { part.values[i] *= scale }
        for i in gram.values.indices { gram.values[i] += part.values[i] }
      }
      problems.append(.init(moment: moment, gram: gram))
    }
    ranking.width = try GroupElimination(problems, damping: damping).order
  }
}

extension Matrix {
  /// Multiplies each row by its factor.
  fileprivate mutating func scaleRows(by factors: [Float]) {
    precondition(factors.count == rows)
    for row in 0..<rows {
      for i in range(ofRow: row) { values[i] *= factors[row] }
    }
  }

  /// Wᵀ G W in double, `[columns, columns]`; G is the identity without a metric.
  func gram(metric: DoubleMatrix?) -> DoubleMatrix {
    var left = self
    if let metric {
      // G W, in float32: what chooses needs no more.
      var values = [Float](repeating: 0, count: rows * columns)
      let g = Matrix(rows: rows, columns: rows, values: metric.values.map { Float($0) })
      var target = values.mutableSpan
      BLAS.addProduct(
        scale: 1, g.values.span, transposed: false, aStride: rows, self.values.span,
        bStride: columns, to: &target, cStride: columns, rows: rows, columns: columns, depth: rows)
      left = Matrix(rows: rows, columns: columns, values: values)
    }
    var moment = ProductMoment(outputs: columns, inputs: columns)
    moment.add(targets: left, inputs: self)
    let scale = Double(rows)
    var result = DoubleMatrix(size: columns, values: moment.mean().map { $0 * scale })
    for i in 0..<columns {
      for j in 0..<i {
        let mean = (result[i, j] + result[j, i]) / 2
        result[i, j] = mean
        result[j, i] = mean
      }
    }
    return result
  }
}
