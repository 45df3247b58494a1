import Bundles
import CondenseInference
import Drift
import Networks

/// Reads an artifact back and runs it once, before anyone is told that it is good.
enum ReadBack {
  /// Opens the folder or bundle; a known architecture must give finite numbers.
  static func check(_ path: String) throws {
    let checkpoint = try AnyCheckpoint.open(path)
    guard FamilyRegistry.family(of: checkpoint) != nil else { return }
    let towers = FamilyRegistry.towers(of: checkpoint)
    for view in try towers.isEmpty
      ? [checkpoint] : towers.map({ try TowerCheckpoint(checkpoint, tower: $0) })
    {
      let test = SelfTest.make(for: try FamilyRegistry.network(of: view))
      guard test.values.allSatisfy(\.isFinite) else { throw DriftError.notFinite(window: 0) }
    }
  }
}
