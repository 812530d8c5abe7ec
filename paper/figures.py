"""Draw everything that is generated from records: `make figures`.

Tables (Markdown, CSV, LaTeX), panels, training curves and code use (PDF, PNG), the constants of the report
and the HTML page, below `paper/out/`. The same records give the same bytes.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from paper import check, constants, page, tables
from paper.claims import all_items
from paper.ledger import ledger_table
from paper.pairs_curve import pairs_curve
from paper.store import ROOT, SCALES, Reported, Results
from paper.names import PANEL_ROWS, corpus_label, math, method_label, number
from paper.style import COLUMN_INCHES, save
from uwm.errors import run_cli

OUT = ROOT / "paper" / "out"
LABEL_INCHES = 0.45  # left of the panels
MARGIN_INCHES = 0.23  # above and, a little more, below them
COUNTS = ("perplexity", "used", "codes")
PSNR, CODES = "PSNR on validation, dB", "codes in use"
PAIRS_IN_ROWS = ("figure4",)
OF_CELLS = "finetune_"  # curves of one cell each, drawn together
UNDRAWN = ("step", "lr", "grad_norm", "ema_perplexity", "action_gap")  # the gap is shuffled minus own


def panel_figure(results: Results, scale: str, experiment: str, corpus: str) -> Figure | None:
    """Panels `<k>_<column>.png`: one column per pair, one row per kind of picture, LPIPS below; or None."""
    table = tables.read_panels(results, scale, experiment, corpus)
    if table is None:
        return None
    folder = results.root / scale / experiment / "panels" / corpus
    kinds = tables.panel_kinds(folder)
    if experiment in PAIRS_IN_ROWS:
        return _pairs_in_rows(folder, list(table["k"]), kinds)
    pictures = [[_pixels(folder / f"{k}_{kind}.png") for k in table["k"]] for kind in kinds]
    side = next((picture.shape[0] for row in pictures for picture in row if picture is not None), 1)
    figure = Figure()
    figure.set_layout_engine("none")
    picture_inches = (COLUMN_INCHES - LABEL_INCHES) / len(table)
    height = picture_inches * len(kinds)
    figure.set_size_inches(COLUMN_INCHES, height + 2 * MARGIN_INCHES)
    left, bottom = LABEL_INCHES / COLUMN_INCHES, 1.2 * MARGIN_INCHES / (height + 2 * MARGIN_INCHES)
    axis = figure.add_axes((left, bottom, 1 - left, height / (height + 2 * MARGIN_INCHES)))
    axis.imshow(mosaic(pictures, side), extent=(0, len(table), len(kinds), 0), interpolation="none")
    axis.axis("off")
    for row, kind in enumerate(kinds):
        axis.text(-0.08, row + 0.5, math(PANEL_ROWS.get(kind, kind)), ha="right", va="center")
    for column in range(len(table)):
        axis.text(column + 0.48, -0.08, f"({column + 1})", ha="center", va="bottom")
    for line, (metric, label) in enumerate((("lpips_to_current", "to O_t"), ("lpips_to_next", "to O_t+1"))):
        if metric in table:
            below = len(kinds) + 0.08 + 0.2 * line
            axis.text(-0.08, below, math(label), ha="right", va="center", fontsize=6.5)
            for column, value in enumerate(table[metric]):
                axis.text(column + 0.48, below, number(value), ha="center", va="center", fontsize=6.5)
    return figure


def _pairs_in_rows(folder: Path, pairs: list[int], kinds: list[str]) -> Figure:
    """The other way round, as the paper's Figure 4: one row per pair, one column per kind of picture."""
    pictures = [[_pixels(folder / f"{k}_{kind}.png") for kind in kinds] for k in pairs]
    side = next((picture.shape[0] for row in pictures for picture in row if picture is not None), 1)
    picture_inches = COLUMN_INCHES / len(kinds)
    height = picture_inches * len(pairs)
    figure = Figure()
    figure.set_layout_engine("none")
    figure.set_size_inches(COLUMN_INCHES, height + MARGIN_INCHES)
    axis = figure.add_axes((0, 0, 1, height / (height + MARGIN_INCHES)))
    axis.imshow(mosaic(pictures, side), extent=(0, len(kinds), len(pairs), 0), interpolation="none")
    axis.axis("off")
    for column, kind in enumerate(kinds):
        axis.text(column + 0.48, -0.08, math(PANEL_ROWS.get(kind, kind)), ha="center", va="bottom")
    return figure


def _pixels(path: Path) -> np.ndarray | None:
    """uint8 (S, S, 3), or None for a picture that is not there."""
    return np.asarray(Image.open(path).convert("RGB")) if path.exists() else None


def mosaic(pictures: list[list[np.ndarray | None]], side: int) -> np.ndarray:
    """uint8 pictures (S, S, 3) in rows, each with a thin white edge to its right and below."""
    cell = side + max(side // 32, 1)
    canvas = np.full((cell * len(pictures), cell * len(pictures[0]), 3), 255, np.uint8)
    for i, row in enumerate(pictures):
        for j, picture in enumerate(row):
            if picture is not None:
                canvas[i * cell : i * cell + side, j * cell : j * cell + side] = picture
    return canvas


def curve_figure(path: Path) -> Figure:
    """A training curve, one plot per kind of number: training, validation by corpus, PSNR, codes in use."""
    table = pd.read_csv(path)
    groups = curve_groups([name for name in table.columns if table[name].notna().any()])
    size = (COLUMN_INCHES, 0.6 + 0.95 * len(groups))
    figure = Figure(figsize=size)
    axes = figure.subplots(len(groups), 1, sharex=True, squeeze=False)
    for axis, (title, lines) in zip(axes[:, 0], groups.items(), strict=True):
        for name, label in lines.items():
            shown = _thinned(table[["step", name]].dropna())
            axis.plot(shown["step"], shown[name], label=label)
        if title not in (PSNR, CODES) and (table[list(lines)].min() > 0).all():
            axis.set_yscale("log")
        axis.set_title(title, loc="left", pad=2)
        axis.legend(fontsize=6, ncols=2)
    axes[-1, 0].set_xlabel("step")
    return figure


def curve_groups(names: list[str]) -> dict[str, dict[str, str]]:
    """Plot's title -> column -> line's label. Columns: `loss`, `val/<number>/<corpus>` and the like."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        validation = name.startswith("val/")
        number_, _, corpus = name.removeprefix("val/").partition("/")
        if number_ in UNDRAWN:
            continue
        if "psnr" in number_ or number_.endswith(COUNTS):
            title = PSNR if "psnr" in number_ else CODES
            label = f"{number_} {corpus_label(corpus)}".strip()
        else:
            title = f"validation {corpus_label(corpus)}".strip() if validation else "training"
            label = number_
        groups.setdefault(title, {})[name] = label.replace("_", " ")
    return groups


def curves_by_corpus(paths: list[Path]) -> dict[str, dict[str, Path]]:
    """Corpus -> method -> curve of its first seed, of files `finetune_<method>__<corpus>[__s<seed>].csv`."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(paths):
        method, corpus, *_ = path.stem.removeprefix(OF_CELLS).split("__")
        found.setdefault(corpus, {}).setdefault(method, path)
    return found


def cell_curves_figure(curves: Mapping[str, Path]) -> Figure:
    """State error on validation pairs while each method trains, one line a method."""
    figure = Figure(figsize=(COLUMN_INCHES, 2.2))
    axis = figure.subplots()
    for method in sorted(curves, key=[*tables.METHODS["figure4"], *curves].index):
        table = pd.read_csv(curves[method])
        name = table.columns[table.columns.str.startswith("val/state_mse/")][0]
        shown = table[["step", name]].dropna()
        axis.plot(shown["step"], shown[name], label=math(method_label(method)))
    axis.set(xlabel="step", ylabel="state MSE, validation", yscale="log")
    axis.legend(fontsize=6, ncols=2)
    return figure


def _is_shared(results: Results, scale: str, experiment: str, curve: Path) -> bool:
    """Is it the curve of a stage that Table 1 trained and draws?"""
    return experiment != "table1" and (results.root / scale / "table1" / "curves" / curve.name).exists()


def _thinned(table: pd.DataFrame, points: int = 400) -> pd.DataFrame:
    """Means of blocks of rows, so that a curve has at most `points` points."""
    block = -(-len(table) // points)
    return table.groupby(np.arange(len(table)) // block).mean()


def code_use_figure(paths: list[Path]) -> Figure:
    """Share of the codes' uses, sorted, one line per corpus; the dotted line is even use."""
    figure = Figure(figsize=(COLUMN_INCHES, 2.0))
    axis = figure.subplots()
    for path in paths:
        counts = np.sort(pd.read_csv(path)["count"].to_numpy(float))[::-1]
        share = counts / max(counts.sum(), 1)
        used = share[share > 0]
        perplexity = np.exp(-(used * np.log(used)).sum())
        label = f"{corpus_label(path.stem)}: {len(used)} of {len(counts)} codes, perplexity {perplexity:.0f}"
        axis.plot(np.arange(1, len(used) + 1), 100 * used, label=label)
        axis.axhline(100 / len(counts), color="0.6", linewidth=0.6, linestyle=":")
    axis.set(xlabel="codes, most used first", ylabel="share of uses, %", yscale="log")
    axis.legend(fontsize=6)
    return figure


def draw(results: Results, scale: str, out: Path) -> None:
    """All figures of one scale below `out/<scale>`."""
    experiments = sorted(name for s, name in results.cells if s == scale)
    for experiment in experiments:
        folder = results.root / scale / experiment
        for panels in sorted(path for path in (folder / "panels").glob("*") if path.is_dir()):
            figure = panel_figure(results, scale, experiment, panels.name)
            if figure is not None:
                save(figure, out / scale / f"{tables.PANELS_OF.get(experiment, experiment)}_{panels.name}")
        for corpus in tables.corpora(results, scale, experiment):
            against_pairs = pairs_curve(results, scale, experiment, corpus)
            if against_pairs is not None:
                save(against_pairs, out / scale / f"{experiment}_pairs_curve_{corpus}")
        curves = sorted((folder / "curves").glob("*.csv"))
        many = [curve for curve in curves if curve.stem.startswith(OF_CELLS)]
        for curve in [c for c in curves if c not in many and not _is_shared(results, scale, experiment, c)]:
            save(curve_figure(curve), out / scale / f"{experiment}_curve_{curve.stem}")
        for corpus, paths in curves_by_corpus(many).items():
            save(cell_curves_figure(paths), out / scale / f"{experiment}_curve_{OF_CELLS}{corpus}")
        used = sorted((folder / "code_use").glob("*.csv"))
        if used:
            save(code_use_figure(used), out / scale / f"{experiment}_code_use")


def write_all(results: Results, out: Path, deviations: Path) -> None:
    """Write `out` anew, so that nothing of an older run stays; report.pdf, which LaTeX makes, is kept."""
    reported = Reported()
    for scale in results.scales:
        shutil.rmtree(out / scale, ignore_errors=True)
        for table in tables.experiment_tables(results, scale):
            table.write(out / scale)
        draw(results, scale, out)
    items = all_items(results, reported)
    excused = check.named(items, deviations)
    shared = [tables.reproduced(results, reported), tables.reported_layout(reported)]
    for table in [*shared, check.verdict_table(items, excused)]:
        table.write(out)
    people = [*shared, check.item_table(items, excused)]
    (out / "deviations.tex").write_text(ledger_table(deviations), encoding="utf-8")
    (out / "verdict_rows.tex").write_text(constants.tex_verdicts(items), encoding="utf-8")
    (out / "constants.tex").write_text(constants.tex_constants(results, reported, items), encoding="utf-8")
    (out / "figures.tex").write_text(constants.tex_figures(results, out), encoding="utf-8")
    (out / "index.html").write_text(page.render(results, people, out), encoding="utf-8")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m paper.figures", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--scale", action="append", help=f"default: {' and '.join(SCALES)}")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--deviations", type=Path, default=ROOT / "paper" / "deviations.md")
    options = parser.parse_args(argv)
    write_all(Results(options.results, tuple(options.scale or SCALES)), options.out, options.deviations)
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
