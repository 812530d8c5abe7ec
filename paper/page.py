"""One self-contained HTML page: tables, panels, blinking predictions, provenance on hover.

It holds no script and makes no request; its Content-Security-Policy holds it to that.
"""

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from paper.store import Results
from paper.names import PANEL_ROWS, corpus_label, experiment_label, html, number
from paper.tables import PANELS_OF, Table, experiment_tables, panel_kinds, read_panels

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: auto; padding: 0 1rem 3rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem } h3 { font-size: 1rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .85rem; margin: .5rem 0 }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
td.wide, .items td:first-child { text-align: left; white-space: normal; min-width: 14rem }
tr[title] { cursor: help }
@media (max-width: 600px) { th, td { white-space: normal; padding: .2rem .3rem; font-size: .75rem } }
.panels { display: grid; gap: 3px; max-width: 44rem;
  grid-template-columns: max-content repeat(var(--n), minmax(0, 1fr)) }
.panels > * { min-width: 0; font-size: .75rem; align-self: center; text-align: center }
.panels img, .blink img { width: 100%; display: block }
.blink { display: grid; grid-template-columns: repeat(2, minmax(0, 10rem)); gap: .5rem; font-size: .75rem }
.stack { position: relative }
.stack img + img { position: absolute; inset: 0; animation: blink 1.2s steps(1) infinite }
@media (prefers-reduced-motion) { .stack img + img { animation-duration: 6s } }
@keyframes blink { 50% { opacity: 0 } }
.plot { max-width: 100%; width: 32rem; background: white }
small { color: #777 }
"""
INTRODUCTION = """<p>Every number, table and picture here is generated from the records in
<code>results/</code>. Scale <em>mini</em> runs on simulated corpora and is compared with the paper by claim,
never by value; scale <em>paper</em> is the paper's own setting. A dash is not measured yet, F failed.
Hover over a row for what computed it.</p>"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render(results: Results, shared: list[Table], out: Path) -> str:
    """The page's text; plots are read from `out`, where they have just been drawn."""
    body = [
        "<h1>A Universal World Model, reproduced</h1>",
        INTRODUCTION,
        "<h2>Reported and reproduced</h2>",
        *(_table(table) for table in shared),
    ]
    for scale in results.scales:
        body += [f"<h2>Scale {escape(scale)}</h2>", *_scale(results, scale, out)]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><link rel="icon" href="data:,">'
        f"<title>A Universal World Model, reproduced</title><style>{STYLE}</style>"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _scale(results: Results, scale: str, out: Path) -> Iterator[str]:
    present = {name for s, name in results.cells if s == scale}
    if not present:
        yield "<p>No records yet.</p>"
        return
    for table in experiment_tables(results, scale):
        if table.name.partition("_")[0] in present:
            yield _table(table)
    for experiment in sorted(present):
        for folder in sorted((results.root / scale / experiment / "panels").glob("*/panels.csv")):
            yield from _panels(results, scale, experiment, folder.parent.name)
    for path in sorted((out / scale).glob("*.png")):
        if "curve" in path.stem or "code_use" in path.stem:
            label = path.stem.replace("_", " ")
            yield f'<h3>{escape(label)}</h3><img class="plot" alt="{escape(label)}" src="{_data(path)}">'


def _table(table: Table) -> str:
    head = "".join(f"<th>{html(text)}</th>" for text in table.columns)
    rows = "".join(_row(row, table) for row in table.rows)
    note = f"<small>{html(table.note)}</small>" if table.note else ""
    grid = f'<table class="{table.name}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<h3>{html(table.title)}</h3><div class="scroll">{grid}</div>{note}'


def _row(row: Sequence[str], table: Table) -> str:
    if len(row) == 1:
        return f'<tr><th colspan="{len(table.columns)}">{html(row[0])}</th></tr>'
    origin = table.origins.get(row[0])
    title = f' title="{escape(origin)}"' if origin else ""
    return f"<tr{title}>{''.join(f'<td>{html(cell)}</td>' for cell in row)}</tr>"


def _panels(results: Results, scale: str, experiment: str, corpus: str) -> Iterator[str]:
    """The grid of panels, then each pair blinking from t to t+1: true on the left, predicted on the right."""
    table = read_panels(results, scale, experiment, corpus)
    assert table is not None
    folder = results.root / scale / experiment / "panels" / corpus
    kinds = panel_kinds(folder)
    cells = ["<span></span>", *(f"<span>({k})</span>" for k in table["k"])]
    for kind in kinds:
        name = PANEL_ROWS.get(kind, kind)
        cells.append(f"<span>{html(name)}</span>")
        cells += [_image(folder / f"{k}_{kind}.png", f"{name}, pair {k}") for k in table["k"]]
    for metric, label in (("lpips_to_current", "to O_t"), ("lpips_to_next", "to O_t+1")):
        if metric in table:
            cells += [
                f"<span>{html(label)}</span>",
                *(f"<span>{number(value)}</span>" for value in table[metric]),
            ]
    title = (
        f"{experiment_label(PANELS_OF.get(experiment, experiment))}, scale {scale}, {corpus_label(corpus)}"
    )
    yield f'<h3>{escape(title)}</h3><div class="panels" style="--n:{len(table)}">{"".join(cells)}</div>'
    if {"r_t", "r_next", "prediction"} <= set(kinds):
        yield from _blinking(folder, list(table["k"]))


def _blinking(folder: Path, pairs: list[int]) -> Iterator[str]:
    yield "<p>From R<sub>t</sub> to the true (left) and the predicted (right) next frame:</p>"
    for k in pairs:
        stacks = "".join(
            f'<div class="stack">{_image(folder / f"{k}_{kind}.png", f"{label}, pair {k}")}'
            f"{_image(folder / f'{k}_r_t.png', f'R_t, pair {k}')}</div>"
            for kind, label in (("r_next", "R_t+1"), ("prediction", "Predict"))
        )
        yield f'<div class="blink">{stacks}</div>'


def _image(path: Path, label: str) -> str:
    return f'<img alt="{escape(label)}" src="{_data(path)}">' if path.exists() else "<span>–</span>"


def _data(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
