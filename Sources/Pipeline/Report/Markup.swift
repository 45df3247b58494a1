// HTML and SVG as a tree: what is written from it is well-formed, and no name breaks out of it.

/// A piece of a page.
indirect enum Markup {
  /// Text; escaped when written.
  case text(String)
  /// An element with attributes, escaped when written.
  case element(String, [(String, String)], [Markup])
  /// Pieces one after another.
  case group([Markup])
  /// The page's own style sheet, the only text that is not escaped.
  case style(StaticString)

  static func element(_ name: String, _ attributes: [(String, String)] = [], _ text: String)
    -> Markup
  {
    .element(name, attributes, [.text(text)])
  }

  static func element(_ name: String, class kind: String, _ children: [Markup]) -> Markup {
    .element(name, [("class", kind)], children)
  }

  /// The text of the page, also well-formed XML.
  var html: String {
    var text = ""
    write(into: &text)
    return text
  }

  private func write(into text: inout String) {
    switch self {
    case .text(let content): Self.escape(content, into: &text)
    case .group(let pieces): for piece in pieces { piece.write(into: &text) }
    case .style(let sheet): text += "<style>\n\(sheet)</style>\n"
    case .element(let name, let attributes, let children):
      text += "<" + name
      for (key, value) in attributes {
        text += " " + key + "=\""
        Self.escape(value, into: &text)
        text += "\""
      }
      if children.isEmpty, Self.empty.contains(name) {
        text += "/>"
      } else {
        text += ">"
        for child in children { child.write(into: &text) }
        text += "</" + name + ">"
      }
      if Self.blocks.contains(name) { text += "\n" }
    }
  }

  private static let empty: Set = ["meta", "line", "circle", "rect", "path", "polyline"]
  private static let blocks: Set = [
    "meta", "head", "title", "header", "section", "table", "thead", "tbody", "tr", "svg", "g", "dl",
    "div", "p", "h1", "h2", "h3", "figure", "circle", "line", "path", "footer", "main", "body",
  ]

  private static func escape(_ content: String, into text: inout String) {
    for scalar in content.unicodeScalars {
      switch scalar {
      case "&": text += "&amp;"
      case "<": text += "&lt;"
      case ">": text += "&gt;"
      case "\"": text += "&quot;"
      case "'": text += "&#39;"
      case "\t", "\n": text += " "
      // No document may hold these.
      case "\u{0}"..."\u{1F}", "\u{7F}"..."\u{9F}", "\u{FFFE}", "\u{FFFF}": text += "\u{FFFD}"
      default: text.unicodeScalars.append(scalar)
      }
    }
  }
}
