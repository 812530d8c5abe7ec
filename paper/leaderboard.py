"""One table of all rows, those of Table 1, the families and what others sent, to be sorted by any measure."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paper.community import community
from paper.counted import pairs_and_clips, told_by_corpus
from paper.families import EXPERIMENT_NAME as FAMILIES
from paper.names import corpus_label
from paper.store import Results
from paper.table import Table, measured_text
from paper.tables import corpora, origins, table_methods
from uwm.methods import UWM, method_label
from uwm.metrics.spec import MOVING, metric_label

# Experiments whose rows it has, with what their methods' names end in.
RANKED_EXPERIMENTS = {"table1": "", FAMILIES: "brief"}
# Over the moving half where they are means over pairs.
MEASURES = (
    *("bits", "parameters", "gflop", "lpips_ratio", "lpips_to_next", "success_vs_copy", "psnr"),
    *("lpips_over_codec", "state_ratio", "own_over_shuffled", "gain_over_no_action", "delta_psnr", "leak"),
    *("probe_r2", "transfer_picture", "adapter_px"),
)
WITHOUT_HALVES = ("bits", "parameters", "gflop", "probe_r2", "transfer_picture", "adapter_px")
PEEKED_PICTURES = {"o_t": "O_t", "o_next": "O_t+1"}
PAIR = 3  # of Figure 3's five, that of median motion


@dataclass(frozen=True)
class Board:
    """The table, and for each of its rows the pictures (label, file) of one pair, where there are some."""

    table: Table
    pictures: list[list[tuple[str, Path]]]


def leaderboard(results: Results, scale: str) -> Board | None:
    """All methods by corpus with those measures that some row has. None where nothing was measured at that
    scale."""
    rows, pictures, about, counts = [], [], {}, []
    for records, experiment, source in _sources(results):
        for corpus, method in _measured(records, scale, experiment):
            key = (scale, experiment, method, corpus)
            number = pairs_and_clips(records, (scale, experiment, corpus), [method])
            counts.append((corpus, f"{number} ({source})" if number and source else number))
            entries = {
                m: records.measure(*key, m if m in WITHOUT_HALVES else m + MOVING, interval=False)
                for m in MEASURES
            }
            label = f"{method_label(method)} ({source})" if source else method_label(method)
            rows.append((label, corpus_label(corpus), entries))
            pictures.append(_pictures(records, key))
            about[label] = origins(records, scale, experiment, corpus).get(method_label(method), "")
    if not rows:
        return None
    note = (
        "Moving half. A click on a column's head sorts by it. Sent: measured by others (results/community); "
        "brief: a family, trained on far fewer pairs than the released model. x264: one P-frame of at most "
        "as many bits as the action. Transferred: by actions of another clip, on corpora with a robot. "
        "Parameters of the action model alone, GFLOP from two frames to the predicted one: a dash where they "
        "were not counted. "
        "Intervals stand in the tables below."
    )
    note += told_by_corpus(counts)
    title = f"All rows, scale {scale}"
    kept = [metric for metric in MEASURES if any(entries[metric] for _, _, entries in rows)]
    columns = ["Method", "Corpus", *(metric_label(metric) for metric in kept)]
    texts = [[*names, *(measured_text(entries[m], "missing", m) for m in kept)] for *names, entries in rows]
    return Board(Table(f"leaderboard_{scale}", title, columns, texts, note, about), pictures)


def _sources(results: Results) -> Iterator[tuple[Results, str, str]]:
    """Records, the experiment that they are of, and what its methods' names end in."""
    yield from ((results, *said) for said in RANKED_EXPERIMENTS.items())
    yield community(results), "table1", "sent"


def _measured(results: Results, scale: str, experiment: str) -> Iterator[tuple[str, str]]:
    """Corpus and method of each row that has a record, in the tables' order."""
    for corpus in corpora(results, scale, experiment):
        for method in table_methods(results, scale, experiment, corpus):
            if results.status(scale, experiment, method, corpus) == "ok":
                yield corpus, method


def _pictures(results: Results, key: tuple[str, str, str, str]) -> list[tuple[str, Path]]:
    """What the experiment drew for a row's method: of Table 1 in a folder of its own."""
    scale, experiment, method, corpus = key
    own_folder = experiment == "table1"
    name = f"{corpus}-{method}" if own_folder and method != UWM.name else corpus
    folder = results.root / scale / experiment / "panels" / name
    kinds = {**PEEKED_PICTURES, "prediction" if own_folder else method: "predicted"}
    paths = {label: folder / f"{PAIR}_{kind}.png" for kind, label in kinds.items()}
    return list(paths.items()) if all(path.is_file() for path in paths.values()) else []
