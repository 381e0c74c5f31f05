"""The style sheet of the quality report: light and dark, and readable on paper."""

STYLE = """\
:root { color-scheme: light dark; --back: #fbfaf8; --paper: #ffffff; --ink: #1d2126; --soft: #5d6670; --line: #e2dfd9;
  --bar: #8fa9c4; --second: #b4561f; --mark: #a3262a; --good: #2c6e49; --tint: #f1efea; }
@media (prefers-color-scheme: dark) { :root { --back: #15181c; --paper: #1d2126; --ink: #e9e6e1; --soft: #9aa4ae;
  --line: #333a42; --bar: #4f7298; --second: #e7935a; --mark: #ef7d7d; --good: #7cc79b; --tint: #262b31; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main, header { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 36px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 19px; margin: 0 0 6px; }
h3 { font-size: 15px; margin: 22px 0 4px; }
p { margin: 6px 0; max-width: 76ch; }
.soft, .facts, figcaption { color: var(--soft); }
code, .id { font: 12px/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 14px 0 0; }
a { color: inherit; text-underline-offset: 3px; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 20px 24px 24px;
  margin: 22px 0; }
.findings { list-style: none; margin: 12px 0 0; padding: 0; }
.findings li { padding: 7px 0 7px 26px; border-top: 1px solid var(--line); position: relative; }
.findings li:first-child { border-top: 0; }
.findings li::before { position: absolute; left: 4px; }
.findings .alarm::before { content: "!"; color: var(--mark); font-weight: 700; }
.findings .look::before { content: "\\2192"; color: var(--second); }
.findings .note::before { content: "\\00b7"; color: var(--soft); font-weight: 700; }
.findings .fine::before { content: "\\2713"; color: var(--good); }
table { border-collapse: collapse; margin: 12px 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); font-weight: 400; }
th { color: var(--soft); font-size: 13px; }
th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; }
figure { margin: 12px 0 6px; }
figcaption { font-size: 13px; max-width: 84ch; }
svg { display: block; width: 100%; height: auto; max-width: 760px; }
.bar { fill: var(--bar); } .outline { fill: none; stroke: var(--second); stroke-width: 1.5; }
.mark { stroke: var(--mark); stroke-width: 1.25; stroke-dasharray: 4 3; } .mark-text { fill: var(--mark); }
.axis { stroke: var(--line); } text { font: 11px system-ui, sans-serif; } .tick { fill: var(--soft); }
.key-bar, .key-outline { display: inline-block; width: 14px; height: 10px; margin-right: 5px; background: var(--bar); }
.key-outline { height: 0; border-top: 2px solid var(--second); background: none; vertical-align: 3px; }
.groups { display: flex; flex-wrap: wrap; gap: 18px 24px; margin-top: 16px; }
.group > p { margin: 0 0 7px; font-size: 13px; }
.cards { display: flex; flex-wrap: wrap; gap: 14px 12px; }
.card { width: 106px; }
.wide .card { width: 304px; max-width: 100%; }
.wide .card { display: grid; grid-template-columns: 96px 1fr; gap: 10px; }
.card img, .none { display: block; width: 100%; aspect-ratio: 1; border-radius: 6px;
  background: var(--tint); outline: 1px solid var(--line); outline-offset: -1px; }
.none { color: var(--soft); font-size: 12px; display: grid; place-items: center; text-align: center; }
.title { font-size: 13px; line-height: 1.3; margin: 5px 0 1px; overflow-wrap: anywhere; }
.wide .title { margin-top: 0; }
.says { font-size: 12px; color: var(--soft); margin: 0; line-height: 1.35; overflow-wrap: anywhere; }
.words { font-size: 12px; line-height: 1.35; margin: 3px 0 0; color: var(--soft); overflow-wrap: anywhere; }
footer { max-width: 1080px; margin: 0 auto; padding: 0 24px 48px; color: var(--soft); font-size: 13px; }
@media (max-width: 600px) { main, header, footer { padding-left: 12px; padding-right: 12px; }
  section { padding: 16px 14px; } }
@media print { section { break-inside: auto; border: 0; padding: 0; } .group { break-inside: avoid; } }
"""
