// The manifest of a bundle: what the tensors of the file mean. docs/bundle-format.md is the specification.

public import Checkpoints
public import JSONDocuments

/// What a bundle says about itself, in its file's `__metadata__`.
public struct BundleManifest: Sendable {
  /// A file beside the weights, stored as a U8 tensor.
  public struct SideFile: Sendable, Equatable {
    /// The relative path, such as `tokenizer.json`.
    public let name: String
    /// Bytes of the file itself.
    public let byteCount: Int
    /// Whether the tensor holds a zlib stream.
    public let isDeflated: Bool
    /// The tensor's name.
    public var tensorName: String { "file:" + name }
  }

  /// A few inputs and what the model must make of them.
  public struct SelfTest: Sendable, Equatable {
    /// Token ids; empty where the input is one sample of numbers, which follow from their places.
    public let inputIds: [Int32]
    /// Which values of the output are given: vocabulary ids of the last position's logits, dimensions of the
    /// embedding, or numbers of the sample's result.
    public let indices: [Int]
    /// The values.
    public let values: [Float]
    /// Allowed absolute difference.
    public let tolerance: Float

    /// A self-test.
    public init(inputIds: [Int32], indices: [Int], values: [Float], tolerance: Float) {
      self.inputIds = inputIds
      self.indices = indices
      self.values = values
      self.tolerance = tolerance
    }
  }

  /// `config.json` of the model.
  public var configuration: JSONValue
  /// The encoded weights.
  public var weights: WeightManifest
  /// Files beside the weights.
  public var sideFiles: [SideFile]
  /// SHA-256 of each tensor's stored bytes.
  public var hashes: [(tensor: String, digits: String)]
  /// How the model came to be; null when unknown.
  public var lineage: JSONValue
  /// What that cost; null when it was not measured.
  public var drift: JSONValue
  /// Nil for an architecture that cannot be run.
  public var selfTest: SelfTest?

  /// The value of `__metadata__.format`.
  public static let format = "condense-bundle"
  /// The version that this code writes and reads.
  public static let version = 1
  /// Names of tensors that only fill the space up to the next multiple of 64 bytes start so.
  static let padPrefix = "pad:"
  /// In place of ids: one sample of numbers by the rule of the specification.
  static let sampleInput = "sample"
  /// Names that tensors of a model cannot have in a bundle start so.
  static let reservedPrefixes = [padPrefix, "file:"]

  /// The manifest as it is stored.
  var json: JSONValue {
    var object = JSONObject()
    object["config"] = configuration
    object["weights"] = weights.json
    object["side_files"] = .object(
      JSONObject(
        sideFiles.map {
          .init(
            key: $0.name,
            value: ["bytes": .integer($0.byteCount), "deflated": .bool($0.isDeflated)])
        }))
    object["sha256"] = .object(
      JSONObject(hashes.map { .init(key: $0.tensor, value: .string($0.digits)) }))
    object["lineage"] = lineage
    object["drift"] = drift
    if let selfTest {
      var test = JSONObject()
      if selfTest.inputIds.isEmpty {
        test["input"] = .string(Self.sampleInput)
      } else {
        test["input_ids"] = .array(selfTest.inputIds.map { .integer(Int($0)) })
      }
      test["indices"] = .array(selfTest.indices.map { .integer($0) })
      test["values"] = .array(selfTest.values.map { .number(Double($0)) })
      test["tolerance"] = .number(Double(selfTest.tolerance))
      object["self_test"] = .object(test)
    }
    return .object(object)
  }

  /// The same manifest with every figure of lineage, drift and self-test at its longest.
  var withLongestFigures: BundleManifest {
    var copy = self
    copy.lineage = lineage.withLongestNumbers
    copy.drift = drift.withLongestNumbers
    copy.selfTest = selfTest.map { test in
      SelfTest(
        inputIds: test.inputIds.map { _ in .min }, indices: test.indices.map { _ in .max },
        values: test.values.map { _ in -Float.leastNormalMagnitude },
        tolerance: -Float.leastNormalMagnitude)
    }
    return copy
  }

  init(
    configuration: JSONValue, weights: WeightManifest, sideFiles: [SideFile],
    hashes: [(tensor: String, digits: String)], lineage: JSONValue, drift: JSONValue,
    selfTest: SelfTest?
  ) {
    self.configuration = configuration
    self.weights = weights
    self.sideFiles = sideFiles
    self.hashes = hashes
    self.lineage = lineage
    self.drift = drift
    self.selfTest = selfTest
  }

  /// Reads a stored manifest; every member is checked.
  init(json: JSONValue) throws(CheckpointError.Problem) {
    guard let configuration = json["config"], configuration.object != nil else {
      throw .missing(key: "manifest.config", expected: "an object")
    }
    guard let weights = json["weights"] else {
      throw .missing(key: "manifest.weights", expected: "an object")
    }
    guard let files = json["side_files"]?.object?.members else {
      throw .missing(key: "manifest.side_files", expected: "an object")
    }
    guard let hashes = json["sha256"]?.object?.members else {
      throw .missing(key: "manifest.sha256", expected: "an object")
    }
    var sideFiles: [SideFile] = []
    for file in files {
      // A name that leads out of the folder it is unpacked into.
      guard !file.key.hasPrefix("/"), !file.key.isEmpty,
        !file.key.split(separator: "/").contains("..")
      else {
        throw .badValue(found: "the side file '\(file.key)'", expected: "a relative path")
      }
      guard let count = file.value["bytes"]?.integer, count >= 0,
        let isDeflated = file.value["deflated"]?.bool
      else {
        throw .missing(key: "manifest.side_files.\(file.key)", expected: "'bytes' and 'deflated'")
      }
      sideFiles.append(SideFile(name: file.key, byteCount: count, isDeflated: isDeflated))
    }
    var digits: [(tensor: String, digits: String)] = []
    for hash in hashes {
      guard let value = hash.value.string, value.utf8.count == 64 else {
        throw .missing(key: "manifest.sha256.\(hash.key)", expected: "64 hexadecimal digits")
      }
      digits.append((hash.key, value))
    }
    self.init(
      configuration: configuration, weights: try WeightManifest(json: weights),
      sideFiles: sideFiles, hashes: digits, lineage: json["lineage"] ?? .null,
      drift: json["drift"] ?? .null, selfTest: try json["self_test"].map(Self.selfTest))
  }

  private static func selfTest(_ json: JSONValue) throws(CheckpointError.Problem) -> SelfTest {
    let ids =
      json["input_ids"]?.array?.compactMap { $0.integer.flatMap { Int32(exactly: $0) } } ?? []
    let indices = json["indices"]?.array?.compactMap(\.integer) ?? []
    let values = json["values"]?.array?.compactMap(\.number) ?? []
    guard !ids.isEmpty || json["input"]?.string == sampleInput, indices.count == values.count,
      !indices.isEmpty,
      indices.allSatisfy({ $0 >= 0 }), let tolerance = json["tolerance"]?.number
    else {
      throw .missing(
        key: "manifest.self_test",
        expected: "input_ids, indices, as many values, and tolerance")
    }
    return SelfTest(
      inputIds: ids, indices: indices, values: values.map { Float($0) }, tolerance: Float(tolerance)
    )
  }
}
