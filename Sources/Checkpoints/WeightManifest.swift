// Which weights of a file are encoded and how: one JSON value in the file's own `__metadata__`.
//
// Layout   "condense": {"version": 1, "weights": {NAME: {"encoding", "shape": [outputs, inputs], "method", "tensor"}}}
//          "tensor" only where the model's tensor is no such matrix: {"shape", "axes", "row_axes"}

public import Encodings
public import JSONDocuments
import Tensors

/// The encoded weights of a checkpoint.
public struct WeightManifest: Sendable {
  /// One encoded weight.
  public struct Entry: Sendable {
    /// The weight's name.
    public let name: String
    /// How it is stored.
    public let encoding: any WeightEncoding
    /// Rows.
    public let outputs: Int
    /// Columns.
    public let inputs: Int
    /// The method that chose the codes.
    public let method: String
    /// How the model's tensor is this matrix; nil when it is the matrix itself.
    public let layout: MatrixLayout?

    /// The dimensions of the model's tensor.
    public var tensorShape: [Int] { layout?.shape ?? [outputs, inputs] }

    /// An encoded weight.
    public init(
      name: String, encoding: any WeightEncoding, outputs: Int, inputs: Int, method: String,
      layout: MatrixLayout? = nil
    ) {
      self.layout = layout
      self.name = name
      self.encoding = encoding
      self.outputs = outputs
      self.inputs = inputs
      self.method = method
    }
  }

  /// The encoded weights, in the order of the file.
  public private(set) var entries: [Entry]
  private var indices: [String: Int]

  /// The key in `__metadata__`.
  public static let metadataKey = "condense"
  /// The version that this code writes and reads.
  public static let version = 1

  /// A manifest of these weights, whose names differ.
  public init(_ entries: [Entry] = []) {
    self.entries = entries
    indices = Dictionary(
      entries.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
  }

  /// The entry of a weight; nil when it is stored as a plain tensor.
  public subscript(name: String) -> Entry? { indices[name].map { entries[$0] } }

  /// Joins the manifests of shards.
  public func adding(_ other: WeightManifest) -> WeightManifest {
    WeightManifest(entries + other.entries)
  }

  /// The value for `__metadata__`.
  public var json: JSONValue {
    let members = entries.map { entry in
      var value = JSONObject()
      value["encoding"] = .string(entry.encoding.name)
      value["shape"] = [.integer(entry.outputs), .integer(entry.inputs)]
      value["method"] = .string(entry.method)
      if let layout = entry.layout { value["tensor"] = layout.json }
      return JSONObject.Member(key: entry.name, value: .object(value))
    }
    return ["version": .integer(Self.version), "weights": .object(JSONObject(members))]
  }

  /// Reads the value of `__metadata__`'s key.
  ///
  /// - Throws: `CheckpointError.Problem` with the key that is wrong.
  public init(json: JSONValue) throws(CheckpointError.Problem) {
    guard let version = json["version"]?.integer else {
      throw .missing(key: "condense.version", expected: "an integer")
    }
    guard version == Self.version else {
      throw .unsupported(
        "version \(version) of the weight manifest (this program reads \(Self.version))")
    }
    guard let members = json["weights"]?.object?.members else {
      throw .missing(key: "condense.weights", expected: "an object")
    }
    var entries: [Entry] = []
    for member in members {
      let key = "condense.weights.\(member.key)"
      guard let name = member.value["encoding"]?.string else {
        throw .missing(key: key + ".encoding", expected: "a string")
      }
      guard let encoding = EncodingRegistry.encoding(named: name) else {
        throw .unsupported("the encoding '\(name)' of '\(member.key)'")
      }
      guard let shape = member.value["shape"]?.array?.compactMap(\.integer), shape.count == 2,
        shape.allSatisfy({ (0...Int(Int32.max)).contains($0) })
      else { throw .missing(key: key + ".shape", expected: "two integers") }
      // No encoding takes more than 64 bits a weight, so that sizes of all parts can be computed.
      guard let count = elementCount(of: shape), count <= Int.max / 64 else {
        throw .badShape(shape)
      }
      guard shape[1] % encoding.columnMultiple == 0 else {
        throw .raggedColumns(
          encoding: encoding.name, columns: shape[1], multiple: encoding.columnMultiple)
      }
      guard let method = member.value["method"]?.string else {
        throw .missing(key: key + ".method", expected: "a string")
      }
      var layout: MatrixLayout?
      if let json = member.value["tensor"] {
        layout = MatrixLayout(json: json)
        guard let layout, layout.outputs == shape[0], layout.inputs == shape[1] else {
          throw .missing(
            key: key + ".tensor",
            expected: "'shape', 'axes' and 'row_axes' of a matrix \(shape[0]) x \(shape[1])")
        }
      }
      entries.append(
        Entry(
          name: member.key, encoding: encoding, outputs: shape[0], inputs: shape[1], method: method,
          layout: layout))
    }
    self.init(entries)
  }

  /// Reads the manifest of a file's `__metadata__`; empty when the file has none.
  public init(metadata: [String: String], path: String) throws(CheckpointError) {
    guard let text = metadata[Self.metadataKey] else {
      self.init()
      return
    }
    let json: JSONValue
    do throws(JSONError) {
      json = try JSONValue(parsing: text)
    } catch {
      throw CheckpointError(path: path, .badHeader(error))
    }
    do throws(CheckpointError.Problem) {
      try self.init(json: json)
    } catch {
      throw CheckpointError(path: path, error)
    }
  }
}
