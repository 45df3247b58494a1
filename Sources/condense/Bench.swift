import ArgumentParser
import JSONDocuments
import Pipeline
import Quantization

struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Time a method on one matrix of a size, on this machine.",
    discussion: """
      The weights are random and so are the inputs, which are correlated as activations are. Times grow as
      docs/performance.md says, so that a few sizes tell what a model will take.
      """)

  @Option(help: ArgumentHelp("The size, such as 4096x14336.", valueName: "outputs x inputs"))
  var matrix: String
  @Option(help: "The method.") var method = QuantizationMethod.gptq.rawValue
  @Option(help: "The encoding; ec for --method ec, int4-g128 otherwise.") var encoding: String?
  @Option(help: "ec: stored bits a weight.") var bits: Double?
  @Option(help: "Samples of the inputs.") var tokens = 16384
  @Flag(help: "Print one JSON document.") var json = false
  @OptionGroup(title: "Common") var common: CommonOptions

  private var size: [Int] {
    matrix.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
  }

  func validate() throws {
    guard size.count == 2, size.allSatisfy({ (1...1 << 17).contains($0) })
    else {
      throw ValidationError(
        "--matrix is '\(matrix)'; it must be OUTPUTSxINPUTS, each 1 to 131072, such as 4096x14336")
    }
    guard let method = QuantizationMethod(rawValue: method) else {
      throw ValidationError(
        "--method is '\(self.method)'; it must be one of "
          + QuantizationMethod.allCases.map(\.rawValue).joined(separator: ", "))
    }
    guard method != .awq, method != .smoothquant else {
      throw ValidationError(
        "--method \(method.rawValue) scales the layers before a matrix, which a single one has not")
    }
    guard (1...1 << 24).contains(tokens) else {
      throw ValidationError("--tokens is \(tokens); it must be 1 to 16777216")
    }
    if let bits {
      guard method == .ec else { throw ValidationError("--bits is for --method ec") }
      guard (1...8).contains(bits) else {
        throw ValidationError("--bits is \(bits); it must be 1 to 8")
      }
    }
  }

  func run() throws {
    let progress = common.start()
    let method = QuantizationMethod(rawValue: method) ?? .gptq
    let encoding = encoding ?? (method == .ec ? "ec" : "int4-g128")
    let result = try MatrixBench(
      outputs: size[0], inputs: size[1], tokens: tokens, method: method, encoding: encoding,
      bits: bits ?? 3
    ).run { progress.show($0, $1) }
    guard !json else {
      Terminal.print(result.json.indentedText)
      return
    }
    let weights = Double(result.weights)
    func rate(_ amount: Double, _ seconds: Double) -> Double { amount / max(seconds, 1e-9) }
    let stored = weights * result.bitsPerWeight / 8
    // Others lie in the file as they are used.
    let decoding =
      method == .ec
      ? ", decoded at \(Figures.text(rate(weights, result.open) / 1e6, 0)) MB of codes a second"
      : ""
    Terminal.print(
      """
      weights            \(Figures.text(weights / 1e6, 2)) M, \(encoding), \
      \(Figures.text(result.bitsPerWeight, 3)) bits, output error \(Figures.text(result.error, 5))
      second moments     \(Figures.text(result.statistics, 2)) s of \(tokens) tokens
      quantize           \(Figures.text(result.quantize, 2)) s
      open               \(Figures.text(result.open * 1e3, 1)) ms\(decoding)
      product, 1 token   \(Figures.text(result.products.one * 1e3, 2)) ms, \
      \(Figures.text(rate(stored, result.products.one) / 1e9, 2)) GB/s of what is stored
      product, 256       \(Figures.text(result.products.many * 1e3, 1)) ms, \
      \(Figures.text(rate(2 * 256 * weights, result.products.many) / 1e9, 0)) Gflop/s
      peak memory        \(Figures.bytes(ProcessMemory.peak))
      """)
  }
}
