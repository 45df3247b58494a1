// Which tensor gets which encoding: rules by pattern, checked against the model before any work starts.

import Tensors
public import Checkpoints
public import Encodings
public import Networks

/// What a rule does with the tensors it matches.
public enum TensorTarget: Sendable, Equatable {
  /// Stored in an encoding.
  case encode(any WeightEncoding)
  /// llama.cpp's file type: each matrix gets the block type that the file type gives it.
  case mix(GGUFMix)
  /// Stored in one of several encodings, which a goal for the whole model chooses.
  case choose([any WeightEncoding])
  /// Left as it is.
  case copy

  /// Whether two targets are the same.
  public static func == (first: TensorTarget, second: TensorTarget) -> Bool {
    first.name == second.name
  }

  /// The encoding's name, or `copy`.
  public var name: String {
    switch self {
    case .encode(let encoding): encoding.name
    case .mix(let mix): mix.name
    case .choose(let encodings): encodings.map(\.name).joined(separator: ",")
    case .copy: "copy"
    }
  }
}

/// `ENCODING` for all linear layers of the branches, or `PATTERN=ENCODING`.
public struct EncodingRule: Sendable, Equatable {
  /// Names that the rule matches, `*` for any run of characters; nil for the linear layers of all branches.
  public let pattern: String?
  /// What becomes of them.
  public let target: TensorTarget

  /// A rule.
  public init(pattern: String?, target: TensorTarget) {
    self.pattern = pattern
    self.target = target
  }

  /// Reads a rule as it stands on the command line.
  public init(_ text: String) throws(EncodingRuleError) {
    let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    pattern = parts.count == 2 ? String(parts[0]) : nil
    target = try Self.target(String(parts.last ?? ""), hasPattern: parts.count == 2)
    if pattern?.isEmpty == true { throw .emptyPattern(rule: text) }
  }

  /// The target of a name. GGUF's names mean a whole file type where there is no pattern, and exactly
  /// that block type where there is one.
  public static func target(
    _ name: String, hasPattern: Bool
  ) throws(EncodingRuleError) -> TensorTarget {
    if name == "copy" { return .copy }
    let names = name.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    if names.count > 1 {
      var encodings: [any WeightEncoding] = []
      for own in names {
        // In a list, a name of llama.cpp's is that block type.
        guard case .encode(let encoding) = try target(own, hasPattern: true),
          !(encoding is EntropyCoded), !(encoding is Repaired)
        else { throw .notInLists(name: own) }
        if !encodings.contains(where: { $0.name == own }) { encodings.append(encoding) }
      }
      return .choose(encodings)
    }
    if !hasPattern, let mix = GGUFMix.named(name) { return .mix(mix) }
    guard let encoding = EncodingRegistry.encoding(named: name) else {
      throw .unknownEncoding(
        name: name,
        known: EncodingRegistry.nameList + ", copy"
          + (hasPattern ? "" : ", and llama.cpp's file types such as Q4_K_M"),
        nearest: nearestWord(to: name, among: Self.allNames))
    }
    return .encode(encoding)
  }

  private static let allNames: [String] =
    (2...8).flatMap { bits in
      (GroupIntegers.groupSizes.map { "g\($0)" } + ["channel"]).flatMap { group in
        ["int\(bits)-\(group)", "int\(bits)-\(group)-sym"]
      }
    } + LevelGroups.names + GGUFBlockType.allCases.map(\.name) + GGUFMix.names + [
      "w8a8", "f32", "f16", "bf16",
    ]
}

/// Why rules cannot be applied.
public enum EncodingRuleError: Error, Sendable, Equatable, CustomStringConvertible {
  /// No encoding has this name.
  case unknownEncoding(name: String, known: String, nearest: String?)
  /// A name that cannot stand in a list of encodings.
  case notInLists(name: String)
  /// A rule whose pattern is empty.
  case emptyPattern(rule: String)
  /// A pattern that matches no tensor of the model.
  case matchesNothing(pattern: String, nearest: String?)
  /// No rule says what becomes of the linear layers.
  case noDefault
  /// Factors that take as many bytes as the matrix they repair would in halves.
  case repairTooLarge(tensor: String, rank: Int, largest: Int)
  /// A rank for repairs, and no tensor on an encoding that has any.
  case nothingToRepair(rank: Int)
  /// A repair beside a goal for the whole model.
  case repairBesideGoal(encoding: String)
  /// A rank for repairs beside a list of encodings to choose from.
  case repairOfList(encodings: String)

  /// One line without a full stop.
  public var description: String {
    switch self {
    case .unknownEncoding(let name, let known, let nearest):
      "--encoding: '\(name)' is unknown" + (nearest.map { "; did you mean '\($0)'?" } ?? "")
        + " (known: \(known))"
    case .notInLists(let name):
      "--encoding: '\(name)' cannot stand in a list of encodings to choose from (ec has a rate of its own, "
        + "copy no size to choose, and repairs have ranks)"
    case .emptyPattern(let rule): "--encoding: '\(rule)' has no pattern before '='"
    case .matchesNothing(let pattern, let nearest):
      "--encoding: the pattern '\(pattern)' matches no weight matrix"
        + (nearest.map { "; the nearest name is '\($0)'" } ?? "")
    case .repairTooLarge(let tensor, let rank, let largest):
      largest > 0
        ? "--repair-rank: factors of rank \(rank) are no smaller than '\(tensor)' itself in halves; at most "
          + "\(largest) helps" : "--repair-rank: '\(tensor)' is too small for factors of any rank"
    case .nothingToRepair(let rank):
      "--repair-rank: \(rank) does nothing here; it is for group integers, fp8, nf4 and blocks of llama.cpp"
    case .repairBesideGoal(let encoding):
      "--encoding: '\(encoding)' cannot stand beside a goal for the whole model; a repair has a rank of its own"
    case .repairOfList(let encodings):
      "--repair-rank: a list of encodings to choose from (\(encodings)) cannot be repaired; name one encoding"
    case .noDefault: "--encoding ENCODING is missing: what should the linear layers become?"
    }
  }
}

/// A weight matrix that rules may name.
public struct MatrixSite: Sendable, Equatable {
  /// What a matrix is to the model.
  public enum Role: Sendable, Equatable {
    /// A linear layer of a branch.
    case branch
    /// The token embedding; tied, it is the head as well.
    case embedding(isHead: Bool)
    /// The output layer.
    case head
    /// A matrix of a checkpoint whose architecture is unknown.
    case unknown
  }

  /// The weight's name in the checkpoint.
  public let name: String
  /// What it is.
  public let role: Role
  /// Rows and columns.
  public let outputs, inputs: Int
  /// How its tensor is this matrix; nil when it is the matrix itself.
  public let layout: MatrixLayout?

  /// The matrix without its name.
  var matrixShape: MatrixShape { MatrixShape(outputs: outputs, inputs: inputs, layout: layout) }

  /// A matrix.
  init(name: String, role: Role, outputs: Int, inputs: Int, layout: MatrixLayout? = nil) {
    self.name = name
    self.role = role
    self.outputs = outputs
    self.inputs = inputs
    self.layout = layout
  }

  /// Names that a pattern may match.
  var aliases: [String] {
    let module = name.hasSuffix(".weight") ? String(name.dropLast(7)) : name
    return [name, module] + (role == .embedding(isHead: true) ? ["lm_head", "lm_head.weight"] : [])
  }

  /// The matrices of a model, in the order of the work: embedding, branches, head.
  public static func all(of network: any Network) -> [MatrixSite] {
    func site(_ linear: Linear, _ role: Role) -> MatrixSite {
      MatrixSite(
        name: linear.weightName, role: role, outputs: linear.matrix.outputs,
        inputs: linear.matrix.inputs, layout: linear.layout)
    }
    let model = network as? any TokenPredictor
    var sites: [MatrixSite] = []
    sites += network.embeddings.map { site($0, .embedding(isHead: model?.isTied ?? false)) }
    sites += network.linearLayers.map { site($0, .branch) }
    if let model, !model.isTied { sites.append(site(model.head, .head)) }
    return sites
  }

  /// The float matrices of a checkpoint that no family knows. Of Keras's files also the kernels of convolutions, whose
  /// last axis counts outputs.
  public static func all(of checkpoint: any Checkpoint) -> [MatrixSite] {
    let isKeras = KerasExport.fits(checkpoint)
    return checkpoint.logicalTensors.compactMap { tensor in
      guard
        checkpoint.manifest[tensor.name] != nil
          || checkpoint.tensor(tensor.name)?.dtype.isFloat == true
      else { return nil }
      let shape = tensor.shape, kernel = tensor.name.split(separator: "/").last
      var layout: MatrixLayout?
      if isKeras, shape.count > 2, kernel == "kernel" || kernel == "kernel:0" {
        layout = MatrixLayout(
          shape: shape, axes: [shape.count - 1] + (0..<shape.count - 1))
      }
      let sizes = layout.map { [$0.outputs, $0.inputs] } ?? shape
      guard sizes.count == 2, sizes[0] > 1, sizes[1] > 1 else { return nil }
      return MatrixSite(
        name: tensor.name, role: .unknown, outputs: sizes[0], inputs: sizes[1], layout: layout)
    }
  }

  /// The matrix in a checkpoint that no family knows.
  func weight(in checkpoint: any Checkpoint) throws(CheckpointError) -> any LinearOperator {
    guard let layout else {
      return try checkpoint.weight(name, outputs: outputs, inputs: inputs)
    }
    return try checkpoint.weight(name, layout: layout)
  }
}

/// What becomes of each matrix, and by which rule.
public struct EncodingAssignment: Sendable {
  /// One matrix.
  public struct Item: Sendable, Equatable {
    /// The matrix.
    public let site: MatrixSite
    /// What becomes of it.
    public let target: TensorTarget
    /// The pattern that decided, or why there is none.
    public let rule: String
    /// The encoding that the rule asks for, where the matrix cannot have it.
    public let insteadOf: String?
  }

  /// The matrices in the order of the work.
  public let items: [Item]
  /// Tensors beside them that are stored in binary16.
  public let halved: Set<String>

  /// Applies rules: a pattern goes before the default, and the last pattern that matches counts.
  ///
  /// - Parameters:
  ///   - halved: Tensors that become binary16 unless a rule copies them.
  ///   - isCalibrated: Whether there are activation statistics, which some file types look at.
  /// - Throws: `EncodingRuleError` when a pattern matches nothing.
  public init(
    _ rules: [EncodingRule], to sites: [MatrixSite], halved: Set<String> = [], isCalibrated: Bool
  ) throws(EncodingRuleError) {
    let patterns = rules.filter { $0.pattern != nil }
    guard
      let standard = rules.last(where: { $0.pattern == nil })
        ?? (patterns.isEmpty ? nil : EncodingRule(pattern: nil, target: .copy))
    else { throw .noDefault }
    for rule in patterns {
      let pattern = rule.pattern ?? ""
      guard
        sites.contains(where: { $0.aliases.contains { matches($0, pattern: pattern) } })
          || rule.target == .copy && halved.contains(where: { matches($0, pattern: pattern) })
      else {
        throw .matchesNothing(
          pattern: pattern, nearest: nearestWord(to: pattern, among: sites.flatMap(\.aliases)))
      }
    }
    self.halved = halved.filter { name in
      !patterns.contains { $0.target == .copy && matches(name, pattern: $0.pattern ?? "") }
    }
    let places = MixPlaces(sites, isCalibrated: isCalibrated)
    items = sites.map { site in
      for rule in patterns.reversed() {
        let pattern = rule.pattern ?? ""
        if site.aliases.contains(where: { matches($0, pattern: pattern) }) {
          return Item(site: site, target: rule.target, rule: pattern, insteadOf: nil)
        }
      }
      if case .mix(let mix) = standard.target {
        let choice = mix.type(places.place(of: site))
        return Item(
          site: site, target: .encode(GGUFBlocks(choice.type)), rule: mix.name,
          insteadOf: choice.insteadOf?.name)
      }
      switch site.role {
      case .embedding where Self.isForAll(standard), .head where Self.isForAll(standard),
        .branch, .unknown:
        return Item(site: site, target: standard.target, rule: "default", insteadOf: nil)
      case .embedding, .head:
        return Item(
          site: site, target: .copy, rule: "embeddings and heads are copied by default",
          insteadOf: nil)
      }
    }
  }

  private init(items: [Item], halved: Set<String>) {
    self.items = items
    self.halved = halved
  }

  /// The same with encodings chosen from lists.
  func choosing(_ names: [String: String]) -> EncodingAssignment {
    EncodingAssignment(
      items: items.map { item in
        guard case .choose(let encodings) = item.target,
          let encoding = encodings.first(where: { $0.name == names[item.site.name] })
        else { return item }
        return Item(
          site: item.site, target: .encode(encoding), rule: item.rule, insteadOf: item.insteadOf)
      }, halved: halved)
  }

  /// The same with factors of a rank beside every matrix of codes that can have them; embeddings that no head shares stay,
  /// of which a token reads one row.
  ///
  /// - Parameter rank: Nil where the encodings alone say what is repaired.
  /// - Throws: `EncodingRuleError` where nothing would be repaired, or factors would be too large.
  func repaired(rank: Int?) throws(EncodingRuleError) -> EncodingAssignment {
    var repaired: [Item] = []
    var count = 0
    for item in items {
      var item = item
      if let rank {
        switch item.target {
        case .choose: throw .repairOfList(encodings: item.target.name)
        case .encode(let base) where item.site.role != .embedding(isHead: false):
          if let encoding = Repaired(base, rank: rank) {
            count += 1
            item = Item(
              site: item.site, target: .encode(encoding), rule: item.rule,
              insteadOf: item.insteadOf)
          }
        case .encode, .mix, .copy: break
        }
      }
      if case .encode(let encoding as Repaired) = item.target {
        let largest = LowRank.largestUsefulRank(
          outputs: item.site.outputs, inputs: item.site.inputs)
        guard encoding.rank <= largest else {
          throw .repairTooLarge(tensor: item.site.name, rank: encoding.rank, largest: largest)
        }
      }
      repaired.append(item)
    }
    if let rank, count == 0 { throw .nothingToRepair(rank: rank) }
    return EncodingAssignment(items: repaired, halved: halved)
  }

  /// Entropy-coded weights need no grid that fits a layer's inputs: the default goes for embeddings and heads too.
  private static func isForAll(_ rule: EncodingRule) -> Bool {
    if case .encode(let encoding) = rule.target { return encoding is EntropyCoded }
    return false
  }

  /// The target of a weight by name.
  public subscript(name: String) -> Item? { items.first { $0.site.name == name } }
}

/// Whether a name matches a pattern in which `*` stands for any run of characters.
public func matches(_ name: String, pattern: String) -> Bool {
  let name = Array(name.utf8), pattern = Array(pattern.utf8)
  var n = 0, p = 0
  var star: (n: Int, p: Int)?
  while n < name.count {
    if p < pattern.count, pattern[p] == UInt8(ascii: "*") {
      star = (n, p)
      p += 1
    } else if p < pattern.count, pattern[p] == name[n] {
      n += 1
      p += 1
    } else if let last = star {
      star = (last.n + 1, last.p)
      n = last.n + 1
      p = last.p + 1
    } else {
      return false
    }
  }
  while p < pattern.count, pattern[p] == UInt8(ascii: "*") { p += 1 }
  return p == pattern.count
}
