// A checkpoint folder in the compressed-tensors layout, its packed integers as group integers.
//
// Source   https://github.com/vllm-project/compressed-tensors, version 0.19: `quantization_config` of config.json,
//          `pack-quantized` (weight_packed, weight_scale, weight_shape, weight_zero_point) and `int-quantized`
// Checked  CompressedTensorsTests: what CompressedTensorsExport writes is read back equal; transformers loads it

import Encodings
public import JSONDocuments
public import Tensors

/// A folder whose linear layers are stored by compressed-tensors.
public struct CompressedTensorsCheckpoint: Checkpoint {
  private let folder: CheckpointFolder
  /// The encoded weights.
  public let manifest: WeightManifest
  /// The stored tensors in our words.
  public let tensorNames: [String]
  /// The configuration without its `quantization_config`, which the manifest replaces.
  public let configuration: JSONValue
  private let modules: [String: Module]

  /// One packed linear layer.
  private struct Module {
    let name: String
    let encoding: GroupIntegers
    /// Whether its inputs are rounded to eight bits, token by token.
    let roundsInputs: Bool
    let outputs, inputs: Int
    let isPacked: Bool
  }

  /// Whether a folder's configuration asks for this layout.
  public static func recognizes(_ folder: CheckpointFolder) -> Bool {
    folder.configuration["quantization_config"]?["quant_method"]?.string == "compressed-tensors"
  }

  /// Reads the scheme of every module.
  public init(_ folder: CheckpointFolder) throws(CheckpointError) {
    self.folder = folder
    let schemes = folder.configuration["quantization_config"]?["config_groups"]?.object?.members
    guard let schemes else {
      throw CheckpointError(
        path: folder.path,
        .missing(key: "quantization_config.config_groups", expected: "an object"))
    }
    var modules: [String: Module] = [:]
    var entries: [WeightManifest.Entry] = []
    var names: [String] = []
    for tensor in folder.tensorNames {
      let isPacked = tensor.hasSuffix(".weight_packed")
      let name = String(tensor.dropLast(isPacked ? 14 : 7))
      let isBytes = tensor.hasSuffix(".weight") && folder.tensor(tensor)?.dtype == .int8
      if [".weight_scale", ".weight_shape", ".weight_zero_point"].contains(where: {
        tensor.hasSuffix($0)
      }) {
        continue
      }
      guard isPacked || isBytes else {
        names.append(tensor)
        continue
      }
      let module: Module
      do throws(CheckpointError.Problem) {
        module = try Self.module(
          name, in: folder, isPacked: isPacked, schemes: schemes.map(\.value))
      } catch {
        throw CheckpointError(path: folder.path, tensor: name, error)
      }
      let weight = name + ".weight"
      modules[weight] = module
      entries.append(
        .init(
          name: weight, encoding: module.roundsInputs ? W8A8() : module.encoding,
          outputs: module.outputs, inputs: module.inputs,
          method: GGUFCheckpoint.unknownMethod))
      names += module.encoding.parts(outputs: module.outputs, inputs: module.inputs).map {
        weight + $0.suffix
      }
    }
    self.modules = modules
    manifest = WeightManifest(entries)
    tensorNames = names
    var object = folder.configuration.object ?? JSONObject()
    object["quantization_config"] = nil
    configuration = .object(object)
  }

  private static func module(
    _ name: String, in folder: CheckpointFolder, isPacked: Bool, schemes: [JSONValue]
  ) throws(CheckpointError.Problem) -> Module {
    let named = schemes.first { scheme in
      scheme["targets"]?.array?.contains { $0.string == name } == true
    }
    guard let scheme = named ?? (schemes.count == 1 ? schemes[0] : nil),
      let weights = scheme["weights"]
    else { throw .missing(key: "config_groups", expected: "one scheme that names the module") }
    guard let bits = weights["num_bits"]?.integer, (2...8).contains(bits),
      weights["type"]?.string == "int"
    else { throw .unsupported("a scheme that is not integers of 2 to 8 bits") }
    let grouping: GroupIntegers.Grouping
    switch (weights["strategy"]?.string, weights["group_size"]?.integer) {
    case ("channel", _): grouping = .channel
    case ("group", let size?) where GroupIntegers.groupSizes.contains(size):
      grouping = .columns(size)
    case (let strategy, let size):
      throw .unsupported("the strategy \(strategy ?? "none") with groups of \(size ?? 0)")
    }
    guard let stored = folder.tensor(name + (isPacked ? ".weight_packed" : ".weight")),
      stored.shape.count == 2, let scales = folder.tensor(name + ".weight_scale"),
      scales.dtype.isFloat
    else { throw .missing(key: name + ".weight_scale", expected: "floats beside the codes") }
    let shape =
      isPacked ? folder.tensor(name + ".weight_shape")?.integers() ?? [] : stored.shape
    guard shape.count == 2, shape.allSatisfy({ (1...Int(Int32.max)).contains($0) }) else {
      throw .missing(key: name + ".weight_shape", expected: "two dimensions")
    }
    let encoding = GroupIntegers(
      bits: bits, grouping: grouping, isSymmetric: weights["symmetric"]?.bool ?? true)
    let roundsInputs = try roundsInputs(scheme["input_activations"], encoding)
    let groups = encoding.groups(inputs: shape[1])
    let words = (shape[1] * bits + 31) / 32
    guard stored.dtype == (isPacked ? .int32 : .int8),
      stored.shape == (isPacked ? [shape[0], words] : shape), isPacked || bits == 8
    else { throw .shapeMismatch(found: stored.shape, expected: [shape[0], words]) }
    guard scales.count == shape[0] * groups else {
      throw .shapeMismatch(found: scales.shape, expected: [shape[0], groups])
    }
    // Our scales are halves; others' may hold more.
    let halves = scales.converted(to: .float16)
    guard halves.floats() == scales.floats() else {
      throw .unsupported("scales that float16 cannot hold exactly")
    }
    if !encoding.isSymmetric {
      let zeros = folder.tensor(name + ".weight_zero_point")
      let expected = isPacked ? [(shape[0] * bits + 31) / 32, groups] : [shape[0], groups]
      guard let zeros, zeros.shape == expected, zeros.dtype == stored.dtype else {
        throw .shapeMismatch(found: zeros?.shape ?? [], expected: expected)
      }
    }
    return Module(
      name: name, encoding: encoding, roundsInputs: roundsInputs, outputs: shape[0],
      inputs: shape[1], isPacked: isPacked)
  }

  /// Whether a module rounds its inputs as `w8a8` does; other roundings would change what the model computes.
  private static func roundsInputs(
    _ scheme: JSONValue?, _ encoding: GroupIntegers
  ) throws(CheckpointError.Problem) -> Bool {
    guard let scheme, !scheme.isNull else { return false }
    guard encoding == W8A8.weights, scheme["num_bits"]?.integer == 8,
      scheme["type"]?.string == "int", scheme["strategy"]?.string == "token",
      scheme["dynamic"]?.bool == true, scheme["symmetric"]?.bool != false
    else {
      throw .unsupported(
        "rounded inputs other than 8 bits a token, dynamic and symmetric, beside 8-bit weights a channel"
      )
    }
    return true
  }

  /// The folder, as the caller named it.
  public var path: String { folder.path }
  /// What the format is called in messages.
  public var formatName: String { "compressed-tensors folder" }
  /// Files beside the weights.
  public var sideFileNames: [String] { folder.sideFileNames.filter { $0 != "config.json" } }
  /// The bytes of a file beside the weights.
  public func sideFile(_ name: String) throws -> [UInt8] { try folder.sideFile(name) }
  /// Bytes of everything.
  public var byteCount: Int { folder.byteCount }

  /// A view of a plain tensor, or a part of a packed one in our order.
  public func tensor(_ name: String) -> Tensor? {
    guard let colon = name.lastIndex(of: ":"), let module = modules[String(name[..<colon])] else {
      return modules[name] == nil ? folder.tensor(name) : nil
    }
    switch name[colon...] {
    case ":codes": return codes(of: module)
    case ":scales":
      let groups = module.encoding.groups(inputs: module.inputs)
      return folder.tensor(module.name + ".weight_scale")?.converted(to: .float16)
        .reshaped([module.outputs, groups])
    case ":zeros": return zeros(of: module)
    default: return nil
    }
  }

  private func bytes(_ name: String) -> [UInt8] {
    folder.tensor(name)?.withBytes { unsafe $0.withUnsafeBytes { unsafe [UInt8]($0) } } ?? []
  }

  private func codes(of module: Module) -> Tensor {
    let rowBytes = (module.inputs * module.encoding.bits + 7) / 8
    let shape = [module.outputs, rowBytes]
    guard module.isPacked else {
      return Tensor(.uint8, shape: shape, copying: bytes(module.name + ".weight").map { $0 ^ 0x80 })
    }
    let source = bytes(module.name + ".weight_packed")
    let stride = (module.inputs * module.encoding.bits + 31) / 32 * 4
    var target: [UInt8] = []
    target.reserveCapacity(module.outputs * rowBytes)
    for row in 0..<module.outputs {
      target += source[row * stride..<row * stride + rowBytes]
    }
    return Tensor(.uint8, shape: shape, copying: target)
  }

  /// Zero points stand along the rows there, and along the groups here.
  private func zeros(of module: Module) -> Tensor? {
    guard !module.encoding.isSymmetric else { return nil }
    let bits = module.encoding.bits
    let groups = module.encoding.groups(inputs: module.inputs)
    let rowBytes = (groups * bits + 7) / 8
    let source = bytes(module.name + ".weight_zero_point")
    let shape = [module.outputs, rowBytes]
    guard module.isPacked else {
      return Tensor(.uint8, shape: shape, copying: source.map { $0 ^ 0x80 })
    }
    var target = [UInt8](repeating: 0, count: module.outputs * rowBytes)
    for row in 0..<module.outputs {
      for group in 0..<groups {
        for bit in 0..<bits {
          let from = row * bits + bit
          let byte = (from / 32 * groups + group) * 4 + from % 32 / 8
          guard source[byte] >> UInt8(from % 8) & 1 == 1 else { continue }
          let to = group * bits + bit
          target[row * rowBytes + to / 8] |= 1 << UInt8(to % 8)
        }
      }
    }
    return Tensor(.uint8, shape: shape, copying: target)
  }
}
