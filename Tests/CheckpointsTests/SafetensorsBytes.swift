import Checkpoints
import Foundation
import JSONDocuments
import Tensors

@testable import Checkpoints

/// A file's bytes: the length of the header, the header, the data.
func safetensorsBytes(_ header: [UInt8], data: Int = 0, length: UInt64? = nil) -> [UInt8] {
  let length = length ?? UInt64(header.count)
  return (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + header
    + (0..<data).map { UInt8(truncatingIfNeeded: $0 * 13) }
}

func safetensorsBytes(_ header: String, data: Int = 0) -> [UInt8] {
  safetensorsBytes(Array(header.utf8), data: data)
}

/// Reads a header; a failure is returned.
func readHeader(_ bytes: [UInt8]) -> Result<SafetensorsHeader, SafetensorsHeader.Failure> {
  do throws(SafetensorsHeader.Failure) {
    return .success(try SafetensorsHeader(of: bytes.span.bytes))
  } catch {
    return .failure(error)
  }
}

func problem(_ bytes: [UInt8]) -> CheckpointError.Problem? {
  switch readHeader(bytes) {
  case .success: nil
  case .failure(let failure): failure.problem
  }
}

/// What is wrong with an accepted header; nil when it keeps its promises.
func brokenPromise(_ header: SafetensorsHeader, fileBytes: Int) -> String? {
  let data = fileBytes - header.dataStart
  guard data >= 0 else { return "the data starts beyond the file" }
  var end = 0
  for entry in header.entries {
    guard entry.range.lowerBound == end, entry.range.upperBound <= data else {
      return "'\(entry.name)' at \(entry.range), after \(end), of \(data)"
    }
    guard elementCount(of: entry.shape).map({ $0 * entry.dtype.byteCount }) == entry.range.count
    else { return "'\(entry.name)': \(entry.shape) \(entry.dtype) in \(entry.range)" }
    end = entry.range.upperBound
  }
  return end == data ? nil : "data ends at \(end) of \(data)"
}
