import Checkpoints
import Tensors
import ArgumentParser
import Calibration
import CondenseInference
import JSONDocuments
import Networks
import Pipeline
import Tokenization

struct Generate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Continue a prompt with a language model.")

  @Argument(help: "A bundle or a checkpoint folder.") var model: String
  @Option(help: "Text to continue.") var prompt: String
  @Option(help: "At most this many new tokens.") var tokens = 64
  @Option(help: "0 always takes the likeliest token.") var temperature = 0.0
  @Option(help: "Draw from the likeliest tokens up to this probability.") var topP = 1.0
  @Option(help: "Draw from this many of the likeliest tokens.") var topK: Int?
  @Option(help: "Of the random stream.") var seed = 0
  @OptionGroup(title: "Input") var source: InputOptions
  @OptionGroup(title: "Common") var common: CommonOptions

  func validate() throws {
    guard tokens >= 1 else { throw ValidationError("--tokens is \(tokens); it must be at least 1") }
    guard temperature >= 0 else {
      throw ValidationError("--temperature is \(temperature); it must be 0 or more")
    }
    guard topP > 0, topP <= 1 else {
      throw ValidationError("--top-p is \(topP); it must be above 0 and at most 1")
    }
    if let topK, topK < 1 { throw ValidationError("--top-k is \(topK); it must be at least 1") }
    guard seed >= 0 else { throw ValidationError("--seed is \(seed); it must not be negative") }
  }

  func run() throws {
    _ = common.start()
    let model = try Model(try source.open(model))
    let tokenizer = try model.requiredTokenizer()
    let network = try model.languageModel()
    var ids = tokenizer.encode(prompt, addSpecialTokens: true)
    if ids.isEmpty, let begin = model.checkpoint.configuration["bos_token_id"]?.integer {
      ids = [Int32(clamping: begin)]
    }
    guard !ids.isEmpty else {
      throw ValidationError("--prompt is empty and the model names no first token")
    }
    guard ids.count < network.contextLimit else {
      throw ValidationError(
        "--prompt has \(ids.count) tokens; the model was made for \(network.contextLimit)")
    }
    guard ids.allSatisfy({ (0..<network.vocabularySize).contains(Int($0)) }) else {
      throw TextError(
        path: "--prompt",
        .idOutsideVocabulary(id: ids.max() ?? 0, vocabulary: network.vocabularySize))
    }
    var generator = Generator(
      model: network, prompt: ids,
      sampling: Sampling(temperature: temperature, topP: topP, topK: topK, seed: UInt64(seed)),
      endTokens: model.endTokens)
    Terminal.write(prompt, to: 1)
    var decoder = StreamingDecoder(tokenizer)
    var left = tokens
    while left > 0, generator.position < network.contextLimit, let token = generator.next() {
      Terminal.write(decoder.push(token), to: 1)
      left -= 1
    }
    Terminal.print(decoder.finish())
  }
}

struct Tokenize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print the token ids of a text.")

  @Argument(help: "A checkpoint folder, a bundle or a tokenizer file.") var model: String
  @Option(help: "A text file, or - for standard input.") var text: String
  @Flag(help: "Add the special tokens that the tokenizer's template asks for.") var special = false
  @Flag(help: "Print one JSON document with the key ids.") var json = false
  @OptionGroup(title: "Common") var common: CommonOptions

  func run() throws {
    _ = common.start()
    let tokenizer = try ModelTokenizer.open(model)
    let path = text == "-" ? "/dev/stdin" : text
    let ids = try readIds(path, tokenizer: tokenizer, addSpecialTokens: special)
    if json {
      let value: JSONValue = ["ids": .array(ids.map { .integer(Int($0)) })]
      Terminal.print(value.compactText)
    } else {
      Terminal.print(ids.map(String.init).joined(separator: " "))
    }
  }
}

struct Embed: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Embed sentences, one a line.",
    discussion:
      "Writes a float32 matrix [sentences, width] as .npy, or a line of numbers a sentence.")

  @Argument(help: "A bundle or a checkpoint folder of a text encoder.") var model: String
  @Option(help: "A text file, a sentence a line, or - for standard input.") var text: String
  @Option(name: .shortAndLong, help: ArgumentHelp("A .npy file to write.", valueName: "file.npy"))
  var output: String?
  @OptionGroup(title: "Common") var common: CommonOptions

  func run() throws {
    let progress = common.start()
    let model = try Model(try AnyCheckpoint.open(model))
    let embeddings = try EmbedRun.run(
      model: model, textPath: text == "-" ? "/dev/stdin" : text
    ) { progress.show("embed", $0) }
    if let output {
      try NumPyFile.write(embeddings, to: output)
      if !common.quiet {
        Terminal.print("wrote \(output): \(embeddings.rows) x \(embeddings.columns)")
      }
    } else {
      for row in 0..<embeddings.rows {
        Terminal.print(embeddings.row(row).map { String($0) }.joined(separator: " "))
      }
    }
  }
}
