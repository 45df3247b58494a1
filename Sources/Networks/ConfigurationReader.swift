import Checkpoints
import JSONDocuments

/// Reads typed values of a `config.json`; every error names the key, what it holds and what it should.
struct ConfigurationReader {
  let path: String
  let json: JSONValue

  init(_ checkpoint: any Checkpoint) {
    path = checkpoint.path + "/config.json"
    json = checkpoint.configuration
  }

  init(path: String, json: JSONValue) {
    self.path = path
    self.json = json
  }

  func wrong(_ key: String, _ value: JSONValue?, expected: String) -> CheckpointError {
    CheckpointError(
      path: path, tensor: key,
      .badValue(found: value.map { $0.compactText } ?? "nothing", expected: expected))
  }

  /// The value of a key; JSON's null counts as absent.
  func value(_ key: String) -> JSONValue? {
    json[key].flatMap { $0.isNull ? nil : $0 }
  }

  /// A positive integer below 2³¹.
  func size(_ key: String, default standard: Int? = nil) throws(CheckpointError) -> Int {
    guard let value = value(key) else {
      if let standard { return standard }
      throw wrong(key, nil, expected: "a positive integer")
    }
    guard let integer = value.integer, (1..<1 << 31).contains(integer) else {
      throw wrong(key, value, expected: "a positive integer")
    }
    return integer
  }

  /// A finite number.
  func number(_ key: String, default standard: Double? = nil) throws(CheckpointError) -> Double {
    guard let value = value(key) else {
      if let standard { return standard }
      throw wrong(key, nil, expected: "a number")
    }
    guard let number = value.number else { throw wrong(key, value, expected: "a number") }
    return number
  }

  /// A number greater than zero.
  func positive(_ key: String, default standard: Double? = nil) throws(CheckpointError) -> Double {
    let number = try number(key, default: standard)
    guard number > 0 else { throw wrong(key, value(key), expected: "a number greater than 0") }
    return number
  }

  /// A truth value.
  func flag(_ key: String, default standard: Bool) throws(CheckpointError) -> Bool {
    guard let value = value(key) else { return standard }
    guard let flag = value.bool else { throw wrong(key, value, expected: "true or false") }
    return flag
  }

  /// A string.
  func text(_ key: String, default standard: String) throws(CheckpointError) -> String {
    guard let value = value(key) else { return standard }
    guard let text = value.string else { throw wrong(key, value, expected: "a string") }
    return text
  }

  /// The function between an MLP's matrices.
  func activation(_ key: String, default standard: String) throws(CheckpointError) -> Activation {
    let name = try text(key, default: standard)
    guard let activation = Activation(rawValue: name) else {
      throw wrong(key, .string(name), expected: Activation.names)
    }
    return activation
  }
}
