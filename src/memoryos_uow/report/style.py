"""How a page looks: in light and dark, on a wide screen, a phone and paper.

Every colour of text stands out from its ground by 4.5 to 1 or more (WCAG 2.2, 1.4.3), every line of a chart by 3 to 1.
"""

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --ground: #f6f7f8; --card: #ffffff; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --rule: #e9edf0;
  --link: #0a58ca; --good: #116b3c; --good-ground: #e3f4ea; --bad: #a61b1b; --bad-ground: #fdeaea;
  --doubt: #7a4b00; --doubt-ground: #fdf1dc; --bar: #3d6fb4; --wrong: #c0392b;
  --p50: #2a7d4f; --p95: #2f6fc1; --p99: #b0479c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0f1317; --card: #181d23; --ink: #e8ebee; --soft: #a5afba; --line: #313a44; --rule: #262e36;
    --link: #7fb2ff; --good: #7ddba3; --good-ground: #12301f; --bad: #ff9c93; --bad-ground: #3a1717;
    --doubt: #f2c77b; --doubt-ground: #362808; --bar: #6b9be0; --wrong: #ef7a6d;
    --p50: #62c48d; --p95: #74aaf5; --p99: #e08fd0;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
}
main, header, footer { max-width: 70rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.75rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 .6rem; }
p { margin: .3rem 0; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--card); padding: .4rem .8rem; }
.soft { color: var(--soft); }
.facts { color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .9rem 0 0; padding: 0; }
nav a { display: inline-block; padding: .2rem 0; }
.tiles { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .75rem; margin: 1rem 0; }
@media (min-width: 50rem) { .tiles { grid-template-columns: repeat(4, minmax(0, 1fr)); } }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: .75rem .9rem; }
.tile dt { color: var(--soft); font-size: .85rem; }
.tile dd { margin: 0; font-size: 1.45rem; font-weight: 600; line-height: 1.3; overflow-wrap: anywhere; }
.tile dd.small { font-size: .85rem; font-weight: 400; color: var(--soft); }
.mark { display: inline-block; padding: .05rem .55rem; border-radius: 999px; font-weight: 600; font-size: .9rem; }
.good { color: var(--good); background: var(--good-ground); }
.bad { color: var(--bad); background: var(--bad-ground); }
.doubt { color: var(--doubt); background: var(--doubt-ground); }
.tile dd .mark { font-size: 1.05rem; }
.card { padding: 1rem 1.1rem; margin: 0 0 .9rem; }
.pair { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0 .9rem; align-items: start; }
@media (min-width: 50rem) { .pair { grid-template-columns: minmax(0, 2fr) minmax(0, 1fr); } }
.pair > .card { min-width: 0; }
.chart { display: grid; grid-template-columns: max-content minmax(0, 1fr); column-gap: .5rem; margin: .7rem 0 .4rem; }
.scale { display: flex; flex-direction: column; justify-content: space-between; margin: -.55rem 0; text-align: right; }
.scale, .times { color: var(--soft); font-size: .78rem; line-height: 1.1rem; font-variant-numeric: tabular-nums; }
.chart svg { display: block; width: 100%; height: 12rem; overflow: visible; }
.times { grid-column: 2; display: flex; justify-content: space-between; gap: 1rem; padding-top: .45rem; }
.grid { stroke: var(--rule); stroke-width: 1; vector-effect: non-scaling-stroke; }
.base { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; }
.all { fill: var(--bar); } .wrong { fill: var(--wrong); }
.hit { fill: transparent; } .hit:hover { fill: var(--ink); fill-opacity: .07; }
.p50, .p95, .p99 { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; }
.p50 { stroke: var(--p50); } .p95 { stroke: var(--p95); stroke-dasharray: 6 3; }
.p99 { stroke: var(--p99); stroke-dasharray: 2 3; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 0; padding: 0; list-style: none; }
.legend li { font-size: .88rem; }
.legend svg { width: 26px; height: 10px; margin-right: .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .32rem .8rem .32rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; white-space: nowrap; border-bottom-color: var(--line); }
tbody th { font-weight: 500; min-width: 7rem; max-width: 22rem; overflow-wrap: anywhere; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
td.part { width: 22%; min-width: 4rem; }
td.part svg { display: block; width: 100%; height: .7rem; margin-top: .38rem; }
td.part + .n { padding-left: .4rem; }
.n + :not(.n):not(.part) { padding-left: .8rem; }
tbody .id { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .82rem; }
td.id, th.id { min-width: 11.5rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) { td.part { display: none; } }
details { margin-top: .6rem; }
summary { cursor: pointer; color: var(--link); font-size: .9rem; padding: .2rem 0; }
details .scroll { max-height: 24rem; overflow-y: auto; }
footer { padding-bottom: 2.5rem; color: var(--soft); font-size: .85rem; }
@media print { body { background: #fff; } nav, .skip { display: none; } .card, .tile { break-inside: avoid; } }
"""
