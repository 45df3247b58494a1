import Foundation
import TestSupport

/// The built program, run as a user runs it.
enum Command {
  struct Result {
    let status: Int32
    let output: String
    let error: String
  }

  /// `condense` beside the test bundle.
  static let path: String = {
    let tests = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
    return tests.appending(path: "condense").path()
  }()

  static func start(
    _ arguments: [String], environment: [String: String] = [:], output: FileHandle? = nil
  ) throws -> Process {
    let process = Process()
    process.executableURL = URL(filePath: path)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = output ?? FileHandle.nullDevice
    process.standardError = output ?? FileHandle.nullDevice
    try process.run()
    return process
  }

  /// Runs to the end. Output goes through files, so that no pipe can fill up.
  static func run(_ arguments: String..., environment: [String: String] = [:]) throws -> Result {
    try run(arguments, environment: environment)
  }

  static func run(_ arguments: [String], environment: [String: String] = [:]) throws -> Result {
    let folder = try TemporaryFolder()
    let files = try ["out", "err"].map { name in
      _ = FileManager.default.createFile(atPath: folder.file(name), contents: nil)
      return try FileHandle(forWritingTo: URL(filePath: folder.file(name)))
    }
    let process = Process()
    process.executableURL = URL(filePath: path)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = files[0]
    process.standardError = files[1]
    try process.run()
    process.waitUntilExit()
    return Result(
      status: process.terminationReason == .exit
        ? process.terminationStatus : -process.terminationStatus,
      output: try String(contentsOfFile: folder.file("out"), encoding: .utf8),
      error: try String(contentsOfFile: folder.file("err"), encoding: .utf8))
  }
}

/// Files of the repository and small texts.
enum Samples {
  static let quickstart = TestData.root + "checkpoints/quickstart"
  static let validation = TestData.root + "recipes/quickstart/validation.txt"
  static let calibration = TestData.root + "recipes/quickstart/calibration.txt"

  /// A copy of a folder that a test may damage.
  static func copy(_ source: String, to path: String) throws {
    try FileManager.default.copyItem(atPath: source, toPath: path)
  }

  /// The start of a text.
  static func excerpt(of path: String, bytes: Int, to target: String) throws {
    let data = try Data(contentsOf: URL(filePath: path))
    let text = String(decoding: data.prefix(bytes), as: UTF8.self)
    try text.write(toFile: target, atomically: true, encoding: .utf8)
  }

  static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

  static func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(filePath: path)) }
}
