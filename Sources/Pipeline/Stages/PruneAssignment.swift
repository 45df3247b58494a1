// Which tensor gets how many zeros and where: rules by name, checked against the model before any work starts.

import Checkpoints
import Encodings
import Networks
public import Pruning
import Tensors

/// What becomes of each matrix, and by which rule.
public struct PruneAssignment: Sendable {
  /// One matrix.
  public struct Item: Sendable, Equatable {
    /// The matrix.
    public let site: MatrixSite
    /// Its zeros; nil when it stays as it is.
    public let goal: SparsityGoal?
    /// The rule that decided, or why there is none.
    public let rule: String
    /// Whether the goal is the common one, which tensors may share unequally.
    public let isShared: Bool
  }

  /// The matrices in the order of the work.
  public let items: [Item]

  /// No matrix gets zeros.
  init() { items = [] }

  /// Applies the rules of a request to the matrices of a checkpoint.
  ///
  /// - Throws: `SparsityRuleError`, or `LayerError` for a matrix that the pattern does not fit.
  init(_ weights: WeightPruning, to input: any Checkpoint) throws {
    let isKnown = FamilyRegistry.family(of: input) != nil
    let sites =
      isKnown
      ? MatrixSite.all(of: try FamilyRegistry.network(of: input)) : MatrixSite.all(of: input)
    for rule in weights.rules {
      guard sites.contains(where: { $0.isNamed(rule.names) }) else {
        throw SparsityRuleError.matchesNothing(
          names: rule.names, nearest: nearestWord(to: rule.names, among: sites.flatMap(\.aliases)))
      }
    }
    items = try sites.map { try Self.item($0, weights, input) }
  }

  private static func item(
    _ site: MatrixSite, _ weights: WeightPruning, _ input: any Checkpoint
  ) throws -> Item {
    let rule = weights.rules.last { site.isNamed($0.names) }
    var pattern = weights.pattern, sparsity = weights.sparsity
    switch (rule?.target, site.role) {
    case (.copy?, _):
      return Item(site: site, goal: nil, rule: rule?.text ?? "", isShared: false)
    case (nil, .embedding), (nil, .head):
      return Item(
        site: site, goal: nil, rule: "embeddings and heads are not pruned by default",
        isShared: false)
    case (.sparsity(let own)?, _):
      if let its = pattern.sparsity, its != own {
        throw SparsityRuleError.contradiction(pattern: pattern.name, its: its, asked: own)
      }
      sparsity = own
    case (.pattern(let own)?, _): pattern = own
    case (nil, _): break
    }
    if site.role == .embedding(isHead: false), weights.method.needsCalibration {
      throw SparsityRuleError.embedding(tensor: site.name, method: weights.method.rawValue)
    }
    if let entry = input.manifest[site.name], !(entry.encoding is PlainFloats) {
      throw SparsityRuleError.encoded(tensor: site.name, encoding: entry.encoding.name)
    }
    do throws(PruningError) {
      let goal = try SparsityGoal(
        pattern, sparsity: sparsity, outputs: site.outputs, inputs: site.inputs)
      return Item(
        site: site, goal: goal, rule: rule?.text ?? "default",
        isShared: rule == nil && site.role == .branch)
    } catch {
      throw LayerError(path: input.path, tensor: site.name, error)
    }
  }

  private init(items: [Item]) { self.items = items }

  /// The same with other numbers of zeros.
  func sharing(_ zeros: [String: Int]) -> PruneAssignment {
    PruneAssignment(
      items: items.map { item in
        guard let own = zeros[item.site.name], let goal = item.goal else { return item }
        return Item(
          site: item.site, goal: goal.with(zeros: own), rule: item.rule, isShared: item.isShared)
      })
  }

  /// The goal of a weight by name; nil when it stays as it is.
  public subscript(name: String) -> SparsityGoal? { items.first { $0.site.name == name }?.goal }
}

extension MatrixSite {
  /// Whether a pattern of names matches.
  func isNamed(_ pattern: String) -> Bool { aliases.contains { matches($0, pattern: pattern) } }
}
