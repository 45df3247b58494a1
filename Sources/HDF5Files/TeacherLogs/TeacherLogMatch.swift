// Whether a log speaks of the tokens that somebody else reads.

public import Checkpoints

extension TeacherLog {
  /// What a student or a measurement expects of a log; what is nil is not checked.
  public struct Expectation: Sendable, Equatable {
    /// The manifest's members of the same names.
    public var tokenizerHash, orderHash, textHash, teacherHash, templateHash: String?
    /// The manifest's members of the same names.
    public var vocabulary, context: Int?

    /// An expectation.
    public init(
      tokenizerHash: String? = nil, vocabulary: Int? = nil, orderHash: String? = nil,
      textHash: String? = nil, context: Int? = nil, teacherHash: String? = nil,
      templateHash: String? = nil
    ) {
      self.tokenizerHash = tokenizerHash
      self.vocabulary = vocabulary
      self.orderHash = orderHash
      self.textHash = textHash
      self.context = context
      self.teacherHash = teacherHash
      self.templateHash = templateHash
    }
  }

  /// Checks that this log speaks of the tokens that a student reads; what is nil is not checked.
  ///
  /// - Throws: `CheckpointError` that names the log, what it has, what was expected and the cure.
  public func requireMatch(
    tokenizerHash: String? = nil, vocabulary: Int? = nil, orderHash: String? = nil,
    textHash: String? = nil, context: Int? = nil, teacherHash: String? = nil
  ) throws(CheckpointError) {
    try Self.requireMatch(
      manifest,
      Expectation(
        tokenizerHash: tokenizerHash, vocabulary: vocabulary, orderHash: orderHash,
        textHash: textHash, context: context, teacherHash: teacherHash), path: path)
  }

  /// Checks that a manifest is what is expected.
  public static func requireMatch(
    _ manifest: TeacherLogManifest, _ expected: Expectation, path: String
  ) throws(CheckpointError) {
    func check(
      _ what: String, _ found: String?, _ expected: String?, cure: String
    ) throws(CheckpointError) {
      guard let expected, found != expected else { return }
      throw CheckpointError(
        path: path, tensor: what,
        .badValue(
          found: found.map { String($0.prefix(16)) } ?? "none",
          expected: String(expected.prefix(16)) + "; " + cure))
    }
    let tokenizerCure = "log with the student's tokenizer, or align an API's log to it"
    try check(
      "vocabulary", "\(manifest.vocabulary)", expected.vocabulary.map { "\($0)" },
      cure: tokenizerCure)
    try check(
      "tokenizer", manifest.tokenizerHash, expected.tokenizerHash, cure: tokenizerCure)
    try check(
      "context", "\(manifest.context)", expected.context.map { "\($0)" },
      cure: "log with the same --context")
    try check("text", manifest.textHash, expected.textHash, cure: "log the same text")
    try check(
      "token order", manifest.orderHash, expected.orderHash,
      cure: "log the same text in the same order")
    try check("teacher", manifest.teacherHash, expected.teacherHash, cure: "log with this teacher")
    try check(
      "chat template", manifest.templateHash, expected.templateHash,
      cure: "log with the same template")
  }
}
