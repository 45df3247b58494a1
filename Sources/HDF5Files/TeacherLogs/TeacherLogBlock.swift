// Windows of an unfinished log, as they came: a safetensors file a chunk. The log itself is made of them at the end,
// when the frequencies of all ids are known.

import Checkpoints
import Tensors

/// The file of a chunk of windows.
enum TeacherLogBlock {
  /// Writes windows; the file appears when it is complete.
  static func write(_ windows: [TeacherLogWindow], to path: String) throws {
    var tensors: [(name: String, tensor: Tensor)] = [
      (
        "windows",
        Tensor(
          .int32, shape: [windows.count, 3],
          copying: windows.flatMap {
            [Int32($0.tokens.count), Int32($0.rows.lowerBound), Int32($0.rows.count)]
          })
      ),
      ("tokens", vector(windows.flatMap(\.tokens))),
      ("true", vector(windows.flatMap(\.trueLogProbabilities))),
      ("log_sum_exp", vector(windows.flatMap(\.logSumExps))),
      ("entropy", vector(windows.flatMap(\.entropies))),
      ("top", vector(windows.flatMap(\.topTokens))),
      ("top_log_probability", vector(windows.flatMap(\.topLogProbabilities))),
      (
        "samples",
        vector(
          windows.flatMap { window in
            zip(window.sampleOffsets, window.sampleOffsets.dropFirst()).map { Int32($1 - $0) }
          })
      ),
      ("sample_ids", vector(windows.flatMap(\.sampleTokens))),
      ("sample_counts", vector(windows.flatMap(\.sampleCounts))),
      ("other_mass", vector(windows.flatMap(\.otherMass))),
    ]
    for layer in (windows.first?.hidden ?? [:]).keys.sorted() {
      tensors.append(
        ("hidden_\(layer)", vector(windows.flatMap { $0.hidden[layer]?.values ?? [] })))
    }
    var writer = try SafetensorsWriter(
      path: path,
      layout: SafetensorsLayout(
        items: tensors.map { .init(name: $0.name, dtype: $0.tensor.dtype, shape: $0.tensor.shape) },
        metadata: []))
    for (_, tensor) in tensors { try writer.write(tensor) }
    try writer.finish()
  }

  private static func vector(_ values: [Int32]) -> Tensor {
    Tensor(.int32, shape: [values.count], copying: values)
  }

  private static func vector(_ values: [Float]) -> Tensor {
    Tensor(.float32, shape: [values.count], copying: values)
  }

  /// How many windows a file holds.
  static func windowCount(of path: String) throws -> Int {
    try SafetensorsFile(path: path).tensor("windows")?.shape.first ?? 0
  }

  /// Reads the windows of a file of this program's own.
  static func read(_ path: String, manifest: TeacherLogManifest) throws -> [TeacherLogWindow] {
    let file = try SafetensorsFile(path: path)
    func tensor(_ name: String) throws(CheckpointError) -> Tensor {
      guard let tensor = file.tensor(name) else {
        throw CheckpointError(path: path, tensor: name, .tensorNotFound)
      }
      return tensor
    }
    func integers(_ name: String) throws(CheckpointError) -> [Int] {
      try tensor(name).integers() ?? []
    }
    let table = try integers("windows"), samples = try integers("samples")
    let tokens = try integers("tokens").map { Int32($0) },
      top = try integers("top").map { Int32($0) }
    let ids = try integers("sample_ids").map { Int32($0) }
    let truth = try tensor("true").floats(), sums = try tensor("log_sum_exp").floats()
    let entropies = try tensor("entropy").floats()
    let logs = try tensor("top_log_probability").floats()
    let counts = try tensor("sample_counts").floats(), mass = try tensor("other_mass").floats()
    var hidden: [Int: [Float]] = [:]
    for layer in manifest.hiddenLayers { hidden[layer] = try tensor("hidden_\(layer)").floats() }
    let k = manifest.topCount, width = manifest.hiddenWidth
    var token = 0, row = 0, sample = 0
    return (0..<table.count / 3).map { index in
      let length = table[3 * index], first = table[3 * index + 1], rows = table[3 * index + 2]
      var window = TeacherLogWindow(
        tokens: Array(tokens[token..<token + length]), rows: first..<first + rows)
      let range = row..<row + rows
      window.trueLogProbabilities = Array(truth[range])
      window.logSumExps = Array(sums[range])
      window.entropies = Array(entropies[range])
      window.topTokens = Array(top[row * k..<(row + rows) * k])
      window.topLogProbabilities = Array(logs[row * k..<(row + rows) * k])
      if manifest.hasOtherMass { window.otherMass = Array(mass[range]) }
      for (layer, values) in hidden {
        window.hidden[layer] = Matrix(
          rows: rows, columns: width, values: Array(values[row * width..<(row + rows) * width]))
      }
      var offset = 0
      for (place, count) in samples[range].enumerated() {
        offset += count
        window.sampleOffsets[place + 1] = offset
      }
      window.sampleTokens = Array(ids[sample..<sample + offset])
      window.sampleCounts = Array(counts[sample..<sample + offset])
      token += length
      row += rows
      sample += offset
      return window
    }
  }
}
