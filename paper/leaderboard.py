"""One table of all rows of Table 1, ours and those that others sent, to be sorted by any measure."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paper.community import community
from paper.names import corpus_label
from paper.store import Results
from paper.table import Table
from paper.tables import corpora, methods, origins, shown
from uwm.methods import UWM, method_label
from uwm.metrics.spec import MOVING, metric_label

EXPERIMENT = "table1"
# Over the moving half where they are means over pairs.
MEASURES = (
    *("bits", "parameters", "lpips_ratio", "lpips_to_next", "success_vs_copy", "psnr"),
    *("state_ratio", "own_over_shuffled", "gain_over_no_action", "leak", "probe_r2"),
)
WITHOUT_HALVES = ("bits", "parameters", "probe_r2")
PEEKED_PICTURES = {"o_t": "O_t", "o_next": "O_t+1", "prediction": "predicted"}
PAIR = 3  # of Figure 3's five, that of median motion


@dataclass(frozen=True)
class Board:
    """The table, and for each of its rows the pictures (label, file) of one pair, where there are some."""

    table: Table
    pictures: list[list[tuple[str, Path]]]


def leaderboard(results: Results, scale: str) -> Board | None:
    """All methods by corpus with their measures. None where nothing was measured at that scale."""
    rows, pictures, about = [], [], {}
    for source, found in (("", results), ("sent", community(results))):
        for corpus, method in _measured(found, scale):
            place = (scale, EXPERIMENT, method, corpus)
            entries = {
                m: found.measure(*place, m if m in WITHOUT_HALVES else m + MOVING, interval=False)
                for m in MEASURES
            }
            label = f"{method_label(method)} ({source})" if source else method_label(method)
            texts = [shown(entry, "missing", metric) for metric, entry in entries.items()]
            rows.append([label, corpus_label(corpus), *texts])
            pictures.append(_pictures(found, scale, corpus, method))
            about[label] = origins(found, scale, EXPERIMENT, corpus).get(method_label(method), "")
    if not rows:
        return None
    note = (
        "Moving half. A click on a column's head sorts by it. Sent: measured by others (results/community). "
    )
    note += (
        "Parameters of the action model alone, where they were counted. Intervals stand in the tables below."
    )
    title = f"All rows of Table 1, scale {scale}"
    columns = ["Method", "Corpus", *(metric_label(metric) for metric in MEASURES)]
    return Board(Table(f"leaderboard_{scale}", title, columns, rows, note, about), pictures)


def _measured(results: Results, scale: str) -> Iterator[tuple[str, str]]:
    """Corpus and method of each row that has a record, in the tables' order."""
    for corpus in corpora(results, scale, EXPERIMENT):
        for method in methods(results, scale, EXPERIMENT, corpus):
            if results.status(scale, EXPERIMENT, method, corpus) == "ok":
                yield corpus, method


def _pictures(results: Results, scale: str, corpus: str, method: str) -> list[tuple[str, Path]]:
    """What `experiments/table1.py` drew for this method."""
    name = corpus if method == UWM.name else f"{corpus}-{method}"
    folder = results.root / scale / EXPERIMENT / "panels" / name
    paths = {label: folder / f"{PAIR}_{kind}.png" for kind, label in PEEKED_PICTURES.items()}
    return list(paths.items()) if all(path.is_file() for path in paths.values()) else []
