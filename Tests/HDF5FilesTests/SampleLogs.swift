import Checkpoints
import JSONDocuments
import Tensors
import TestSupport

@testable import HDF5Files

/// Teacher logs with made-up numbers.
enum SampleLogs {
  static func manifest(
    vocabulary: Int = 300, context: Int = 24, k: Int = 4, samples: Int = 20,
    source: TeacherLogManifest.Source = .model, hidden: [Int] = []
  ) -> TeacherLogManifest {
    TeacherLogManifest(
      source: source, teacher: "t", teacherHash: "a", tokenizerHash: "b", vocabulary: vocabulary,
      textHash: "c", context: context, topCount: k, sampleCount: samples, seed: 3,
      hiddenLayers: hidden, hiddenWidth: hidden.isEmpty ? 0 : 3)
  }

  /// Windows whose numbers lie on the grid of the log's steps, so that they come back bit for bit.
  static func windows(_ manifest: TeacherLogManifest, count: Int, seed: String)
    -> [TeacherLogWindow]
  {
    var random = RandomStream(test: "teacher log " + seed)
    let vocabulary = manifest.vocabulary, k = manifest.topCount
    let nats = TeacherLogSteps(resolution: manifest.resolution).nats
    func steps(_ below: Int) -> Float { Float(random.integer(below: below)) / 256 }
    return (0..<count).map { _ in
      let length = 2 + random.integer(below: manifest.context - 1)
      // Few ids are frequent.
      let tokens = (0..<length).map { _ in
        Int32(random.integer(below: 1 + random.integer(below: vocabulary)))
      }
      let first = random.integer(below: length - 1)
      let rows = first..<first + 1 + random.integer(below: length - 1 - first)
      var window = TeacherLogWindow(tokens: tokens, rows: rows)
      for row in 0..<rows.count {
        let next = tokens[rows.lowerBound + row + 1]
        var list: [Int32] = []
        while list.count < k {
          let id =
            list.isEmpty && row % 2 == 0 ? next : Int32(random.integer(below: vocabulary))
          if !list.contains(id) { list.append(id) }
        }
        var step = 0
        var logs: [Float] = []
        for _ in 0..<k {
          step += random.integer(below: 1500)
          logs.append(-nats[step])
        }
        if manifest.source == .api, row % 3 == 0, k > 1 {
          list[k - 1] = -1
          logs[k - 1] = -.infinity
        }
        window.topTokens += list
        window.topLogProbabilities += logs
        window.trueLogProbabilities.append(
          list.firstIndex(of: next).map { logs[$0] } ?? -nats[random.integer(below: nats.count)])
        window.logSumExps.append(steps(9000) - 10)
        window.entropies.append(nats[random.integer(below: 4000)])
        if manifest.hasOtherMass { window.otherMass.append(Float(random.unit())) }
        var counts: [Int32: Int] = [:]
        for _ in 0..<manifest.sampleCount {
          let id =
            random.integer(below: 2) == 0 || list.isEmpty
            ? Int32(random.integer(below: vocabulary)) : max(0, list[random.integer(below: k)])
          counts[id, default: 0] += 1
        }
        for (id, count) in counts.sorted(by: { $0.key < $1.key }) {
          window.sampleTokens.append(id)
          window.sampleCounts.append(Float(count))
        }
        window.sampleOffsets[row + 1] = window.sampleTokens.count
      }
      for layer in manifest.hiddenLayers {
        window.hidden[layer] = Matrix(
          rows: rows.count, columns: manifest.hiddenWidth,
          values: (0..<rows.count * manifest.hiddenWidth).map { _ in steps(500) - 1 })
      }
      return window
    }
  }

  @discardableResult static func write(
    _ windows: [TeacherLogWindow], _ manifest: TeacherLogManifest, to path: String,
    perChunk: Int = 7
  ) throws -> TeacherLogManifest {
    let writer = try TeacherLogWriter(
      path: path, manifest: manifest, key: "key", windowsPerChunk: perChunk)
    try writer.append(windows)
    return try writer.finish()
  }

  /// A log whose columns were changed before they were written.
  static func write(
    _ manifest: TeacherLogManifest, to path: String, text: String? = nil,
    change: (inout [String: [UInt8]]) -> Void
  ) throws {
    var manifest = manifest
    let windows = windows(manifest, count: 5, seed: "changed")
    manifest.tokens = windows.reduce(0) { $0 + $1.tokens.count }
    manifest.rows = windows.reduce(0) { $0 + $1.rows.count }
    manifest.windows = windows.count
    let ids = (0..<Int32(manifest.vocabulary)).map { $0 }
    let layout = TeacherLogLayout(manifest: manifest)
    let encoder = TeacherLogEncoder(manifest: manifest, ids: ids)
    var columns: [String: [UInt8]] = [:]
    for window in windows { columns.merge(encoder.encode(window)) { $0 + $1 } }
    columns[TeacherLogLayout.ids] = ids.flatMap { id in
      (0..<4).map { UInt8(truncatingIfNeeded: id >> (8 * $0)) }
    }
    change(&columns)
    var writer = try HDF5ColumnWriter(
      path: path,
      columns: layout.columns.filter { columns[$0.name] != nil }.map {
        .init(name: $0.name, dtype: $0.dtype, width: $0.width, chunkRows: 16)
      },
      attributes: [
        (TeacherLogLayout.manifestAttribute, text ?? manifest.json.compactText)
      ])
    try writer.append(columns)
    _ = try writer.finish()
  }
}
