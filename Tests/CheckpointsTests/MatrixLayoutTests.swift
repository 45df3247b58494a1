import JSONDocuments
import Tensors
import Testing

@testable import Checkpoints

/// Tensors as matrices against the definition, index by index.
@Suite struct MatrixLayoutTests {
  @Test func axesAreExchanged() throws {
    // A convolution of PyTorch's: [outputs, channels, height, width] to rows [height, width, channels].
    let shape = [2, 3, 4, 5]
    let layout = try #require(MatrixLayout(shape: shape, axes: [0, 2, 3, 1]))
    #expect(layout.outputs == 2 && layout.inputs == 60)
    let values = (0..<120).map(Float.init)
    let matrix = layout.matrix(of: values)
    for o in 0..<2 {
      for c in 0..<3 {
        for y in 0..<4 {
          for x in 0..<5 {
            #expect(
              matrix.values[o * 60 + (y * 5 + x) * 3 + c] == values[((o * 3 + c) * 4 + y) * 5 + x])
          }
        }
      }
    }
    #expect(layout.tensorValues(of: matrix) == values)
    // A depthwise one of Keras's: [height, width, channels, multiplier] to rows of channels and multipliers.
    let depthwise = try #require(
      MatrixLayout(shape: [2, 3, 4, 2], axes: [2, 3, 0, 1], rowAxes: 2))
    #expect(depthwise.outputs == 8 && depthwise.inputs == 6)
    let small = depthwise.matrix(of: (0..<48).map(Float.init))
    #expect(small.values[(3 * 2 + 1) * 6 + 1 * 3 + 2] == Float(((1 * 3 + 2) * 4 + 3) * 2 + 1))
  }

  @Test func whatIsNoLayoutIsRefused() {
    #expect(MatrixLayout(shape: [2, 3], axes: [0, 0]) == nil)
    #expect(MatrixLayout(shape: [2, 3], axes: [0, 1, 2]) == nil)
    #expect(MatrixLayout(shape: [2, 3], axes: [1, 0], rowAxes: 2) == nil)
    #expect(MatrixLayout(shape: [2, 3], axes: [1, 0], rowAxes: 0) == nil)
    #expect(MatrixLayout(shape: [6], axes: [0]) == nil)
    #expect(MatrixLayout(shape: [1 << 62, 1 << 62], axes: [0, 1]) == nil)
  }

  @Test func aManifestKeepsLayoutsAndChecksThem() throws {
    func manifest(_ tensor: String) throws(CheckpointError.Problem) -> WeightManifest {
      let text = """
        {"version": 1, "weights": {"w": {"encoding": "f32", "shape": [2, 60], "method": "rtn", "tensor": \(tensor)}}}
        """
      guard let json = try? JSONValue(parsing: text) else { throw .missing(key: "", expected: "") }
      return try WeightManifest(json: json)
    }
    let good = try manifest(#"{"shape": [2, 3, 4, 5], "axes": [0, 2, 3, 1], "row_axes": 1}"#)
    #expect(good["w"]?.tensorShape == [2, 3, 4, 5])
    let again = try WeightManifest(json: good.json)
    #expect(again["w"]?.layout == good["w"]?.layout && again["w"]?.layout != nil)
    for bad in [
      "{}", "[]", "null", #"{"shape": [2, 3, 4, 5], "axes": [0, 2, 3], "row_axes": 1}"#,
      #"{"shape": [3, 2, 4, 5], "axes": [0, 2, 3, 1], "row_axes": 1}"#,
      #"{"shape": [2, 3, 4, -5], "axes": [0, 2, 3, 1], "row_axes": 1}"#,
      #"{"shape": [2, 3, 4, 5], "axes": [0, 2, 3, 9223372036854775807], "row_axes": 1}"#,
      #"{"shape": [2, "x", 4, 5], "axes": [0, 2, 3, 1], "row_axes": 1}"#,
      #"{"shape": [1,1,1,1,1,1,1,1,2,60], "axes": [0,1,2,3,4,5,6,7,8,9], "row_axes": 9}"#,
    ] {
      #expect(throws: CheckpointError.Problem.self) { _ = try manifest(bad) }
    }
  }
}
