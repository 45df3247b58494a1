// What `distill` trains networks over samples on.

import Checkpoints
import CondenseInference
import Distillation
import HDF5Files
import Networks
import Tensors

extension DistillRun {
  /// The task of a student over samples: its pictures, and a log, a teacher or labels.
  func sampleTask(_ network: any Network, teacher: Model?) throws -> SampleTask {
    guard let student = network as? any SampleNetwork else {
      throw DistillRequestError.notOverSamples(family: network.family)
    }
    let samples = try LabelledSamples(request.images, labels: request.labels, for: student)
    guard let path = request.logs.first else {
      return try SampleTask(
        student,
        views: SampleViews(
          samples.arrays, request.augmentation ?? SampleAugmentation(),
          seed: request.training.seed),
        teacher: try source(teacher), labels: samples.labels, options: request.training)
    }
    let log = try SampleLog(path: path)
    try log.requireMatch(
      samplesHash: try LabelledSamples.hash(request.images),
      samples: samples.arrays.reduce(0) { $0 + $1.count }, outputs: student.outputCount)
    guard let augmentation = SampleAugmentation(log.manifest.augmentation) else {
      throw CheckpointError(
        path: path, tensor: "augmentation",
        .badValue(
          found: "'\(log.manifest.augmentation)'", expected: "words such as flip,shift=4,mix"))
    }
    guard log.manifest.areLogits == student.isClassifier else {
      throw CheckpointError(
        path: path, tensor: "logits",
        .badValue(
          found: log.manifest.areLogits ? "logits of labels" : "values that are no logits",
          expected: "what the student gives"))
    }
    return try SampleTask(
      student,
      views: SampleViews(
        samples.arrays, augmentation, seed: UInt64(log.manifest.seed)),
      teacher: .log(log), labels: samples.labels, options: request.training)
  }

  private func source(_ teacher: Model?) throws -> SampleTask.Teacher {
    guard request.training.targets == .full, let teacher else { return .none }
    return .network(try teacher.sampleNetwork())
  }
}
