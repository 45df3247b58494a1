// A teacher that runs beside the student, and the losses that compare the insides of both.

import HDF5Files
import Networks
import Tensors

/// What a teacher's forward pass over a batch leaves.
struct TeacherStreams {
  /// The head's input.
  var last: Matrix
  /// Streams behind layers, by number.
  var layers: [Int: Matrix]
  /// Results of linear layers, by the place of the loss and in the order of the group.
  var relations: [Int: [Matrix]]
}

extension DistillationObjective {
  /// The logits of rows of the teacher.
  func teacherLogits(_ last: Matrix, _ rows: Range<Int>) -> Matrix {
    teacher?.logits(ofNormalized: last.rows(rows)) ?? Matrix(rows: 0, columns: 0)
  }

  /// Runs the teacher on a batch; nil without one.
  ///
  /// - Parameter keepsInside: Whether losses on the inside will be taken.
  func teacherRun(_ batch: TokenBatch, keepsInside: Bool) throws(DistillationError)
    -> TeacherStreams?
  {
    guard let teacher else { return nil }
    let needsStreams = keepsInside && !options.representations.isEmpty
    let kept = needsStreams ? try keptLayers(teacher, isTeacher: true) : []
    let tape = kept.contains { !$0.isEmpty } ? GradientTape(keeping: Set(kept.flatMap { $0 })) : nil
    // A tape keeps what is asked for; nobody walks it.
    let own = TokenBatch(batch.sequences.map { Array(batch.tokens[$0]) }, tape: tape)
    var layers: [Int: Matrix] = [:]
    let ends = needsStreams ? teacher.layerBranches.map { $0.upperBound - 1 } : []
    let hidden = teacher.hidden(own) { branch, stream in
      if let layer = ends.firstIndex(of: branch) { layers[layer] = stream.unrecorded }
    }
    var relations: [Int: [Matrix]] = [:]
    for (index, names) in kept.enumerated() where !names.isEmpty {
      relations[index] = names.compactMap { tape?.takeKept($0)?.unrecorded }
    }
    return TeacherStreams(
      last: teacher.normalize(hidden.unrecorded), layers: layers, relations: relations)
  }

  /// The losses on the inside: what they add to the gradients on the way of the walk.
  func representation(
    _ kept: [[String]], tape: GradientTape, streams: [Int: Matrix], teacher: TeacherStreams?,
    _ windows: [TrainingWindow], _ batch: TokenBatch, _ sums: inout LossSums
  ) throws(DistillationError) -> [(result: Matrix, gradient: Matrix)] {
    var also: [(result: Matrix, gradient: Matrix)] = []
    for (index, loss) in options.representations.enumerated() {
      switch loss {
      case .stream(let student, let teacherLayer, let weight):
        guard let own = streams[student] else {
          throw .noSuchLayer(asked: student, layers: streams.count)
        }
        guard let other = teacher?.layers[teacherLayer] ?? Self.logged(windows, teacherLayer)
        else {
          throw .needsTeacher(
            what:
              "the stream behind layer \(teacherLayer) of the teacher is not known: give --teacher, or log it with "
              + "condense teacher-log --hidden-layers \(teacherLayer + 1)")
        }
        let projection = projections[index]
        let result = StreamLoss.apply(
          student: own, teacher: other,
          projection: projection.map {
            Matrix(rows: $0.rows, columns: $0.columns, values: $0.values)
          }, scale: weight)
        sums.representation += result.value
        if let slope = result.projection { projection?.addGradient(slope.values) }
        also.append((own, result.student))
      case .relations(_, let teacherLayer, let heads, let weight):
        guard let others = teacher?.relations[index] else {
          throw .needsTeacher(
            what: "relations of layer \(teacherLayer) need the teacher itself: give --teacher")
        }
        for (name, other) in zip(kept[index], others) {
          guard let own = tape.takeKept(name) else { continue }
          let result = RelationLoss.apply(
            student: own, teacher: other, sequences: batch.sequences, heads: heads,
            isCausal: true, scale: weight / Double(heads * others.count))
          sums.representation += result.value
          also.append((own, result.student))
        }
      }
    }
    return also
  }

  /// Streams of the teacher that were written into the log; nil when one of the windows has none.
  private static func logged(_ windows: [TrainingWindow], _ layer: Int) -> Matrix? {
    var parts: [Matrix] = []
    for window in windows {
      // A log counts layers from 1: 0 is the embedding.
      guard let own = window.log?.hidden[layer + 1], own.rows >= window.tokens.count - 1 else {
        return nil
      }
      parts.append(own.rows(0..<window.tokens.count - 1))
    }
    return Matrix.stack(parts)
  }
}
