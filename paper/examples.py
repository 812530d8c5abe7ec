"""The tables of `results/examples/README.md`, from the records beside it.

python -m paper.examples     write them; also a part of `make figures`

An example shows what comes out for data that this repository doesn't hold. Its records are checked as ours
are (`paper.integrity`), and tell which weights they were measured with.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from paper import integrity, tables
from paper.options import add_results, chosen_results
from paper.readme import marks, readme_with
from paper.store import ROOT, RecordedCell, Results
from paper.table import Table, measured_text
from uwm.arguments import Parser
from uwm.errors import UserError, run_cli
from uwm.methods import method_label
from uwm.metrics.spec import metric_label
from uwm.runs.record import EXAMPLES

TABLES_MARK = "tables"  # begins and ends the place of the tables
EXAMPLE_MEASURES = (
    "lpips_to_current",
    "lpips_to_next",
    "lpips_ratio",
    "success_vs_copy",
    "state_ratio",
    "leak",
    "probe_r2",
    "lpips_hand",
    "code_accuracy",
    "hand_error_px",
)  # in a table those that some row has


def example_results(results: Results) -> Results:
    """The records of examples, of the same scales; none where there is no such folder."""
    return Results(results.root / EXAMPLES, results.scales)


def example_faults(results: Results, experiments: Path = ROOT / "experiments") -> list[str]:
    """One line per record of an example that is altered, stale or not finite."""
    examples = example_results(results)
    lines = [*integrity.unknown_scales(examples, results)]
    if examples.cells or examples.unreadable:
        lines += integrity.record_faults(examples, experiments, excuse=False)
    return [f"{EXAMPLES}/{line}" for line in lines]


def example_tables(results: Results) -> Iterator[Table]:
    """Methods by measures over all pairs, a table for each experiment and corpus."""
    examples = example_results(results)
    for scale, experiment in examples.cells:
        for corpus in examples.corpora(scale, experiment):
            rows, key = [], (scale, experiment)
            every = tables.table_methods(examples, scale, experiment, corpus)
            there = [method for method in every if examples.find(*key, method, corpus)]
            measured = {
                metric: [examples.measure(*key, method, corpus, metric) for method in there]
                for metric in EXAMPLE_MEASURES
            }
            kept = {metric: column for metric, column in measured.items() if any(column)}
            for row, method in enumerate(there):
                status = examples.status(*key, method, corpus)
                texts = [measured_text(column[row], status, metric) for metric, column in kept.items()]
                rows.append([method_label(method), *texts])
            [cell, *_] = examples.find(
                *key, max(there, key=partial(weights_of, examples, key, corpus)), corpus
            )
            columns = ["Method", *map(metric_label, kept)]
            table = Table(f"{experiment}_{corpus}", f"{experiment}, {corpus}, scale {scale}", columns, rows)
            yield replace(table, note=note(results, examples, cell))


def weights_of(examples: Results, key: tuple[str, str], corpus: str, method: str) -> int:
    """How many weights a method was measured with: a table names those of the one with most."""
    [cell, *_] = examples.find(*key, method, corpus)
    return len(cell.record["inputs"]["weights"])


def note(results: Results, examples: Results, cell: RecordedCell) -> str:
    """Of how many pairs and clips a table is, and by which weights."""
    samples = examples.samples(cell.sample_paths[0])
    used = cell.record["inputs"]["weights"]
    ours = results.cells.get((cell.record["scale"], cell.record["experiment"]), [])
    same = any(c.record["inputs"]["weights"] == used for c in ours if c.method == cell.method)
    named = ", ".join(f"{name} {digest[:12]}" for name, digest in used.items())
    kind = "those of the committed records" if same else "others than the committed records have now"
    known = cell.record["metrics"]["lpips_to_next"]["ci"] is not None
    intervals = "with 95% intervals over clips" if known else "too few for intervals over clips"
    clips = len(set(samples.clips))
    count = f"{clips} clip" if clips == 1 else f"{clips} clips"
    return f"{len(samples.pairs)} pairs of {count}, {intervals}. Weights, {kind}: {named}."


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m paper.examples", description=(__doc__ or "").splitlines()[0])
    add_results(parser)
    results = chosen_results(parser.parse_args(argv))
    page = results.root / EXAMPLES / "README.md"
    if not page.is_file():
        raise UserError(f"no file {page}: make it, with the lines {' and '.join(marks(TABLES_MARK))}")
    page.write_text(refreshed_examples(page, results), encoding="utf-8")
    return 0


def refreshed_examples(page: Path, results: Results) -> str:
    """The page with its tables as the records have them now."""
    block = "\n".join(table.markdown() for table in example_tables(results))
    block = block or "No record is here yet; the commands above make them."
    return readme_with(page.read_text(encoding="utf-8"), TABLES_MARK, block)


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
