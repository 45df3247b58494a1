import Testing

@testable import Tokenization

@Suite struct BytePairModelTests {
  /// A model over four letters with random merges; the tokens are made as the merges need them.
  private func randomModel(_ stream: inout Stream) -> BytePairModel {
    var vocabulary = Vocabulary(capacity: 64)
    var tokens: [[UInt8]] = [[0x61], [0x62], [0x63], [0x64]]
    for (id, token) in tokens.enumerated() { _ = vocabulary.insert(token, id: Int32(id)) }
    var merges = MergeTable(capacity: 4)
    for rank in 0..<Int32(60) {
      let left = stream.next(tokens.count)
      let right = stream.next(tokens.count)
      let merged = tokens[left] + tokens[right]
      var id = vocabulary.id(of: merged)
      if id == nil {
        id = Int32(tokens.count)
        _ = vocabulary.insert(merged, id: Int32(tokens.count))
        tokens.append(merged)
      }
      merges.insert(Int32(left), Int32(right), rank: rank, merged: id ?? 0)
    }
    var model = BytePairModel(
      vocabulary: vocabulary, merges: merges, byteIDs: [], isByteLevel: false)
    model.setAlphabet()
    return model
  }

  /// Merges as the paper writes them: the earliest merge, everywhere it stands, leftmost first.
  private func rescan(_ model: BytePairModel, _ word: [UInt8]) -> [Int32] {
    var symbols = word.map { model.byteIDs[Int($0)] }
    while true {
      var best: (value: UInt64, place: Int)?
      for place in symbols.indices.dropLast() {
        let value = model.merges.value(symbols[place], symbols[place + 1])
        if value != MergeTable.none, value < best?.value ?? .max { best = (value, place) }
      }
      guard let best else { return symbols }
      symbols[best.place] = Int32(truncatingIfNeeded: best.value & 0xFFFF_FFFF)
      symbols.remove(at: best.place + 1)
    }
  }

  @Test func shortAndLongWordsEqualAPlainRescan() {
    var stream = Stream(5)
    for _ in 0..<60 {
      let model = randomModel(&stream)
      for length in [1, 2, 3, 10, 40, 41, 65, 300] {
        let word = (0..<length).map { _ in UInt8(0x61 + stream.next(4)) }
        var state = EncoderState()
        var ids: [Int32] = []
        model.encode(word.span, 0..<length, &state, into: &ids)
        #expect(ids == rescan(model, word))
        // From the cache.
        var again: [Int32] = []
        model.encode(word.span, 0..<length, &state, into: &again)
        #expect(again == ids)
      }
    }
  }

  @Test func theCacheStaysBoundedAndRight() {
    var stream = Stream(9)
    let model = randomModel(&stream)
    var state = EncoderState()
    for _ in 0..<200_000 {
      let word = (0..<12).map { _ in UInt8(0x61 + stream.next(4)) }
      var ids: [Int32] = []
      model.encode(word.span, 0..<12, &state, into: &ids)
      #expect(ids.count <= 12)
    }
    let word = Array("abcdabcdabcd".utf8)
    for _ in 0..<2 {
      var ids: [Int32] = []
      model.encode(word.span, 0..<12, &state, into: &ids)
      #expect(ids == rescan(model, word))
    }
  }

  @Test func vocabularyRefusesATakenIdOrToken() {
    var vocabulary = Vocabulary(capacity: 0)
    let inserted = (0..<Int32(500)).map { vocabulary.insert(Array("t\($0)".utf8), id: $0 * 3) }
    #expect(inserted.allSatisfy { $0 })
    let refused = [vocabulary.insert([0x78], id: 3), vocabulary.insert(Array("t7".utf8), id: 1)]
    #expect(refused == [false, false])
    #expect(vocabulary.count == 500)
    #expect(vocabulary.id(of: Array("t499".utf8)) == 1497)
    #expect(vocabulary.token(1497) == Array("t499".utf8))
    #expect(vocabulary.token(1) == nil)
    #expect(vocabulary.id(of: []) == nil)
  }
}
