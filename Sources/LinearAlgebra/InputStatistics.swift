// What is known of a layer's inputs, in the forms that methods ask for.

/// What is known of a layer's inputs.
public enum InputStatistics: Sendable {
  /// Nothing: there is no calibration.
  case none
  /// The mean square of each input, `[inputs]`.
  case diagonal([Double])
  /// The mean of x xᵀ, `[inputs, inputs]`.
  case moment(DoubleMatrix)
  /// `moment`, the mean of y yᵀ, and `cross`, the mean of x yᵀ, both `[inputs, inputs]`: y is what the layer reads
  /// in the model as it is quantized so far, x what it reads in the original one, at the same tokens.
  case asymmetric(moment: DoubleMatrix, cross: DoubleMatrix)

  /// The mean square of each input; nil without calibration.
  public var diagonal: [Double]? {
    switch self {
    case .none: nil
    case .diagonal(let values): values
    case .moment(let moment), .asymmetric(let moment, _): moment.diagonal
    }
  }

  /// The mean of x xᵀ of what the layer reads by now; nil where it is not known.
  public var moment: DoubleMatrix? {
    switch self {
    case .none, .diagonal: nil
    case .moment(let moment), .asymmetric(let moment, _): moment
    }
  }

  /// The mean of x yᵀ, x from the original model, y as the layer reads it by now; nil where it is not known.
  public var cross: DoubleMatrix? {
    if case .asymmetric(_, let cross) = self { return cross }
    return nil
  }
}
