// The exit status of every kind of error: the sysexits family, as docs/architecture.md lists them.

import ArgumentParser
import Calibration
import Checkpoints
import CondenseInference
import Distillation
import Drift
import Glibc
import JSONDocuments
import Pipeline
import Pruning
import Quantization
import Tensors
import Tokenization

/// Statuses that are no errors of a file.
enum ExitStatus {
  /// Ran, and the answer is no.
  static let answerIsNo: Int32 = 1
  /// Ran, and a gate is undecided.
  static let undecided: Int32 = 3
  static let usage: Int32 = 64
  static let malformedInput: Int32 = 65
  static let cannotOpenInput: Int32 = 66
  static let bug: Int32 = 70
  static let cannotCreate: Int32 = 73
  static let inputOutput: Int32 = 74
  static let interrupted: Int32 = 75
  static let wrongRecipe: Int32 = 78

  /// The status of an error; nil for those of the argument parser, which knows its own.
  static func of(_ error: any Error) -> Int32? {
    switch error {
    case let error as FileError:
      switch error.operation {
      case "open", "map", "read":
        return error.code == EIO ? inputOutput : cannotOpenInput
      case "create", "remove":
        return error.code == ENOSPC || error.code == EIO ? inputOutput : cannotCreate
      default: return inputOutput
      }
    case let error as CheckpointError:
      switch error.problem {
      case .outputExists, .outputBusy: return cannotCreate
      default: return malformedInput
      }
    case is TokenizerError, is TextError, is DriftError, is JSONError: return malformedInput
    case is QuantizationError, is PruningError, is LayerError: return malformedInput
    case is ExportError: return malformedInput
    case let error as CollectError:
      switch error {
      case .badEndpoint, .keyInTheClear, .noKey: return usage
      case .badPrompt: return malformedInput
      case .refused, .gaveUp: return inputOutput
      case .outOfTime: return interrupted
      }
    case is EncodingRuleError, is SparsityRuleError, is StructureError, is LowRankError,
      is DistillRequestError:
      return usage
    case let error as DistillationError:
      if case .noImprovement = error { return answerIsNo }
      return malformedInput
    case let error as TranscriptionError:
      switch error {
      case .unknownLanguage, .oneLanguage: return usage
      case .tooLong, .outsideVocabulary: return malformedInput
      }
    case is VerificationError, is AllocationError: return answerIsNo
    case let error as RecipeError:
      if case .unreadable = error.problem { return cannotOpenInput }
      return wrongRecipe
    case is ValidationError, is ExitCode, is CleanExit: return nil
    default: return String(reflecting: type(of: error)).hasPrefix("ArgumentParser.") ? nil : bug
    }
  }
}
