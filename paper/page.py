"""One self-contained HTML page: tables, panels, blinking predictions, provenance on hover.

It holds no script and makes no request; its Content-Security-Policy holds it to that.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from paper.captions import caption, in_order
from paper.grids import Grid, grids
from paper.names import corpus_label, html
from paper.store import Results
from paper.table import Table

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
.rollout { margin: 1rem 0; max-width: 44rem }
.rollout img { width: 100%; display: block }
@media (prefers-reduced-motion) { .rollout img { display: none } }
.plot { max-width: 100%; width: 32rem; background: white }
small { color: #777 }
"""
INTRODUCTION = """<p>Every number, table and picture here is generated from the records in
<code>results/</code>. Scale <em>mini</em> runs on simulated corpora and is compared with the paper by claim,
never by value; scale <em>paper</em> is the paper's own setting. A dash is not measured yet, F failed.
Hover over a row for what computed it.</p>"""
BLINKING = ("R_t", "R_t+1", "Predict")
ANIMATED = """Rollout {number} ({corpus}, scale {scale}), 0.2 s a step. From left to right: the true clip, and
what is predicted from its first frame by latent actions, R_LA, and by real ones, R_GT. Hidden where reduced
motion is asked for."""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render(results: Results, shared: list[Table], by_scale: Mapping[str, list[Table]], out: Path) -> str:
    """The page's text; plots are read from `out`, where they have just been drawn."""
    body = [
        "<h1>A Universal World Model, reproduced</h1>",
        INTRODUCTION,
        "<h2>Reported and reproduced</h2>",
        *(_table(table) for table in shared),
    ]
    for scale, found in by_scale.items():
        body += [f"<h2>Scale {escape(scale)}</h2>", *_scale(results, scale, found, out / scale)]
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


def _scale(results: Results, scale: str, found: list[Table], drawn: Path) -> Iterator[str]:
    present = sorted(name for s, name in results.cells if s == scale)
    if not present:
        yield "<p>No records yet.</p>"
        return
    yield from (_table(table) for table in found if table.name.partition("_")[0] in present)
    shown = {grid.name: grid for experiment in present for grid in grids(results, scale, experiment)}
    for path in in_order(drawn.glob("*.png")):
        text = html(caption(path.stem, scale))
        if path.stem in shown:
            yield f"<p>{text}</p>{_grid(shown[path.stem])}"
        else:
            yield f'<p>{text}</p><img class="plot" alt="{escape(path.stem)}" src="{_data(path)}">'
    for experiment in present:
        for path in sorted((results.root / scale / experiment / "rollouts").glob("*.gif")):
            yield _animation(path, scale)


def _table(table: Table) -> str:
    head = "".join(f"<th>{html(text)}</th>" for text in table.columns)
    rows = "".join(_row(row, table) for row in table.rows)
    note = f"<small>{html(table.note)}</small>" if table.note else ""
    grid = f'<table class="{escape(table.name)}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<h3>{html(table.title)}</h3><div class="scroll">{grid}</div>{note}'


def _row(row: Sequence[str], table: Table) -> str:
    if len(row) == 1:
        return f'<tr><th colspan="{len(table.columns)}">{html(row[0])}</th></tr>'
    origin = table.origins.get(row[0])
    title = f' title="{escape(origin)}"' if origin else ""
    return f"<tr{title}>{''.join(f'<td>{html(cell)}</td>' for cell in row)}</tr>"


def _grid(grid: Grid) -> str:
    """The grid of pictures; and each pair blinking from R_t to R_t+1, where all of it is there."""
    cells = ["<span></span>", *(f"<span>{html(name)}</span>" for name in grid.columns)]
    for name, pictures in zip(grid.rows, grid.pictures, strict=True):
        cells.append(f"<span>{html(name)}</span>")
        cells += [
            _image(path, f"{name}, {column}") for path, column in zip(pictures, grid.columns, strict=True)
        ]
    for name, numbers in grid.notes.items():
        cells += [f"<span>{html(text)}</span>" for text in (name, *numbers)]
    text = f'<div class="panels" style="--n:{len(grid.columns)}">{"".join(cells)}</div>'
    kinds = dict(zip(grid.rows, grid.pictures, strict=True))
    return text + "".join(_blinking(kinds)) if set(BLINKING) <= set(kinds) else text


def _blinking(kinds: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    yield "<p>From R<sub>t</sub> to the true (left) and the predicted (right) next frame:</p>"
    for k, pictures in enumerate(zip(*(kinds[name] for name in BLINKING), strict=True), start=1):
        below, *above = (
            _image(path, f"{name}, pair {k}") for name, path in zip(BLINKING, pictures, strict=True)
        )
        stacks = "".join(f'<div class="stack">{picture}{below}</div>' for picture in above)
        yield f'<div class="blink">{stacks}</div>'


def _animation(path: Path, scale: str) -> str:
    """`rollouts/<corpus>_<number>.gif`."""
    corpus, _, number = path.stem.rpartition("_")
    text = html(ANIMATED.format(number=number, corpus=corpus_label(corpus), scale=scale))
    return (
        f'<figure class="rollout">{_image(path, f"Rollout {number}")}<figcaption>{text}</figcaption></figure>'
    )


def _image(path: Path, label: str) -> str:
    return f'<img alt="{escape(label)}" src="{_data(path)}">' if path.exists() else "<span>–</span>"


def _data(path: Path) -> str:
    return f"data:image/{path.suffix[1:]};base64," + base64.b64encode(path.read_bytes()).decode()
