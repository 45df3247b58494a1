// What differs between two checkpoints, tensor by tensor.

public import Checkpoints
import Encodings
public import JSONDocuments
import Tensors

/// A comparison of two checkpoints by their tensors' names, shapes and values.
public struct CheckpointDiff: Sendable {
  /// A tensor that both have and whose values differ.
  public struct Difference: Sendable, Equatable {
    /// The name.
    public let name: String
    /// How each side stores it.
    public let encodings: [String]
    /// The shapes; values are compared where they are equal.
    public let shapes: [[Int]]
    /// Values that differ, and all values.
    public let different, total: Int
    /// The largest absolute difference.
    public let largest: Float
    /// ‖A − B‖² / ‖A‖².
    public let relative: Double
  }

  /// Tensors that only the first or only the second has.
  public let onlyFirst, onlySecond: [String]
  /// Tensors that differ.
  public let differences: [Difference]
  /// Tensors of equal values.
  public let equal: Int
  /// Of those, the ones that are stored otherwise.
  public let storedOtherwise: Int

  /// Whether both hold the same tensors.
  public var isEmpty: Bool { onlyFirst.isEmpty && onlySecond.isEmpty && differences.isEmpty }

  /// Compares two checkpoints. Encoded weights are compared as the numbers that they stand for.
  public init(_ first: any Checkpoint, _ second: any Checkpoint) throws {
    let left = Self.table(first), right = Self.table(second)
    onlyFirst = first.logicalTensors.map(\.name).filter { right[$0] == nil }
    onlySecond = second.logicalTensors.map(\.name).filter { left[$0] == nil }
    var differences: [Difference] = []
    var equal = 0, storedOtherwise = 0
    for tensor in first.logicalTensors {
      guard let other = right[tensor.name] else { continue }
      if let difference = try Self.difference(tensor, first, other, second) {
        differences.append(difference)
      } else {
        equal += 1
        if tensor.encoding != other.encoding { storedOtherwise += 1 }
      }
    }
    self.differences = differences
    self.equal = equal
    self.storedOtherwise = storedOtherwise
  }

  private static func table(_ checkpoint: any Checkpoint) -> [String: LogicalTensor] {
    Dictionary(
      checkpoint.logicalTensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
  }

  private static func values(_ name: String, _ checkpoint: any Checkpoint) throws -> [Float] {
    if let entry = checkpoint.manifest[name] {
      return try checkpoint.decodedTensor(entry).floats()
    }
    return checkpoint.tensor(name)?.floats() ?? []
  }

  private static func difference(
    _ tensor: LogicalTensor, _ first: any Checkpoint, _ other: LogicalTensor,
    _ second: any Checkpoint
  ) throws -> Difference? {
    func result(_ different: Int, _ largest: Float, _ relative: Double) -> Difference {
      Difference(
        name: tensor.name, encodings: [tensor.encoding, other.encoding],
        shapes: [tensor.shape, other.shape], different: different,
        total: tensor.shape.reduce(1, *), largest: largest, relative: relative)
    }
    guard tensor.shape == other.shape else { return result(tensor.shape.reduce(1, *), .nan, .nan) }
    // The same stored bytes need no conversion, and integers beyond 2^24 none that would round.
    if let left = first.tensor(tensor.name), let right = second.tensor(tensor.name),
      left.dtype == right.dtype
    {
      let same = left.withBytes { own in
        right.withBytes { other in
          unsafe own.withUnsafeBytes { own in
            unsafe other.withUnsafeBytes { unsafe own.elementsEqual($0) }
          }
        }
      }
      if same { return nil }
      if let own = left.integers(), let other = right.integers() {
        let different = zip(own, other).count { $0 != $1 }
        let largest = zip(own, other).map { abs(Float($0) - Float($1)) }.max() ?? 0
        return result(different, largest, .nan)
      }
    }
    let left = try values(tensor.name, first), right = try values(tensor.name, second)
    var different = 0
    var largest: Float = 0
    var error = 0.0, energy = 0.0
    for index in left.indices where left[index].bitPattern != right[index].bitPattern {
      // NaN differs from NaN only in its bits.
      different += 1
      let distance = abs(left[index] - right[index])
      largest = distance.isNaN ? .infinity : max(largest, distance)
      error += Double(distance) * Double(distance)
    }
    guard different > 0 else { return nil }
    for value in left { energy += Double(value) * Double(value) }
    return result(different, largest, energy > 0 ? error / energy : .infinity)
  }

  /// What `condense diff --json` prints.
  public var json: JSONValue {
    [
      "schema": 1, "equal": .integer(equal), "stored_otherwise": .integer(storedOtherwise),
      "only_first": .array(onlyFirst.map { .string($0) }),
      "only_second": .array(onlySecond.map { .string($0) }),
      "different": .array(
        differences.map { difference in
          [
            "name": .string(difference.name),
            "encodings": .array(difference.encodings.map { .string($0) }),
            "shapes": .array(
              difference.shapes.map { .array($0.map { .integer($0) }) }),
            "different_values": .integer(difference.different),
            "values": .integer(difference.total),
            "largest": difference.largest.isFinite
              ? .number(Double(difference.largest)) : .null,
            "relative_error": difference.relative.isFinite
              ? .number(difference.relative) : .null,
          ]
        }),
    ]
  }
}
