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
    let test = SelfTest.make(for: try FamilyRegistry.network(of: checkpoint))
    guard test.values.allSatisfy(\.isFinite) else { throw DriftError.notFinite(window: 0) }
  }
}
