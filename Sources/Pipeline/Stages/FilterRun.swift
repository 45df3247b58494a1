// Pruning of filters: ranks the channels of each group, cuts, and fits what is left to give what all gave.
//
// Source   choice and fit by reconstruction: He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks",
//          ICCV 2017, arXiv:1707.06168, section 3; magnitude: Li et al., ICLR 2017, arXiv:1608.08710, section 3.1
// Differs  the choice is GroupElimination's greedy one with the fit solved anew each time, in place of LASSO; magnitude
//          counts the squares of the weights that read a channel too
// Checked  FilterPruningTests: the cut network gives what the whole one gives when no layer looks at these channels

import Calibration
import Checkpoints
import Encodings
import LinearAlgebra
import Networks
import Pruning
import Tensors

/// Cuts filters out of a network over samples.
struct FilterRun {
  let input: any Checkpoint
  let request: FilterPruning
  let set: CalibrationSet?
  /// Where finished work is kept for a run that takes over; nil keeps none.
  var output: StageOutput?
  let progress: (String, Double) -> Void
  let finished: (LayerRecord, Double) -> Void

  /// What the work gave.
  struct Result {
    let checkpoint: TransformedCheckpoint
    let outcome: FilterOutcome
    let records: [LayerRecord]
    let resumedLayers: Int
  }

  /// The network and its groups, or why nothing can be cut.
  private static func network(
    of input: any Checkpoint, _ request: FilterPruning
  ) throws -> (network: any FilterNetwork, groups: [FilterGroup]) {
    let network = try FamilyRegistry.network(of: input)
    guard let filters = network as? any FilterNetwork else {
      throw FilterError.noFilters(family: network.family)
    }
    // Layers inside of models inside have their sizes where nobody changes them: their channels stay.
    let groups = filters.filterGroups.filter { group in
      let names = group.producers.map { ($0.owner.name, 1) }
      return filters.configuration(
        input.configuration, outputs: Dictionary(names, uniquingKeysWith: { a, _ in a })) != nil
    }
    for (axis, share, isSummed) in [
      ("filters", request.filters, false), ("width", request.width, true),
    ] where share != nil && !groups.contains(where: { $0.isSummed == isSummed }) {
      throw FilterError.nothingFree(axis: axis, family: network.family)
    }
    return (filters, groups.filter { request.kept(of: $0) < $0.count })
  }

  /// What can be refused before any work.
  static func check(_ request: FilterPruning, _ input: any Checkpoint) throws {
    try request.check()
    for entry in input.manifest.entries where entry.encoding.exactFloats == nil {
      throw FilterError.encoded(tensor: entry.name, encoding: entry.encoding.name)
    }
    _ = try network(of: input, request)
  }

  /// The checkpoint with the tensors that the result will have, and values that mean nothing.
  static func planned(
    _ request: FilterPruning, _ input: any Checkpoint
  ) throws -> (checkpoint: TransformedCheckpoint, outcome: FilterOutcome, layers: [LayerRecord]) {
    let (network, groups) = try network(of: input, request)
    let cut = FilterCut(
      groups: groups.map { ($0, Array(0..<request.kept(of: $0))) })
    let checkpoint = cut.checkpoint(of: input, network)
    let layers = (request.repairs ? fitted(network, cut) : []).map {
      LayerRecord.fitted(
        $0.weightName, encoding: input.floatType(of: $0.weightName).rawValue.lowercased(),
        method: "filters", bitsPerWeight: 0, relativeError: 0, deadInputs: 0)
    }
    return (checkpoint, try outcome(cut, input, checkpoint, network), layers)
  }

  private static func outcome(
    _ cut: FilterCut, _ input: any Checkpoint, _ result: any Checkpoint,
    _ network: any FilterNetwork
  ) throws -> FilterOutcome {
    func parameters(_ checkpoint: any Checkpoint) -> Int {
      checkpoint.logicalTensors.reduce(0) { $0 + $1.shape.reduce(1, *) }
    }
    let small = try FamilyRegistry.network(of: result) as? any FilterNetwork
    return FilterOutcome(
      groups: cut.groups.map {
        .init(name: $0.group.name, before: $0.group.count, after: $0.kept.count)
      },
      parametersBefore: parameters(input), parametersAfter: parameters(result),
      multiplicationsBefore: network.multiplications,
      multiplicationsAfter: small?.multiplications ?? 0)
  }

  /// The layers that are fitted: from the first that reads fewer channels on. Convolutions of single channels have one
  /// window each; they stay as they are.
  private static func fitted(_ network: any FilterNetwork, _ cut: FilterCut) -> [Linear] {
    network.linearLayers.drop { cut.keptColumns($0) == nil }.filter {
      ($0.windows?.groups ?? 1) == 1
    }
  }

  /// Does the work.
  func run() throws -> Result {
    let (network, groups) = try Self.network(of: input, request)
    do {
      let orders = try orders(network, groups)
      let cut = FilterCut(
        groups: zip(groups, orders).map { group, order in
          (group, order.suffix(request.kept(of: group)).sorted())
        })
      guard request.repairs, let set else {
        let result = cut.checkpoint(of: input, network)
        return Result(
          checkpoint: result, outcome: try Self.outcome(cut, input, result, network), records: [],
          resumedLayers: 0)
      }
      return try fit(cut, network, set)
    } catch is FactorizationError {
      // Statistics that cannot be factorized are the input's fault: infinite or NaN activations.
      throw PruningError.badStatistics
    }
  }

  // MARK: - The choice

  /// For each group its channels, the first to go first.
  private func orders(
    _ network: any FilterNetwork, _ groups: [FilterGroup]
  ) throws -> [[Int]] {
    switch request.importance {
    case .order: return groups.map { (0..<$0.count).reversed() }
    case .magnitude: return groups.map { Self.ascending(Self.squares(of: $0)) }
    case .activation, .reconstruction, .taylor, .curvature: break
    }
    guard let set else { throw PruningError.needsStatistics(method: "structured pruning") }
    var moments: [ObjectIdentifier: DoubleMatrix] = [:]
    let readers = Set(groups.flatMap(\.readers).map { ObjectIdentifier($0.owner) })
    let batches = set.samples?.batches ?? []
    var hidden = batches.map { network.embed($0, position: 0) }
    for (index, sublayer) in network.sublayers.enumerated() {
      progress("importance", Double(index) / Double(network.sublayers.count))
      for (group, layers) in sublayer.groups.enumerated() {
        for linear in layers where readers.contains(ObjectIdentifier(linear)) {
          var moment = SecondMoment(width: linear.matrix.inputs)
          for (place, batch) in batches.enumerated() {
            moment.add(
              linear.operands(
                of: sublayer.run(hidden[place], batch, cache: nil, inputOf: group)))
          }
          moments[ObjectIdentifier(linear)] = moment.mean()
        }
      }
      for (place, batch) in batches.enumerated() {
        hidden[place] = sublayer.run(hidden[place], batch, cache: nil, inputOf: nil)
      }
    }
    return try groups.map { group in
      let parts = group.readers.compactMap { reader in
        moments[ObjectIdentifier(reader.owner)].map { (reader, $0) }
      }
      guard request.importance == .activation else {
        return try GroupElimination(
          parts.map { Self.problem(group, $0, $1) }, damping: request.damping
        ).order
      }
      return Self.ascending(
        (0..<group.count).map { channel in
          parts.reduce(0.0) { sum, part in
            FilterGroup.columns(of: part.0, channels: [channel]).reduce(sum) {
              $0 + part.1[$1, $1]
            }
          }
        })
    }
  }

  /// A reader's moment and weight with the inputs of each channel side by side. Errors count by their share of what the
  /// layer gives, so that those of several layers add up.
  private static func problem(
    _ group: FilterGroup, _ reader: FilterGroup.Place<Linear>, _ moment: DoubleMatrix
  ) -> GroupElimination.Problem {
    let order = (0..<group.count).flatMap { FilterGroup.columns(of: reader, channels: [$0]) }
    var ordered = DoubleMatrix(size: order.count)
    for (row, from) in order.enumerated() {
      for (column, other) in order.enumerated() { ordered[row, column] = moment[from, other] }
    }
    let weight = reader.owner.matrix.decoded()
    let energy = LeastSquaresRepair.energy(
      of: weight, rows: Array(0..<weight.rows), moment: moment)
    var gram = weight.selectingColumns(order).gram(metric: nil)
    for i in gram.values.indices { gram.values[i] /= max(energy, .leastNormalMagnitude) }
    return .init(moment: ordered, gram: gram, groupSize: order.count / group.count)
  }

  /// Σ of squares of the weights that make or read each channel.
  private static func squares(of group: FilterGroup) -> [Double] {
    func square(_ value: Float) -> Double { Double(value) * Double(value) }
    let producers = group.producers.map { ($0, $0.owner.matrix.decoded()) }
    let readers = group.readers.map { ($0, $0.owner.matrix.decoded()) }
    return (0..<group.count).map { channel in
      var sum = 0.0
      for (place, matrix) in producers {
        for i in matrix.range(ofRow: place.first + channel) { sum += square(matrix.values[i]) }
      }
      for (place, matrix) in readers {
        for column in FilterGroup.columns(of: place, channels: [channel]) {
          for row in 0..<matrix.rows { sum += square(matrix.values[row * matrix.columns + column]) }
        }
      }
      return sum
    }
  }

  /// Indices, the least value first; of equal ones the later first.
  private static func ascending(_ values: [Double]) -> [Int] {
    values.indices.sorted { (values[$0], -$0) < (values[$1], -$1) }
  }

  // MARK: - The fit

  /// Walks both networks side by side; every layer gets the weights with which it gives what it gave, of the inputs that
  /// it reads now.
  private func fit(
    _ cut: FilterCut, _ network: any FilterNetwork, _ set: CalibrationSet
  ) throws -> Result {
    let small = try FamilyRegistry.network(of: cut.checkpoint(of: input, network))
    let batches = set.samples?.batches ?? []
    var original = batches.map { network.embed($0, position: 0) }
    var current = batches.map { small.embed($0, position: 0) }
    var fitted: [String: Matrix] = [:], records: [LayerRecord] = []
    var resumed = 0
    let fits = Set(Self.fitted(network, cut).map { ObjectIdentifier($0) })
    for (index, sublayer) in small.sublayers.enumerated() {
      progress("repair", Double(index) / Double(small.sublayers.count))
      let source = network.sublayers[index]
      for group in sublayer.groups.indices {
        for (own, full) in zip(sublayer.groups[group], source.groups[group]) {
          guard fits.contains(ObjectIdentifier(full)) else { continue }
          let start = ContinuousClock.now
          let path = output?.layerPath(records.count)
          if let path, let found = try FinishedLayer.read(path, tensor: own.weightName) {
            own.matrix = found.encoded.matrix
            fitted[own.weightName] = found.encoded.matrix.decoded()
            records.append(found.record)
            resumed += 1
            finished(found.record, 0)
            continue
          }
          let kept = cut.keptRows(full)
          var moment = SecondMoment(width: own.matrix.inputs)
          var cross = ProductMoment(outputs: own.matrix.outputs, inputs: own.matrix.inputs)
          var energy = 0.0, rows = 0
          for (place, batch) in batches.enumerated() {
            var target = full.matrix.apply(
              to: full.operands(
                of: source.run(original[place], batch, cache: nil, inputOf: group)), bias: nil)
            if let kept { target = target.selectingColumns(kept) }
            let operands = own.operands(
              of: sublayer.run(current[place], batch, cache: nil, inputOf: group))
            moment.add(operands)
            cross.add(targets: target, inputs: operands)
            energy += Double(dot(target.values.span, target.values.span))
            rows += target.rows
          }
          let mean = moment.mean(), targets = cross.mean()
          let type = input.floatType(of: own.weightName)
          let matrix = try LeastSquaresRepair(damping: request.damping).fit(
            own.matrix.decoded(), moment: mean, targets: targets)
          // As it will be stored, so that later layers see the rounding.
          let encoded = PlainFloats(type).encode(matrix)
          own.matrix = encoded.matrix
          fitted[own.weightName] = encoded.matrix.decoded()
          energy /= Double(max(1, rows))
          let error = LeastSquaresRepair.error(
            of: encoded.matrix.decoded(), moment: mean, targets: targets, energy: energy)
          let record = LayerRecord.fitted(
            own.weightName, encoding: type.rawValue.lowercased(), method: "filters",
            bitsPerWeight: encoded.matrix.bitsPerWeight,
            relativeError: energy > 0 ? error / energy : 0,
            deadInputs: mean.diagonal.count { $0 == 0 })
          if let path { try FinishedLayer(record: record, encoded: encoded).write(to: path) }
          records.append(record)
          finished(record, (ContinuousClock.now - start) / .seconds(1))
        }
      }
      for (place, batch) in batches.enumerated() {
        original[place] = source.run(original[place], batch, cache: nil, inputOf: nil)
        current[place] = sublayer.run(current[place], batch, cache: nil, inputOf: nil)
      }
    }
    let result = cut.checkpoint(of: input, network, fitted: fitted)
    return Result(
      checkpoint: result, outcome: try Self.outcome(cut, input, result, network),
      records: records, resumedLayers: resumed)
  }
}
