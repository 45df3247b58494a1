// Shared by the test targets: fixtures, temporary folders, the folder of real models.

import Foundation

/// Where the test data lies.
public enum TestData {
  /// `Tests/Fixtures`.
  public static let fixtures = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "Fixtures").path()

  /// The repository's root.
  public static let root = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().path()

  /// The folder of real models and texts, named by `CONDENSE_SHARED`; nil when that is not set.
  public static let shared: String? = ProcessInfo.processInfo.environment["CONDENSE_SHARED"]

  /// Why a test that needs the real models is skipped.
  public static let sharedHint = "CONDENSE_SHARED does not name the folder of real models"
}

/// A folder that is removed when the object goes.
public final class TemporaryFolder {
  /// Its path.
  public let path: String

  /// Makes an empty folder.
  public init() throws {
    path = FileManager.default.temporaryDirectory
      .appending(path: "condense-test-\(UUID().uuidString)").path()
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// The path of something in the folder.
  public func file(_ name: String) -> String { path + "/" + name }
}
