// The stage `pack`: a checkpoint folder becomes one bundle. Pack stores; it never quantizes.

public import Bundles
public import Checkpoints
import CondenseInference
public import JSONDocuments
import Networks
public import Tensors

/// What the stage is asked to do.
public struct PackRequest: Sendable, Equatable {
  /// The type of floats that are not encoded; nil keeps each tensor's own.
  public var dtype: DType?
  /// Whether the bundle carries a self-test.
  public var selfTest = true

  /// A request.
  public init(dtype: DType? = nil, selfTest: Bool = true) {
    self.dtype = dtype
    self.selfTest = selfTest
  }

  var json: JSONValue {
    ["dtype": .string(dtype?.rawValue.lowercased() ?? "keep"), "self-test": .bool(selfTest)]
  }
}

/// What `pack` wrote.
public struct PackResult: Sendable {
  /// Bytes of the bundle.
  public let byteCount: Int
  /// Side files that the bundle leaves out: weights in other formats.
  public let droppedFiles: [String]
}

/// Runs `pack`.
public struct PackRun {
  let input: any Checkpoint
  let request: PackRequest

  /// The stage on a checkpoint.
  public init(input: any Checkpoint, request: PackRequest) {
    self.input = input
    self.request = request
  }

  /// What the bundle will hold; refuses numbers that are infinite or NaN.
  func contents() throws -> BundleContents {
    let contents = try BundleContents(of: input, dtype: request.dtype)
    try contents.checkNumbers()
    return contents
  }

  /// The manifest and the exact bytes of the bundle.
  ///
  /// - Parameters:
  ///   - drift: What the bundle says of its drift.
  ///   - inputHash: The input's content hash.
  func manifest(
    of contents: BundleContents, drift: JSONValue, inputHash: String
  ) throws -> (manifest: BundleManifest, byteCount: Int) {
    var test: BundleManifest.SelfTest?
    if request.selfTest, FamilyRegistry.family(of: input) != nil {
      test = SelfTest.make(for: try FamilyRegistry.network(of: contents))
    }
    let lineage = Lineage.entry(
      stage: "pack", options: request.json, seed: 0, inputName: FilePath.name(of: input.path),
      inputHash: inputHash, calibration: .null, work: .null,
      parent: try Lineage.parent(of: input))
    let manifest = contents.bundleManifest(
      hashes: contents.hashes(), lineage: lineage, drift: drift, selfTest: test)
    return (manifest, contents.layout(manifest).byteCount)
  }

  /// The exact bytes of the bundle, from sizes alone: the input need not exist yet.
  ///
  /// - Parameters:
  ///   - lineage: The lineage that the input will have, its figures of any value.
  ///   - drift: The drift that the bundle will say, its figures of any value.
  ///   - inputName: The input's name.
  ///   - original: A checkpoint of the same architecture whose weights exist.
  func plannedByteCount(
    lineage: JSONValue, drift: JSONValue, inputName: String, original: any Checkpoint
  ) throws -> Int {
    let contents = try BundleContents(of: input, dtype: request.dtype)
    let entry = Lineage.entry(
      stage: "pack", options: request.json, seed: 0, inputName: inputName,
      inputHash: RunPlan.noHash, calibration: .null, work: .null, parent: lineage)
    var test: BundleManifest.SelfTest?
    if request.selfTest, FamilyRegistry.family(of: input) != nil {
      test = SelfTest.placeholder(for: try FamilyRegistry.network(of: original))
    }
    let manifest = contents.bundleManifest(
      hashes: contents.placeholderHashes(RunPlan.noHash), lineage: entry, drift: drift,
      selfTest: test)
    return contents.layout(manifest).byteCount
  }

  /// Writes the bundle, reads it back and runs its self-test.
  ///
  /// - Parameter drift: What the bundle says of its drift; nil takes the input's own word.
  public func run(
    output path: String, drift: JSONValue? = nil, force: Bool = false
  ) throws -> PackResult {
    if !force, FilePath.kind(of: path) != nil { throw CheckpointError(path: path, .outputExists) }
    let contents = try contents()
    let drift = try drift ?? Lineage.drift(of: input)
    let (manifest, byteCount) = try manifest(
      of: contents, drift: drift, inputHash: try contentHash(of: input))
    if force, FilePath.kind(of: path) == .folder { try FilePath.remove(path) }
    try write(contents, manifest, to: path)
    return PackResult(byteCount: byteCount, droppedFiles: contents.droppedFiles)
  }

  /// Writes a bundle under a name of its own until it is proved; a killed run leaves only that, and the
  /// next replaces it.
  func write(_ contents: BundleContents, _ manifest: BundleManifest, to path: String) throws {
    let unproved = path + ".unproved"
    do {
      try contents.write(to: unproved, manifest: manifest)
      try BundleCheck.verify(try ModelBundle(path: unproved))
      try FilePath.rename(unproved, to: path)
    } catch {
      try? FilePath.remove(unproved)
      throw error
    }
  }
}

/// Why a bundle is not what it says.
public struct VerificationError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The bundle.
  public let path: String
  /// What differs.
  public let problem: String

  /// One line without a full stop.
  public var description: String { "\(path): \(problem)" }
}

/// Checks a bundle against its own manifest.
public enum BundleCheck {
  /// What was checked.
  public struct Report: Sendable, Equatable {
    /// Tensors whose hash was right.
    public let tensors: Int
    /// The largest difference in the self-test and what it allows; nil when there is none.
    public let selfTest: SelfTestOutcome?
  }

  /// A self-test's outcome.
  public struct SelfTestOutcome: Sendable, Equatable {
    /// The largest absolute difference.
    public let difference: Float
    /// What is allowed.
    public let tolerance: Float
  }

  /// Hashes, then the self-test.
  ///
  /// - Throws: `VerificationError` or `CheckpointError` with the first difference.
  @discardableResult
  public static func verify(_ bundle: ModelBundle) throws -> Report {
    do {
      try bundle.verifyHashes()
    } catch {
      throw VerificationError(
        path: error.path, problem: (error.tensor.map { "'\($0)': " } ?? "") + "\(error.problem)")
    }
    guard let test = bundle.bundleManifest.selfTest else {
      return Report(tensors: bundle.bundleManifest.hashes.count, selfTest: nil)
    }
    let network = try FamilyRegistry.network(of: bundle)
    guard let difference = SelfTest.difference(of: network, from: test) else {
      throw VerificationError(
        path: bundle.path,
        problem: "the self-test names ids or outputs that the model does not have")
    }
    guard difference <= test.tolerance else {
      throw VerificationError(
        path: bundle.path,
        problem: "the self-test differs by \(difference), \(test.tolerance) is allowed")
    }
    return Report(
      tensors: bundle.bundleManifest.hashes.count,
      selfTest: SelfTestOutcome(difference: difference, tolerance: test.tolerance))
  }
}
