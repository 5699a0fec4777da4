"""The style sheet of a report: light and dark by what the reader prefers, and for paper."""

from __future__ import annotations

from collections.abc import Mapping

_LIGHT = {
    "--paper": "#fefefe",
    "--panel": "#f4f6f8",
    "--ink": "#1d2833",
    "--quiet": "#5a6875",
    "--line": "#d3dae0",
    "--alarm": "#8f1d2c",
    "--alarm-paper": "#fdeef0",
    "--good": "#e4f2ea",
}
_DARK = {
    "--paper": "#14191e",
    "--panel": "#1c232a",
    "--ink": "#e4e9ee",
    "--quiet": "#9aa7b3",
    "--line": "#36414b",
    "--alarm": "#ffb3bb",
    "--alarm-paper": "#3d1a20",
    "--good": "#1d3a2d",
}
_RULES = """\
*, *::before, *::after { box-sizing: border-box; }
html { --sans: system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", Arial,
  sans-serif; color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--sans); }
main { max-width: 64rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -0.01em; margin: 0.2rem 0 0.6rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.75rem 0 0.35rem; }
p { margin: 0.4rem 0 0.8rem; max-width: 46rem; }
.kicker { color: var(--quiet); font-size: 0.85rem; letter-spacing: 0.06em; margin: 0;
  text-transform: uppercase; }
.lead { font-size: 1.1rem; }
.quiet { color: var(--quiet); }
.alarm { background: var(--alarm-paper); color: var(--alarm); border: 2px solid var(--alarm);
  border-radius: 6px; padding: 0.7rem 1rem; margin: 1rem 0; max-width: none; font-weight: 600; }
.answer { background: var(--panel); border-radius: 8px; padding: 0.9rem 1.25rem; margin: 1.25rem 0;
  list-style: none; }
.answer li { margin: 0.35rem 0; }
.answer li:first-child { font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.3rem 1rem; margin: 0.8rem 0; }
dt { font-weight: 600; white-space: nowrap; }
dd { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem; line-height: 1.35; margin: 0.6rem 0;
  font-variant-numeric: tabular-nums; }
table.answers { width: 100%; }
th, td { text-align: right; padding: 0.4rem 0.55rem; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: normal; }
th { font-weight: 600; }
thead th { color: var(--quiet); vertical-align: bottom; border-bottom-width: 2px; }
thead tr.groups th { text-align: left; border-bottom-width: 1px; color: var(--ink); }
th:first-child { text-align: left; white-space: nowrap; }
.from { border-left: 1px solid var(--line); }
td small { display: block; color: var(--quiet); font-size: 0.8em; font-weight: 400; }
td.best { background: var(--good); font-weight: 600; }
table.plain td, table.plain th { text-align: left; }
.swatch { width: 2rem; height: 0.8rem; vertical-align: -0.05rem; margin-right: 0.45rem; }
figure { margin: 0.75rem 0 0; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { color: var(--quiet); font-size: 0.9rem; margin-top: 0.3rem; max-width: 46rem; }
.card { background: #ffffff; color: #22303c; border: 1px solid var(--line); border-radius: 6px;
  padding: 0.6rem; color-scheme: light; }
pre { background: var(--panel); border-radius: 6px; padding: 0.75rem 1rem; overflow-x: auto;
  font: 0.85rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  white-space: pre-wrap; }
code { font: 0.9em ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
footer { margin-top: 3rem; padding-top: 0.8rem; border-top: 1px solid var(--line);
  color: var(--quiet); font-size: 0.85rem; }
@media (max-width: 40rem) {
  main { padding: 1.25rem 0.9rem 3rem; }
  h1 { font-size: 1.5rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin: 0 0 0.5rem; }
  figure svg { min-width: 34rem; }
}
@media print {
  @page { margin: 14mm; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  h2 { break-after: avoid; margin-top: 1.5rem; }
  figure, .answer, tr, table.answers { break-inside: avoid; }
  .wide { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: 0.2rem 0.3rem; }
  td.best, .answer, .alarm, pre { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def style_sheet(pens: Mapping[str, tuple[str, str]]) -> str:
    """All of it.

    Args:
        pens: variables for what is drawn: by name, the colour by day and by night.
    """
    day = {**_LIGHT, **{name: colours[0] for name, colours in pens.items()}}
    night = {**_DARK, **{name: colours[1] for name, colours in pens.items()}}
    # Paper is white, whatever the reader prefers on a screen.
    return (
        f":root {{ {_declared(day)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_declared(night)} }} }}\n"
        f"{_RULES}"
    )


def _declared(values: Mapping[str, str]) -> str:
    return " ".join(f"{name}: {value};" for name, value in values.items())
