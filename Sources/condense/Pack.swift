import ArgumentParser
import Bundles
import Pipeline
import Tensors

struct Pack: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a checkpoint as one bundle.",
    discussion: "Encoded weights stay as they are: pack never quantizes.")

  @Argument(help: "A checkpoint folder or a bundle.") var input: String
  @Argument(help: "The bundle to write, NAME.condensed.") var output: String
  @Option(
    help: "Type of the floats that are not encoded: f32, f16 or bf16; as they are by default.")
  var dtype: String?
  @Flag(inversion: .prefixedNo, help: "Carry a self-test.") var selfTest = true
  @Flag(help: "Replace an existing output.") var force = false
  @OptionGroup(title: "Common") var common: CommonOptions

  static let types: [String: DType] = ["f32": .float32, "f16": .float16, "bf16": .bfloat16]

  func validate() throws {
    if let dtype, Self.types[dtype] == nil {
      throw ValidationError("--dtype is '\(dtype)'; it must be f32, f16 or bf16")
    }
  }

  func run() throws {
    _ = common.start()
    let request = PackRequest(dtype: dtype.flatMap { Self.types[$0] }, selfTest: selfTest)
    let result = try PackRun(input: try CheckpointOpener.open(input), request: request)
      .run(output: output, force: force)
    guard !common.quiet else { return }
    if !result.droppedFiles.isEmpty {
      Terminal.print(
        "left out (weights in other formats): " + result.droppedFiles.joined(separator: ", "))
    }
    Terminal.print("wrote \(output): \(result.byteCount) bytes")
  }
}

struct Verify: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check a bundle: the hash of every tensor, and the self-test.")

  @Argument(help: "A bundle.") var bundle: String
  @OptionGroup(title: "Common") var common: CommonOptions

  func run() throws {
    _ = common.start()
    let report = try BundleCheck.verify(try ModelBundle(path: bundle))
    guard !common.quiet else { return }
    Terminal.print("hashes      \(report.tensors) tensors as the manifest says")
    if let test = report.selfTest {
      Terminal.print("self-test   differs by \(test.difference), \(test.tolerance) is allowed")
    } else {
      Terminal.print("self-test   none in this bundle")
    }
  }
}
