// Runs a teacher over a text and logs what it says, window after window. An interrupted run goes on from its last
// chunk and ends in the same bytes.

import Calibration
public import Checkpoints
import CondenseInference
import Drift
public import HDF5Files
import Networks
import Tensors

/// What is logged, of which text.
public struct TeacherLogRequest: Sendable, Equatable {
  /// Files of text.
  public var text: [String]
  /// At most so many tokens, in whole windows from the start; nil takes all.
  public var tokens: Int?
  /// Tokens of a window.
  public var context = 256
  /// Most probable tokens of a row.
  public var topCount = 8
  /// Samples of a row.
  public var sampleCount = 50
  /// The temperature of the samples.
  public var temperature = 1.0
  /// Layers whose outputs are logged: 0 is the embedding.
  public var hiddenLayers: [Int] = []
  /// The seed of the samples.
  public var seed = 0

  /// A request with the usual numbers.
  public init(text: [String]) { self.text = text }
}

/// A log that was written.
public struct TeacherLogResult: Sendable {
  /// What it says of itself.
  public let manifest: TeacherLogManifest
  /// Bytes of the file.
  public let byteCount: Int
  /// Bytes of the columns before they were deflated.
  public let columnBytes: Int
  /// Windows that an interrupted run had left.
  public let resumedWindows: Int

  /// Bytes of a logged row.
  public var bytesPerRow: Double { Double(byteCount) / Double(max(1, manifest.rows)) }
  /// Bytes of a row before deflating.
  public var columnBytesPerRow: Double { Double(columnBytes) / Double(max(1, manifest.rows)) }

  init(path: String, manifest: TeacherLogManifest, resumedWindows: Int) throws {
    let log = try TeacherLog(path: path)
    self.manifest = manifest
    byteCount = log.byteCount
    columnBytes = log.columnBytes
    self.resumedWindows = resumedWindows
  }
}

/// Logs a teacher.
public struct TeacherLogRun {
  private let teacher: Model
  private let request: TeacherLogRequest

  /// A run over a checkpoint, which must be a language model with a tokenizer.
  public init(teacher: any Checkpoint, request: TeacherLogRequest) throws {
    self.teacher = try Model(teacher)
    self.request = request
  }

  /// Tokens of a forward pass, and of rows that a crash may lose.
  private static let batchTokens = 2048, chunkTokens = 8192
  /// Logits that exist at a time.
  private static let logitBudget = 1 << 24

  /// Runs the teacher and writes the log.
  public func run(
    output: String, force: Bool, progress: (String, Double) -> Void = { _, _ in }
  ) throws -> TeacherLogResult {
    let model = try teacher.languageModel(), tokenizer = try teacher.requiredTokenizer()
    let texts = try request.text.map { (path: $0, bytes: try FilePath.read($0)) }
    var windows = try TextWindows(
      texts: texts, tokenizer: tokenizer, context: request.context,
      network: model)
    if let tokens = request.tokens { windows = windows.first(max(1, tokens / request.context)) }
    try checkLayers(model)
    let manifest = try manifest(model, texts.map(\.bytes))
    let perBatch = max(1, Self.batchTokens / request.context)
    let batches = max(1, Self.chunkTokens / (perBatch * request.context))
    let perChunk = perBatch * batches
    let writer = try TeacherLogWriter(
      path: output, manifest: manifest, key: "\(toolVersion) \(windows.windows.count)",
      windowsPerChunk: perChunk, force: force)
    guard !writer.isFinished else {
      let manifest = try TeacherLog(path: output).manifest
      return try TeacherLogResult(
        path: output, manifest: manifest, resumedWindows: manifest.windows)
    }
    let resumed = writer.windowCount
    do {
      for first in stride(from: resumed, to: windows.windows.count, by: perBatch) {
        let end = min(first + perBatch, windows.windows.count)
        let batch = Array(windows.windows[first..<end])
        try writer.append(try log(batch, first: first, model))
        progress("teacher", Double(end) / Double(windows.windows.count))
      }
      let manifest = try writer.finish { progress("write", $0) }
      return try TeacherLogResult(path: output, manifest: manifest, resumedWindows: resumed)
    } catch let error as DriftError {
      writer.abandon()
      throw error
    }
  }

  private func manifest(
    _ model: any LanguageModel, _ texts: [[UInt8]]
  ) throws -> TeacherLogManifest {
    var textHash = ContentHash()
    for text in texts { textHash.update(ContentHash.of(text)) }
    return TeacherLogManifest(
      source: .model, teacher: FilePath.name(of: teacher.checkpoint.path),
      teacherHash: try contentHash(of: teacher.checkpoint),
      tokenizerHash: tokenizerHash(
        try teacher.requiredTokenizer(), vocabulary: model.vocabularySize),
      vocabulary: model.vocabularySize, textHash: textHash.digits, context: request.context,
      topCount: min(request.topCount, model.vocabularySize), sampleCount: request.sampleCount,
      temperature: request.temperature, seed: request.seed, hiddenLayers: request.hiddenLayers,
      hiddenWidth: request.hiddenLayers.isEmpty ? 0 : model.embedding.matrix.inputs)
  }

  private func checkLayers(_ model: any LanguageModel) throws(CheckpointError) {
    let count = (model.sublayers.compactMap { Self.layer(of: $0) }.max() ?? -1) + 1
    guard let layer = request.hiddenLayers.first(where: { $0 < 0 || $0 > count }) else { return }
    throw CheckpointError(
      path: teacher.checkpoint.path,
      .badValue(found: "hidden layer \(layer)", expected: "0 (the embedding) to \(count)"))
  }

  /// The number in the name of a branch's layers, such as 3 of `model.layers.3.mlp.up_proj`.
  static func layer(of sublayer: any Sublayer) -> Int? {
    sublayer.groups.first?.first?.name.split(separator: ".").lazy.compactMap { Int($0) }.first
  }

  /// The stream behind the last branch, and behind the layers that are logged.
  private func stream(
    _ batch: TokenBatch, _ model: any LanguageModel
  ) -> (hidden: Matrix, layers: [Int: Matrix]) {
    var hidden = model.embed(batch, position: 0)
    var layers: [Int: Matrix] = [:]
    if request.hiddenLayers.contains(0) { layers[0] = hidden }
    for sublayer in model.sublayers {
      hidden = sublayer.run(hidden, batch, cache: nil, inputOf: nil)
      // The layer's last branch is the last one to write here.
      if let layer = Self.layer(of: sublayer), request.hiddenLayers.contains(layer + 1) {
        layers[layer + 1] = hidden
      }
    }
    return (hidden, layers)
  }

  private func log(
    _ sequences: [[Int32]], first: Int, _ model: any LanguageModel
  ) throws -> [TeacherLogWindow] {
    let batch = TokenBatch(sequences)
    let (hidden, layers) = stream(batch, model)
    // Largest number of binary16.
    guard layers.values.allSatisfy({ $0.values.allSatisfy { abs($0) <= 65_504 } }) else {
      throw DriftError.notFinite(window: first)
    }
    var windows: [TeacherLogWindow] = []
    let step = max(1, Self.logitBudget / model.vocabularySize)
    for (index, range) in batch.sequences.enumerated() {
      let tokens = sequences[index], count = tokens.count - 1
      var rows: [TeacherRow] = []
      for start in stride(from: 0, to: count, by: step) {
        let part = start..<min(start + step, count)
        let logits = model.logits(
          hidden.rows(range.lowerBound + part.lowerBound..<range.lowerBound + part.upperBound))
        rows += ParallelLoop.map(part.count) { offset in
          let row = part.lowerBound + offset
          return TeacherRow(
            logits: logits.values.span.extracting(logits.range(ofRow: offset)),
            target: Int(tokens[row + 1]), topCount: request.topCount,
            sampleCount: request.sampleCount, temperature: request.temperature,
            random: RandomStream(
              seed: UInt64(bitPattern: Int64(request.seed)),
              name: "teacher log \(first + index) \(row)"))
        }
      }
      guard rows.allSatisfy(\.isFinite) else { throw DriftError.notFinite(window: first + index) }
      windows.append(
        TeacherLogWindow(
          tokens, rows,
          hidden: layers.mapValues { $0.rows(range.lowerBound..<range.lowerBound + count) }))
    }
    return windows
  }
}

extension TeacherLogWindow {
  /// A window of rows from its first position on.
  init(_ tokens: [Int32], _ rows: [TeacherRow], hidden: [Int: Matrix]) {
    var offsets = [0]
    for row in rows { offsets.append(offsets[offsets.count - 1] + row.samples.count) }
    self.init(
      tokens: tokens, rows: 0..<rows.count, trueLogProbabilities: rows.map(\.trueLogProbability),
      logSumExps: rows.map(\.logSumExp), entropies: rows.map(\.entropy),
      topTokens: rows.flatMap(\.topTokens),
      topLogProbabilities: rows.flatMap(\.topLogProbabilities),
      sampleOffsets: offsets, sampleTokens: rows.flatMap { $0.samples.map(\.id) },
      sampleCounts: rows.flatMap { $0.samples.map { Float($0.count) } }, hidden: hidden)
  }
}
