// One array of numbers that an optimizer changes.

/// What a parameter is, which decides its learning rate and what else is done with it.
public enum ParameterKind: String, Sendable, CaseIterable {
  /// A weight matrix.
  case matrix
  /// A table of tokens, or a head.
  case embedding
  /// A norm or a bias.
  case vector
  /// A thin factor beside a frozen matrix.
  case adapter
  /// Steps of grids, relative to what they were at the start.
  case scale
  /// Zero points of grids, in codes.
  case zero
}

/// A parameter `[rows, columns]` with its gradient.
public final class TrainedParameter {
  /// The tensor's name, with a suffix for parts of it.
  public let name: String
  /// What it is.
  public let kind: ParameterKind
  /// Rows; 1 for a vector.
  public let rows: Int
  /// Columns.
  public let columns: Int
  /// The values.
  public var values: [Float]
  /// The sum of the gradients since they were last cleared; empty while there are none.
  public var gradient: [Float] = []

  /// A parameter with its first values.
  public init(_ name: String, _ kind: ParameterKind, rows: Int, columns: Int, values: [Float]) {
    precondition(values.count == rows * columns, "\(name): \(values.count) values")
    self.name = name
    self.kind = kind
    self.rows = rows
    self.columns = columns
    self.values = values
  }

  /// Gives the values away for a change in place; the closure gets the only reference to them.
  func update<Result>(_ body: (inout [Float]) -> Result) -> Result {
    var own: [Float] = []
    swap(&own, &values)
    defer { swap(&own, &values) }
    return body(&own)
  }

  /// Adds to the gradient.
  func addGradient(_ more: [Float]) {
    precondition(more.count == values.count, "\(name): a gradient of \(more.count) values")
    guard !gradient.isEmpty else {
      gradient = more
      return
    }
    var own: [Float] = []
    swap(&own, &gradient)
    var span = own.mutableSpan
    let added = more.span
    for i in added.indices { span[i] += added[i] }
    swap(&own, &gradient)
  }
}
