// What OpenAI-compatible servers return, read for its log-probabilities.
//
// Source   OpenAI API reference: chat completions (choices[].logprobs.content[].top_logprobs with bytes), text
//          completions (logprobs.tokens, token_logprobs, top_logprobs), batch output ({"custom_id", "response":
//          {"status_code", "body"}}); llama.cpp's and vLLM's servers

import JSONDocuments

/// One answer of a server.
struct APICompletion: Equatable {
  /// One token that the server chose.
  struct Step: Equatable {
    var bytes: [UInt8]
    var logProbability: Double
    /// The tokens that it listed for the place, and their log-probabilities.
    var list: [(bytes: [UInt8], logProbability: Double)]

    static func == (a: Step, b: Step) -> Bool {
      a.bytes == b.bytes && a.logProbability == b.logProbability
        && a.list.elementsEqual(b.list) {
          $0.bytes == $1.bytes && $0.logProbability == $1.logProbability
        }
    }
  }

  /// What was asked, where the line says it.
  enum Prompt: Equatable {
    case none
    case text(String)
    case messages([(role: String, content: String)])

    static func == (a: Prompt, b: Prompt) -> Bool {
      switch (a, b) {
      case (.none, .none): true
      case (.text(let a), .text(let b)): a == b
      case (.messages(let a), .messages(let b)): a.elementsEqual(b) { $0 == $1 }
      default: false
      }
    }
  }

  var prompt: Prompt
  var text: [UInt8]
  /// Nil when the server gave no log-probabilities.
  var steps: [Step]?
}

/// What a line holds: answers, or the word that the request failed.
enum APILine {
  case completions([APICompletion], model: String)
  case failed

  /// Why a line cannot be used.
  struct Malformed: Error {
    let found: String, expected: String
  }

  /// Reads a line.
  init(_ line: JSONValue) throws(Malformed) {
    guard line.object != nil else {
      throw Malformed(found: line.kind, expected: "an object a line")
    }
    var body = line
    if let response = line["response"] {
      // A failed request of a batch has no response, or one with another status.
      guard !response.isNull, response["status_code"]?.integer ?? 200 == 200,
        let inner = response["body"], !inner.isNull
      else {
        self = .failed
        return
      }
      body = inner
    }
    if let error = body["error"], !error.isNull {
      self = .failed
      return
    }
    guard let choices = body["choices"]?.array else {
      throw Malformed(
        found: "no 'choices'", expected: "a completion, or a batch's {\"response\": {\"body\": …}}")
    }
    let prompt = try Self.prompt(line["request"] ?? line["body"] ?? line)
    var completions: [APICompletion] = []
    for choice in choices { completions.append(try Self.completion(choice, prompt)) }
    self = .completions(completions, model: body["model"]?.string ?? "")
  }

  private static func prompt(_ request: JSONValue) throws(Malformed) -> APICompletion.Prompt {
    if let text = request["prompt"]?.string { return .text(text) }
    guard let messages = request["messages"]?.array else { return .none }
    var result: [(role: String, content: String)] = []
    for message in messages {
      guard let role = message["role"]?.string, let content = message["content"]?.string else {
        throw Malformed(found: "a message without text", expected: "'role' and 'content' as texts")
      }
      result.append((role, content))
    }
    return .messages(result)
  }

  private static func completion(
    _ choice: JSONValue, _ prompt: APICompletion.Prompt
  ) throws(Malformed) -> APICompletion {
    let text = choice["message"]?["content"]?.string ?? choice["text"]?.string
    let logs = choice["logprobs"] ?? .null
    var steps: [APICompletion.Step]?
    if let content = logs["content"]?.array {
      var read: [APICompletion.Step] = []
      for token in content { read.append(try step(token)) }
      steps = read
    } else if let tokens = logs["tokens"]?.array {
      steps = try legacySteps(tokens, logs)
    }
    guard let bytes = text.map({ Array($0.utf8) }) ?? steps.map({ $0.flatMap(\.bytes) }) else {
      throw Malformed(found: "a choice without text", expected: "'message.content' or 'text'")
    }
    return APICompletion(prompt: prompt, text: bytes, steps: steps)
  }

  private static func step(_ token: JSONValue) throws(Malformed) -> APICompletion.Step {
    let (bytes, log) = try entry(token)
    var list: [(bytes: [UInt8], logProbability: Double)] = []
    for other in token["top_logprobs"]?.array ?? [] { list.append(try entry(other)) }
    return APICompletion.Step(bytes: bytes, logProbability: log, list: list)
  }

  private static func entry(
    _ token: JSONValue
  ) throws(Malformed) -> (bytes: [UInt8], logProbability: Double) {
    guard let text = token["token"]?.string, let log = token["logprob"]?.number else {
      throw Malformed(found: "a token without 'token' or 'logprob'", expected: "both")
    }
    try check(log)
    guard let numbers = token["bytes"]?.array else { return (bytes(ofToken: text), log) }
    let bytes = numbers.compactMap { $0.integer.flatMap { UInt8(exactly: $0) } }
    guard bytes.count == numbers.count else {
      throw Malformed(found: "'bytes' that are none", expected: "numbers of 0 to 255")
    }
    return (bytes, log)
  }

  private static func check(_ log: Double) throws(Malformed) {
    guard log <= 1e-3, log.isFinite else {
      throw Malformed(found: "a log-probability of \(log)", expected: "a number of at most 0")
    }
  }

  private static func legacySteps(
    _ tokens: [JSONValue], _ logs: JSONValue
  ) throws(Malformed) -> [APICompletion.Step] {
    let own = logs["token_logprobs"]?.array ?? [], lists = logs["top_logprobs"]?.array ?? []
    guard own.count == tokens.count, lists.isEmpty || lists.count == tokens.count else {
      throw Malformed(
        found:
          "\(tokens.count) tokens with \(own.count) log-probabilities and \(lists.count) lists",
        expected: "one of each a token")
    }
    var steps: [APICompletion.Step] = []
    for (index, token) in tokens.enumerated() {
      guard let text = token.string else {
        throw Malformed(found: "a token that is \(token.kind)", expected: "a text")
      }
      var list: [(bytes: [UInt8], logProbability: Double)] = []
      for member in lists.isEmpty ? [] : lists[index].object?.members ?? [] {
        guard let log = member.value.number else {
          throw Malformed(
            found: "a log-probability that is \(member.value.kind)", expected: "a number")
        }
        try check(log)
        list.append((bytes(ofToken: member.key), log))
      }
      // The first token of an echoed prompt has no prediction.
      let log = own[index].number ?? 0
      try check(log)
      steps.append(.init(bytes: bytes(ofToken: text), logProbability: log, list: list))
    }
    return steps
  }

  /// The bytes of a token that is written as a text; `bytes:\xe2\x80` is how parts of characters come.
  static func bytes(ofToken text: String) -> [UInt8] {
    let plain = Array(text.utf8), prefix = Array("bytes:".utf8)
    guard plain.starts(with: prefix) else { return plain }
    var bytes: [UInt8] = []
    var rest = plain.dropFirst(prefix.count)
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "\\"), rest.first == UInt8(ascii: "x"), rest.count >= 3,
        let value = UInt8(
          String(decoding: rest.dropFirst().prefix(2), as: UTF8.self), radix: 16)
      else {
        bytes.append(byte)
        continue
      }
      bytes.append(value)
      rest = rest.dropFirst(3)
    }
    return bytes
  }
}
