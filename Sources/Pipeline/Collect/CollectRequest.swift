// What is asked of an endpoint: prompts as request bodies, each with an id that is the hash of its content.

import Checkpoints
import Foundation
import JSONDocuments

/// Prompts for an OpenAI-compatible endpoint.
public struct CollectRequest: Sendable {
  /// What the endpoint is asked for.
  public enum Interface: String, Sendable, CaseIterable {
    /// `/chat/completions`.
    case chat
    /// `/completions`.
    case completions
  }

  /// The address up to and with the version, such as `https://host/v1`, or the whole address.
  public var endpoint: String
  /// The model's name there.
  public var model: String
  /// A prompt a line, or JSON lines with `prompt` or `messages`.
  public var prompts: String
  /// What is asked for.
  public var interface = Interface.chat
  /// Entries of the lists; 0 asks for no log-probabilities.
  public var topCount = 20
  /// The longest answer in tokens.
  public var tokens = 512
  /// The temperature of the answers.
  public var temperature = 1.0
  /// The seed of the answers; nil sends none.
  public var seed: Int?
  /// The environment variable with the key; nil sends none.
  public var keyVariable: String?
  /// Requests at a time.
  public var concurrency = 4
  /// Requests that are started a minute; nil sets no limit.
  public var requestsPerMinute: Double?
  /// Seconds for one request.
  public var timeout = 120.0
  /// Seconds for all; nil sets no limit.
  public var overallTimeout: Double?
  /// Attempts of a request.
  public var attempts = 8

  /// A request with the usual numbers.
  public init(endpoint: String, model: String, prompts: String) {
    self.endpoint = endpoint
    self.model = model
    self.prompts = prompts
  }

  /// One request.
  struct Item: Sendable, Equatable {
    let id: String
    let body: JSONValue
  }

  /// The address of requests.
  func url(hasKey: Bool) throws(CollectError) -> URL {
    var text = endpoint
    while text.hasSuffix("/") { text.removeLast() }
    let path = interface == .chat ? "/chat/completions" : "/completions"
    if !text.hasSuffix(path) { text += path }
    guard let url = URL(string: text), let scheme = url.scheme?.lowercased(),
      ["http", "https"].contains(scheme), let host = url.host, !host.isEmpty
    else { throw .badEndpoint }
    let isHere = ["localhost", "127.0.0.1", "::1", "[::1]"].contains(host.lowercased())
    guard !hasKey || scheme == "https" || isHere else { throw .keyInTheClear }
    return url
  }

  /// The requests of the prompts file; of equal ones, the first.
  func items() throws -> [Item] {
    let bytes = try FilePath.read(prompts)
    var items: [Item] = []
    var ids: Set<String> = []
    for (index, line) in bytes.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated()
    {
      guard let text = String(validating: line, as: UTF8.self) else {
        throw CollectError.badPrompt(place: "\(prompts):\(index + 1)", found: "no UTF-8")
      }
      let trimmed = text.trimmingCharacters(in: .whitespacesAndNewlines)
      if trimmed.isEmpty { continue }
      let body = body(try prompt(trimmed, line: index + 1))
      let id = ContentHash.of(Array(body.compactText.utf8))
      if ids.insert(id).inserted { items.append(Item(id: id, body: body)) }
    }
    guard !items.isEmpty else {
      throw CollectError.badPrompt(place: prompts, found: "no prompts")
    }
    return items
  }

  private func prompt(_ text: String, line: Int) throws(CollectError) -> JSONObject.Member {
    let place = "\(prompts):\(line)"
    guard prompts.hasSuffix(".jsonl") || prompts.hasSuffix(".json") else {
      return member(text)
    }
    let json: JSONValue
    do throws(JSONError) {
      json = try JSONValue(parsing: text)
    } catch {
      throw .badPrompt(place: place, found: "\(error)")
    }
    if let prompt = json.string ?? json["prompt"]?.string { return member(prompt) }
    guard let messages = json["messages"], messages.array?.isEmpty == false, interface == .chat
    else {
      throw .badPrompt(
        place: place,
        found: interface == .chat ? "neither 'prompt' nor 'messages'" : "no 'prompt'")
    }
    return .init(key: "messages", value: messages)
  }

  private func member(_ prompt: String) -> JSONObject.Member {
    interface == .chat
      ? .init(key: "messages", value: [["role": "user", "content": .string(prompt)]])
      : .init(key: "prompt", value: .string(prompt))
  }

  private func body(_ prompt: JSONObject.Member) -> JSONValue {
    var object = JSONObject()
    object["model"] = .string(model)
    object[prompt.key] = prompt.value
    object["max_tokens"] = .integer(tokens)
    object["temperature"] = .number(temperature)
    if let seed { object["seed"] = .integer(seed) }
    if topCount > 0 {
      if interface == .chat {
        object["logprobs"] = true
        object["top_logprobs"] = .integer(topCount)
      } else {
        object["logprobs"] = .integer(topCount)
      }
    }
    return .object(object)
  }
}

/// Why a collection cannot start, or did not come to its end. No case holds an address or a key.
public enum CollectError: Error, Sendable, Equatable, CustomStringConvertible {
  /// No address of HTTP.
  case badEndpoint
  /// A key would go over the network for anyone to read.
  case keyInTheClear
  /// The environment has no such variable.
  case noKey(variable: String)
  /// A line of the prompts, or of the output, that cannot be used.
  case badPrompt(place: String, found: String)
  /// The endpoint refuses every request of this kind.
  case refused(status: Int, words: String)
  /// Requests that failed for good.
  case gaveUp(failed: Int, of: Int, last: String)
  /// The time for all is over.
  case outOfTime(missing: Int, of: Int)

  /// One line without a full stop.
  public var description: String {
    switch self {
    case .badEndpoint:
      "--endpoint: found no address of HTTP, expected one such as https://host/v1"
    case .keyInTheClear:
      "--endpoint: a key would go over the network unencrypted; use https://"
    case .noKey(let variable):
      "--key-variable: the environment has no '\(variable)', or it is empty; export it first"
    case .badPrompt(let place, let found):
      "\(place): found \(found), expected a prompt a line, or JSON lines with 'prompt' or 'messages'"
    case .refused(let status, let words):
      "the endpoint refuses with status \(status): \(words); check --endpoint, --model and --key-variable"
    case .gaveUp(let failed, let all, let last):
      "\(failed) of \(all) requests failed; the last one: \(last); the same command tries them again"
    case .outOfTime(let missing, let all):
      "--overall-timeout is over with \(missing) of \(all) requests missing; the same command goes on"
    }
  }
}
