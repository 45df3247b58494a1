// Walks the original network and the cut one side by side, and fits what the cut has left to give what the original
// gives: each branch's output layer the stream behind it, less what the branches before have made of it.

import Calibration
import Checkpoints
import Encodings
import LinearAlgebra
import Networks
import Pruning
import Tensors

/// Fits the weights of a cut network.
struct StructuredRepair {
  let network: any StructuredNetwork
  let cut: StructuredCheckpoint
  let set: CalibrationSet
  let fit: LeastSquaresRepair
  /// Keeps fitted weights for a run that takes over; nil keeps none.
  var output: StageOutput?
  let progress: (Double) -> Void

  /// The cut checkpoint with fitted weights, and how well each fits.
  ///
  /// - Throws: `CheckpointError`, and `FactorizationError` for statistics that are no numbers.
  func run() throws -> (checkpoint: StructuredCheckpoint, records: [FittedLayer]) {
    var result = Fitted(checkpoint: cut)
    let small = try FamilyRegistry.network(of: cut)
    let batches = set.batches(tokens: LayerStream.batchTokens).map {
      TokenBatch(Array(set.sequences[$0]))
    }
    var original = batches.map { network.embed($0, position: 0) }
    var current = batches.map { small.embed($0, position: 0) }
    let branches = cut.cut.branches(in: cut.structure)
    var position = 0
    for (index, branch) in branches.enumerated() {
      progress(Double(index) / Double(branches.count))
      advance(&original, through: position..<branch, batches)
      position = branch
      let sublayer = small.sublayers[index], source = network.sublayers[branch]
      try fitReaders(sublayer, source, original, current, batches, &result)
      let behind = index + 1 < branches.count ? branches[index + 1] : network.sublayers.count
      try fitWriter(
        sublayer, source, through: branch + 1..<behind, &original, &current, batches, &result)
      position = behind
    }
    if let small = small as? any LanguageModel {
      try fitFinalNorm(small, original, current, &result)
    }
    return (result.checkpoint, result.records)
  }

  /// The norm before the head, channel by channel: it gives every token one length again, however little of the stream
  /// is right, and a head that is tied to the embedding cannot be fitted to that.
  private func fitFinalNorm(
    _ small: any LanguageModel, _ original: [Matrix], _ current: [Matrix], _ result: inout Fitted
  ) throws {
    guard let model = network as? any LanguageModel, let name = model.rotatableStream?.finalNorm,
      let weight = result.checkpoint.tensor(name)?.floats()
    else { return }
    let width = weight.count, isCut = width < network.embedding.matrix.inputs
    var products = [Double](repeating: 0, count: width), squares = products
    for (original, current) in zip(original, current) {
      var target = model.normalize(original)
      if isCut { target = target.selectingColumns(cut.cut.width) }
      let found = small.normalize(current)
      for row in 0..<found.rows {
        for (column, i) in found.range(ofRow: row).enumerated() {
          let value = Double(found.values[i])
          products[column] += Double(target.values[i]) * value
          squares[column] += value * value
        }
      }
    }
    let damping = fit.damping * squares.reduce(0, +) / Double(max(1, width))
    guard damping.isFinite, damping > 0 else { return }
    // Of each channel's factor f the least (f y − t)² + damping (f − 1)².
    let values = weight.indices.map { i in
      Float(Double(weight[i]) * (products[i] + damping) / (squares[i] + damping))
    }
    result.checkpoint.fitted[name] = Matrix(rows: 1, columns: width, values: values)
  }

  /// What is fitted so far.
  private struct Fitted {
    var checkpoint: StructuredCheckpoint
    var records: [FittedLayer] = []
  }

  /// Takes over layers that an earlier run of the same work has fitted; false when one of them is missing.
  private func takeOver(_ layers: [Linear], _ result: inout Fitted) throws -> Bool {
    guard let output else { return false }
    let found = try layers.enumerated().compactMap {
      try FinishedLayer.read(
        output.layerPath(result.records.count + $0), tensor: $1.weightName)
    }
    guard found.count == layers.count else { return false }
    for (layer, finished) in zip(layers, found) {
      layer.matrix = finished.encoded.matrix
      result.checkpoint.fitted[layer.weightName] = finished.encoded.matrix.decoded()
      result.records.append(FittedLayer(record: finished.record, seconds: 0, wasKept: true))
    }
    return true
  }

  private func advance(
    _ streams: inout [Matrix], through branches: Range<Int>, _ batches: [TokenBatch]
  ) {
    for branch in branches {
      for (index, batch) in batches.enumerated() {
        streams[index] = network.sublayers[branch].run(
          streams[index], batch, cache: nil, inputOf: nil)
      }
    }
  }

  /// The layers that read the stream, fitted to give what they gave, for the channels that stay.
  private func fitReaders(
    _ sublayer: any Sublayer, _ source: any Sublayer, _ original: [Matrix], _ current: [Matrix],
    _ batches: [TokenBatch], _ result: inout Fitted
  ) throws {
    let readers = sublayer.groups[0], sources = source.groups[0]
    if try takeOver(readers, &result) { return }
    let n = readers[0].matrix.inputs, all = sources[0].matrix.inputs
    var moment = SecondMoment(width: n), cross = ProductMoment(outputs: all, inputs: n)
    var before = SecondMoment(width: all)
    for (place, batch) in batches.enumerated() {
      let y = sublayer.run(current[place], batch, cache: nil, inputOf: 0)
      let x = source.run(original[place], batch, cache: nil, inputOf: 0)
      moment.add(y)
      before.add(x)
      cross.add(targets: x, inputs: y)
    }
    let mean = moment.mean(), shared = cross.mean(), originals = before.mean()
    for (reader, full) in zip(readers, sources) {
      // t = W x, so C = W E[x yᵀ], for the rows that stay.
      let weight = full.matrix.decoded(), kept = result.checkpoint.keptRows(reader.weightName)
      let rows = kept ?? Array(0..<weight.rows)
      let targets = BLAS.product(
        rows.flatMap { weight.values[weight.range(ofRow: $0)].map(Double.init) }, shared,
        rows: rows.count, depth: all, columns: n)
      try replace(
        reader, moment: mean, targets: targets,
        energy: LeastSquaresRepair.energy(of: weight, rows: rows, moment: originals), &result)
    }
  }

  /// The layer that adds to the stream, fitted so that the stream behind it is what it was before the next branch that
  /// stays. Moves both streams behind the branch.
  private func fitWriter(
    _ sublayer: any Sublayer, _ source: any Sublayer, through removed: Range<Int>,
    _ original: inout [Matrix], _ current: inout [Matrix], _ batches: [TokenBatch],
    _ result: inout Fitted
  ) throws {
    let last = sublayer.groups.count - 1
    guard let writer = sublayer.groups[last].first, let full = source.groups[last].first else {
      return
    }
    let isKept = try takeOver([writer], &result)
    var moment = SecondMoment(width: writer.matrix.inputs)
    var cross = ProductMoment(outputs: writer.matrix.outputs, inputs: writer.matrix.inputs)
    var energy = 0.0, tokens = 0
    let width = cut.cut.width, isCut = width.count < network.embedding.matrix.inputs
    // A norm behind the addition makes the stream no sum of branches: there the branch's own sum is the target.
    let isSum = (network as? any LanguageModel)?.rotatableStream != nil
    for (place, batch) in batches.enumerated() {
      var target: Matrix
      if isSum {
        target = source.run(original[place], batch, cache: nil, inputOf: nil)
        for branch in removed {
          target = network.sublayers[branch].run(target, batch, cache: nil, inputOf: nil)
        }
        original[place] = target
      } else {
        target = full.apply(source.run(original[place], batch, cache: nil, inputOf: last))
        target.add(original[place])
        original[place] = source.run(original[place], batch, cache: nil, inputOf: nil)
        for branch in removed {
          original[place] = network.sublayers[branch].run(
            original[place], batch, cache: nil, inputOf: nil)
        }
      }
      if isKept { continue }
      if isCut { target = target.selectingColumns(width) }
      target.subtract(current[place], bias: writer.bias)
      let y = sublayer.run(current[place], batch, cache: nil, inputOf: last)
      moment.add(y)
      cross.add(targets: target, inputs: y)
      energy += target.values.reduce(0.0) { $0 + Double($1) * Double($1) }
      tokens += target.rows
    }
    if !isKept {
      try replace(
        writer, moment: moment.mean(), targets: cross.mean(),
        energy: energy / Double(max(1, tokens)), &result)
    }
    for (place, batch) in batches.enumerated() {
      current[place] = sublayer.run(current[place], batch, cache: nil, inputOf: nil)
    }
  }

  /// - Parameter energy: The mean of |t|².
  private func replace(
    _ layer: Linear, moment: DoubleMatrix, targets: [Double], energy: Double,
    _ result: inout Fitted
  ) throws {
    let start = ContinuousClock.now
    let fitted = try fit.fit(layer.matrix.decoded(), moment: moment, targets: targets)
    result.checkpoint.fitted[layer.weightName] = fitted
    // As it will be stored, so that later layers see the rounding.
    guard let stored = result.checkpoint.tensor(layer.weightName) else { return }
    let matrix = FloatMatrix(stored)
    layer.matrix = matrix
    let error = LeastSquaresRepair.error(
      of: matrix.decoded(), moment: moment, targets: targets, energy: energy)
    let record = LayerRecord.fitted(
      layer.weightName, encoding: stored.dtype.rawValue.lowercased(),
      bitsPerWeight: matrix.bitsPerWeight, relativeError: energy > 0 ? error / energy : 0,
      deadInputs: moment.diagonal.count { $0 == 0 })
    if let output {
      try FinishedLayer(record: record, encoded: PlainFloats(stored.dtype).encode(matrix.decoded()))
        .write(to: output.layerPath(result.records.count))
    }
    result.records.append(
      FittedLayer(record: record, seconds: (ContinuousClock.now - start) / .seconds(1)))
  }
}

extension Matrix {
  /// Takes another matrix and a row from each row.
  fileprivate mutating func subtract(_ other: Matrix, bias: [Float]?) {
    precondition(other.rows == rows && other.columns == columns)
    for i in values.indices { values[i] -= other.values[i] }
    guard let bias else { return }
    for row in 0..<rows {
      for column in 0..<columns { values[row * columns + column] -= bias[column] }
    }
  }
}
