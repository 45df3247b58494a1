// The loss of one batch: rows of the student's logits against what is known of the teacher, and the losses on the inside.

import HDF5Files
import Networks
import Synchronization
import Tensors

/// Sums over rows of one or more batches.
public struct LossSums: Sendable, Equatable {
  /// Σ weight · divergence, at T, times T².
  public var divergence = 0.0
  /// Σ weight · negative log-likelihood of the text.
  public var text = 0.0
  /// Σ of the losses on the inside, with their weights.
  public var representation = 0.0
  /// Σ weight.
  public var weight = 0.0
  /// Tokens whose prediction counts, or samples.
  public var units = 0
  /// Σ weight of samples whose likeliest label is the right one; nil for texts, and without labels.
  public var rightLabels: Double?

  /// Nothing yet.
  public init() {}

  mutating func add(_ other: LossSums) {
    divergence += other.divergence
    text += other.text
    representation += other.representation
    weight += other.weight
    units += other.units
    if let right = other.rightLabels { rightLabels = (rightLabels ?? 0) + right }
  }
}

/// Computes losses and their gradients.
struct DistillationObjective {
  let options: TrainingOptions
  /// A teacher that runs beside the student; nil with logs or text alone.
  let teacher: (any LanguageModel)?
  /// Trained projections of streams, by the place of their loss in the options.
  var projections: [Int: TrainedParameter] = [:]

  /// A row's windows and what is known there.
  private struct Row {
    let window: Int
    let position: Int
  }

  /// A batch, without the last token of each window.
  private static func batch(
    _ windows: [TrainingWindow], tape: GradientTape?, recomputes: Bool = false
  ) -> TokenBatch {
    TokenBatch(windows.map { Array($0.tokens.dropLast()) }, tape: tape, recomputes: recomputes)
  }

  /// Names of layers whose results the losses on the inside need.
  func keptLayers(
    _ model: any LanguageModel, isTeacher: Bool
  ) throws(DistillationError) -> [[String]] {
    var kept: [[String]] = []
    for loss in options.representations {
      guard case .relations(let student, let teacher, _, _) = loss else {
        kept.append([])
        continue
      }
      let layer = isTeacher ? teacher : student
      let layers = model.layerBranches
      guard layers.indices.contains(layer),
        let group = model.sublayers[layers[layer]].lazy.compactMap({ $0.groups.first })
          .first(where: { $0.count == 3 })
      else { throw .noSuchLayer(asked: layer, layers: layers.count) }
      kept.append(group.map(\.name))
    }
    return kept
  }

  /// Loss and gradients of a batch; parts of the gradients go to the observer.
  func run(
    _ model: any LanguageModel, _ windows: [TrainingWindow], observer: (any GradientObserver)?
  ) throws -> LossSums {
    let kept = try keptLayers(model, isTeacher: false)
    let hasInside = !options.representations.isEmpty && observer != nil
    let tape = observer.map { _ in GradientTape(keeping: Set(kept.flatMap { $0 })) }
    let batch = Self.batch(windows, tape: tape, recomputes: options.recomputes && !hasInside)
    var streams: [Int: Matrix] = [:]
    let ends = hasInside ? model.layerBranches.map { $0.upperBound - 1 } : []
    let hidden = model.hidden(batch) { branch, stream in
      if let layer = ends.firstIndex(of: branch) { streams[layer] = stream }
    }
    var sums = LossSums()
    var also: [(result: Matrix, gradient: Matrix)] = []
    let teacherStreams = try teacherRun(batch, keepsInside: hasInside)
    if hasInside, let tape {
      also = try representation(
        kept, tape: tape, streams: streams, teacher: teacherStreams, windows, batch, &sums)
    }
    let rows = zip(batch.sequences, windows.indices).flatMap { range, window in
      range.map { Row(window: window, position: $0 - range.lowerBound) }
    }
    let total = Mutex([LossSums](repeating: LossSums(), count: rows.count))
    func step(_ range: Range<Int>, _ logits: inout Matrix) {
      let columns = logits.columns
      let others = teacherStreams.map { teacherLogits($0.last, range) }
      ParallelLoop.overRows(of: &logits.values, rowLength: columns, blockRows: 4) { block, part in
        for (index, row) in block.enumerated() {
          var values = part._mutatingExtracting(index * columns..<(index + 1) * columns)
          let place = rows[range.lowerBound + row]
          let sums = apply(
            &values, windows[place.window], position: place.position,
            teacher: others.map { Array($0.values[$0.range(ofRow: row)]) })
          total.withLock { $0[range.lowerBound + row] = sums }
        }
      }
    }
    if let observer {
      model.backpropagate(hidden, observer: observer, also: also, loss: step)
    } else {
      let x = model.normalize(hidden)
      let atOnce = max(64, (1 << 22) / max(1, model.vocabularySize))
      for start in stride(from: 0, to: x.rows, by: atOnce) {
        let range = start..<min(start + atOnce, x.rows)
        var logits = model.logits(ofNormalized: x.rows(range))
        step(range, &logits)
      }
    }
    for row in total.withLock({ $0 }) { sums.add(row) }
    sums.units = windows.reduce(0) { $0 + $1.rows.count }
    return sums
  }

  /// Replaces one row of logits by the gradient of its loss.
  private func apply(
    _ logits: inout MutableSpan<Float>, _ window: TrainingWindow, position: Int,
    teacher: [Float]?
  ) -> LossSums {
    var sums = LossSums()
    guard window.rows.contains(position), window.weight > 0 else {
      for i in logits.indices { logits[i] = 0 }
      return sums
    }
    sums.weight = window.weight
    let label = Int(window.tokens[position + 1])
    let divergenceWeight = options.targets.areHard ? 0 : options.divergenceWeight
    let usesText = options.targets.areHard ? 1 : options.textWeight
    let a = Float(window.weight * divergenceWeight), b = Float(window.weight * usesText)
    // The text's loss is measured even where it does not count.
    if divergenceWeight == 0 {
      sums.text = window.weight * RowGradients.crossEntropy(&logits, label: label)
      scale(&logits, by: b)
    } else if usesText == 0 {
      sums.text = window.weight * (logSumExp(logits.span) - Double(logits[label]))
      sums.divergence = window.weight * divergence(&logits, window, position: position, teacher)
      scale(&logits, by: a)
    } else {
      var text = [Float](copying: logits.span)
      var textSpan = text.mutableSpan
      sums.text = window.weight * RowGradients.crossEntropy(&textSpan, label: label)
      sums.divergence = window.weight * divergence(&logits, window, position: position, teacher)
      for i in logits.indices { logits[i] = a * logits[i] + b * textSpan[i] }
    }
    return sums
  }

  private func scale(_ logits: inout MutableSpan<Float>, by factor: Float) {
    if factor == 1 { return }
    for i in logits.indices { logits[i] *= factor }
  }

  private func divergence(
    _ logits: inout MutableSpan<Float>, _ window: TrainingWindow, position: Int, _ teacher: [Float]?
  ) -> Double {
    if var teacher {
      var span = teacher.mutableSpan
      return options.divergence.apply(
        to: &logits, teacher: &span, temperature: options.temperature)
    }
    guard let log = window.log else { preconditionFailure("a divergence without a teacher") }
    return options.divergence.apply(
      to: &logits, targets: options.targets, log: log, row: position - log.rows.lowerBound,
      label: window.tokens[position + 1], temperature: options.temperature)
  }
}

extension Array where Element == Float {
  /// A copy of a span.
  init(copying span: Span<Float>) {
    self.init()
    reserveCapacity(span.count)
    for i in span.indices { append(span[i]) }
  }
}
