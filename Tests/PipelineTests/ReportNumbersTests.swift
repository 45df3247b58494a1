import Testing

@testable import Pipeline

@Suite struct ReportNumbersTests {
  @Test(
    "three significant digits",
    arguments: [
      (0, "0"), (1, "1.00"), (0.02123, "0.0212"), (0.0010049, "0.00100"), (0.00099949, "9.99e−4"),
      (0.0009996, "0.00100"), (9.996, "10.0"), (99.96, "100"), (9994.4, "9994"), (9999, "1.00e4"),
      (12345, "1.23e4"),
      (-0.5, "−0.500"), (1e-12, "1.00e−12"), (4.2e-5, "4.20e−5"), (.nan, "–"), (.infinity, "∞"),
      (-.infinity, "–"), (.leastNonzeroMagnitude, "4.94e−324"), (1e308, "1.00e308"),
    ] as [(Double, String)])
  func significant(_ value: Double, _ expected: String) {
    #expect(ReportNumbers.significant(value) == expected)
  }

  @Test(
    "digits after the point",
    arguments: [
      (1.005, 2, "1.00"), (1.0051, 2, "1.01"), (0, 4, "0.0000"), (-0.00001, 4, "0.0000"),
      (-1.5, 1, "−1.5"), (123.456, 0, "123"), (0.04, 1, "0.0"), (1e300, 2, "1e+300"),
    ] as [(Double, Int, String)])
  func fixed(_ value: Double, _ digits: Int, _ expected: String) {
    #expect(ReportNumbers.fixed(value, digits) == expected)
  }

  @Test(
    "sizes",
    arguments: [
      (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (4_123_456, "4.12 MB"),
      (23_100_000, "23.1 MB"), (999_600, "1.00 MB"), (90_900_000_000, "90.9 GB"),
      (Int.max, "9223372 TB"),
    ] as [(Int, String)])
  func bytes(_ count: Int, _ expected: String) {
    #expect(ReportNumbers.bytes(count) == expected)
  }

  @Test(
    "times",
    arguments: [
      (0, "0.00 s"), (0.042, "0.04 s"), (0.31, "0.3 s"), (9.96, "10 s"), (59.4, "59 s"),
      (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3_840, "1 h 4 min"), (.nan, "–"), (-1, "–"),
      (1e30, "–"),
    ] as [(Double, String)])
  func seconds(_ value: Double, _ expected: String) {
    #expect(ReportNumbers.seconds(value) == expected)
  }

  @Test func countsAreGrouped() {
    #expect(ReportNumbers.count(0) == "0")
    #expect(ReportNumbers.count(999) == "999")
    #expect(ReportNumbers.count(65_536) == "65\u{202F}536")
    #expect(ReportNumbers.count(-1_234_567) == "−1\u{202F}234\u{202F}567")
    #expect(
      ReportNumbers.count(.min)
        == "−9\u{202F}223\u{202F}372\u{202F}036\u{202F}854\u{202F}775\u{202F}808")
  }

  @Test func axesShowNoZerosAtTheEnd() {
    #expect(ReportNumbers.trimmed("5.00 MB") == "5 MB")
    #expect(ReportNumbers.trimmed("0.0250") == "0.025")
    #expect(ReportNumbers.trimmed("100") == "100")
    #expect(ReportNumbers.trimmed("1.00e−4") == "1.00e−4")
  }
}

@Suite struct PlotScaleTests {
  static let data: [[Double]] = [
    [0.0212, 0.0007], [1], [1e-9, 3e-9], [1e12], [0.5, 0.50001], [], [0, 0], [.nan, .infinity, 2],
    [1e-300, 1e300], [.leastNonzeroMagnitude],
  ]

  /// Both axes hold all they show, with ticks in order inside, few enough to read.
  @Test(arguments: data) func holdsItsData(_ values: [Double]) {
    let shown = values.filter { (1e-200...1e200).contains($0) }
    for scale in [
      PlotScale.linear(values, from: 200, to: 10, count: 5),
      PlotScale.logarithmic(values, from: 200, to: 10),
    ] {
      #expect(scale.low < scale.high && scale.high.isFinite)
      for value in shown {
        #expect(value <= scale.high * 1.0001)
        #expect((10...200).contains(scale.position(value)))
      }
      #expect((1...12).contains(scale.ticks.count), "\(scale.ticks.map(\.label))")
      #expect(scale.ticks.map(\.value) == scale.ticks.map(\.value).sorted())
      #expect(scale.ticks.allSatisfy { scale.low...scale.high ~= $0.value })
      #expect(Set(scale.ticks.map(\.label)).count == scale.ticks.count)
    }
  }

  @Test func positionsAreProportional() {
    let linear = PlotScale.linear([10], from: 0, to: 100, count: 5)
    #expect(linear.position(0) == 0 && linear.position(linear.high / 2) == 50)
    let logarithmic = PlotScale.logarithmic([0.001, 0.1], from: 0, to: 100)
    #expect(logarithmic.low == 0.001 && logarithmic.high == 0.1)
    #expect(abs(logarithmic.position(0.01) - 50) < 1e-9)
    #expect(logarithmic.position(5) == 100)
  }
}

@Suite struct LayerGroupsTests {
  private func groups(_ names: [String]) -> [String] {
    LayerGroups(
      names.map {
        LayerResult(
          tensor: $0, encoding: "e", method: "m", bitsPerWeight: 4, relativeOutputError: 0.1,
          seconds: 0)
      }
    ).groups.map { "\($0.label) \($0.layers.count)" }
  }

  @Test func namesAreGroupedByWhatFollowsTheBlock() {
    #expect(
      groups([
        "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight",
        "model.layers.11.self_attn.q_proj.weight", "lm_head.weight",
      ]) == ["q_proj 2", "up_proj 1", "lm_head 1"])
  }

  @Test func labelsAreAsShortAsTheyCanBe() {
    #expect(
      groups([
        "encoder.layer.0.attention.self.query.weight",
        "encoder.layer.0.attention.output.dense.weight",
        "encoder.layer.0.intermediate.dense.weight", "encoder.layer.0.output.dense.weight",
      ]) == ["query 1", "attention.output.dense 1", "intermediate.dense 1", "output.dense 1"])
  }

  @Test func anyNameHasAGroup() {
    #expect(groups(["", "0", "weight", "...", "1.2.3", "a.0.weight"]).count > 3)
  }
}
