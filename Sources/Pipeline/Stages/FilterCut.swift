// Channels that stay, as changes of a checkpoint's tensors.

import Checkpoints
import JSONDocuments
import Networks
import Tensors

/// A cut through the channels of a network.
struct FilterCut {
  /// The groups of channels, and of each those that stay, ascending.
  let groups: [(group: FilterGroup, kept: [Int])]

  /// The indices below `all` that stay; nil where all do.
  private static func kept(
    of all: Int, without cut: [(place: (first: Int, count: Int), kept: [Int])]
  ) -> [Int]? {
    var stays = [Bool](repeating: true, count: all)
    for (place, kept) in cut {
      for channel in 0..<place.count { stays[place.first + channel] = false }
      for channel in kept { stays[place.first + channel] = true }
    }
    return stays.contains(false) ? stays.indices.filter { stays[$0] } : nil
  }

  /// The rows of a layer's matrix that stay; nil where all do.
  func keptRows(_ linear: Linear) -> [Int]? {
    Self.kept(
      of: linear.matrix.outputs,
      without: groups.flatMap { group, kept in
        group.producers.filter { $0.owner === linear }.map { (($0.first, group.count), kept) }
      })
  }

  /// The channels that a layer reads and that stay, and how many there were; nil where all do.
  private func keptChannels(_ linear: Linear) -> (kept: [Int], all: Int)? {
    let places = groups.flatMap { group, kept in
      group.readers.filter { $0.owner === linear }.map {
        (place: $0, count: group.count, kept: kept)
      }
    }
    guard let all = places.first?.place.all else { return nil }
    return Self.kept(of: all, without: places.map { (($0.place.first, $0.count), $0.kept) })
      .map { ($0, all) }
  }

  /// The columns that stay; nil where all do.
  func keptColumns(_ linear: Linear) -> [Int]? {
    keptChannels(linear).map { channels in
      stride(from: 0, to: linear.matrix.inputs, by: channels.all).flatMap { start in
        channels.kept.map { start + $0 }
      }
    }
  }

  /// The layout of a layer's tensor behind the cut; nil where the tensor is the matrix itself.
  private func layout(_ linear: Linear, rows: Int?, channels: Int?) -> MatrixLayout? {
    guard let layout = linear.layout else { return nil }
    var shape = layout.shape
    if let rows {
      // Of several axes that make the rows, as of depthwise kernels, the one that counts channels.
      let axis =
        layout.axes.prefix(layout.rowAxes).first { shape[$0] == layout.outputs } ?? layout.axes[0]
      shape[axis] = rows
    }
    if let channels { shape[layout.axes[layout.axes.count - 1]] = channels }
    return MatrixLayout(shape: shape, axes: layout.axes, rowAxes: layout.rowAxes)
  }

  /// A layer's matrix behind the cut, and the shape of its tensor; nil where nothing is cut of it.
  func matrix(_ linear: Linear) -> (matrix: Matrix, layout: MatrixLayout?)? {
    let rows = keptRows(linear), columns = keptColumns(linear)
    guard rows != nil || columns != nil else { return nil }
    var matrix = linear.matrix.decoded()
    if let rows { matrix = matrix.selectingRows(rows) }
    if let columns { matrix = matrix.selectingColumns(columns) }
    return (
      matrix, layout(linear, rows: rows?.count, channels: keptChannels(linear)?.kept.count)
    )
  }

  /// The checkpoint behind the cut.
  ///
  /// - Parameter fitted: Matrices in place of those that are cut out, by the names of their tensors.
  func checkpoint(
    of source: any Checkpoint, _ network: any FilterNetwork, fitted: [String: Matrix] = [:]
  ) -> TransformedCheckpoint {
    var changed: [String: Tensor] = [:]
    for linear in network.linearLayers {
      let cut = matrix(linear), name = linear.weightName
      guard let matrix = fitted[name] ?? cut?.matrix else { continue }
      let layout = cut.map { $0.layout } ?? linear.layout
      changed[name] = Tensor(
        .float32, shape: layout?.shape ?? [matrix.rows, matrix.columns],
        copying: layout?.tensorValues(of: matrix) ?? matrix.values
      ).converted(to: source.floatType(of: name))
    }
    var vectors: [String: [(place: (first: Int, count: Int), kept: [Int])]] = [:]
    for (group, kept) in groups {
      for place in group.vectors {
        vectors[place.owner, default: []].append(((place.first, group.count), kept))
      }
    }
    for (name, cut) in vectors {
      guard let tensor = source.tensor(name), let kept = Self.kept(of: tensor.count, without: cut)
      else { continue }
      changed[name] = tensor.selectingRows(kept)
    }
    let outputs = network.linearLayers.compactMap { linear in
      keptRows(linear).map { (linear.name, $0.count) }
    }
    let new = network.configuration(
      source.configuration, outputs: Dictionary(outputs, uniquingKeysWith: { a, _ in a }))
    let keys = (new?.object?.members ?? []).filter { source.configuration[$0.key] != $0.value }
    return TransformedCheckpoint(
      source, changed: changed, configuration: keys.map { ($0.key, $0.value) })
  }
}
