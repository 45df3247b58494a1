// Finds the tensors in what torch.save wrote and names them as `state_dict()` does.
//
// A file is a state dict, or a dictionary with one in it ("state_dict", "model", …) beside an optimizer's
// state and counters. Dictionaries that wrap everything are left out of the names, as is DataParallel's
// `module.`; what is no tensor is left out and listed.

import Tensors

/// Walks the values of a pickle, which may be a graph with cycles.
struct PyTorchNames {
  /// A tensor, and the keys and attributes that lead to it.
  struct Found {
    let path: [String]
    let tensor: PickledTensor
  }

  private let machine: PickleMachine
  private var budget: DecodedBudget
  private var steps = 0
  private(set) var found: [Found] = []
  private(set) var skipped: [String] = []
  /// Attributes do not wrap: they are the model's own names.
  private let rootIsRecord: Bool

  static let depthLimit = 64
  static let stepLimit = 1 << 20

  /// Finds everything below `root`.
  init(_ root: PickleValue, in machine: PickleMachine) throws(CheckpointError.Problem) {
    self.machine = machine
    budget = machine.budget
    if case .record = root { rootIsRecord = true } else { rootIsRecord = false }
    try visit(root, path: [])
    if !rootIsRecord { dropWrappers() }
  }

  /// The names, in the order of the file.
  var names: [String] {
    found.map { $0.path.isEmpty ? "tensor" : $0.path.joined(separator: ".") }
  }

  private mutating func visit(
    _ value: PickleValue, path: [String], inRecord: Bool = false
  ) throws(CheckpointError.Problem) {
    steps += 1
    guard steps <= Self.stepLimit else {
      throw .tooMany(what: "values on the way to the tensors", count: steps, limit: Self.stepLimit)
    }
    guard path.count <= Self.depthLimit else {
      throw .tooMany(what: "levels of nested values", count: path.count, limit: Self.depthLimit)
    }
    switch value {
    case .tensor(let index):
      try chargeName(path)
      found.append(Found(path: path, tensor: machine.tensors[Int(index)]))
    case .dictionary(let index):
      try visitMembers(machine.containers[Int(index)], path: path, inRecord: inRecord)
    case .record(let index):
      let state = machine.records[Int(index)].state
      if case .dictionary(let members) = state {
        try visitMembers(machine.containers[Int(members)], path: path, inRecord: true)
      }
    case .list(let index), .tuple(let index):
      let elements = machine.containers[Int(index)]
      if elements.isEmpty || elements.allSatisfy(Self.isScalar) {
        try skip(path, inRecord: inRecord)
      } else {
        for (index, element) in elements.enumerated() {
          try visit(element, path: path + [String(index)], inRecord: inRecord)
        }
      }
    default: try skip(path, inRecord: inRecord)
    }
  }

  private mutating func visitMembers(
    _ members: [PickleValue], path: [String], inRecord: Bool
  ) throws(CheckpointError.Problem) {
    var keys: [String] = []
    for index in stride(from: 0, to: members.count, by: 2) {
      keys.append(try key(members[index]))
    }
    // What an optimizer's state_dict() has, and no model's.
    if keys.contains("param_groups"), keys.contains("state") { return try skip(path) }
    if members.isEmpty { return try skip(path, inRecord: inRecord) }
    for (index, key) in keys.enumerated() {
      try visit(members[2 * index + 1], path: path + [key], inRecord: inRecord)
    }
  }

  private mutating func key(
    _ value: PickleValue
  ) throws(CheckpointError.Problem) -> String {
    switch value {
    case .integer(let number): return String(number)
    case .text(_, let count):
      try budget.take(Int(count), "the names take")
      return try machine.string(value)
    case .bool(let flag): return flag ? "True" : "False"
    default: return "?"
    }
  }

  /// Attributes of a module that are no tensors are its code's business.
  private mutating func skip(
    _ path: [String], inRecord: Bool = false
  ) throws(CheckpointError.Problem) {
    guard !inRecord, !path.isEmpty else { return }
    try chargeName(path)
    skipped.append(path.joined(separator: "."))
  }

  private mutating func chargeName(_ path: [String]) throws(CheckpointError.Problem) {
    try budget.take(
      path.reduce(200 + 32 * path.count) { $0 + 2 * $1.utf8.count }, "the names take")
  }

  private static func isScalar(_ value: PickleValue) -> Bool {
    switch value {
    case .tensor, .list, .tuple, .dictionary, .record, .set: false
    default: true
    }
  }

  /// Leaves out the components that all paths begin with, as long as they wrap dictionaries.
  private mutating func dropWrappers() {
    while let first = found.first?.path.first,
      found.allSatisfy({ $0.path.count > 1 && $0.path[0] == first })
    {
      found = found.map { Found(path: Array($0.path.dropFirst()), tensor: $0.tensor) }
    }
    // DataParallel's prefix stands in the keys themselves: `module.conv1.weight`.
    while !found.isEmpty, found.allSatisfy({ $0.path.first?.hasPrefix("module.") == true }) {
      found = found.map {
        Found(path: [String($0.path[0].dropFirst(7))] + $0.path.dropFirst(), tensor: $0.tensor)
      }
    }
  }
}
