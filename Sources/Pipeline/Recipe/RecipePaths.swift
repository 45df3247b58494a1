// Paths in recipes are joined and shortened as text: links are not followed.

/// Joins, shortens and relates paths as text.
enum RecipePaths {
  /// The folder that a file stands in; `.` for a bare name.
  static func directory(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// `path` as seen from where `directory` is seen, without `.` and `name/..`.
  static func join(_ directory: String, _ path: String) -> String {
    path.hasPrefix("/") ? shorten(path) : shorten(directory + "/" + path)
  }

  /// The path without `.`, `name/..` and doubled slashes; `.` when nothing is left.
  static func shorten(_ path: String) -> String {
    let isAbsolute = path.hasPrefix("/")
    var kept: [Substring] = []
    for part in path.split(separator: "/") where part != "." {
      if part == "..", let last = kept.last, last != ".." {
        kept.removeLast()
      } else if part != ".." || !isAbsolute {
        kept.append(part)
      }
    }
    let joined = kept.joined(separator: "/")
    return isAbsolute ? "/" + joined : joined.isEmpty ? "." : joined
  }

  /// `path` as seen from `directory`; both start at `current` unless they are absolute.
  ///
  /// An absolute path stays absolute.
  static func relative(_ path: String, from directory: String, current: String) -> String {
    guard !path.hasPrefix("/") else { return shorten(path) }
    let goal = join(current, path).split(separator: "/")
    let start = join(current, directory).split(separator: "/")
    let common = zip(goal, start).prefix { $0 == $1 }.count
    let up = Array(repeating: "..", count: start.count - common)
    let parts = up + goal[common...].map(String.init)
    return parts.isEmpty ? "." : parts.joined(separator: "/")
  }
}
