// What a pickle of torch.save can hold, as values without behaviour.
//
// All values lie in flat tables and name each other by index: a pickle's graph may have cycles and may be
// a million levels deep, and neither may leak memory or exhaust the stack when it is let go.

import Tensors

/// One value. Texts are named by where they stand in the file, so that a string costs nothing.
enum PickleValue {
  case none
  case bool(Bool)
  case integer(Int)
  /// An integer of more than 64 bits: torch's magic number is one.
  case bigInteger(start: Int, count: UInt32)
  case float
  /// UTF-8 at these bytes of the file.
  case text(start: Int, count: UInt32)
  /// Bytes, or a text with escapes: never the name of a tensor.
  case bytes(start: Int, count: UInt32)
  case list(Int32)
  case tuple(Int32)
  case dictionary(Int32)
  case set(Int32)
  case global(PickleGlobal)
  /// An instance of a class of a TorchScript archive.
  case record(Int32)
  case tensor(Int32)
  case storage(Int32)
  /// Something harmless without a use here: a device, a layout.
  case inert
  /// Where the elements of a container begin on the stack.
  case mark
}

/// The names that a pickle may use. There is no way to add one from a file.
enum PickleGlobal: Equatable {
  case rebuildTensor, rebuildTensorV2, rebuildTensorV3, rebuildParameter, rebuildParameterWithState
  /// A storage class; nil is a storage of bytes.
  case storage(DType?)
  case dtype(DType)
  case size, orderedDictionary, defaultDictionary, encode, set, list
  /// A call of it gives nothing of use: `torch.device`.
  case inert
  /// `restore_type_tag`, which gives its first argument.
  case first
  /// A class of a TorchScript archive's own code, by the index of its name.
  case archiveClass(Int32)
}

/// A tensor as the pickle describes it.
struct PickledTensor {
  let storage: Int32
  /// Elements before the first one.
  let offset: Int
  let shape: [Int]
  let strides: [Int]
  let dtype: DType
}

/// A storage as the pickle describes it: its bytes stand elsewhere.
struct PickledStorage {
  let dtype: DType?
  let key: Range<Int>
  /// Elements of the whole storage, or bytes where it has no type.
  let count: Int
  /// Elements before the first one, in old files whose storages are views of others.
  let offset: Int
}

/// An instance: the name of its class, and what it was given.
struct PickledRecord {
  let className: Int32
  var state: PickleValue
}

extension PickleGlobal {
  /// The global of this name; nil for everything that is no part of a tensor.
  ///
  /// - Parameter inArchive: Whether the file is a TorchScript archive, whose pickler uses a few more.
  static func named(_ module: String, _ name: String, inArchive: Bool) -> PickleGlobal? {
    switch module {
    case "torch._utils":
      switch name {
      case "_rebuild_tensor": return .rebuildTensor
      case "_rebuild_tensor_v2": return .rebuildTensorV2
      case "_rebuild_tensor_v3": return .rebuildTensorV3
      case "_rebuild_parameter": return .rebuildParameter
      case "_rebuild_parameter_with_state": return .rebuildParameterWithState
      default: return nil
      }
    case "torch", "torch.cuda", "torch.storage":
      if let storage = storageTypes[name] { return .storage(storage) }
      if name == "UntypedStorage" { return .storage(nil) }
      guard module == "torch" else { return nil }
      if let dtype = dtypes[name] { return .dtype(dtype) }
      return name == "Size" ? .size : name == "device" ? .inert : nil
    case "collections":
      return name == "OrderedDict"
        ? .orderedDictionary : name == "defaultdict" ? .defaultDictionary : nil
    case "_codecs": return name == "encode" ? .encode : nil
    case "builtins", "__builtin__":
      switch name {
      case "set", "frozenset": return .set
      case "list": return .list
      case "int", "long", "float", "bool", "str", "unicode", "dict", "tuple": return .inert
      default: return nil
      }
    case "torch.jit._pickle" where inArchive:
      switch name {
      case "restore_type_tag": return .first
      case "build_intlist", "build_tensorlist", "build_doublelist", "build_boollist": return .first
      default: return nil
      }
    default: return nil
    }
  }

  private static let storageTypes: [String: DType] = [
    "DoubleStorage": .float64, "FloatStorage": .float32, "HalfStorage": .float16,
    "BFloat16Storage": .bfloat16, "LongStorage": .int64, "IntStorage": .int32,
    "ShortStorage": .int16, "CharStorage": .int8, "ByteStorage": .uint8, "BoolStorage": .bool,
  ]

  private static let dtypes: [String: DType] = [
    "float64": .float64, "float32": .float32, "float16": .float16, "bfloat16": .bfloat16,
    "int64": .int64, "int32": .int32, "int16": .int16, "int8": .int8, "uint64": .uint64,
    "uint32": .uint32, "uint16": .uint16, "uint8": .uint8, "bool": .bool,
  ]
}
