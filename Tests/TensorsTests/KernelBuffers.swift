import Testing

/// Lengths around every vector width, and starts that no vector is aligned to.
let kernelLengths = Array(0...130)
let kernelOffsets = [0, 1, 3]

/// What a kernel writes to `count` elements at an offset; the elements around them must stay as they are.
func written<Element: Equatable>(
  _ count: Int, offset: Int = 0, canary: Element, _ body: (UnsafeMutablePointer<Element>) -> Void
) throws -> [Element] {
  var buffer = [Element](repeating: canary, count: offset + count + 40)
  try buffer.withUnsafeMutableBufferPointer { buffer in
    body(try #require(buffer.baseAddress) + offset)
  }
  try #require(buffer[..<offset].allSatisfy { $0 == canary }, "written before the start")
  try #require(buffer[(offset + count)...].allSatisfy { $0 == canary }, "written past the end")
  return Array(buffer[offset..<offset + count])
}

/// The same for a kernel that changes values where they lie.
func changed(
  _ values: [Float], offset: Int = 0, _ body: (UnsafeMutablePointer<Float>) -> Void
) throws -> [Float] {
  try written(values.count, offset: offset, canary: -7.25) { target in
    for (index, value) in values.enumerated() { target[index] = value }
    body(target)
  }
}

/// The index of the first value that is further from the definition than allowed.
func firstBeyond(
  _ found: [Float], _ expected: [Double], tolerance: (Int) -> Double
) -> String? {
  guard found.count == expected.count else { return "\(found.count) of \(expected.count)" }
  for index in found.indices {
    let distance = abs(Double(found[index]) - expected[index])
    if !(distance <= tolerance(index)) {
      return "\(index): \(found[index]), expected \(expected[index]) ± \(tolerance(index))"
    }
  }
  return nil
}

/// Half a unit in the last place of 1, the largest relative error of one operation.
let roundoff = 0x1p-24
