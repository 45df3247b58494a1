// Keras's layers that compute nothing but where values go: merges of branches, reshapes, permutations, padding.

import Checkpoints
import JSONDocuments
import Tensors

extension KerasLayers {
  mutating func added(
    _ layer: KerasLayer, _ inputs: [Int]
  ) throws(CheckpointError) -> Int {
    let sum = try graph.sum(layer.fullName, inputs)
    guard layer.kind == "Average" else { return sum }
    return graph.add(
      layer.name + "/mean", .plain(Scaling(1 / Float(inputs.count))), [sum], graph.shape(sum))
  }

  mutating func combined(
    _ layer: KerasLayer, _ inputs: [Int]
  ) throws(CheckpointError) -> Int {
    let shapes = inputs.map { graph.shape($0) }, first = shapes[0].dimensions
    if layer.kind == "Multiply" {
      guard shapes.allSatisfy({ $0 == shapes[0] }) else {
        throw wrong(layer, shapes.map(\.description).joined(separator: " and "), "equal shapes")
      }
      return graph.add(layer.name, .plain(Product()), inputs, shapes[0])
    }
    let axis = layer.configuration["axis"]?.integer ?? -1
    guard axis == -1 || axis == first.count,
      shapes.allSatisfy({ $0.dimensions.dropLast() == first.dropLast() })
    else {
      throw wrong(
        layer, "axis \(axis) of " + shapes.map(\.description).joined(separator: " and "),
        "the last axis of shapes that are equal else")
    }
    return graph.add(
      layer.name, .plain(Concatenation()), inputs,
      SampleShape(first.dropLast() + [shapes.reduce(0) { $0 + $1.channels }]))
  }

  mutating func rearranged(
    _ layer: KerasLayer, _ input: Int
  ) throws(CheckpointError) -> Int {
    let from = graph.shape(input), sizes = from.dimensions
    switch layer.kind {
    case "Flatten", "Reshape":
      var target = [from.values]
      if layer.kind == "Reshape" {
        target = layer.configuration["target_shape"]?.array?.compactMap(\.integer) ?? []
        let known = elementCount(of: target.filter { $0 > 0 }) ?? 0
        if target.count(where: { $0 == -1 }) == 1, known > 0 {
          target = target.map { $0 == -1 ? from.values / known : $0 }
        }
      }
      guard !target.isEmpty, target.allSatisfy({ $0 > 0 }),
        elementCount(of: target) == from.values
      else { throw wrong(layer, "the shape \(target) for \(from)", "as many values") }
      let to = SampleShape(target)
      return graph.add(layer.name, .plain(Reshaping(from: from, to: to)), [input], to)
    case "Permute":
      let dimensions = layer.configuration["dims"]?.array?.compactMap(\.integer) ?? []
      guard dimensions.sorted() == Array(1...sizes.count) else {
        throw wrong(layer, "dims \(dimensions)", "all of 1 to \(sizes.count)")
      }
      let order = dimensions.map { $0 - 1 }
      return try rearrange(layer, input, SampleShape(order.map { sizes[$0] })) { place in
        var own = [Int](repeating: 0, count: sizes.count)
        for (axis, index) in zip(order, place) { own[axis] = index }
        return own
      }
    default:
      let before = try padding(layer, axes: sizes.count - 1)
      let target = zip(sizes, before).map { $0 + $1.0 + $1.1 } + [from.channels]
      return try rearrange(layer, input, SampleShape(target)) { place in
        let own = zip(place, before).map { $0 - $1.0 } + [place[place.count - 1]]
        return zip(own, sizes).allSatisfy { (0..<$1).contains($0) } ? own : nil
      }
    }
  }

  /// Zeros before and after each axis.
  func padding(
    _ layer: KerasLayer, axes: Int
  ) throws(CheckpointError) -> [(Int, Int)] {
    let value = layer.configuration["padding"]
    var pairs: [(Int, Int)] = []
    if let size = value?.integer {
      pairs = Array(repeating: (size, size), count: axes)
    } else {
      let elements = value?.array ?? []
      let isOnePair = axes == 1 && elements.allSatisfy { $0.integer != nil }
      for element in isOnePair ? [.array(elements)] : elements {
        let ends = element.array?.compactMap(\.integer) ?? [element.integer].compactMap { $0 }
        if let first = ends.first, let last = ends.last { pairs.append((first, last)) }
      }
    }
    guard pairs.count == axes,
      pairs.allSatisfy({ (0...4096).contains($0.0) && (0...4096).contains($0.1) })
    else {
      throw wrong(
        layer, "the padding \(value?.compactText ?? "nothing")", "0 to 4096 for each axis")
    }
    return pairs
  }

  /// A node whose values come from other places of the input; nil is zero.
  mutating func rearrange(
    _ layer: KerasLayer, _ input: Int, _ to: SampleShape, from: ([Int]) -> [Int]?
  ) throws(CheckpointError) -> Int {
    guard to.values <= Self.valueLimit else {
      throw wrong(layer, "a result of \(to)", "at most \(Self.valueLimit) numbers a sample")
    }
    let shape = graph.shape(input)
    let places = (0..<to.values).map { index -> Int32 in
      var place = [Int](repeating: 0, count: to.dimensions.count), rest = index
      for axis in to.dimensions.indices.reversed() {
        place[axis] = rest % to.dimensions[axis]
        rest /= to.dimensions[axis]
      }
      guard let source = from(place) else { return -1 }
      return Int32(zip(source, shape.dimensions).reduce(0) { $0 * $1.1 + $1.0 })
    }
    return graph.add(
      layer.name, .plain(Rearrangement(places: places, from: shape, to: to)), [input], to)
  }
}
