"""Draw everything that is generated from records: `make figures`.

Tables (Markdown, CSV, LaTeX), panels, training curves and code use (PDF, PNG), the constants of the report
and the HTML page, below `paper/out/`. The same records give the same bytes.
"""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from paper import check, constants, page, readme, reported_tables, tables
from paper.claims import all_items
from paper.community import community
from paper.families import EXPERIMENT_NAME as FAMILIES
from paper.families import families_tables, rate_figure, rate_points
from paper.family_control import control_tables
from paper.fvd_tables import fvd_tables
from paper.grids import grids
from paper.leaderboard import leaderboard
from paper.ledger import ledger_table
from paper.measured_curves import (
    pairs_figure,
    pairs_plots,
    rollout_figure,
    rollout_plots,
    variation_figure,
    variation_plots,
)
from paper.options import KNOWN_SCALES, add_results, chosen_results, existing
from paper.output import made_anew
from paper.panels import grid_figure
from paper.pool import process_pool
from paper.reading import check_name
from paper.reported import Reported
from paper.store import ROOT, Results
from paper.style import Drawing, draw
from paper.table import Table
from paper.training_curves import OF_CELL, code_use_figure, compared, compared_figure, curve_figure
from paper.training_tables import training_tables
from uwm.arguments import Parser, named_path, whole
from uwm.errors import UserError, run_cli
from uwm.files import write_atomically
from uwm.methods.variations import LENGTH, RATE

OUT = ROOT / "paper" / "out"


def drawings(results: Results, scale: str) -> Iterator[tuple[str, Drawing]]:
    """All figures of one scale: the file's name, and what draws it without the records."""
    for experiment in sorted(name for s, name in results.cells if s == scale):
        for grid in grids(results, scale, experiment):
            yield grid.name, partial(grid_figure, grid)
        for corpus in tables.corpora(results, scale, experiment):
            pairs = pairs_plots(results, scale, experiment, corpus)
            if pairs:
                yield f"{experiment}_pairs_curve_{corpus}", partial(pairs_figure, pairs, experiment)
            methods = tables.table_methods(results, scale, experiment, corpus)
            steps = rollout_plots(results, scale, experiment, corpus, methods)
            if steps:
                yield f"{experiment}_rollout_curve_{corpus}", partial(rollout_figure, steps)
            if experiment == "ablations":
                yield from variations(results, scale, corpus)
        if experiment == FAMILIES and (points := rate_points(results, scale)):
            yield f"{FAMILIES}_rate", partial(rate_figure, points)
        yield from training(results, scale, experiment)


def variations(results: Results, scale: str, corpus: str) -> Iterator[tuple[str, Drawing]]:
    """What the rate of the actions and the length of the training are worth."""
    for topic, xlabel in ((RATE, "bits a transition"), (LENGTH, "training pairs seen")):
        plots = variation_plots(results, scale, corpus, topic)
        if plots:
            yield f"ablations_{topic}_{corpus}", partial(variation_figure, plots, xlabel)


def training(results: Results, scale: str, experiment: str) -> Iterator[tuple[str, Drawing]]:
    """Training curves, those that can be compared in one figure, and the use of the codes."""
    folder = results.root / scale / experiment
    curves = [path for path in sorted((folder / "curves").glob("*.csv")) if not _is_shared(path)]
    together = compared(curves) if experiment != "table1" else {}
    for corpus, by_method in together.items():
        order = [*tables.expected(experiment), *by_method]
        sorted_ = {method: by_method[method] for method in sorted(by_method, key=order.index)}
        yield f"{experiment}_curves_{corpus}", partial(compared_figure, sorted_)
    drawn = {path for by_method in together.values() for path in by_method.values()}
    for path in curves:
        if path not in drawn and not path.stem.startswith(OF_CELL):
            yield f"{experiment}_curve_{path.stem}", partial(curve_figure, path)
    used = sorted((folder / "code_use").glob("*.csv"))
    if used:
        yield f"{experiment}_code_use", partial(code_use_figure, used)


def _is_shared(curve: Path) -> bool:
    """Is it the curve of a stage that Table 1 trained and draws?"""
    experiment = curve.parent.parent
    return experiment.name != "table1" and (experiment.with_name("table1") / "curves" / curve.name).exists()


def write_all(results: Results, out: Path, deviations: Path, processes: int | None = None) -> None:
    """Write `out` anew, so that nothing of an older run stays but what is of other scales.

    Files that we did not write, such as LaTeX's report.pdf, are left alone.
    """
    others = tuple(f"{scale}/" for scale in KNOWN_SCALES if scale not in results.scales)
    with made_anew(out, lambda name: name.startswith(others)) as made:
        try:
            _write_into(made, results, deviations, processes)
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"{results.root} holds a file that cannot be drawn ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}); python -m paper.check tells which"
            ) from error


def _write_into(out: Path, results: Results, deviations: Path, processes: int | None) -> None:
    with process_pool(processes) as pool:
        drawn = [
            pool.submit(draw, drawing, out / scale / name)
            for scale in results.scales
            for name, drawing in drawings(results, scale)
            if check_name(results.root / scale, name)
        ]
        by_scale, shared = write_tables(results, out, deviations)  # meanwhile
        for figure in drawn:
            figure.result()
    (out / "figures.tex").write_text(constants.tex_figures(results, out), encoding="utf-8")
    (out / "index.html").write_text(page.render(results, shared, by_scale, out), encoding="utf-8")


def write_tables(results: Results, out: Path, deviations: Path) -> tuple[dict[str, list[Table]], list[Table]]:
    """All but the figures and what shows them. Returns the page's tables, by scale and across scales."""
    reported = Reported()
    by_scale = {
        scale: [
            *tables.experiment_tables(results, scale),
            *families_tables(results, scale),
            *control_tables(results, scale),
            *training_tables(results, scale),
            *fvd_tables(results, scale),
        ]
        for scale in results.scales
    }
    for scale, scale_tables in by_scale.items():
        for table in scale_tables:
            table.write(out / scale)
    items = all_items(results, reported)
    excused = check.named(items, deviations)
    shared = [reported_tables.reproduced(results, reported), reported_tables.reported_layout(reported)]
    for table in [*shared, check.verdict_table(items, excused), check.missed_targets(items)]:
        table.write(out)
    for scale in results.scales:
        board = leaderboard(results, scale)
        if board:
            board.table.write(out / scale)
        shared.append(reported_tables.paper_layout(results, scale))
        shared[-1].write(out / scale)
    appendix = constants.tex_appendix(by_scale, results.cells)
    (out / "appendix.tex").write_text(appendix, encoding="utf-8")
    (out / "deviations.tex").write_text(ledger_table(deviations), encoding="utf-8")
    (out / "verdict_rows.tex").write_text(constants.tex_verdicts(items), encoding="utf-8")
    (out / "constants.tex").write_text(constants.tex_constants(results, reported, items), encoding="utf-8")
    return by_scale, [*shared, check.item_table(items, excused)]


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m paper.figures", description=(__doc__ or "").splitlines()[0])
    add_results(parser)
    parser.add_argument("--out", type=named_path, default=OUT, help="an empty folder, or one of ours")
    parser.add_argument("--deviations", type=existing, default=ROOT / "paper" / "deviations.md")
    parser.add_argument(
        "--readme", type=named_path, nargs="+", default=[], help="pages with a generated table"
    )
    parser.add_argument("--processes", type=whole(1, 1024), help="that draw; default: one per core")
    options = parser.parse_args(argv)
    results = chosen_results(options)
    for path, reason in [*results.unreadable, *community(results).unreadable][:1]:
        raise UserError(f"{path}: {reason}; nothing was drawn")
    # Before all is drawn: a page may lack its places.
    pages = {path: readme.refreshed(path, results)[1] for path in options.readme}
    write_all(results, options.out, options.deviations, options.processes)
    for path, text in pages.items():
        write_atomically(path, text)
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
