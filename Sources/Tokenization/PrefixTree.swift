// A tree of byte strings: every one that starts at some place of a text, in one walk.
//
// Given    byte strings with an id each
// Cost     12 bytes a node, of which there are at most as many as bytes; a step is a binary search among children

/// Byte strings by their prefixes.
struct PrefixTree: Sendable {
  /// A node's children stand side by side, sorted by byte.
  private var bytes: [UInt8] = [0]
  private var ids: [Int32] = [-1]
  private var childStart: [Int32] = []

  /// A tree of strings; of equal ones the last counts, an empty one is left out.
  init(_ strings: [(text: [UInt8], id: Int32)]) {
    let order = strings.indices.sorted {
      strings[$0].text.elementsEqual(strings[$1].text)
        ? $0 < $1 : strings[$0].text.lexicographicallyPrecedes(strings[$1].text)
    }
    // Breadth first: the strings below a node are one range of the sorted list.
    var below: [(range: Range<Int>, depth: Int)] = [(0..<order.count, 0)]
    var node = 0
    while node < below.count {
      let (range, depth) = below[node]
      childStart.append(Int32(bytes.count))
      var start = range.lowerBound
      while start < range.upperBound {
        guard depth < strings[order[start]].text.count else {
          if depth > 0 { ids[node] = strings[order[start]].id }
          start += 1
          continue
        }
        let byte = strings[order[start]].text[depth]
        var end = start + 1
        while end < range.upperBound, strings[order[end]].text[depth] == byte { end += 1 }
        bytes.append(byte)
        ids.append(-1)
        below.append((start..<end, depth + 1))
        start = end
      }
      node += 1
    }
    childStart.append(Int32(bytes.count))
  }

  /// Calls `body` with the id and the end of every string that stands at `start`, shortest first.
  @inline(__always)
  func forEachPrefix(
    of text: Span<UInt8>, _ range: Range<Int>, _ body: (_ id: Int32, _ end: Int) -> Void
  ) {
    var node = 0
    for index in range {
      let byte = text[index]
      var low = Int(childStart[node]), high = Int(childStart[node + 1])
      while low < high {
        let middle = (low + high) / 2
        if bytes[middle] < byte { low = middle + 1 } else { high = middle }
      }
      guard low < Int(childStart[node + 1]), bytes[low] == byte else { return }
      node = low
      if ids[node] >= 0 { body(ids[node], index + 1) }
    }
  }
}
