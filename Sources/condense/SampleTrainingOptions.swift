import ArgumentParser
import Distillation
import Networks
import Pipeline

/// What networks over pictures, or other samples, are trained on.
struct SampleTrainingOptions: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Pictures, or other samples, in place of text: those of the log, or for a teacher beside the student.",
      valueName: "file.npy"))
  var images: [String] = []
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("The right labels, a file for each of --images.", valueName: "file.npy"))
  var labels: [String] = []
  @Option(help: "Weight of the cross-entropy on --labels (default: 0; 1 without a teacher).")
  var labelWeight: Double?
  @Option(
    help: ArgumentHelp(
      "How pictures are changed each time they are seen; a log has its own (default: none).",
      valueName: "flip,shift=4,mix"))
  var augment: String?
  @Option(help: "Passes over the pictures (default: 20).") var epochs: Int?

  func apply(to request: inout DistillRequest) throws {
    guard !images.isEmpty else {
      let given: [(String, Bool)] = [
        ("--labels", !labels.isEmpty), ("--label-weight", labelWeight != nil),
        ("--augment", augment != nil), ("--epochs", epochs != nil),
      ]
      if let option = given.first(where: { $0.1 }) {
        throw ValidationError("\(option.0) does nothing without --images")
      }
      return
    }
    request.images = images
    request.labels = labels
    request.augmentation = try augment.map(Self.augmentation)
    if let epochs, !(1...1 << 20).contains(epochs) {
      throw ValidationError("--epochs is \(epochs); it must be 1 to 1048576")
    }
    if let labelWeight, !(labelWeight >= 0 && labelWeight.isFinite) {
      throw ValidationError("--label-weight is \(labelWeight); it must be 0 or more")
    }
    request.training = .forSamples(epochs: epochs)
    request.training.textWeight = labelWeight ?? 0
  }

  /// Refuses options that would do nothing for pictures.
  func finish(
    _ request: inout DistillRequest, _ training: TrainingArguments, _ loss: DistillLossOptions
  ) throws {
    guard !images.isEmpty else { return }
    let unused: [(String, Bool)] = [
      ("--tokens", training.tokens != nil), ("--context", training.context != nil),
      ("--recompute", training.recompute), ("--text-weight", loss.textWeight != nil),
      ("--streams", !loss.streams.isEmpty), ("--relations", !loss.relations.isEmpty),
      ("--source-weights", !loss.sourceWeights.isEmpty),
    ]
    if let option = unused.first(where: { $0.1 }) {
      throw ValidationError("\(option.0) does nothing with --images")
    }
    if labelWeight != nil, request.training.targets == .labels {
      throw ValidationError("--label-weight does nothing where labels are all there is")
    }
  }

  /// An augmentation as it stands on the command line.
  static func augmentation(_ text: String) throws -> SampleAugmentation {
    guard let augmentation = SampleAugmentation(text) else {
      throw ValidationError(
        "--augment is '\(text)'; it must be none, or a list of flip, shift=PIXELS (1 to 64) and mix"
      )
    }
    return augmentation
  }
}
