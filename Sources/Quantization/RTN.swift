// Round to nearest: every weight to the nearest point of its group's grid.
//
// Given    W [outputs, inputs]; H's diagonal, when there is calibration, weighs the grid search
// Result   codes and grids
// Checked  RTNTests: codes equal a weight-by-weight definition; no other single code is nearer

public import Encodings
public import LinearAlgebra
public import Tensors

/// Plain rounding.
public struct RTN: WeightQuantizer, Equatable {
  /// How grids are chosen.
  public let search: GridSearch

  /// Plain rounding with grids chosen in a way.
  public init(search: GridSearch = .mse) { self.search = search }

  /// `rtn`.
  public static let method = QuantizationMethod.rtn

  /// The encodings that are rounded onto.
  static let encodingNames =
    [PlainFloats.nameList, GroupedEncoding.nameList, GGUFBlocks.nameList].joined(separator: ", ")

  /// Quantizes a weight.
  public func quantize(
    _ weight: Matrix, statistics: InputStatistics, encoding: any WeightEncoding
  ) throws(QuantizationError) -> QuantizedWeight {
    try check(weight, statistics, encoding)
    let encoded: EncodedMatrix
    switch encoding {
    case let encoding as GGUFBlocks:
      encoded = encoding.encode(
        weight,
        importance: statistics.diagonal == nil
          ? nil : importance(statistics, columns: weight.columns))
    case let encoding as PlainFloats:
      encoded = encoding.encode(weight)
    default:
      guard let grouped = GroupedEncoding(encoding) else {
        throw .unsupportedPair(
          method: Self.method.rawValue, encoding: encoding.name, known: Self.encodingNames)
      }
      encoded = try round(weight, statistics, onto: grouped)
    }
    return QuantizedWeight(
      encoded: encoded, method: Self.method,
      relativeError: relativeError(weight, encoded, statistics: statistics),
      isOutputError: statistics.diagonal != nil, fallbacks: 0,
      deadInputs: statistics.diagonal?.count { $0 == 0 } ?? 0)
  }

  private func round(
    _ weight: Matrix, _ statistics: InputStatistics, onto encoding: GroupedEncoding
  ) throws(QuantizationError) -> EncodedMatrix {
    let grids = try GroupGrids(
      of: weight, encoding: encoding, importance: importance(statistics, columns: weight.columns),
      search: search)
    return encoding.round(weight, grids: grids)
  }
}

/// How much each column counts: H's diagonal over its mean, or 1. Inputs that were never seen count a little,
/// so that their weights are rounded sensibly and not at random.
func importance(_ statistics: InputStatistics, columns: Int) -> [Float] {
  guard let diagonal = statistics.diagonal else { return [Float](repeating: 1, count: columns) }
  let mean = diagonal.reduce(0, +) / Double(max(1, columns))
  guard mean > 0 else { return [Float](repeating: 1, count: columns) }
  return diagonal.map { Float($0 / mean) + 1e-4 }
}
