// The command line: arguments, terminal, exit status. One subcommand, one file.

import ArgumentParser
import Glibc

@main struct Condense: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "condense",
    abstract: "Turns a full model checkpoint into a compact bundle, and says what each step cost.",
    version: "0.1.0",
    subcommands: [
      Run.self, Plan.self, Search.self, Prune.self, Distill.self,
      Quantize.self, Pack.self, Convert.self,
      TeacherLogCommand.self, Collect.self, Diff.self, Eval.self,
      Inspect.self, Verify.self,
      Report.self,
      Generate.self, Tokenize.self, Embed.self, Transcribe.self, PrepareImages.self,
      PrepareAudio.self,
      Bench.self,
    ])

  static func main() {
    // An interrupted stage leaves its finished layers; the same command goes on from there.
    // Programs that start others from a worker thread hand down blocked signals; these two must arrive.
    var signals = sigset_t()
    unsafe sigemptyset(&signals)
    for number in [SIGINT, SIGTERM] {
      _ = signal(number) { _ in _exit(ExitStatus.interrupted) }
      unsafe sigaddset(&signals, number)
    }
    unsafe pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    do {
      var command = try parseAsRoot()
      try command.run()
    } catch {
      let status = ExitStatus.of(error)
      guard let status else { exit(withError: error) }
      Terminal.printError("\(error)")
      Glibc.exit(status)
    }
  }
}
