"""The Fréchet video distances of rollouts, where they were measured."""

from collections.abc import Iterator

from paper.names import corpus_label, experiment_label
from paper.store import Results
from paper.table import Table, measured_text
from paper.tables import corpora, table_methods
from uwm.methods import method_label
from uwm.metrics.spec import metric_label

FIGURE5 = "figure5"
FVDS = ("fvd", "fvd_true")
TOPIC = "rollouts as clips"


def fvd_tables(results: Results, scale: str) -> Iterator[Table]:
    """A table per corpus: a row for each method, with the protocol that its record names."""
    for corpus in corpora(results, scale, FIGURE5):
        rows = []
        for method in table_methods(results, scale, FIGURE5, corpus):
            key = (scale, FIGURE5, method, corpus)
            entries = {name: results.measure(*key, name, interval=False) for name in FVDS}
            if known := next((entry for entry in entries.values() if entry), None):
                texts = [measured_text(entry, "missing", name) for name, entry in entries.items()]
                rows.append([method_label(method), known.protocol, str(known.n), *texts])
        if rows:
            name = f"{experiment_label(FIGURE5)}, scale {scale}, {corpus_label(corpus)}"
            note = (
                "Frechet video distance to the true runs as the MAE shows them, and as they are. Of few "
                "clips it is biased upwards: rows can be compared where protocol and number of clips are "
                "the same."
            )
            columns = ["", "Protocol", "Clips", *(metric_label(name) for name in FVDS)]
            yield Table(f"{FIGURE5}_{corpus}_fvd", f"{name}, {TOPIC}", columns, rows, note, topic=TOPIC)
