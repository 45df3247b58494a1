import Glibc

/// What the operating system says of this process.
enum ProcessMemory {
  /// The most bytes that were resident at once.
  static var peak: Int {
    var usage = rusage()
    unsafe getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
  }
}
