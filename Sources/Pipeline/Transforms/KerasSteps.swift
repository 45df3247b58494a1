// Lengths for inputs of Keras models that leave them open, such as `(None, 40)`: steps of time, sizes of pictures.

public import Checkpoints
import JSONDocuments
import Tensors

/// Closes the open sizes of a model's inputs.
public enum KerasSteps {
  /// The checkpoint with a model whose inputs have a length.
  ///
  /// - Parameter steps: What every open size behind the batch becomes.
  /// - Throws: `ExportError` for a checkpoint without such inputs.
  public static func fixed(
    _ source: any Checkpoint, steps: Int
  ) throws(ExportError) -> any Checkpoint {
    guard let model = source.configuration["model_config"],
      let closed = closed(model, steps: steps)
    else {
      throw ExportError(
        path: source.path, "--steps does nothing: no Keras model whose inputs leave a size open")
    }
    return TransformedCheckpoint(
      source, changed: [:], configuration: [("model_config", closed)])
  }

  /// The same model with sizes; nil where none is open.
  private static func closed(_ model: JSONValue, steps: Int) -> JSONValue? {
    var changes = 0
    func shape(_ value: JSONValue) -> JSONValue {
      guard let sizes = value.array else { return value }
      return .array(
        sizes.enumerated().map { index, size in
          guard index > 0, size.isNull else { return size }
          changes += 1
          return .integer(steps)
        })
    }
    func replaced(_ value: JSONValue, _ change: (String, JSONValue) -> JSONValue) -> JSONValue {
      guard let object = value.object else { return value }
      return .object(
        JSONObject(
          object.members.map { .init(key: $0.key, value: change($0.key, $0.value)) }))
    }
    func layer(_ value: JSONValue) -> JSONValue {
      replaced(value) { key, value in
        guard key == "config" else { return value }
        return replaced(value) { key, value in
          key == "batch_shape" || key == "batch_input_shape" ? shape(value) : value
        }
      }
    }
    func layers(_ value: JSONValue) -> JSONValue { .array((value.array ?? []).map(layer)) }
    let result = replaced(model) { key, value in
      guard key == "config" else { return value }
      if value.array != nil { return layers(value) }
      return replaced(value) { key, value in
        switch key {
        case "layers": layers(value)
        case "build_input_shape": shape(value)
        default: value
        }
      }
    }
    return changes > 0 ? result : nil
  }
}
