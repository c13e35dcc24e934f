"""How the page looks: one quiet column, wide tables and pictures scroll on their own, nothing is loaded."""

from __future__ import annotations

CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #222; overflow-wrap: break-word;
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.35rem; margin: 3rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1.1rem; margin: 2.25rem 0 .4rem; }
h4 { font-size: .95rem; margin: 1.25rem 0 .3rem; }
p, ul, dl { max-width: 48rem; margin: .4rem 0 .9rem; }
a { color: #0b5a94; }
nav a { margin-right: 1.1rem; }
code, pre { font: .88em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { background: #f6f6f4; padding: .8rem 1rem; border-radius: 6px; overflow-x: auto; }
small { color: #666; font-size: .8em; }
.lead { font-size: 1.08rem; }
.quiet { color: #666; font-size: .92rem; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .38rem .8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #eee; }
th { font-weight: 600; }
thead th { border-bottom: 2px solid #bbb; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: .2rem; }
tbody th { font-weight: 400; white-space: normal; min-width: 11rem; }
.words th, .words td { text-align: left; white-space: normal; vertical-align: top; overflow-wrap: anywhere; }
td small { display: block; }
th.text, td.text { text-align: left; white-space: normal; min-width: 7rem; }
tr.model { background: #f2f7fb; }
tr.model th { font-weight: 600; }
tr.floor td, tr.floor th { color: #777; }
.role { display: inline-block; margin-left: .4rem; padding: 0 .45em; border: 1px solid #ccc; border-radius: 1em;
  font-size: .74rem; line-height: 1.5; color: #666; white-space: nowrap; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin: .8rem 0; padding: 0; list-style: none;
  max-width: none; font-size: .9rem; }
.legend svg { vertical-align: middle; margin-right: .45rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: .9rem; margin: .6rem 0; }
.panels img { width: 100%; max-width: 27rem; height: auto; }
dt { font-weight: 600; margin-top: .5rem; }
dd { margin: 0; }
details { margin: .7rem 0; }
summary { cursor: pointer; color: #0b5a94; }
figure { margin: 1.5rem 0 2rem; }
figcaption { margin-bottom: .5rem; max-width: 48rem; }
figure img { display: block; max-width: 100%; height: auto; }
@media (max-width: 40rem) {
  body { font-size: 15px; }
  main { padding: 1rem .9rem 3rem; }
}
@media print { details > * { display: block; } h2, h3 { break-after: avoid; } tr, figure { break-inside: avoid; } }
"""
