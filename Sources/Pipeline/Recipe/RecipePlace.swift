// Where a value of a recipe was written, for errors.

/// A place in a recipe file, or a command-line option that replaced it.
public struct RecipePlace: Sendable, Hashable, CustomStringConvertible {
  /// What was being read.
  public enum Source: Sendable, Hashable {
    /// A recipe file, as it was named.
    case file(String)
    /// An option such as `--set bits`.
    case option(String)
  }

  /// What was being read.
  public let source: Source
  /// From 1; the same for options.
  public let line: Int
  /// From 1, counted in Unicode scalars.
  public let column: Int

  /// A place.
  public init(_ source: Source, line: Int = 1, column: Int = 1) {
    self.source = source
    self.line = line
    self.column = column
  }

  /// `file:line:column`, or the option alone.
  public var description: String {
    switch source {
    case .file(let path): "\(path):\(line):\(column)"
    case .option(let option): option
    }
  }
}

/// A value and where it was written. Equal values are equal wherever they stand.
public struct Located<Value: Sendable & Hashable>: Sendable, Hashable {
  /// The value.
  public var value: Value
  /// Where it was written.
  public var place: RecipePlace

  /// A value at a place.
  public init(_ value: Value, at place: RecipePlace = RecipePlace(.option("default"))) {
    self.value = value
    self.place = place
  }

  /// Compares the values.
  public static func == (a: Located, b: Located) -> Bool { a.value == b.value }

  /// Hashes the value.
  public func hash(into hasher: inout Hasher) { hasher.combine(value) }

  /// Runs a check that this module cannot make, such as parsing the name of an encoding.
  ///
  /// - Parameter body: The check. What it throws becomes a `RecipeError` at this value's place.
  /// - Returns: What `body` returns.
  public func checked<Result>(
    _ body: (Value) throws -> Result
  ) throws(RecipeError) -> Result {
    do {
      return try body(value)
    } catch {
      throw RecipeError(at: place, .refused("\(error)"))
    }
  }
}
