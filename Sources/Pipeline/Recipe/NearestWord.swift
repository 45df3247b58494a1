// The known word that a mistyped one most likely stands for.
//
// Source   F. Damerau, "A technique for computer detection and correction of spelling errors",
//          CACM 7(3), 1964; the restricted form (no piece of text is edited twice).
// Cost     O(length²) a word; words longer than 64 characters are not compared.
// Checked  NearestWordTests: equals the recursive definition.

/// The least number of insertions, deletions, replacements and swaps of neighbours from `a` to `b`.
func editDistance(_ a: String, _ b: String) -> Int {
  let a = Array(a.lowercased())
  let b = Array(b.lowercased())
  // distances[i][j] is the distance of the first i characters of a to the first j of b.
  var distances = [[Int]](repeating: Array(0...b.count), count: a.count + 1)
  for i in 0...a.count { distances[i][0] = i }
  for i in a.indices {
    for j in b.indices {
      let replaced = distances[i][j] + (a[i] == b[j] ? 0 : 1)
      var best = min(distances[i][j + 1] + 1, distances[i + 1][j] + 1, replaced)
      if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
        best = min(best, distances[i - 1][j - 1] + 1)
      }
      distances[i + 1][j + 1] = best
    }
  }
  return distances[a.count][b.count]
}

/// The word of `known` that is nearest to `word`, or `nil` when none is near: more than one character
/// in three would have to change. The first of several equally near.
func nearestWord(to word: String, among known: [String]) -> String? {
  guard word.unicodeScalars.count <= 64 else { return nil }
  var best: (word: String, distance: Int)?
  for candidate in known where candidate.unicodeScalars.count <= 64 {
    let distance = editDistance(word, candidate)
    let limit = max(1, max(word.count, candidate.count) / 3)
    if distance <= limit, distance < best?.distance ?? .max { best = (candidate, distance) }
  }
  return best?.word
}
