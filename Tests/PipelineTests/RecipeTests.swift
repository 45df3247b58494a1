import Quantization
import Foundation
import Testing

@testable import Pipeline

@Suite struct RecipeTests {
  @Test func readsEveryKey() throws {
    let recipe = try readRecipe(fullRecipe)
    #expect(recipe.model.value == "checkpoints/quickstart")
    #expect(recipe.output?.value == "out")
    let calibration = try #require(recipe.calibration)
    #expect(calibration.text.map(\.value) == ["recipes/calibration.txt"])
    #expect(calibration.tokens == 1000 && calibration.context == 128 && calibration.seed == 7)
    let validation = try #require(recipe.validation)
    #expect(validation.text.map(\.value) == ["recipes/validation.txt"])
    #expect(validation.context == 64 && validation.score == .half && validation.windows == 200)
    #expect(validation.pairs?.value == "recipes/stsb.csv")
    #expect(validation.slices.map(\.name.value) == ["dialogue", "code"])
    #expect(
      validation.slices.map { $0.text.map(\.value) } == [
        ["recipes/dialogue.txt"], ["/data/code.txt"],
      ])

    #expect(recipe.stages.map(\.kind) == ["quantize", "pack"])
    #expect(recipe.stages.map(\.name.value) == ["gptq4", "pack"])
    var quantize = QuantizeStageOptions()
    quantize.encoding = Located("int4-g32")
    quantize.symmetric = true
    quantize.overrides = [
      EncodingOverride(pattern: Located("lm_head"), encoding: Located("int8-g32")),
      EncodingOverride(
        pattern: Located("model.layers.*.mlp.down_proj"), encoding: Located("int6-g32")),
    ]
    quantize.damping = 0.05
    quantize.blockSize = 64
    quantize.actOrder = false
    quantize.grid = .minmax
    quantize.trueSequential = false
    #expect(recipe.stages[0].options as? QuantizeStageOptions == quantize)
    var gate = GateOptions()
    gate.limits.maxKL = 0.02
    gate.limits.maxPerplexityRatio = 1.02
    gate.limits.minTop1 = 0.9
    gate.limits.minCosine = 0.98
    gate.limits.minNeighbourOverlap = 0.8
    gate.limits.maxSpearmanDrop = 0.5
    gate.maxFallbacks = 2
    var dialogue = DriftLimits()
    dialogue.maxKL = 0.05
    gate.slices = [SliceGate(slice: Located("dialogue"), limits: dialogue)]
    #expect(recipe.stages[0].gate == gate)
    var pack = PackStageOptions()
    pack.dtype = .bf16
    pack.selfTest = false
    #expect(recipe.stages[1].options as? PackStageOptions == pack)
    #expect(recipe.stages[1].gate.limits.maxKL == 1)
  }

  @Test func fillsInDefaults() throws {
    let recipe = try readRecipe(smallRecipe)
    #expect(recipe.output == nil && recipe.calibration == nil && recipe.validation == nil)
    #expect(recipe.stages[0].options as? PackStageOptions == PackStageOptions())
    #expect(recipe.stages[0].gate == GateOptions() && recipe.stages[0].gate.maxFallbacks == 0)
    #expect(recipe.stages[0].name.place.description == "recipes/main.yaml:4:5")
  }

  @Test("a resolved recipe reads back equal", arguments: [smallRecipe, fullRecipe])
  func roundTrip(_ text: String) throws {
    var recipe = try readRecipe(text)
    let hash = String(repeating: "0123456789abcdef", count: 4)
    recipe.inputs = [.init(path: Located("checkpoints/a b.txt"), sha256: Located(hash))]
    let resolved = recipe.resolvedYAML(in: "out/run 1", current: "/home/me")
    let again = try Recipe.read("out/run 1/recipe.yaml", readFile: { _ in Array(resolved.utf8) })
    #expect(again == recipe)
    #expect(again.resolvedYAML(in: "out/run 1", current: "/home/me") == resolved)
    #expect(resolved.contains("../../checkpoints/a b.txt"))
  }

  @Test func hardTextsSurviveTheRoundTrip() throws {
    let names = [
      "${x}", "$${", "a: b", "# c", "'", "\"", "\\", "true", "1e5", "~", "-",
      "é\u{85}\u{7F}\u{FEFF}😀",
      "a\nb", "\u{2028}", " lead", "*star", "&a", "{", "%", "@", "null", "0x1F", "1_000", ".inf",
    ]
    var recipe = try readRecipe(smallRecipe)
    var calibration = CalibrationOptions()
    calibration.text = names.map { Located($0) }
    recipe.calibration = calibration
    let resolved = recipe.resolvedYAML(in: ".", current: "/home/me")
    let again = try Recipe.read("recipe.yaml", readFile: { _ in Array(resolved.utf8) })
    #expect(again.calibration?.text.map(\.value) == names)
  }

  @Test func importsAreMergedBelow() throws {
    let recipe = try readRecipe(
      """
      imports: [common/base.yaml, common/more.yaml]
      calibration: {tokens: 5}
      parameters: {bits: 3}
      """,
      [
        "recipes/common/base.yaml": """
        condense: 1
        parameters: {bits: 8, unused: 1}
        model: ../model
        calibration: {text: [a.txt, b.txt], tokens: 9, seed: 1}
        stages: [quantize: {encoding: "int${bits}-g32"}, pack: {}]
        """,
        "recipes/common/more.yaml": """
        imports: [deeper.yaml]
        calibration: {text: [../c.txt]}
        """,
        "recipes/common/deeper.yaml": "output: here\ncalibration: {seed: 4}",
      ])
    #expect(recipe.model.value == "recipes/model")
    #expect(recipe.output?.value == "recipes/common/here")
    #expect(recipe.calibration?.text.map(\.value) == ["recipes/c.txt"])
    #expect(recipe.calibration?.tokens == 5 && recipe.calibration?.seed == 4)
    let options = recipe.stages[0].options as? QuantizeStageOptions
    #expect(options?.encoding.value == "int3-g32")
    #expect(options?.encoding.place.description == "recipes/common/base.yaml:5:31")
  }

  /// The last matching pattern counts, so those of the importing file and of `--set` stand last.
  @Test func patternsOfTheImportingFileStandLast() throws {
    let recipe = try readRecipe(
      """
      imports: [base.yaml]
      validation: {text: [v], slices: {b: [mine.txt], new: [n.txt]}}
      """,
      [
        "recipes/base.yaml": """
        condense: 1
        model: m
        validation: {text: [w], slices: {b: [b.txt], a: [a.txt]}}
        stages: [pack: {}]
        """
      ],
      set: ["validation.slices.last=[l.txt]"])
    #expect(recipe.validation?.slices.map(\.name.value) == ["a", "b", "new", "last"])
    #expect(recipe.validation?.slices[1].text.map(\.value) == ["recipes/mine.txt"])
  }

  @Test func parametersKeepTheirTypesAndFolders() throws {
    let recipe = try readRecipe(
      """
      condense: 1
      imports: [common/p.yaml]
      parameters: {tokens: 12, half: ha, score: "${half}lf", text: "2024", yes: true}
      model: ${place}
      calibration: {text: ["${text}", "x$${text}", "$", "$5"], tokens: "${tokens}"}
      validation: {text: ["${place}/v.txt"], score: "${score}"}
      stages:
        - pack: {self-test: "${yes}", name: "p${tokens}"}
      """, ["recipes/common/p.yaml": "parameters: {place: checkpoint}"])
    #expect(recipe.model.value == "recipes/common/checkpoint")
    #expect(recipe.calibration?.tokens == 12)
    #expect(
      recipe.calibration?.text.map(\.value) == [
        "recipes/2024", "recipes/x${text}", "recipes/$", "recipes/$5",
      ])
    #expect(recipe.validation?.text.map(\.value) == ["recipes/checkpoint/v.txt"])
    #expect(recipe.validation?.score == .half)
    #expect(recipe.stages[0].name.value == "p12")
  }

  @Test func settingsReplaceValues() throws {
    let recipe = try readRecipe(
      fullRecipe,
      set: [
        "bits=2", "parameters.head=int3-g64", "calibration.text=[new.txt]", "output=here",
        "stages.0.quantize.gate.max-kl=0.5", "stages.1.pack.dtype=f32", "validation.windows=",
        "stages.0.quantize.overrides.\"a.b=*\"=int5-g16",
      ])
    let options = try #require(recipe.stages[0].options as? QuantizeStageOptions)
    #expect(options.encoding.value == "int2-g32")
    #expect(options.overrides.map(\.pattern.value).last == "a.b=*")
    #expect(options.overrides.map(\.encoding.value) == ["int3-g64", "int6-g32", "int5-g16"])
    #expect(recipe.calibration?.text.map(\.value) == ["new.txt"])
    #expect(recipe.output?.value == "here")
    #expect(recipe.stages[0].gate.limits.maxKL == 0.5)
    #expect((recipe.stages[1].options as? PackStageOptions)?.dtype == .f32)
    #expect(recipe.validation?.windows == nil)
  }

  @Test func modelAndOutputOfTheCommandLineAreTakenAsTheyAre() throws {
    let recipe = try Recipe.read(
      "recipes/main.yaml", settings: [.model("a/${b}: 1"), .output("../1")],
      readFile: { _ in Array("condense: 1\nstages: [pack: {}]".utf8) })
    #expect(recipe.model.value == "a/${b}: 1")
    #expect(recipe.output?.value == "../1")
  }

  @Test func pathsOfInputsStartAtTheirOwnFile() throws {
    let hash = String(repeating: "5", count: 64)
    let recipe = try readRecipe(
      smallRecipe + "imports: [deep/base.yaml]\ninputs: {b: '\(hash)'}",
      ["recipes/deep/base.yaml": "inputs: {a: '\(hash)'}"])
    #expect(recipe.inputs.map(\.path.value) == ["recipes/deep/a", "recipes/b"])
  }

  @Test func aliasesRepeatValues() throws {
    let recipe = try readRecipe(
      """
      condense: 1
      model: m
      validation: {text: &t [v.txt]}
      calibration: {text: *t}
      stages: [pack: {}]
      """)
    #expect(recipe.calibration?.text.map(\.value) == ["recipes/v.txt"])
  }

  @Test func anotherModuleChecksEncodingsAtTheirPlace() throws {
    struct Unknown: Error, CustomStringConvertible { let description = "no encoding is called so" }
    let recipe = try readRecipe(fullRecipe, set: ["head=int9"])
    let options = try #require(recipe.stages[0].options as? QuantizeStageOptions)
    #expect(try options.encoding.checked { $0.count } == 8)
    let error = #expect(throws: RecipeError.self) {
      try options.encoding.checked { _ in throw Unknown() }
    }
    #expect(error?.description == "recipes/main.yaml:17:17: no encoding is called so")
  }

  @Test func readsFilesAndSaysWhyNot() throws {
    let folder = FileManager.default.temporaryDirectory.path + "/recipe-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try smallRecipe.write(toFile: folder + "/r.yaml", atomically: true, encoding: .utf8)
    #expect(try Recipe.read(folder + "/r.yaml").model.value == folder + "/m")
    let missing = #expect(throws: RecipeError.self) { try Recipe.read(folder + "/none.yaml") }
    #expect(
      missing?.description == "\(folder)/none.yaml:1:1: cannot be read: no such file")
    let directory = #expect(throws: RecipeError.self) { try Recipe.read(folder) }
    #expect(
      directory?.problem == .unreadable("it is a folder, expected a recipe file"))
    let endless = #expect(throws: RecipeError.self) { try Recipe.read("/dev/zero") }
    #expect(endless?.problem == .tooLarge(limit: 262_144))
  }
}

@Suite struct RecipePathsTests {
  @Test(
    "joined as text",
    arguments: [
      ("a", "b", "a/b"), ("a", "../b", "b"), (".", "b", "b"), ("a", "/b//c/", "/b/c"),
      ("a/b", "../../../c", "../c"), ("..", "../c", "../../c"), ("/", "../c", "/c"),
      ("a", "..", "."),
      ("a", ".", "a"), ("/a", "..", "/"),
    ])
  func join(_ directory: String, _ path: String, _ expected: String) {
    #expect(RecipePaths.join(directory, path) == expected)
  }

  @Test(
    "the folder of a file",
    arguments: [("a/b.yaml", "a"), ("b.yaml", "."), ("/b.yaml", "/"), ("../b.yaml", "..")])
  func directory(_ path: String, _ expected: String) {
    #expect(RecipePaths.directory(of: path) == expected)
  }

  @Test(
    "seen from another folder",
    arguments: [
      ("a/b", ".", "a/b"), ("a/b", "a", "b"), ("a", "a", "."), ("a", "out/x/y", "../../../a"),
      ("../a", "out", "../../a"), ("a", "../out", "../me/a"), ("/x", "out", "/x"),
      ("a", "/home/me/out", "../a"), ("a", "/var/out", "../../home/me/a"),
    ])
  func relative(_ path: String, _ directory: String, _ expected: String) {
    let relative = RecipePaths.relative(path, from: directory, current: "/home/me")
    #expect(relative == expected)
    #expect(
      RecipePaths.join("/home/me", RecipePaths.join(directory, relative))
        == RecipePaths.join("/home/me", path))
  }
}
