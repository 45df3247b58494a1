// Calls and instances of a pickle: the only "functions" there are, all of them below.
//
// Source   torch/_utils.py of PyTorch 2.13, the _rebuild functions; torch/serialization.py, persistent_load

import Tensors

extension PickleMachine {
  mutating func object(_ code: UInt8) throws(CheckpointError.Problem) {
    switch code {
    case UInt8(ascii: "R"):
      let arguments = try tuple(try popValue())
      try push(try call(try callable(try popValue()), arguments))
    case 0x81:
      let arguments = try tuple(try popValue())
      try push(try instance(of: try callable(try popValue()), arguments))
    case 0x92:
      _ = try popValue()
      let arguments = try tuple(try popValue())
      try push(try instance(of: try callable(try popValue()), arguments))
    case UInt8(ascii: "o"):
      var values = try popToMark()
      guard !values.isEmpty else { throw damaged("an instance without a class") }
      let global = try callable(values.removeFirst())
      try push(try instance(of: global, values))
    case UInt8(ascii: "b"):
      let state = try popValue()
      switch try top() {
      case .record(let index): setState(of: index, state)
      // The attributes of a dictionary (torch's `_metadata`) or of a tensor are no weights.
      case .dictionary, .tensor, .inert: break
      default: throw damaged("a state for what has none")
      }
    case UInt8(ascii: "Q"): try push(try persistent(try popValue()))
    default: throw .unsupported("a pickle with persistent names in lines of text")
    }
  }

  private func callable(_ value: PickleValue) throws(CheckpointError.Problem) -> PickleGlobal {
    guard case .global(let global) = value else { throw damaged("a call of what is no function") }
    return global
  }

  /// The elements of a tuple.
  func tuple(_ value: PickleValue) throws(CheckpointError.Problem) -> [PickleValue] {
    guard case .tuple(let index) = value else { throw damaged("no tuple where one is expected") }
    return containers[Int(index)]
  }

  private mutating func instance(
    of global: PickleGlobal, _ arguments: [PickleValue]
  ) throws(CheckpointError.Problem) -> PickleValue {
    if case .archiveClass(let name) = global { return try makeRecord(of: name) }
    return try call(global, arguments)
  }

  mutating func call(
    _ global: PickleGlobal, _ arguments: [PickleValue]
  ) throws(CheckpointError.Problem) -> PickleValue {
    switch global {
    case .rebuildTensor, .rebuildTensorV2, .rebuildTensorV3:
      return try tensor(global, arguments)
    case .rebuildParameter, .rebuildParameterWithState, .first:
      guard let first = arguments.first else { throw damaged("a call without its arguments") }
      return first
    case .size:
      guard let first = arguments.first else { return .tuple(try makeContainer([])) }
      return .tuple(try makeContainer(try elements(first)))
    case .orderedDictionary:
      guard let first = arguments.first else { return .dictionary(try makeContainer([])) }
      var members: [PickleValue] = []
      for pair in try elements(first) {
        let pair = try elements(pair)
        guard pair.count == 2 else { throw damaged("a pair of \(pair.count) values") }
        members += pair
      }
      return .dictionary(try makeContainer(members))
    case .defaultDictionary: return .dictionary(try makeContainer([]))
    case .set: return .set(try makeContainer(try arguments.first.map(elements) ?? []))
    case .list: return .list(try makeContainer(try arguments.first.map(elements) ?? []))
    case .encode:
      guard case .text(let start, let count)? = arguments.first else {
        throw damaged("a call without its arguments")
      }
      return .bytes(start: start, count: count)
    case .inert: return .inert
    case .archiveClass(let name): return try makeRecord(of: name)
    case .storage, .dtype: throw damaged("a call of a type")
    }
  }

  /// The elements of a list or tuple.
  private func elements(
    _ value: PickleValue
  ) throws(CheckpointError.Problem) -> [PickleValue] {
    switch value {
    case .list(let index), .tuple(let index), .set(let index): return containers[Int(index)]
    default: throw damaged("no list where one is expected")
    }
  }

  /// `_rebuild_tensor(storage, offset, size, stride, …)`; version 3 names the type in its 7th argument.
  private mutating func tensor(
    _ global: PickleGlobal, _ arguments: [PickleValue]
  ) throws(CheckpointError.Problem) -> PickleValue {
    guard arguments.count >= (global == .rebuildTensorV3 ? 7 : 4),
      case .storage(let index) = arguments[0], case .integer(let offset) = arguments[1]
    else { throw damaged("a tensor without its storage or offset") }
    let storage = storages[Int(index)]
    var dtype = storage.dtype
    if global == .rebuildTensorV3 {
      guard case .global(.dtype(let named)) = arguments[6] else {
        throw damaged("a tensor without its type")
      }
      dtype = named
    }
    guard let dtype else { throw damaged("a tensor of bytes without a type") }
    return try make(
      PickledTensor(
        storage: index, offset: offset, shape: try integers(arguments[2]),
        strides: try integers(arguments[3]), dtype: dtype))
  }

  private func integers(_ value: PickleValue) throws(CheckpointError.Problem) -> [Int] {
    let values = try elements(value)
    // torch has no tensors of more dimensions.
    guard values.count <= 64 else {
      throw .tooMany(what: "dimensions", count: values.count, limit: 64)
    }
    var integers: [Int] = []
    for value in values {
      guard case .integer(let integer) = value else {
        throw damaged("a dimension that is no integer")
      }
      integers.append(integer)
    }
    return integers
  }

  /// `('storage', class, key, device, count)`, in old files with `(key, offset, count)` of a view behind.
  private mutating func persistent(
    _ value: PickleValue
  ) throws(CheckpointError.Problem) -> PickleValue {
    let parts = try tuple(value)
    guard parts.count >= 5, case .text = parts[0] else {
      throw damaged("a persistent name that is no storage")
    }
    guard try string(parts[0]) == "storage", case .global(.storage(let dtype)) = parts[1],
      case .text(let start, let length) = parts[2], length <= 4096,
      case .integer(let count) = parts[4], count >= 0
    else { throw damaged("a persistent name that is no storage") }
    let key = start..<start + Int(length)
    guard parts.count >= 6, case .tuple(let view) = parts[5] else {
      return try make(PickledStorage(dtype: dtype, key: key, count: count, offset: 0))
    }
    let viewed = containers[Int(view)]
    guard viewed.count == 3, case .integer(let offset) = viewed[1],
      case .integer(let viewCount) = viewed[2], offset >= 0, viewCount >= 0,
      offset <= count, viewCount <= count - offset
    else { throw damaged("a view of a storage that reaches beyond it") }
    return try make(PickledStorage(dtype: dtype, key: key, count: count, offset: offset))
  }
}
