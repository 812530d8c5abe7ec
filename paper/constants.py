r"""The report's numbers: one `\define{key}{text}` per number, and one figure float per drawn figure.

`paper/main.tex` writes `\val{mini/table1/uwm/sim-ego/lpips_ratio_moving}`; an unknown key stops LaTeX.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from paper.captions import caption, in_order
from paper.items import AGREES, DIFFERS, FAILED, MISSING, NOT_COMPARED, NOT_REACHED, REACHED, Item
from paper.layout import MAIN, MORE
from paper.names import DASH, tex
from paper.reported import Reported
from paper.reported_tables import STAND_INS
from paper.store import Results
from paper.table import Table, measured_text
from paper.tables import corpora, protocol, table_methods
from uwm.metrics.spec import metric_text

ON_A_PAGE = 2  # tables of the appendix
VERDICTS = (AGREES, DIFFERS, MISSING, FAILED, NOT_COMPARED, REACHED, NOT_REACHED)


def constants(results: Results, reported: Reported, items: list[Item]) -> dict[str, str]:
    """Every number that the report's prose may quote, by key; a missing one is a dash."""
    numbers: dict[str, str] = {}
    for scale in results.scales:
        for corpus in corpora(results, scale, "table1"):
            numbers[f"{scale}/table1/{corpus}/protocol"] = protocol(results, scale, "table1", corpus) or DASH
            numbers |= _numbers(results, scale, corpus)
        numbers |= _compute(results, scale)
        counts = Counter(item.verdict for item in items if item.id.startswith(f"{scale}/"))
        numbers |= {f"{scale}/verdicts/{verdict}": str(counts[verdict]) for verdict in VERDICTS}
    for corpus in STAND_INS:
        numbers[f"reported/{corpus}/ratio"] = metric_text("lpips_ratio", reported.ratio(corpus))
        for metric in ("lpips_to_current", "lpips_to_next"):
            numbers[f"reported/{corpus}/{metric}"] = metric_text(metric, reported.mean(corpus, metric))
    return numbers


def _numbers(results: Results, scale: str, corpus: str) -> dict[str, str]:
    numbers = {}
    for method in table_methods(results, scale, "table1", corpus):
        status = results.status(scale, "table1", method, corpus)
        for metric in [name + half for name in MAIN + MORE for half in ("", "_moving")]:
            measured = results.measure(scale, "table1", method, corpus, metric)
            key = f"{scale}/table1/{method}/{corpus}/{metric}"
            numbers[key] = measured_text(measured, status, metric)
            numbers[f"{key}/n"] = str(measured.n) if measured else DASH
    return numbers


def _compute(results: Results, scale: str) -> dict[str, str]:
    """Records, minutes and memory of Table 1, and what it ran on."""
    cells = results.cells.get((scale, "table1"), [])
    runs = [cell.record["run"] for cell in cells]
    devices = sorted({str(cell.record["env"]["device"]) for cell in cells})
    return {
        f"{scale}/table1/records": str(len(cells)) if cells else DASH,
        f"{scale}/table1/minutes": f"{sum(run['seconds'] for run in runs) / 60:.1f}" if runs else DASH,
        f"{scale}/table1/peak_gb": f"{max(run['peak_gb'] for run in runs):.1f}" if runs else DASH,
        f"{scale}/table1/device": ", ".join(devices) or DASH,
    }


def tex_constants(results: Results, reported: Reported, items: list[Item]) -> str:
    """The constants as LaTeX definitions."""
    pairs = constants(results, reported, items).items()
    return "".join(rf"\define{{{key}}}{{{tex(value)}}}" + "\n" for key, value in pairs)


def tex_verdicts(items: list[Item]) -> str:
    """Rows of the report's table of items, missing ones left out: item, reported, measured, verdict."""
    there = [item for item in items if item.verdict != MISSING]
    rows = [[f"{i.item} [{i.id.partition('/')[0]}]", i.reported, i.measured, i.verdict] for i in there]
    return "".join(" & ".join(tex(cell) for cell in row) + " \\\\\n" for row in rows or [[DASH] * 4])


def tex_appendix(by_scale: Mapping[str, Sequence[Table]], present: Collection[tuple[str, str]]) -> str:
    """The tables that are not of the main text, where their experiment has records: a section per scale."""
    lines = []
    for scale, tables in by_scale.items():
        kept = [t for t in tables if t.topic and (scale, t.name.partition("_")[0]) in present]
        for number, table in enumerate(kept):
            lines += [r"\clearpage"] if number % ON_A_PAGE == 0 else []
            lines.append(rf"\gentable{{{scale}/{table.name}}}{{{tex(table.title)}.}}")
    return "\n".join([*lines, ""])


def tex_figures(results: Results, out: Path) -> str:
    """Floats of two drawn figures each, and for a scale without any, one sentence that says so."""
    drawn = {scale: in_order((out / scale).glob("*.pdf")) for scale in results.scales}
    lines = [
        f"Scale {scale} has no records yet, hence no figures." for scale, paths in drawn.items() if not paths
    ]
    lines.append("")
    for scale, paths in drawn.items():
        for first in range(0, len(paths), 2):
            row = [_minipage(path, scale) for path in paths[first : first + 2]]
            lines += [r"\begin{figure}[!htb]\centering", r"\hfill".join(row), r"\end{figure}"]
    return "\n".join([*lines, ""])


def _minipage(path: Path, scale: str) -> str:
    """One picture, column wide, with its caption."""
    picture = rf"\includegraphics[width=\linewidth]{{{scale}/{path.name}}}"
    text = rf"\caption{{{tex(caption(path.stem, scale))}}}"
    return rf"\begin{{minipage}}[t]{{.48\linewidth}}\centering {picture}{text}\end{{minipage}}"
