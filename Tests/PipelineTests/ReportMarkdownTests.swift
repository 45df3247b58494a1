import Testing

@testable import Pipeline

@Suite struct ReportMarkdownTests {
  @Test func theSummaryIsThisText() {
    #expect(SampleReports.small.markdown == golden + "\n")
  }

  @Test(
    "names stay text",
    arguments: [
      ("a_b", "a\\_b"), ("a|b", "a\\|b"), ("<b>&", "&lt;b&gt;&amp;"), ("a\nb", "a b"), ("`", "\\`"),
      ("[x](y)", "\\[x\\](y)"), ("", ""),
    ])
  func escapes(_ name: String, _ expected: String) {
    #expect(Markdown.escape(name) == expected)
  }

  @Test(
    "code holds any name",
    arguments: [("a_b", "`a_b`"), ("a|b", "`a\\|b`"), ("a`b", "a\\`b"), ("", ""), ("<b>", "`<b>`")])
  func code(_ name: String, _ expected: String) {
    #expect(Markdown.code(name) == expected)
  }

  @Test func anEncoderHasItsOwnFigures() {
    let text = SampleReports.encoder.markdown
    #expect(
      text.contains(
        "| stage | gate | size | bits/weight | cosine | 1 % | least | neighbours | Spearman |"))
    #expect(
      text.contains(
        "| 0.99790 (0.99777 to 0.99801) | 0.99160 | 0.98110 | 95.8 % (95.4 % to 96.2 %) | 81.95 |"))
    #expect(!text.contains("perplexity"))
  }
}

private let golden = """
  # lm-6m: a gate failed

  **4.20 MB** · 5.5× smaller than 23.1 MB · 4.61 bits per weight

  ## Drift against the reference

  | stage | gate | size | bits/weight | perplexity | ratio | KL mean | median | 99 % | 99.9 % \
  | largest | top-1 | time |
  | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
  | reference |  | 23.1 MB |  |  |  |  |  |  |  |  |  |  |
  | `gptq4` | ✗ failed | 4.12 MB | 4.53 | 23.91 | 1.0212 | 0.0212 (0.0204 to 0.0223) | \
  0.00848 | 0.191 | 0.657 | 2.20 | 93.4 % | 12 s |
  | ↳ `dialogue` | ✓ passed |  |  | 24.54 | 1.0483 | 0.0483 (0.0464 to 0.0507) | 0.0193 | \
  0.435 | 1.50 | 5.02 | 85.0 % |  |
  | `pack` | none | 4.20 MB | 4.61 | 23.91 | 1.0213 | 0.0213 (0.0204 to 0.0224) | 0.00852 | \
  0.192 | 0.660 | 2.22 | 93.4 % | 0.3 s |

  ## Gates

  | stage | gate | limit | measured | 95 % interval | verdict |
  | --- | --- | ---: | ---: | ---: | --- |
  | `gptq4` | `max-kl` | 0.0200 | 0.0212 | 0.0196 to 0.0221 | ? undecided |
  | `gptq4` | `min-top1` | 90.0 % | 93.4 % | 93.2 % to 93.6 % | ✓ passed |
  | `gptq4` | `max-fallbacks` | 0 | 1 | exact | ✗ failed |
  | `gptq4` | `max-kl of dialogue` | 0.0600 | 0.0483 | 0.0450 to 0.0520 | ✓ passed |

  ## Layers of `gptq4`

  2 tensors, 1 fallback. Calibration: 61 440 of 65 536 tokens asked for. The largest output \
  errors:

  | tensor | encoding | method | bits/weight | output error | time | fallbacks |
  | --- | --- | --- | ---: | ---: | ---: | ---: |
  | `model.layers.0.mlp.down_proj.weight` | `int4-g32` | `gptq` | 4.53 | 0.00123 | 0.4 s | 0 |
  | `lm_head.weight` | `int8-g32` | `rtn` | 8.53 | – | 0.05 s | ✗ 1 |

  Made by condense 0.1.0.
  """
