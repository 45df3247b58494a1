// Writes zip archives, also wrong ones.

import Checkpoints

enum HostileArchive {
  struct Entry {
    var name: String
    var method = 0
    var stored: [UInt8]
    /// The size that the directory claims; nil for the true one.
    var byteCount: Int?
    var localName: String?
    /// Where the directory says that the header is; nil for the true place.
    var header: Int?
    var flags = 0
  }

  private static func little(_ value: Int, _ size: Int) -> [UInt8] {
    (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }

  /// An archive of these entries.
  ///
  /// - Parameter count: The number of entries that the end record claims.
  static func bytes(_ entries: [Entry], count: Int? = nil) -> [UInt8] {
    var file: [UInt8] = []
    var directory: [UInt8] = []
    for entry in entries {
      let header = entry.header ?? file.count
      let name = Array(entry.name.utf8), localName = Array((entry.localName ?? entry.name).utf8)
      let sizes = little(entry.stored.count, 4) + little(entry.byteCount ?? entry.stored.count, 4)
      let middle =
        little(entry.flags, 2) + little(entry.method, 2) + little(0, 8) + sizes
      file += little(0x0403_4B50, 4) + little(20, 2) + middle
      file += little(localName.count, 2) + little(0, 2) + localName + entry.stored
      directory += little(0x0201_4B50, 4) + little(20, 2) + little(20, 2) + middle
      directory += little(name.count, 2) + little(0, 12) + little(header, 4) + name
    }
    let start = file.count
    let entryCount = little(count ?? entries.count, 2)
    return file + directory + little(0x0605_4B50, 4) + little(0, 4) + entryCount + entryCount
      + little(directory.count, 4) + little(start, 4) + little(0, 2)
  }
}
