// The one place that speaks to a network: requests of `condense collect`, through Foundation's URLSession. What comes
// back is bounded in time and in size; redirections are not followed, for they could carry the key elsewhere.

import Dispatch
import Foundation
import Synchronization

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// What a server answered.
struct HTTPAnswer: Sendable, Equatable {
  var status: Int
  /// Header fields by lower-case name.
  var fields: [String: String]
  var body: [UInt8]
}

/// Why there is no answer.
enum HTTPFailure: Error, Sendable, Equatable, CustomStringConvertible {
  case timedOut(seconds: Double)
  case tooLarge(limit: Int)
  case transport(String)

  var description: String {
    switch self {
    case .timedOut(let seconds): "no answer within \(Figures.text(seconds, 1)) s"
    case .tooLarge(let limit): "an answer of more than \(limit) bytes"
    case .transport(let words): words
    }
  }
}

/// Sends requests and waits for their answers; any number of threads at a time.
final class HTTPClient: NSObject, URLSessionDataDelegate, @unchecked Sendable {
  // SAFETY: the session is made once, before anything uses it; what changes is behind the lock.
  private let pending = Mutex<[Int: Pending]>([:])
  private var session: URLSession?
  private let bodyLimit: Int

  private final class Pending: Sendable {
    let done = DispatchSemaphore(value: 0)
    let body = Mutex<[UInt8]>([])
    let failure = Mutex<HTTPFailure?>(nil)
  }

  init(bodyLimit: Int = 64 << 20) {
    self.bodyLimit = bodyLimit
    super.init()
    let configuration = URLSessionConfiguration.ephemeral
    configuration.httpCookieStorage = nil
    configuration.urlCache = nil
    // Concurrency is the caller's business.
    configuration.httpMaximumConnectionsPerHost = 256
    configuration.timeoutIntervalForRequest = 86_400
    session = URLSession(configuration: configuration, delegate: self, delegateQueue: nil)
  }

  /// Ends all connections; the client cannot be used afterwards. The session keeps the client until then.
  func close() { session?.invalidateAndCancel() }

  /// Posts a body and waits for the whole answer, at most so many seconds.
  func post(
    _ url: URL, fields: [String: String], body: [UInt8], seconds: Double
  ) throws(HTTPFailure) -> HTTPAnswer {
    var request = URLRequest(url: url)
    request.httpMethod = "POST"
    request.httpBody = Data(body)
    for (name, value) in fields { request.setValue(value, forHTTPHeaderField: name) }
    guard let task = session?.dataTask(with: request) else { throw .transport("no session") }
    let state = Pending()
    pending.withLock { $0[task.taskIdentifier] = state }
    defer { _ = pending.withLock { $0.removeValue(forKey: task.taskIdentifier) } }
    task.resume()
    guard state.done.wait(timeout: .now() + seconds) == .success else {
      task.cancel()
      throw .timedOut(seconds: seconds)
    }
    if let failure = state.failure.withLock({ $0 }) { throw failure }
    guard let response = task.response as? HTTPURLResponse else {
      throw .transport("no HTTP answer")
    }
    var named: [String: String] = [:]
    for (name, value) in response.allHeaderFields {
      named["\(name)".lowercased()] = "\(value)"
    }
    return HTTPAnswer(
      status: response.statusCode, fields: named, body: state.body.withLock { $0 })
  }

  func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
    guard let state = pending.withLock({ $0[dataTask.taskIdentifier] }) else { return }
    let count = state.body.withLock { body in
      body.append(contentsOf: data)
      return body.count
    }
    if count > bodyLimit {
      state.failure.withLock { $0 = .tooLarge(limit: bodyLimit) }
      dataTask.cancel()
    }
  }

  func urlSession(
    _ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?
  ) {
    guard let state = pending.withLock({ $0[task.taskIdentifier] }) else { return }
    if let error {
      state.failure.withLock { failure in
        // One line, and no address: it may hold a password.
        if failure == nil {
          failure = .transport(
            "the connection failed: "
              + (error as NSError).localizedDescription.prefix(200)
              .replacingOccurrences(of: "\n", with: " "))
        }
      }
    }
    state.done.signal()
  }

  func urlSession(
    _ session: URLSession, task: URLSessionTask,
    willPerformHTTPRedirection response: HTTPURLResponse,
    newRequest request: URLRequest, completionHandler: @escaping (URLRequest?) -> Void
  ) { completionHandler(nil) }
}
