// Text token by token: a prompt, a cache, a choice.

public import Networks
import Foundation
import Tensors

/// How the next token is chosen.
public struct Sampling: Sendable, Equatable {
  /// 0 always takes the likeliest token; larger is more varied.
  public var temperature: Double
  /// Only the likeliest tokens whose probabilities reach this sum are drawn from; 1 keeps all.
  public var topP: Double
  /// Only this many of the likeliest tokens are drawn from; nil keeps all.
  public var topK: Int?
  /// Of the random stream.
  public var seed: UInt64

  /// A way to choose; by default the likeliest token.
  public init(temperature: Double = 0, topP: Double = 1, topK: Int? = nil, seed: UInt64 = 0) {
    self.temperature = temperature
    self.topP = topP
    self.topK = topK
    self.seed = seed
  }
}

/// One continuation of a prompt.
public struct Generator {
  private let model: any LanguageModel
  private let sampling: Sampling
  private let endTokens: Set<Int32>
  private let cache = KeyValueCache()
  private var stream: RandomStream
  private var logits: [Float]

  /// Reads the prompt, which must not be empty.
  ///
  /// - Parameter endTokens: Ids that end the text.
  public init(
    model: any LanguageModel, prompt: [Int32], sampling: Sampling, endTokens: Set<Int32>
  ) {
    self.model = model
    self.sampling = sampling
    self.endTokens = endTokens
    stream = RandomStream(seed: sampling.seed, name: "sampling")
    let hidden = model.hidden(TokenBatch([prompt]), cache: cache)
    logits = model.logits(hidden.rows(hidden.rows - 1..<hidden.rows)).values
  }

  /// Tokens that the cache holds.
  public var position: Int { cache.count }

  /// The next token; nil at the end of the text.
  public mutating func next() -> Int32? {
    let token = choose()
    if endTokens.contains(token) { return nil }
    logits = model.logits(model.hidden(TokenBatch([[token]]), cache: cache)).values
    return token
  }

  private mutating func choose() -> Int32 {
    let order: [Int]
    if sampling.temperature <= 0 {
      var best = 0
      for (index, value) in logits.enumerated() where value > logits[best] { best = index }
      return Int32(best)
    }
    order = logits.indices.sorted { (logits[$1], $0) < (logits[$0], $1) }
    let largest = Double(logits[order[0]])
    var weights: [Double] = []
    for index in order.prefix(sampling.topK ?? order.count) {
      weights.append(Foundation.exp((Double(logits[index]) - largest) / sampling.temperature))
    }
    let total = weights.reduce(0, +)
    var kept = 0, sum = 0.0
    while kept < weights.count, kept == 0 || sum < sampling.topP * total {
      sum += weights[kept]
      kept += 1
    }
    var draw = stream.unit() * sum
    for index in 0..<kept {
      draw -= weights[index]
      if draw < 0 { return Int32(order[index]) }
    }
    return Int32(order[kept - 1])
  }
}
