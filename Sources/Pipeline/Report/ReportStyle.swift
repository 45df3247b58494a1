// The style sheet of the page: light and dark, wide and narrow, screen and paper.

extension Markup {
  static let reportStyle: StaticString = """
    :root {
      color-scheme: light dark;
      --page: #fcfcfa; --card: #ffffff; --ink: #1d2024; --muted: #656b73; --line: #e4e4de;
      --accent: #2a5c8f; --good: #27684a; --bad: #a8352c; --open: #8a5f00; --band: #f5f5f1;
    }
    @media (prefers-color-scheme: dark) {
      :root {
        --page: #131518; --card: #1a1d21; --ink: #e7e7e3; --muted: #9ba1a9; --line: #2d3136;
        --accent: #8ab6e6; --good: #7fc8a0; --bad: #ee9188; --open: #dfb862; --band: #191c20;
      }
    }
    * { box-sizing: border-box; }
    html { -webkit-text-size-adjust: 100%; }
    body {
      margin: 0; background: var(--page); color: var(--ink);
      font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
    }
    main { max-width: 1140px; margin: 0 auto; padding: 48px 32px 64px; }
    header p { margin: 0; color: var(--muted); }
    h1 { margin: 2px 0 4px; font-size: 30px; line-height: 1.2; font-weight: 650; letter-spacing: -.01em;
      overflow-wrap: anywhere; }
    h2 { margin: 56px 0 4px; font-size: 19px; line-height: 1.3; font-weight: 650; }
    h3 { margin: 0 0 12px; font-size: 15px; font-weight: 650; overflow-wrap: anywhere; }
    h3 small { font-weight: 400; color: var(--muted); font-size: 13px; margin-left: 6px; }
    section > p { margin: 0 0 16px; color: var(--muted); max-width: 76ch;
      text-wrap: pretty; }
    code { font: 13px/1.45 ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas,
      "DejaVu Sans Mono", monospace; }
    h2 code { font-size: .88em; font-weight: 600; }
    .tiles { display: grid; grid-template-columns: repeat(4, 1fr); margin-top: 32px;
      border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
    .tile { padding: 18px 20px 16px; border-left: 1px solid var(--line); min-width: 0; }
    .tile:first-child { border-left: 0; }
    .tile p { margin: 0; color: var(--muted); font-size: 13px; }
    .tile p.value { color: var(--ink); font-size: 25px; line-height: 1.3; font-weight: 600;
      letter-spacing: -.01em; font-variant-numeric: tabular-nums; }
    .scroll { overflow-x: auto; }
    .wide { margin-top: 12px; }
    table { border-collapse: collapse; width: 100%; font-size: 13.5px;
      font-variant-numeric: tabular-nums; }
    th { font-weight: 500; color: var(--muted); font-size: 12.5px; text-align: left; white-space: nowrap;
      vertical-align: bottom; padding: 6px 9px 7px; border-bottom: 1px solid var(--line); }
    td { padding: 7px 9px; border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; }
    tr:last-child > td { border-bottom: 0; }
    th.number, td.number { text-align: right; }
    th:first-child, td:first-child { padding-left: 0; position: sticky; left: 0; background: var(--page); }
    th:last-child, td:last-child { padding-right: 0; }
    td small { display: block; color: var(--muted); font-size: 12px; line-height: 1.35; }
    .dense td { padding-top: 4px; padding-bottom: 4px; }
    tr.part td { color: var(--muted); }
    tr.part td:first-child { padding-left: 16px; }
    .passed { color: var(--good); } .failed { color: var(--bad); } .undecided { color: var(--open); }
    .verdict { font-weight: 550; }
    .value .passed, .value .failed, .value .undecided { font-weight: 600; }
    figure { margin: 20px 0 0; }
    svg { display: block; width: 100%; height: auto; min-width: 680px; }
    svg text { fill: var(--muted); font-size: 12px; font-family: inherit;
      font-variant-numeric: tabular-nums; }
    svg text.name { fill: var(--ink); }
    .grid { stroke: var(--line); stroke-width: 1; }
    .axis { stroke: var(--muted); stroke-width: 1; opacity: .55; }
    .band { fill: var(--band); }
    .curve { fill: none; stroke: var(--accent); stroke-width: 1.4; opacity: .6; }
    .dot { fill: var(--accent); fill-opacity: .82; }
    .dot.fallback { fill: var(--bad); }
    .whisker { stroke: var(--accent); stroke-width: 1.5; }
    .trail { fill: none; stroke: var(--accent); stroke-width: 1.25; opacity: .35; }
    .origin { fill: var(--page); stroke: var(--muted); stroke-width: 1.5; }
    .mean { stroke: var(--ink); stroke-width: 1.5; opacity: .6; }
    .stage { padding: 20px 0; border-top: 1px solid var(--line); }
    .stage:first-of-type { border-top: 0; }
    dl { display: grid; grid-template-columns: 150px minmax(0, 1fr); gap: 5px 20px; margin: 0;
      font-size: 13.5px; }
    dt { color: var(--muted); }
    dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
    dd .option { display: inline-block; margin-right: 18px; }
    footer { margin-top: 56px; padding-top: 16px; border-top: 1px solid var(--line);
      color: var(--muted); font-size: 13px; }
    @media (max-width: 720px) {
      main { padding: 28px 18px 40px; }
      h1 { font-size: 25px; }
      h2 { margin-top: 44px; }
      .tiles { grid-template-columns: 1fr 1fr; margin-top: 24px; }
      .tile { padding: 14px 16px 13px; }
      .tile p.value { font-size: 21px; }
      .tile:nth-child(odd) { border-left: 0; }
      .tile:nth-child(n + 3) { border-top: 1px solid var(--line); }
      .dense td:first-child { min-width: 44vw; white-space: normal; overflow-wrap: anywhere; }
      dl { grid-template-columns: 1fr; gap: 0; }
      dd { margin-bottom: 9px; }
    }
    @media print {
      :root { --page: #fff; --card: #fff; --ink: #000; --muted: #555; --line: #ccc; --accent: #1d4f82;
        --good: #1d5a3c; --bad: #8f251d; --open: #6f4c00; --band: #f4f4f4; }
      body { font-size: 10.5pt; }
      main { max-width: none; padding: 0; }
      table { font-size: 8pt; }
      th { font-size: 8pt; }
      td small { font-size: 7pt; }
      th, td { padding-left: 4px; padding-right: 4px; }
      code, table code { font-size: .95em; }
      th:first-child, td:first-child { position: static; background: none; }
      .dense td { padding-top: 2px; padding-bottom: 2px; }
      .scroll { overflow: visible; }
      section:has(figure) { break-inside: avoid; }
      svg { min-width: 0; }
      tr, figure, .stage, .tiles { break-inside: avoid; }
      h2 { break-after: avoid; margin-top: 28px; }
      thead { display: table-header-group; }
    }

    """
}
