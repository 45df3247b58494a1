// An error of a method with the tensor and the checkpoint it is about.

public import Pruning
public import Quantization

/// Why a matrix of a checkpoint could not be changed.
public struct LayerError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What is wrong, by the kind of method.
  public enum Problem: Sendable, Equatable {
    /// It could not be quantized.
    case quantization(QuantizationError)
    /// It could not be pruned.
    case pruning(PruningError)
  }

  /// The checkpoint.
  public let path: String
  /// The weight.
  public let tensor: String
  /// What is wrong.
  public let problem: Problem

  init(path: String, tensor: String, _ problem: QuantizationError) {
    self.path = path
    self.tensor = tensor
    self.problem = .quantization(problem)
  }

  init(path: String, tensor: String, _ problem: PruningError) {
    self.path = path
    self.tensor = tensor
    self.problem = .pruning(problem)
  }

  /// One line without a full stop.
  public var description: String {
    switch problem {
    case .quantization(let problem): "\(path): '\(tensor)': \(problem)"
    case .pruning(let problem): "\(path): '\(tensor)': \(problem)"
    }
  }
}
