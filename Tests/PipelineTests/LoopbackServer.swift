import Foundation
import Glibc
import Synchronization

/// A server of this machine alone that behaves as badly as a test asks for. Every wait in it is bounded.
final class LoopbackServer: Sendable {
  /// What is done with a request.
  enum Behaviour: Sendable {
    case answer(Int, fields: [String: String] = [:], String)
    /// The first bytes of an answer, then the connection is cut.
    case cut(String, after: Int)
    /// An answer a few bytes at a time.
    case slow(String, step: Int, seconds: Double)
    /// Nothing, until the server stops.
    case never
  }

  struct Request: Sendable {
    let head: String
    let body: String
    let moment: Double
  }

  let port: Int
  private let listener: Int32
  private let requestList = Mutex<[Request]>([])
  private let isStopped = Mutex(false)
  private let behaviour: @Sendable (Int, Request) -> Behaviour

  /// Requests so far.
  var requests: [Request] { requestList.withLock { $0 } }
  var url: String { "http://127.0.0.1:\(port)/v1" }

  /// Starts a server; `behaviour` is given the request's number, from 0.
  init(_ behaviour: @escaping @Sendable (Int, Request) -> Behaviour) throws {
    self.behaviour = behaviour
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listener = listener
    let isBound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, length) == 0 && getsockname(listener, $0, &length) == 0
      }
    }
    guard isBound, listen(listener, 64) == 0 else { throw CocoaError(.fileReadUnknown) }
    port = Int(UInt16(bigEndian: address.sin_port))
    Thread { [self] in
      while !isStopped.withLock({ $0 }) {
        let connection = accept(listener, nil, nil)
        guard connection >= 0 else { return }
        Thread { [self] in
          serve(connection)
          Glibc.close(connection)
        }.start()
      }
    }.start()
  }

  /// Ends the server and what waits in it.
  func stop() {
    isStopped.withLock { $0 = true }
    shutdown(listener, Int32(SHUT_RDWR))
    Glibc.close(listener)
  }

  private func serve(_ connection: Int32) {
    var limit = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 4096)
    while true {
      let text = String(decoding: bytes, as: UTF8.self)
      if let end = text.range(of: "\r\n\r\n") {
        let head = String(text[..<end.lowerBound])
        let length =
          head.lowercased().components(separatedBy: "\r\n").compactMap { line in
            line.hasPrefix("content-length:")
              ? Int(line.dropFirst(15).trimmingCharacters(in: .whitespaces)) : nil
          }.first ?? 0
        let body = String(text[end.upperBound...])
        if body.utf8.count >= length {
          let request = Request(
            head: head, body: body, moment: ProcessInfo.processInfo.systemUptime)
          let number = requestList.withLock { list in
            list.append(request)
            return list.count - 1
          }
          return answer(behaviour(number, request), connection)
        }
      }
      let count = recv(connection, &piece, piece.count, 0)
      guard count > 0, bytes.count < 1 << 20 else { return }
      bytes += piece[..<count]
    }
  }

  private func answer(_ behaviour: Behaviour, _ connection: Int32) {
    func text(_ status: Int, _ fields: [String: String], _ body: String) -> [UInt8] {
      let lines = fields.map { "\($0): \($1)\r\n" }.sorted().joined()
      return Array(
        ("HTTP/1.1 \(status) Words\r\n\(lines)Content-Length: \(body.utf8.count)\r\n"
          + "Connection: close\r\n\r\n\(body)").utf8)
    }
    func write(_ bytes: ArraySlice<UInt8>) {
      _ = Array(bytes).withUnsafeBytes {
        send(connection, $0.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
      }
    }
    switch behaviour {
    case .answer(let status, let fields, let body): write(text(status, fields, body)[...])
    case .cut(let body, let after): write(text(200, [:], body).prefix(after))
    case .slow(let body, let step, let seconds):
      var rest = text(200, [:], body)[...]
      while !rest.isEmpty, !isStopped.withLock({ $0 }) {
        write(rest.prefix(step))
        rest = rest.dropFirst(step)
        Thread.sleep(forTimeInterval: seconds)
      }
    case .never:
      for _ in 0..<600 where !isStopped.withLock({ $0 }) { Thread.sleep(forTimeInterval: 0.05) }
    }
  }
}
