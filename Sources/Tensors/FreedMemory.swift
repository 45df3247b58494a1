import CMalloc

/// What the C library does with memory that is freed.
public enum FreedMemory {
  /// Keeps it for the next allocation instead of giving it back to the system, from now on.
  ///
  /// For loops that need matrices of the same sizes again and again, as the steps of a training: each page that comes
  /// back from the system is cleared first, by one thread. Peak memory stays what the largest step needs.
  public static func keep() {
    // Blocks of up to 32 MiB, the most that glibc accepts, come from its own lists, and those are not trimmed
    // (mallopt(3)).
    _ = mallopt(M_MMAP_THRESHOLD, 32 << 20)
    _ = mallopt(M_TRIM_THRESHOLD, Int32.max)
  }
}
