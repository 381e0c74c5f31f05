"""The part of the style sheet that a head's report has beside the quality report's."""

REPORT_STYLE = """\
.facts { margin: 2px 0 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: 10px 28px; max-width: 860px; }
.pair figure { margin: 8px 0; }
.pair svg { max-width: 360px; }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 14px 18px; }
.small figure { margin: 0; }
.frame { fill: none; stroke: var(--line); } .ideal { stroke: var(--soft); stroke-dasharray: 3 4; }
.gap { stroke: var(--second); stroke-width: 1.5; } .dot { fill: var(--bar); stroke: var(--paper); stroke-width: 1; }
.name { fill: var(--ink); font-size: 12px; }
.whisker { stroke-width: 2; } .whisker.precision { stroke: var(--bar); } .whisker.recall { stroke: var(--second); }
.point.precision { fill: var(--bar); } .point.recall { fill: var(--second); }
.open { fill: none; stroke: var(--bar); stroke-dasharray: 3 2; }
.key-dot { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 5px;
  background: var(--bar); }
.key-dot.recall { background: var(--second); }
.confusion { font-size: 12px; border-collapse: separate; border-spacing: 2px; }
.confusion th, .confusion td { border: 0; padding: 4px 6px; text-align: center; }
.confusion th { color: var(--ink); font-size: 12px; max-width: 9em; overflow-wrap: anywhere; }
.confusion th[scope=row] { text-align: right; }
.confusion thead th { vertical-align: bottom; min-width: 52px; }
.confusion td { min-width: 30px; border-radius: 3px; background: color-mix(in srgb, var(--bar) 0%, var(--tint)); }
.confusion .zero { color: var(--soft); opacity: .55; }
.confusion .h1 { background: color-mix(in srgb, var(--bar) 18%, var(--tint)); }
.confusion .h2 { background: color-mix(in srgb, var(--bar) 36%, var(--tint)); }
.confusion .h3 { background: color-mix(in srgb, var(--bar) 58%, var(--tint)); }
.confusion .h4 { background: color-mix(in srgb, var(--bar) 80%, var(--tint)); }
.confusion .wrong.h1 { background: color-mix(in srgb, var(--second) 18%, var(--tint)); }
.confusion .wrong.h2 { background: color-mix(in srgb, var(--second) 36%, var(--tint)); }
.confusion .wrong.h3 { background: color-mix(in srgb, var(--second) 58%, var(--tint)); }
.confusion .wrong.h4 { background: color-mix(in srgb, var(--second) 80%, var(--tint)); }
.tag { border-top: 1px solid var(--line); padding-top: 4px; margin-top: 18px; }
.tag h3 { margin-top: 10px; }
.kind, figure, tr { break-inside: avoid; }
.kind p { margin: 8px 0 5px; font-size: 13px; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; }
.wide-examples { grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); }
.seen { position: relative; display: grid; place-items: center; height: 190px; background: var(--tint);
  border-radius: 6px; overflow: hidden; }
.seen > * { grid-area: 1 / 1; }
.seen img, .seen svg { width: 100%; height: 190px; max-width: none; object-fit: contain; }
.box { fill: none; stroke: #ffd84d; stroke-width: 2.5; vector-effect: non-scaling-stroke; }
.under { fill: none; stroke: #000; stroke-width: 4.5; stroke-opacity: .6; vector-effect: non-scaling-stroke; }
.sure { fill: #ffd84d; font-weight: 700; paint-order: stroke; stroke: #000; stroke-width: .22em; stroke-linejoin: round;
  font-family: system-ui, sans-serif; }
.example .none { height: 190px; aspect-ratio: auto; }
.example audio, .tag > audio { width: 100%; max-width: 420px; margin: 6px 0; }
.doubt { border: 1px solid var(--second); color: var(--second); border-radius: 4px; padding: 0 4px; font-size: 11px; }
.spoken td:nth-child(3) { text-align: left; white-space: pre-wrap; max-width: 62ch; }
.spoken th:nth-child(3) { text-align: left; }
.key-dashed { display: inline-block; width: 14px; height: 10px; margin-right: 5px; border: 1px dashed var(--bar); }
summary { cursor: pointer; margin-top: 10px; color: var(--soft); }
small { display: block; color: var(--soft); font-size: 12px; white-space: nowrap; }
tbody th { color: var(--ink); font-size: 15px; text-align: left; }
td:last-child, th:last-child { padding-right: 0; }
td, tbody th { white-space: nowrap; }
td:last-child { white-space: normal; }
@media print { body { background: #fff; } .seen, .seen img, .seen svg, .example .none { height: 120px; }
  .examples { grid-template-columns: repeat(5, 1fr); } audio, nav, summary { display: none; }
  .scroll { overflow: visible; } table { font-size: 12px; }
  h2, h3 { break-after: avoid; } .example { font-size: 11px; } section { margin: 10px 0; } }
"""
