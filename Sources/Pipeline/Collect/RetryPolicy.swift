// When a request is sent again, and when not.
//
// Source   RFC 9110, 10.2.3 (Retry-After) and 5.6.7 (dates); exponential backoff with jitter as in "Exponential
//          Backoff And Jitter", AWS Architecture Blog, 2015 ("equal jitter")

import Glibc
import Tensors

/// How long to wait before which attempt.
struct RetryPolicy: Sendable, Equatable {
  /// Attempts of a request, the first included.
  var attempts = 8
  /// The first pause in seconds; each further one is twice as long.
  var base = 1.0
  /// The longest pause, also when the server asks for more.
  var longest = 120.0

  /// Whether an answer's status says that the same request may succeed later.
  static func isTemporary(_ status: Int) -> Bool {
    [408, 409, 425, 429].contains(status) || status >= 500
  }

  /// The pause after a failed attempt, counted from 1: between half and all of the doubled time, or what the server
  /// asks for.
  func pause(after attempt: Int, retryAfter: Double?, random: inout RandomStream) -> Double {
    let doubled = min(longest, base * pow(2, Double(min(attempt, 60) - 1)))
    let own = doubled / 2 * (1 + random.unit())
    guard let retryAfter else { return own }
    // A little more than asked for, so that not all waiters come in one moment.
    return min(longest, retryAfter + base * 0.25 * random.unit())
  }

  /// Seconds that `Retry-After` asks for: a number of them or a date; nil when it is neither.
  static func retryAfter(_ value: String?, now: Double) -> Double? {
    guard let text = value?.trimmingPrefix(while: { $0 == " " }), !text.isEmpty else { return nil }
    if let seconds = Double(text) { return seconds.isFinite && seconds >= 0 ? seconds : nil }
    guard let date = date(String(text)) else { return nil }
    return max(0, date - now)
  }

  /// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`.
  static func date(_ text: String) -> Double? {
    let parts = text.split(whereSeparator: { " ,:-".contains($0) }).map(String.init)
    let months = [
      "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
    guard parts.count == 8, parts[7] == "GMT", let day = Int(parts[1]),
      let month = months.firstIndex(of: parts[2]), let year = Int(parts[3]),
      let hour = Int(parts[4]), let minute = Int(parts[5]), let second = Int(parts[6]),
      (1...31).contains(day), (1970...9999).contains(year), (0...23).contains(hour),
      (0...59).contains(minute), (0...60).contains(second)
    else { return nil }
    // Days since 1970 by the proleptic Gregorian calendar; the year starts in March.
    let shifted = month < 2 ? year - 1 : year, place = (month + 10) % 12
    let days =
      365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + (153 * place + 2) / 5 + day - 1
      - 719_468
    return Double(((days * 24 + hour) * 60 + minute) * 60 + second)
  }
}
