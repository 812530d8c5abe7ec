"""How far trainings were taken: their steps, and what the last quarter of them still gained."""

from collections.abc import Iterator

from paper.names import DASH, corpus_label, experiment_label
from paper.reading import read_table
from paper.store import Results
from paper.table import Table
from paper.training_curves import OF_CELL, STATE_ERROR
from uwm.methods import method_label
from uwm.metrics.spec import METRICS, metric_text
from uwm.training.convergence import CONVERGED, last_gain

COPY_ERROR = "val/state_mse_copy/"


def training_table(results: Results, scale: str, experiment: str) -> Table | None:
    """A row for each published curve with validation errors of one corpus. None where there is none."""
    rows = []
    for path in sorted((results.root / scale / experiment / "curves").glob("*.csv")):
        curve = read_table(path)
        errors = [name for name in map(str, curve.columns) if name.startswith(STATE_ERROR)]
        if len(errors) != 1:
            continue  # of the pre-training, which Table 1 has, or of a network that predicts nothing
        copied = errors[0].replace(STATE_ERROR, COPY_ERROR)
        measured = curve[[name for name in (*errors, copied) if name in curve]].dropna()
        if measured.shape[1] < 2 or measured.empty:
            continue
        error, still = measured.iloc[-1]
        gain = last_gain(curve)
        text = DASH if gain is None else metric_text("last_gain", gain)
        steps = f"{round(curve['step'].max(), -1):,.0f}"
        rows.append([_training(path.stem), steps, f"{error / still:.3f}", text])
    if not rows:
        return None
    note = (
        f"On validation pairs. A training whose last quarter gained under {100 * CONVERGED:g} % of its error "
        "counts as converged; below 0 it got worse. Where a perceptual loss came after, "
        "the steps with it."
    )
    columns = ["", "Steps", "State error / copy's", METRICS["last_gain"].label]
    title = f"{experiment_label(experiment)}, trainings, scale {scale}"
    return Table(f"{experiment}_trainings", title, columns, rows, note, topic="trainings")


def _training(name: str) -> str:
    """A curve's training: a cell's method and seed, or the stage."""
    if not name.startswith(OF_CELL):
        return name
    method, corpus, *seed = name.removeprefix(OF_CELL).split("__")
    return ", ".join(
        [method_label(method), corpus_label(corpus), *(part.replace("s", "seed ") for part in seed)]
    )


def training_tables(results: Results, scale: str) -> Iterator[Table]:
    """Of the experiments that train for each of their cells."""
    for experiment in ("figure4", "figure5"):
        if table := training_table(results, scale, experiment):
            yield table
