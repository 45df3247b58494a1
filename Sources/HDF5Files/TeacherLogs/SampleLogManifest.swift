// What a log of samples says of itself: who spoke, of which samples, in which views.

public import Checkpoints
public import JSONDocuments

/// The manifest of a log of samples.
public struct SampleLogManifest: Sendable, Equatable {
  /// The version of the layout that this program writes and reads.
  public static let currentVersion = 1

  /// The teacher as people call it: a file's name.
  public var teacher: String
  /// SHA-256 of the teacher's weights and configuration.
  public var teacherHash: String
  /// SHA-256 of the samples' files.
  public var samplesHash: String
  /// Samples.
  public var samples: Int
  /// Numbers of a row: labels, where they are logits.
  public var outputs: Int
  /// Whether the numbers are logits of labels.
  public var areLogits: Bool
  /// Views of each sample; the first is the sample itself.
  public var views: Int
  /// How views differ: `SampleAugmentation` of Networks, in words.
  public var augmentation: String
  /// Of the views.
  public var seed: Int

  /// A manifest of a log that is to be written.
  public init(
    teacher: String, teacherHash: String, samplesHash: String, samples: Int, outputs: Int,
    areLogits: Bool, views: Int, augmentation: String, seed: Int
  ) {
    self.teacher = teacher
    self.teacherHash = teacherHash
    self.samplesHash = samplesHash
    self.samples = samples
    self.outputs = outputs
    self.areLogits = areLogits
    self.views = views
    self.augmentation = augmentation
    self.seed = seed
  }

  /// Rows: view after view, in each the samples in their order.
  public var rows: Int { views * samples }

  /// The manifest as the file holds it.
  public var json: JSONValue {
    [
      "version": .integer(Self.currentVersion), "teacher": .string(teacher),
      "teacher_sha256": .string(teacherHash), "samples_sha256": .string(samplesHash),
      "samples": .integer(samples), "outputs": .integer(outputs), "logits": .bool(areLogits),
      "views": .integer(views), "augmentation": .string(augmentation), "seed": .integer(seed),
    ]
  }

  /// Reads what `json` gives, and checks it.
  public init(json: JSONValue) throws(CheckpointError.Problem) {
    let reader = LogManifestReader(json: json)
    let version = try reader.integer("version", 1...Int(Int32.max))
    guard version == Self.currentVersion else {
      throw .unsupported(
        "version \(version) of logs of samples (this program reads \(Self.currentVersion))")
    }
    teacher = try reader.text("teacher")
    teacherHash = try reader.text("teacher_sha256")
    samplesHash = try reader.text("samples_sha256")
    samples = try reader.integer("samples", 1...Int(Int32.max))
    outputs = try reader.integer("outputs", 1...1 << 24)
    guard let areLogits = json["logits"]?.bool else {
      throw .missing(key: "logits", expected: "true or false")
    }
    self.areLogits = areLogits
    views = try reader.integer("views", 1...1 << 20)
    augmentation = try reader.text("augmentation")
    seed = try reader.integer("seed", 0...Int.max)
  }
}
