// The codebooks of the IQ formats: points of a lattice that ggml fixed, as facts of the formats.
//
// Source   ggml-common.h of llama.cpp: iq2xxs_grid, iq2xs_grid, iq2s_grid, iq3xxs_grid, iq3s_grid, iq1s_grid
// Packed   A point is a number whose digits, 2 bits each (IQ3: 3), number the levels of its columns, the first
//          column lowest. The numbers rise; a string holds the gaps between them less one, in digits of 5
//          bits, lowest first, base64's letters A-Z a-f for a last digit and g-/ for one that others follow.
// Checked  GGUFDecodingTests: every entry of every codebook against gguf.quants

/// The points of one codebook, expanded to bytes.
struct GGUFCodebook: Sendable {
  /// Columns of a group: 8, or 4 for IQ3.
  let width: Int
  /// The levels that digits stand for.
  let levels: [Int8]
  /// The digits of each point, `[points, width]`.
  let digits: [UInt8]

  /// `[points, width]`: the levels of each point.
  let values: [Int8]
  /// `[points]`: the digits of the first half of the columns as one number, the first column lowest.
  let firsts: [UInt8]
  /// The points sorted by their first half, and where those with each first half start.
  let pointsByFirst: [UInt16]
  let firstStarts: [Int]
  /// Where the points with each second half start, and the number of points: points come sorted by it.
  let starts: [Int]

  /// The codebook of a format, or nil when it has none.
  static func of(_ type: GGUFBlockType) -> GGUFCodebook? {
    switch type {
    case .iq2_xxs: twoXXS
    case .iq2_xs: twoXS
    case .iq2_s: twoS
    case .iq3_xxs: threeXXS
    case .iq3_s: threeS
    case .iq1_s, .iq1_m: one
    default: nil
    }
  }

  private static let twoXXS = GGUFCodebook(Packed.twoXXS, width: 8, levels: [8, 25, 43])
  private static let twoXS = GGUFCodebook(Packed.twoXS, width: 8, levels: [8, 25, 43])
  private static let twoS = GGUFCodebook(Packed.twoS, width: 8, levels: [8, 25, 43])
  private static let threeXXS = GGUFCodebook(
    Packed.threeXXS, width: 4, levels: [4, 12, 20, 28, 36, 44, 52, 62])
  private static let threeS = GGUFCodebook(
    Packed.threeS, width: 4, levels: [1, 3, 5, 7, 9, 11, 13, 15])
  private static let one = GGUFCodebook(Packed.one, width: 8, levels: [-1, 0, 1])

  private init(_ packed: String, width: Int, levels: [Int8]) {
    self.width = width
    self.levels = levels
    let bits = levels.count == 3 ? 2 : 3
    var digits: [UInt8] = []
    var point = -1
    var gap = 0
    var shift = 0
    for letter in packed.utf8 {
      let digit = Self.value(letter)
      gap |= (digit & 31) << shift
      shift += 5
      if digit >= 32 { continue }
      point += gap + 1
      for column in 0..<width {
        digits.append(UInt8(truncatingIfNeeded: point >> (bits * column) & (1 << bits - 1)))
      }
      gap = 0
      shift = 0
    }
    self.digits = digits
    values = digits.map { levels[Int($0)] }
    let half = width / 2
    let halves = stride(from: 0, to: digits.count, by: half).map { start in
      digits[start..<start + half].reversed().reduce(0) { $0 * levels.count + Int($1) }
    }
    let points = digits.count / width
    firsts = (0..<points).map { UInt8(halves[2 * $0]) }
    let firsts = firsts, seconds = (0..<points).map { halves[2 * $0 + 1] }
    let order = (0..<points).sorted { (firsts[$0], $0) < (firsts[$1], $1) }
    pointsByFirst = order.map { UInt16($0) }
    let count = half == 4 ? 81 : 64
    starts = Self.starts(of: seconds, count: count)
    firstStarts = Self.starts(of: order.map { Int(firsts[$0]) }, count: count)
  }

  /// Where each number below `count` starts among sorted numbers, and where they end.
  private static func starts(of sorted: [Int], count: Int) -> [Int] {
    var starts: [Int] = []
    for (index, number) in sorted.enumerated() {
      while starts.count <= number { starts.append(index) }
    }
    while starts.count <= count { starts.append(sorted.count) }
    return starts
  }

  /// The value of a letter of base64.
  private static func value(_ letter: UInt8) -> Int {
    switch letter {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): Int(letter) - 65
    case UInt8(ascii: "a")...UInt8(ascii: "z"): Int(letter) - 71
    case UInt8(ascii: "0")...UInt8(ascii: "9"): Int(letter) + 4
    default: letter == UInt8(ascii: "+") ? 62 : 63
    }
  }
}

// A gap of 32 or more has digits above 31: the letters g-z, 0-9, + and / are continued.
private enum Packed {
  static let twoXXS = """
    ABCCBGCLBFBWCLHICbBHX+CCLEqBjCTnDBf/C+LCLQCbBFXgBCLT7CBFXlBiBWQ3DGvBjCf7KECLTYCLB1B7D7BhGRsvBC\
    LQefjBLEqDHXvBJlBjFgB6NHXEjB2B3EpC9EVqPCLvBgC+DE6EwFutBBH5BceBmFe3FB+PCLvBVpFgCiBrJ3LXzDvN8tFC\
    LHICbHNJgBCLvDfgCeE7DO3BNR3MHX/CY4DR7GgQCLvBE6F3CIgBiGqCvrBHIHG/CH7D9BhDsH+PB3D2HyCrNQHqC7GnG7\
    vBLvBnB3E0CiGnC/MEqIBxD9V99FBH2BgChETnBwGvPCLEqBf/ElCtC0D2BfhNhIsIyvBLTbgD0DpDkG6NhBhBsIvZ+Eh3\
    BtC0BjE2H3Q3hBzF
    """
  static let twoXS = """
    ABCCBGCBCGBCCYCBCGBCCICbBCCICEGgDCBCGBCCBGCbBCCICLHYCLvDBCCICLgBCLEqBJ2LCBCGBCCICbBCCICBJgBCLv\
    DBCCICLgBCLQegECLVZBhC7LBCCBGCLEbCLHnBfJ2CCLvBgCH2DfHtDJgrBCBCGBCCICbBCCICLJWCLvDBCCICLgBCLvBT\
    BqDCBJvBf/MBCCICLgBCEGTbgECLvB/FT0B3NCLBtBTxB5DEgDqH3C2qBBCCBGCLgBCLvBfgDCLvBHc6EhB9CnB4KCLYW/\
    FgCQmCnDYrE5KHBV0ByBZlGnB3DXhDFB2rFCBCGBCCICbBCCBGCLEbCLvDBCCICLgBCLvBEc+CCLBWW/NBCCICEGgBCLvB\
    TsDCLTb5ClDJ5BLwNCLvBEON9EQyBLY6E7vBBCCICLHYCLvBgECLEqBB9FjClD2KCLQefgBf+CH3DH4EmC4B+KTsBOoCgE\
    lBBiK7rBCLvBTNjBiB2CjJlBnCtLV5HvBE+C8SoD6FgHtCN9sFBCCICLJWCLvBBlBB2CCBJvBQHmFf/CBdH4KCLBCqBfoB\
    2DjCgDyDxC1MHc0BlBBlB9C7I9CHNR4qBCLvBVtB7DhBhCxHyB2LE+BLHwGmDBuFvQ0CiFrGqC/sBBFBVJ1DwFHsC5CBFh\
    B1Cf/M0CvOyBxLVBF3DH7C/DBhFBmDY
    """
  static let twoS = """
    ABCCBGCBCGBCCYCBCGBCCICBCWBCCICLEE2CCBCGBCCICbBCCICBCGECYCLBCLC7CBCCICLJWCBCGEqBEEJN+KCBCGBCCI\
    CBCWBCCBGCBCGBCbCBCGECIC7CBCCBGCBCGECYCBCGBCCICbBCCICLgDCBCGEqBECICLgBCLvLBCCICBCGEEWCBCGBCCIC\
    bEOV2CCLBCCIeECICLgBOvDQCNFBlBoCnrBCBCGBCCICBZBCCICBCGBCCYCBJECIC7CBCCBGCBCGBCCYCBCGBCCICbBCCI\
    CsDCEGELCbELCsBCLvLBCCICBCGECYCBCGBCCICbBCCICLgDCBCGBCCICbBCCICLgBCLvDECICLgBCLvBpB2KCBCGECIeB\
    CCICLgBC7DBCCICLgBCLY4BhDLvBVptBBCCICBCGEEWCLBCObJJV2CCLBCLeBCLCLgBCLvDJXFBZL3BBd4KCBCGECICbBC\
    CICLgBCLvDECICLgBCLVZgECLvBYmNELCsBCL5Bf2CCLkE0DXhCjBB2rFCBCGBCCBGCBZBCCBGCBCGBCbCLECIC7CBCCIC\
    BCGBCbCBCGBCCICbBCCICLgDCLBCCLbECICLgBC7LBCCBGCBCGBCCYCBCGBCCICbBCCICLgDCBCGBCCICbBCCICLJWCLvD\
    BCCICLgBCLvBkB7KCEGBCCICbBCCICLjBLvDBCCICLgBCLvBVqDCLvB/tBBCCICBCGBCCYCBCGBCCICbBCCICsDCBCGBCC\
    ICbBCCICLgBCLvDECICLgBCLYWgMCBCGBCCICbBCCICLgBCLvDBCCICLgBCLvBgECLVZ/NBCCICLgBCLJlBgECLvB/FYrD\
    iB4qBCBJBCCICbECICLjBLvDBCCICLgBCLvBYqDLvBVqC+KECICLgBCLvBgECLvBJdpBtDzEsLCL0CyBnDpB3I+C+qFBCC\
    ICEGEbCLBCCIeELCsDCEGBCCICbBCCICsBCLY2CEEGCsBCLwNCBCGBCCIeBCCICLgBCLvDBCCICLgBCLvBJ2DCLYW/NELC\
    sBCLxC+CC7BkB8F1BBnBf+qBCEGBCCLbBCCICLgBCLvDELCsBCLJmFCLvBlD5KBCCICLgBCLvBVqDCLvB3CI+ClCd8MCLV\
    ZoD2CoCI9JvrBEEJNHWCLxCH1EkB8EHXFB3CFBd4KCLvBoCa7CY3J4Nd5DxFxBhEBVBF/ChB
    """
  static let threeXXS = """
    ABBEBDABGIYBDBEBGDCBGKLHBBEGBGBDJFNDFABKiBSTEKLBDFSPyBWTDBUNPBEBGBEBBKAXBGGBuBBEBGGhBFBNIMPKDi\
    BnBDRSLsCNfBGBEBDCIeBBCBGGaDAHBGFABMAMTGDrBDgBNXTJakCBKWbGBGBUMEFBNIKBaBEMUPOR8BOSFFLaeRUnBUTK\
    NBLDsCTOAPFQdekBKgBNUsCCBNxBWWHFPWeNfHoBcKDiBHWuCrBNxBPBNcfdkBjBFlCgBkBwBnBNxBBBARPrBJpBaEVMNU\
    gBPeBRjC
    """
  static let threeS = """
    AAACBAAABBBADFEBCBBBEBGCCAAABDADCCDBDGMDEFADBACCCDCDFCBBBMCHFDCBGBCFDBMBDCKDBCFFCFOJBLBDEFDBOE\
    KCBNQOGBBLBDEMDTAABDABBBABGCBNBCIFABCBDEGCFGBNFBJCBADFFCJCJGCCACFFADEQFKBEBMBGDBDUGCFGBOmBDCMB\
    aBEBGLDQFHABBBABBBCBDABGBBCBMACBCBFCDCCDCFGXCCJBEGBJDJCDBCDIBEBGFNKFICGCDYCGEIMAKMHBEJbDTDMBKE\
    ZGBBBCGBBEBCBJFHBBGEBMPJDBJFJBLYGDEBDAIBDFNHFEDGQFDMGBKEJJMSSfBMBKiBDFFDCCGGPJEBBGFEFFDTBEEDJE\
    OCFLEBEBGDiBBRKAYLBJgBYQTXEKKFYFDFNDCCLFEBBEGIfFIJEFMWEAOMELFFCLJLjBLSB2BfBN2BBBLBUPPGcVRFKEFH\
    LEO0BNONCYTUaoBB0BDCIBLBLFPGKOBbCDFCGQYXCNVDFEXpBPfWmB
    """
  static let one = """
    ABCCBGDKBFBaLCBOaBFBKKBFB5CALCBCAKbECICEGCBBcLCBO6CBFBKKBFBaLHKEWBFBGDDGBFBmLCBObHLEJArBHL7CCA\
    AOCBOWEEFACAACGBCCBWPDCBGCAACqDEnBCLBCCHAECbLCEmLBFBKKBFBaLEOaBFBKKBFB6CLCEKAbOADLCEnBCBCL6CBF\
    BKKBFBaLHHDaBCCBKKBFBlrBACEKAbCLECICADnBCBKD7CCBCGBCCICEbEFAABAACGEeNCLCsDCBOaFCICCBJBeLCBO7KE\
    CKACAHEaDABBGCAACICCbEGDACAAGCAD4CCEGCAACGBCCBWCAAKABAACAGCAACWBBACBFACAACAFBC7CCAAOABBGEZBBAC\
    BGDABAHCACAAbDHCOEnLEObCBCGECBFACBCbLCQqDBCEGDcBACICAACAFEEeHACCIEC/CMNBdBCGBCCIECbLEDlrBBFBKK\
    BCCBaLHHDaBFBKKBCCB6CLCELcBELCBGCAAeKFCL7CGBGDKBFBaLECLbGBGDKBFB6KOBCLeAACICCBLeLCEHDjDLLHWECI\
    CADICCgBGDACBGCBC7CKBGLbHLKAHaBJJlLBFBKKBFBaLCQaBFBVBFB+CHCELgBCICLCBCbKFCKA6CBFBVBFBaLECLaBFB\
    KKBFB6qFLEOjBICCBGCBtBEHE5CACBCICABBGECbCBGCAACAKCBWCBJBCKAAiDLCBObQCEJEfKQ7KTDPbCBGCAAKACCBWE\
    CGBCKAH3CACEGCAACGEEWCAACGACAABAHCAACYBACICAACAKCB2CDDKACBGCEWBCCHAACACICCYDEJALCB+KLDEKcGGECI\
    CBCbLCBCL7CDADFDACICBZEEGABAACGBCADbCICABICBCsDtBBCLCBJEqBQ7qBCAACICEGCEWECICAACLCdCLCHAEC7CCA\
    AGCAABAGEABBWCAACGAABAABAAGCAACYCLCAACGEE2CELCEGCdCEGCAACICfKBCDAJ/KALCAABAHDCBWCAACAFACAABAAG\
    ABAACWHBGCAACHCAE2CABAACGAABAACAGCAACWAABAABAGAABAABAAFACAABAAWCADAFACAABAHCAAC2CAABBBAHCACAGA\
    ABAABAXDABAAFAABAABAAGCADYCABAAGDEHCABA6KAACGECIIaCBGCAABAGBBAcGGBCCIH3CACEGCAACLbCAACGAABAABA\
    AGCAACXDDHCAABAL+CDMEFEACbCAHDABAICCBWIHCABBGjrBOBCLeLEABBGCBCXUO7CCBCICLADCbDHDACLADZFHCLECnD\
    ECmBAEOABHkBLEOrLACADGECWBCCBGCAACAFBCeADGBBAABBGCE7CCBGDACqBAACGACAACHCAACcCAGDACAHCAB5CGLKFB\
    AWECBGCAABBFECXBCEJBBAGDBDrLCLbQCEGHbLGN6CCLELCBCWADABICAACGEEXBFKLCADnDEBoBCEGECBJADcNDBL5qFB\
    FBVBFBaKACBCLaBFBKKBFB6CLCBCLbCEGBCABAKBCbDKBCL6CBFBKKBFBmBCELaBFBKKBFBpLEnBCMDEGCEqBEnDHICELC\
    WADCICAACAKABBWCBCGBCCNqDECLbCEAFEDAGEDaLIJ7KBFBKKBFBWDLCELDWBFBKKBFB6CAKCBObCBCGBCEGCgBQCL6CB\
    FBKKBFBaLCBpBBFBKKBFB6qBLEBALbECLCBOAaLCBCL7CCBCGECBGCBCWEKACAACICeBLCCICBC7CLCELeBCGBCCNCbOBS\
    3KCBJECNZJGCAABAGAACeBLBACIH2CECBFACAACHDDAWCAACGAABAABAAGCAACXDCIABAACAFBCCB2CCLEDGFCbCAHACAC\
    LCZBEAHBAOBC7KQCLbEJBCADJAfLECL+CBCGBCCBFACBZBCCBGCAACICADWCLBCEGE+CPPeBCGECIjBLCAAprBBFBKKBFB\
    aLCBCmBBFBKKBFB6CDHCBCArBCHDCBGCgBKBDCoDFBFIIFBaLECLaBFBKKBFBuLLbCLDACBGDABAbgECGBCCNCYCLCAACL\
    EWCAACICCsDLEDGDeBDHCABHBjBJEACHCB5KBFBVBFBmBCBCmBBFBKKBFB6COEHDbOEEGECmBFpDBFBVBFBmBCBpBBFBKK\
    BFB
    """
}
