"""Writes Sources/Tokenization/CompatibilityMappings.swift from the package `tokenizers`.

    python compatibility.py > ../../../Sources/Tokenization/CompatibilityMappings.swift

Every scalar whose NFKD differs from its NFD, with the NFKD: consecutive scalars with targets of
one length are one run, `start*length target target …`, all in hexadecimal.
"""

from tokenizers import normalizers

nfkd, nfd = normalizers.NFKD(), normalizers.NFD()
runs = []
for value in range(0x80, 0x110000):
    if 0xD800 <= value < 0xE000:
        continue
    target = nfkd.normalize_str(chr(value))
    if target == nfd.normalize_str(chr(value)):
        continue
    last = runs[-1] if runs else None
    if last and last[0] + len(last[1]) == value and len(last[1][0]) == len(target):
        last[1].append(target)
    else:
        runs.append((value, [target]))

words = []
for start, targets in runs:
    words.append(f"{start:x}*{len(targets[0]):x}")
    words += [f"{ord(c):x}" for target in targets for c in target]

lines, line = [], "   "
for word in words:
    if len(line) + 1 + len(word) > 98:
        lines.append(line)
        line = "   "
    line += " " + word
lines.append(line)

print('''// Compatibility decompositions, for the normalization forms KC and KD.
//
// Source   Unicode Character Database, as the package `tokenizers` 0.23 has it; written by
//          Tests/Fixtures/tokenizers/compatibility.py
// Checked  NormalizerTests: every scalar's NFKC and NFKD equal that package's

/// Scalars whose compatibility decomposition differs from the canonical one.
enum CompatibilityMappings {
  /// The UTF-8 of the full decomposition, by scalar.
  static let table: [UInt32: [UInt8]] = {
    var table: [UInt32: [UInt8]] = [:]
    var source: UInt32 = 0
    var length = 1
    var target: [UInt8] = []
    var count = 0
    for word in runs.split(whereSeparator: \\.isWhitespace) {
      let parts = word.split(separator: "*")
      guard let value = UInt32(parts[0], radix: 16) else { continue }
      if parts.count == 2 {
        source = value
        length = Int(parts[1], radix: 16) ?? 1
        continue
      }
      target.append(scalar: value)
      count += 1
      guard count == length else { continue }
      table[source] = target
      (source, count, target) = (source + 1, 0, [])
    }
    return table
  }()

  /// `start*length` opens a run of consecutive scalars; `length` numbers are the target of each.
  private static let runs = """''')
print("\n".join(lines))
print('    """\n}')
