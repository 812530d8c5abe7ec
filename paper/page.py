"""One self-contained HTML page: pictures and main tables first, all else folded by topic.

It makes no request, and holds one script, which sorts the table of all rows: its Content-Security-Policy
allows that one alone, by its digest. The layout is `page.html.j2`, which escapes every text.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from paper.captions import caption, in_order
from paper.grids import KINDS_IN_ROWS, Grid, grids
from paper.layout import EXPERIMENTS
from paper.leaderboard import leaderboard
from paper.names import corpus_label, experiment_label, html
from paper.store import Results
from paper.table import Table

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: auto; padding: 0 1rem 3rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem }
h4 { font-size: 1rem; margin: 1.2rem 0 .3rem }
details { margin: .6rem 0; border-bottom: 1px solid #8884; padding-bottom: .4rem }
summary { cursor: pointer }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .85rem; margin: .5rem 0 }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap }
thead th { white-space: normal; vertical-align: bottom }
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
.sortable button { all: unset; cursor: pointer }
.sortable button:hover { text-decoration: underline }
.sortable button:focus-visible { outline: 2px solid }
.sortable [aria-sort=ascending] button::after { content: " \\2191" }
.sortable [aria-sort=descending] button::after { content: " \\2193" }
.sortable td:nth-child(2) { text-align: left }
.peek { display: none; position: fixed; right: 1rem; bottom: 1rem; padding: 3px; border: 1px solid;
  background: Canvas }
.peek img { width: 7rem; display: inline-block }
td:hover > .peek, td:focus-within > .peek { display: block }
.plot { max-width: 100%; width: 32rem; background: white }
small { color: #777 }
"""
BLINKING = ("R_t", "R_t+1", "Predict")
ANIMATION_CAPTION = """Rollout {number} ({corpus}, scale {scale}), 0.2 s a step. From left to right: the
true clip, and what is predicted from its first frame by latent actions, R_LA, and by real ones, R_GT.
Hidden where reduced motion is asked for."""
EPISODE = """An episode ({corpus}, scale {scale}) that {number} its goal, 0.2 s a step. From left to right:
what was seen, what was imagined, the goal. Hidden where reduced motion is asked for."""
# A click on a head sorts the rows below by that column: numbers by size, what was not measured last.
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable"))
  for (const [column, head] of [...table.tHead.rows[0].cells].entries())
    head.firstElementChild.onclick = () => {
      const down = head.ariaSort == "ascending", body = table.tBodies[0]
      const key = row => row.cells[column].firstChild.data.trim()
      const number = row => parseFloat(key(row).replaceAll(",", ""))
      const order = (a, b) => column < 2 ? key(a).localeCompare(key(b)) : number(a) - number(b)
      const missing = row => column >= 2 && isNaN(number(row))
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort")
      head.ariaSort = down ? "descending" : "ascending"
      body.append(...[...body.rows].sort((a, b) =>
        missing(a) - missing(b) || (missing(a) ? 0 : down ? order(b, a) : order(a, b))))
    }
"""
_DIGEST = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{_DIGEST}'"


FOLDED = tuple(f"-{kind}" for kind in (*KINDS_IN_ROWS, "transfer"))  # ends the names of further grids


@dataclass(frozen=True)
class Part:
    """What an experiment shows at one scale. `topics`: folded tables."""

    title: str
    grids: Sequence[tuple[Grid, str]]
    tables: Sequence[Table]
    topics: Mapping[str, Sequence[Table]]
    more_grids: Sequence[tuple[Grid, str]]
    blinking: Sequence[Grid]
    animations: Sequence[tuple[Path, str]]


@dataclass(frozen=True)
class Scale:
    """All parts of a scale, and its plots with their captions."""

    name: str
    parts: Sequence[Part]
    plots: Sequence[tuple[Path, str]]


def render(results: Results, shared: list[Table], by_scale: Mapping[str, list[Table]], out: Path) -> str:
    """The page's text; plots are read from `out`, where they have just been drawn. `shared`: the reproduced
    table, those in the paper's layout, and every verdict."""
    reproduced, *layouts, verdicts = shared
    scales = [_scale(results, scale, scale_tables, out / scale) for scale, scale_tables in by_scale.items()]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            reproduced=reproduced,
            layouts=layouts,
            verdicts=verdicts,
            scales=sorted(scales, key=lambda scale: not scale.parts),
            boards=[board for scale in by_scale if (board := leaderboard(results, scale))],
            style=Markup(STYLE),  # ours
            script=Markup(SCRIPT),
            policy=POLICY,
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    # `html` escapes before it sets the symbols.
    environment.filters |= {
        "symbols": lambda text: Markup(html(str(text))),
        "data": _data,
        "blinking_pictures": _blinking,
    }
    return environment


def _scale(results: Results, scale: str, scale_tables: list[Table], drawn: Path) -> Scale:
    present = {name for s, name in results.cells if s == scale}
    names = [*(name for name in EXPERIMENTS if name in present), *sorted(present - {*EXPERIMENTS})]
    in_grids = {grid.name for name in names for grid in grids(results, scale, name)}
    plots = [path for path in in_order(drawn.glob("*.png")) if path.stem not in in_grids]
    parts = [_part(results, scale, name, scale_tables) for name in names]
    return Scale(scale, parts, [(path, caption(path.stem, scale)) for path in plots])


def _part(results: Results, scale: str, experiment: str, scale_tables: list[Table]) -> Part:
    tables = [table for table in scale_tables if table.name.partition("_")[0] == experiment]
    drawn = [(grid, caption(grid.name, scale)) for grid in grids(results, scale, experiment)]
    topics: dict[str, list[Table]] = {}
    for table in tables:
        if table.topic:
            topics.setdefault(table.topic, []).append(table)
    folder = results.root / scale / experiment
    gifs = [*sorted((folder / "rollouts").glob("*.gif")), *sorted((folder / "animations").glob("*.gif"))]
    return Part(
        title=experiment_label(experiment),
        grids=[(grid, text) for grid, text in drawn if not grid.name.endswith(FOLDED)],
        tables=[table for table in tables if not table.topic],
        topics=topics,
        more_grids=[(grid, text) for grid, text in drawn if grid.name.endswith(FOLDED)],
        blinking=[grid for grid, _ in drawn if set(BLINKING) <= set(grid.rows)],
        animations=[(path, _animated(path, scale)) for path in gifs],
    )


def _blinking(grid: Grid) -> Iterator[tuple[Path, ...]]:
    """R_t, R_t+1 and the prediction of each pair."""
    kinds = dict(zip(grid.rows, grid.pictures, strict=True))
    return zip(*(kinds[name] for name in BLINKING), strict=True)


def _animated(path: Path, scale: str) -> str:
    """What `rollouts/<corpus>_<number>.gif` or `animations/<task>_<reached or missed>.gif` shows."""
    corpus, _, number = path.stem.rpartition("_")
    text = ANIMATION_CAPTION if path.parent.name == "rollouts" else EPISODE
    return text.format(number=number, corpus=corpus_label(corpus), scale=scale)


def _data(path: Path) -> str:
    return f"data:image/{path.suffix[1:]};base64," + base64.b64encode(path.read_bytes()).decode()
