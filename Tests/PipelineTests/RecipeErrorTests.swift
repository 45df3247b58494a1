import Testing

@testable import Pipeline

@Suite struct RecipeErrorTests {
  static let head = "condense: 1\nmodel: m\n"
  static let pack = "stages: [pack: {}]\n"

  /// A recipe, and what must be said of it after `recipes/main.yaml:`.
  static let mistakes: [(String, String)] = [
    ("", "1:1: the recipe is empty, expected a mapping that starts with 'condense: 1'"),
    (
      "# nothing\n\n", "1:1: the recipe is empty, expected a mapping that starts with 'condense: 1'"
    ),
    ("~", "1:1: the recipe is empty, expected a mapping that starts with 'condense: 1'"),
    ("[1]", "1:1: the recipe is a list, expected a mapping that starts with 'condense: 1'"),
    (
      "condense",
      "1:1: the recipe is the text 'condense', expected a mapping that starts with 'condense: 1'"
    ),
    ("model: m\n" + pack, "1:1: the recipe has no key 'condense', which it needs"),
    (
      "condense: 2\nmodel: m\n" + pack, "1:11: condense is 2, expected an integer, always 1"
    ),
    (head, "1:1: the recipe has no key 'stages', which it needs"),
    (
      head + "calibraton: {}\n" + pack,
      "3:1: unknown key 'calibraton' in the recipe, did you mean 'calibration'?"
    ),
    (
      head + pack + "zzzzzz: 1",
      "4:1: unknown key 'zzzzzz' in the recipe, known: condense, imports, parameters, model, "
        + "output, calibration, validation, towers, stages, inputs"
    ),
    (
      head + "stages: []",
      "3:9: stages is a list, expected a list of stages with at least 1 element"
    ),
    (
      head + "stages: pack",
      "3:9: stages is the text 'pack', expected a list of stages with at least 1 element: [pack]"
    ),
    (
      head + "stages: [pack]",
      "3:10: element 1 of stages is the text 'pack', expected a mapping from a kind of stage "
        + "(prune: …)"
    ),
    (
      head + "stages:\n  - quantise: {}",
      "4:5: unknown key 'quantise' in stages, did you mean 'quantize'?"
    ),
    (
      head + "stages:\n  - pack: {}\n    name: x",
      "5:5: 'name' stands beside 'pack', indent it further to make it an option of 'pack'"
    ),
    (
      head + "stages:\n  - quantize: {encoding: int4-g32, method: rtm}",
      "4:44: method is the text 'rtm', expected rtn or gptq or qronos or ec or awq or smoothquant, did you mean 'rtn'?"
    ),
    (
      head + "stages:\n  - quantize:", "4:5: a quantize stage has no key 'encoding', which it needs"
    ),
    (
      head + "stages: [quantize: {encoding: int4-g32}]",
      "3:10: method gptq needs 'calibration', which the recipe does not give"
    ),
    (
      head + "stages:\n  - quantize: {encoding: 4, method: rtn}",
      "4:26: encoding is 4, expected the name of an encoding, in quotes: \"4\""
    ),
    (
      head + "stages:\n  - quantize: {encoding: '', method: rtn}",
      "4:26: encoding is the text '', expected the name of an encoding"
    ),
    (
      head + "calibration: {text: [a], tokens: many}\n" + pack,
      "3:34: tokens is the text 'many', expected an integer, 1 to 1000000000"
    ),
    (
      head + "calibration: {text: [a], tokens: 0}\n" + pack,
      "3:34: tokens is 0, expected an integer, 1 to 1000000000"
    ),
    (
      head + "calibration: {text: [a], tokens: 99999999999999999999}\n" + pack,
      "3:34: tokens is 99999999999999999999, expected an integer, 1 to 1000000000"
    ),
    (
      head + "calibration: {text: [a], tokens: '7'}\n" + pack,
      "3:34: tokens is the text '7', expected an integer, 1 to 1000000000"
    ),
    (
      head + "calibration: {text: a.txt}\n" + pack,
      "3:21: text is the text 'a.txt', expected a list of paths: [a.txt]"
    ),
    (
      head + "calibration: {}\n" + pack,
      "2:8: calibration needs either 'text', 'images', 'audio' or 'self-written: true'"
    ),
    (
      head + "calibration: 5\n" + pack,
      "3:14: calibration is 5, expected a mapping with keys such as 'text'"
    ),
    (
      head + "validation: {text: [a], score: none}\n" + pack,
      "3:32: score is the text 'none', expected all or half"
    ),
    (
      head + "validation: {text: [a], slices: {'a/b': [c]}}\n" + pack,
      "3:34: 'a/b' stands where a key is expected"
    ),
    (
      head + "stages:\n  - quantize: {encoding: e, method: rtn, damping: 1.5}",
      "4:51: damping is 1.5, expected a number, 0 to 1"
    ),
    (
      head + "stages:\n  - quantize: {encoding: e, method: rtn, damping: .nan}",
      "4:51: damping is the text '.nan', expected a number, 0 to 1"
    ),
    (
      head + "stages:\n  - quantize: {encoding: e, method: rtn, damping: 1e999}",
      "4:51: damping is 1e999, expected a number, 0 to 1"
    ),
    (
      head + "stages:\n  - pack: {self-test: yes}",
      "4:23: self-test is the text 'yes', expected true or false, did you mean 'true'?"
    ),
    (
      head + "stages: [pack: {}, pack: {}]",
      "3:20: the name 'pack' is taken by the stage at recipes/main.yaml:3:10, give this stage a "
        + "'name' of its own"
    ),
    (
      head + "stages: [pack: {name: ../x}]",
      "3:23: name is the text '../x', expected letters, digits, '.', '_' and '-', the first a letter "
        + "or a digit"
    ),
    (
      head + "stages:\n  - pack: {gate: {max-kl: 1}}",
      "4:5: a gate on drift needs 'validation', which the recipe does not give"
    ),
    (
      head + "validation: {text: [a]}\nstages:\n  - pack: {gate: {max-spearman-drop: 1}}",
      "5:5: max-spearman-drop needs 'validation.pairs', which the recipe does not give"
    ),
    (
      head + "validation: {text: [a], slices: {dialogue: [b]}}\n"
        + "stages:\n  - pack: {gate: {slices: {dialog: {max-kl: 1}}}}",
      "5:28: unknown key 'dialog' in validation.slices, did you mean 'dialogue'?"
    ),
    (
      head + "stages:\n  - pack: {gate: {max-lk: 1}}",
      "4:19: unknown key 'max-lk' in a gate, did you mean 'max-kl'?"
    ),
    (
      "condense: 1\nmodel: m\nmodel: n\n",
      "2:1: the key 'model' stands twice in one mapping, keep one"
    ),
    (
      "condense: 1\nmodel: m\n\"model\": n\n",
      "2:1: the key 'model' stands twice in one mapping, keep one"
    ),
    ("condense: 1\n? [a]\n: 1\n", "2:3: a list stands where a key is expected"),
    ("condense: 1\n${x}: 1\n", "2:1: '${' stands where a key is expected"),
    (
      "condense: !!binary x",
      "1:11: the tag 'tag:yaml.org,2002:binary' has no meaning in a recipe, remove it"
    ),
    ("condense: 1\nmodel: &a m\noutput: *b\n", "3:9: not YAML: found undefined alias"),
    (
      "condense: 1\n\tmodel: m\n", "2:1: not YAML: a tab stands here, indent with spaces"
    ),
    (
      head + "stages: [quantize: {overrides: {*.down: x}}]",
      "3:34: not YAML: a value that starts with * must stand in quotes"
    ),
    (
      "condense: 1\n---\ncondense: 1\n",
      "2:1: not YAML: but found another document expected a single document in the stream (line 1)"
    ),
    (
      "model: [a, b",
      "2:1: not YAML: did not find expected ',' or ']' while parsing a flow sequence (line 1)"
    ),
    (head + "output: a\u{0}b", "3:10: not YAML: control characters are not allowed"),
    (
      "parameters: {bits: 4}\n" + head + "output: o-${bitz}\n" + pack,
      "4:11: unknown parameter 'bitz', did you mean 'bits'?"
    ),
    (
      head + "output: \"a\\\"b ${x} ${y}\"\n" + pack,
      "3:15: unknown parameter 'x', none is known here"
    ),
    (
      "parameters: {a: 1}\n" + head + "output: >\n  ${a}\n  and ${b}\n" + pack,
      "6:7: unknown parameter 'b', did you mean 'a'?"
    ),
    (
      head + "output: a${b\n" + pack,
      "3:10: '${' without a parameter's name and '}', expected '${name}' (or '$${' for the text "
        + "'${')"
    ),
    (
      head + "output: a$${b}${}\n" + pack,
      "3:15: '${' without a parameter's name and '}', expected '${name}' (or '$${' for the text "
        + "'${')"
    ),
    (
      "parameters: {a: \"${b}\", b: \"x${c}\", c: \"${a}\"}\n" + head + pack,
      "1:41: the parameter refers to itself: a → b → c → a"
    ),
    (
      "parameters: {a: [1]}\n" + head + pack,
      "1:17: the parameter 'a' is a list, expected text, a number, true or false"
    ),
    (
      "parameters: {1a: 1}\n" + head + pack,
      "1:14: the parameter name '1a' stands where a key is expected"
    ),
    (
      "imports: [none.yaml]\n",
      "1:11: cannot be read: no such file (recipes/none.yaml)"
    ),
    (
      "parameters: {x: a}\nimports: [\"${x}.yaml\"]\n",
      "2:12: parameters are not replaced in imports, write the path itself"
    ),
    ("imports: a.yaml\n", "1:10: imports is the text 'a.yaml', expected a list of paths"),
    (
      head + pack + "inputs: {a.txt: abc}",
      "4:17: inputs of 'a.txt' is the text 'abc', expected 64 hexadecimal digits"
    ),
  ]

  @Test("says where, what, and what to write instead", arguments: mistakes)
  func mistake(_ text: String, _ expected: String) {
    #expect(recipeError(text) == "recipes/main.yaml:" + expected)
  }

  @Test func mistakesInImportsHaveTheirOwnPlace() {
    let main = "condense: 1\nimports: [a/b.yaml]\nmodel: m\n" + Self.pack
    #expect(
      recipeError(main, ["recipes/a/b.yaml": "output: o\ncalibraton: {}"])
        == "recipes/a/b.yaml:2:1: unknown key 'calibraton' in the recipe, did you mean "
        + "'calibration'?")
    #expect(
      recipeError(main, ["recipes/a/b.yaml": "output: ${nam}\nparameters: {name: 1}"])
        == "recipes/a/b.yaml:1:9: unknown parameter 'nam', did you mean 'name'?")
    #expect(
      recipeError(main, ["recipes/a/b.yaml": "imports: [../a/../main.yaml]"])
        == "recipes/a/b.yaml:1:11: the file imports itself: recipes/main.yaml → recipes/a/b.yaml → "
        + "recipes/main.yaml")
    #expect(
      recipeError(main, ["recipes/a/b.yaml": ""])
        == "recipes/a/b.yaml:1:1: the recipe is empty, expected a mapping that starts with "
        + "'condense: 1'")
  }

  /// Every file imports the next one twice: 2^40 files, if nobody counts.
  @Test func importsAreCounted() {
    var files: [String: String] = [:]
    for i in 0..<40 {
      files["recipes/\(i).yaml"] = "imports: [\(i + 1).yaml, \(i + 1).yaml]"
    }
    files["recipes/40.yaml"] = "output: o"
    #expect(
      recipeError("imports: [0.yaml]", files)?.hasSuffix("more than 64 files are imported") == true)
  }

  static let settings: [(String, String)] = [
    ("bitz=4", "--set bitz: no parameter and no key is called 'bitz', did you mean 'bits'?"),
    (
      "stages.0.quantize.encodng=int4",
      "--set stages.0.quantize.encodng: unknown key 'encodng' in a quantize stage, did you mean "
        + "'encoding'?"
    ),
    (
      "stages.7.quantize.encoding=x",
      "--set stages.7.quantize.encoding: no parameter and no key is called "
        + "'stages.7.quantize.encoding', known: 0, 1"
    ),
    (
      "calibratoin.tokens=4",
      "--set calibratoin.tokens: no parameter and no key is called 'calibratoin.tokens', known: "
        + "condense, parameters, model, output, calibration, validation, towers, stages, inputs"
    ),
    (
      "parameters.new=1",
      "--set parameters.new: no parameter and no key is called 'new', known: bits, head"
    ),
    (
      "calibration.tokens=many",
      "--set calibration.tokens: tokens is the text 'many', expected an integer, 1 to 1000000000"
    ),
    ("model.x=1", "--set model.x: 'x' cannot be set in the text '../checkpoints/quickstart'"),
    (
      "bits=[1]",
      "--set bits: the parameter 'bits' is a list, expected text, a number, true or false"
    ),
    ("bits=${bits}", "--set bits: the parameter refers to itself: bits → bits"),
    (
      "model=[",
      "--set model: not YAML: did not find expected node content while parsing a flow node (line 2)"
    ),
    ("bits", "--set bits: 'bits' is no setting, expected key=value"),
    ("=4", "--set =4: '=4' is no setting, expected key=value"),
    ("a..b=4", "--set a..b=4: 'a..b=4' is no setting, expected key=value"),
    ("\"a=4", "--set \"a=4: '\"a=4' is no setting, expected key=value"),
    (
      "imports=[a]",
      "--set imports: no parameter and no key is called 'imports', known: bits, head, condense, "
        + "parameters, model, output, calibration, validation, towers, stages, inputs"
    ),
  ]

  @Test("a wrong setting names itself", arguments: settings)
  func wrongSetting(_ setting: String, _ expected: String) {
    #expect(recipeError(fullRecipe, set: [setting]) == expected)
  }

  // MARK: hostile texts

  @Test func aliasBombsAreRefused() {
    var bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for i in 1..<9 {
      let aliases = Array(repeating: "*a\(i - 1)", count: 9).joined(separator: ", ")
      bomb += "a\(i): &a\(i) [\(aliases)]\n"
    }
    #expect(
      recipeError(bomb)
        == "recipes/main.yaml:1:1: more than 24 aliases (*name), use 'imports' or '${parameter}' "
        + "to repeat values")
    // Within the limit of aliases: still thousands of copies of a long list.
    var small = "a0: &a0 [" + Array(repeating: "x", count: 5000).joined(separator: ", ") + "]\n"
    for i in 1..<8 { small += "a\(i): &a\(i) [*a\(i - 1), *a\(i - 1), *a\(i - 1)]\n" }
    #expect(recipeError(small)?.contains("more than 20000 values") == true)
  }

  @Test func doublingParametersAreBounded() {
    var parameters = "  p0: xxxxxxxx\n"
    for i in 1..<60 { parameters += "  p\(i): \"${p\(i - 1)}${p\(i - 1)}\"\n" }
    let text = "parameters:\n" + parameters + Self.head + "output: ${p59}\n" + Self.pack
    #expect(recipeError(text)?.contains("longer than 65536 characters") == true)
  }

  @Test("deep nesting is refused", arguments: ["[", "{a: ", "- ", "? "])
  func deepNesting(_ opening: String) {
    let text = String(repeating: opening, count: 50_000)
    #expect(recipeError("a: " + text) != nil)
    #expect(recipeError(text) != nil)
  }

  @Test func textThatIsNotUTF8HasItsPlace() {
    let bytes = Array("condense: 1\nmodel: é".utf8) + [0xFF, 0x0A]
    let error = #expect(throws: RecipeError.self) {
      try Recipe.read("r.yaml", readFile: { _ in bytes })
    }
    #expect(
      error?.description == "r.yaml:2:9: byte 21 is not UTF-8, save the recipe as UTF-8")
  }

  @Test func longTextsAreRefused() {
    #expect(
      recipeError(String(repeating: "#", count: 300_000))
        == "recipes/main.yaml:1:1: longer than 262144 bytes, which is the limit for a recipe")
  }

  /// Every prefix of a good recipe, and every byte of it replaced: an error or a recipe, never a trap.
  @Test func damagedRecipesNeverTrap() {
    let bytes = Array(fullRecipe.utf8)
    for end in stride(from: 0, to: bytes.count, by: 3) {
      _ = try? Recipe.read("r.yaml", readFile: { _ in Array(bytes[..<end]) })
    }
    for (index, byte) in zip(0..., bytes) {
      for replacement in [0x00, 0x09, 0x20, 0x22, 0x2A, 0x26, 0x5B, 0x7B, 0x7D, 0xC3, byte ^ 1] {
        var damaged = bytes
        damaged[index] = replacement
        do {
          _ = try Recipe.read("r.yaml", readFile: { _ in damaged })
        } catch {
          let text = error.description
          #expect(text.hasPrefix("r.yaml:") && !text.contains("\n"), "\(text)")
        }
      }
    }
  }
}
