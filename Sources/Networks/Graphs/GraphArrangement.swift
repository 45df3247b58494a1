// Layers of graphs that merge results and say where their values go.

import Tensors

/// The product of its inputs, value by value.
final class Product: PlainLayer {
  var channelRelation: ChannelRelation { .same }

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    var product = inputs.removeFirst()
    for other in inputs { product = product.times(other) }
    inputs = []
    return product
  }
}

extension Matrix {
  /// The product with another matrix of the same size, value by value.
  func times(_ other: Matrix) -> Matrix {
    let left = unrecorded, right = other.unrecorded
    @Sendable func times(_ a: Matrix, _ b: Matrix) -> Matrix {
      a.changedCopy(with: b) { part, b in for i in b.indices { part[i] *= b[i] } }
    }
    var result = times(left, right)
    result.record = GradientRecord(of: [record, other.record]) { gradient, _ in
      [times(gradient, right), times(gradient, left)]
    }
    return result
  }
}

/// Every value times a factor.
final class Scaling: PlainLayer {
  let factor: Float
  var channelRelation: ChannelRelation { .same }

  init(_ factor: Float) { self.factor = factor }

  func apply(_ inputs: inout [Matrix]) -> Matrix { inputs.removeFirst().scaled(by: factor) }
}

/// The channels of its inputs, one beside the other.
final class Concatenation: PlainLayer {
  let keepsNumbers = true

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    defer { inputs = [] }
    return Matrix.sideBySide(inputs)
  }
}

/// The same values in rows of another length.
final class Reshaping: PlainLayer {
  let from, to: SampleShape
  let keepsNumbers = true

  init(from: SampleShape, to: SampleShape) {
    self.from = from
    self.to = to
  }

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    let x = inputs.removeFirst()
    return x.reshaped(rows: x.rows / from.rows * to.rows, columns: to.channels)
  }
}

/// Values of a sample in another order, with zeros where there is none.
final class Rearrangement: PlainLayer {
  /// By place in the result, the place in the input, or −1.
  let places: [Int32]
  let from, to: SampleShape
  let keepsNumbers = true

  init(places: [Int32], from: SampleShape, to: SampleShape) {
    precondition(places.count == to.values)
    self.places = places
    self.from = from
    self.to = to
  }

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    let x = inputs.removeFirst(), places = places, length = from.values
    let samples = x.rows / from.rows, rows = x.rows, columns = x.columns
    var result = Matrix(rows: samples * to.rows, columns: to.channels)
    for sample in 0..<samples {
      for (place, source) in places.enumerated() where source >= 0 {
        result.values[sample * places.count + place] = x.values[sample * length + Int(source)]
      }
    }
    result.record = GradientRecord(of: [x.record]) { gradient, _ in
      var back = Matrix(rows: rows, columns: columns)
      for sample in 0..<samples {
        for (place, source) in places.enumerated() where source >= 0 {
          back.values[sample * length + Int(source)] +=
            gradient.values[sample * places.count + place]
        }
      }
      return [back]
    }
    return result
  }
}

/// Results of one shape as several samples for each sample: what a layer that is used several times reads at once.
final class Stacking: PlainLayer {
  let shape: SampleShape
  let keepsNumbers = true

  init(_ shape: SampleShape) { self.shape = shape }

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    defer { inputs = [] }
    let samples = inputs[0].rows / shape.rows
    return Matrix.sideBySide(
      inputs.map { $0.reshaped(rows: samples, columns: shape.values) }
    ).reshaped(rows: samples * inputs.count * shape.rows, columns: shape.channels)
  }
}

/// One of the results that a layer over a `Stacking` gives.
final class Picking: PlainLayer {
  let place, count: Int
  let shape: SampleShape
  let keepsNumbers = true

  init(_ place: Int, of count: Int, _ shape: SampleShape) {
    self.place = place
    self.count = count
    self.shape = shape
  }

  func apply(_ inputs: inout [Matrix]) -> Matrix {
    let x = inputs.removeFirst(), samples = x.rows / (count * shape.rows)
    return x.reshaped(rows: samples, columns: count * shape.values)
      .columns(place * shape.values..<(place + 1) * shape.values)
      .reshaped(rows: samples * shape.rows, columns: shape.channels)
  }
}

/// A layer at its second use, whose matrices and vectors belong to the first.
final class Again: PlainLayer {
  private let body: (inout [Matrix]) -> Matrix

  init(_ body: @escaping (inout [Matrix]) -> Matrix) { self.body = body }

  func apply(_ inputs: inout [Matrix]) -> Matrix { body(&inputs) }
}
