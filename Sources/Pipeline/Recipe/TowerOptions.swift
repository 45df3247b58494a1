// What a recipe says of the towers of a model that has several: each has files of its own kind.

import Checkpoints
import Networks

/// The files of one tower.
public struct TowerOptions: Sendable, Equatable {
  /// What statistics of layer inputs are taken from: text, or arrays of pictures.
  public var calibration: [Located<String>] = []
  /// What drift is measured on.
  public var validation: [Located<String>] = []
  /// At most this many samples of arrays are used for calibration.
  public var samples = 512
  /// At most this many tokens of text.
  public var tokens = 65_536
  /// Chooses among more.
  public var seed = 0

  /// The defaults.
  public init() {}

  /// As the calibration of a whole model.
  var calibrationOptions: CalibrationOptions? {
    guard !calibration.isEmpty else { return nil }
    var options = CalibrationOptions()
    options.text = calibration
    options.samples = samples
    options.tokens = tokens
    options.seed = seed
    return options
  }
}

/// A tower of the model and its files.
public struct NamedTower: Sendable, Equatable {
  /// The tower, such as `vision`.
  public var name: Located<String>
  /// Its files.
  public var options: TowerOptions

  /// A tower.
  public init(name: Located<String>, options: TowerOptions) {
    self.name = name
    self.options = options
  }
}

extension RecipeSection where Root == TowerOptions {
  static let tower = RecipeSection(
    title: "a tower", make: TowerOptions.init,
    fields: [
      .init(
        "calibration", \.calibration, .list(.path, of: "paths", atLeast: 0),
        "What statistics of layer inputs are taken from: texts, or arrays of pictures (`.npy`)."),
      .init(
        "validation", \.validation, .list(.path, of: "paths", atLeast: 0),
        "What the tower's drift is measured on after each stage, with a row and limits of its own (`gate.slices`)."
      ),
      .init(
        "samples", \.samples, .integer(1...1_000_000_000),
        "At most this many samples of arrays are used for calibration."),
      .init("tokens", \.tokens, .integer(1...1_000_000_000), "At most this many tokens of text."),
      .init("seed", \.seed, .integer(0...Int.max), "Chooses among more."),
    ])
}

extension Recipe {
  /// The recipe as a stage reads it: a stage of a tower has the tower's calibration.
  func seen(by entry: StageEntry) -> Recipe {
    guard let tower = entry.tower else { return self }
    var own = self
    own.calibration =
      towers.first { $0.name.value == tower.value }?.options.calibrationOptions ?? calibration
    return own
  }
}

extension StageEntry {
  /// The checkpoint as the stage reads it: the whole, or one of its towers.
  func seen(_ checkpoint: any Checkpoint) throws -> any Checkpoint {
    guard let tower else { return checkpoint }
    do throws(CheckpointError) {
      return try TowerCheckpoint(checkpoint, tower: tower.value)
    } catch {
      throw RecipeError(at: tower.place, .refused("\(error)"))
    }
  }
}
