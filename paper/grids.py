"""Which small pictures stand where: panels as the experiments leave them, for the figures and for the page.

A folder `panels/<name>/` holds `<k>_<kind>.png` and `panels.csv`; its name is a corpus, or `<corpus>-<what>`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from paper.names import PANEL_KINDS
from paper.reading import check_name, read_table
from paper.store import Results
from uwm.errors import UserError
from uwm.metrics.spec import metric_text

PANELS_OF = {"table1": "figure3"}  # the figure of the paper that an experiment's panels stand for
PAIRS_IN_ROWS = ("figure4", "figure5")  # as the paper has them
KINDS_IN_ROWS = ("commands", "rollout")  # too many kinds for a row, and steps rather than pairs
ENLARGED, GRIPPER = "_hand", "gripper"  # ends the kinds that show a section enlarged; what their grid is of
DISTANCES = {"lpips_to_current": "to O_t", "lpips_to_next": "to O_t+1"}


@dataclass(frozen=True)
class Grid:
    """Pictures in rows and columns; `notes` are numbers below the columns, by label. `name` is the files'."""

    name: str
    rows: Sequence[str]
    columns: Sequence[str]
    pictures: Sequence[Sequence[Path]]
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)


def grids(results: Results, scale: str, experiment: str) -> Iterator[Grid]:
    """All grids of an experiment; those of enlarged sections apart."""
    for folder in sorted((results.root / scale / experiment / "panels").glob("*/panels.csv")):
        check_name(folder, folder.parent.name)
        panels, kinds = read_panels(folder.parent), panel_kinds(folder.parent)
        whole = [kind for kind in kinds if not kind.endswith(ENLARGED)]
        enlarged = [kind for kind in kinds if kind.endswith(ENLARGED)]
        if whole:
            yield _grid(experiment, folder.parent, panels, whole)
        if enlarged:
            yield _grid(experiment, folder.parent, panels, enlarged, f"-{GRIPPER}")


def _grid(experiment: str, folder: Path, panels: pd.DataFrame, kinds: list[str], ending: str = "") -> Grid:
    """Kinds by pairs, or by steps; or pairs by kinds."""
    name = f"{PANELS_OF.get(experiment, experiment)}_{folder.name}{ending}"
    labels = [PANEL_KINDS.get(kind.removesuffix(ENLARGED), kind.removesuffix(ENLARGED)) for kind in kinds]
    heads = [f"({k})" for k in panels["k"]]
    if experiment in PAIRS_IN_ROWS and not folder.name.endswith(KINDS_IN_ROWS):
        return Grid(
            name, heads, labels, [[folder / f"{k}_{kind}.png" for kind in kinds] for k in panels["k"]]
        )
    if "step" in panels:
        heads = [f"k = {step}" for step in panels["step"]]
        labels = [label.replace("t+1", "t+k") for label in labels]
    notes = {
        label: [metric_text(metric, value) for value in panels[metric]]
        for metric, label in DISTANCES.items()
        if metric in panels
    }
    return Grid(
        name, labels, heads, [[folder / f"{k}_{kind}.png" for k in panels["k"]] for kind in kinds], notes
    )


def read_panels(folder: Path) -> pd.DataFrame:
    """`panels.csv` sorted by k."""
    table = read_table(folder / "panels.csv")
    if "k" not in table:
        raise UserError(f"{folder / 'panels.csv'}: the column k is missing; run its cell again")
    return table.sort_values("k", ignore_index=True)


def panel_kinds(folder: Path) -> list[str]:
    """The kinds of picture in a panel folder, the known ones first and in the paper's order."""
    kinds = {path.stem.partition("_")[2] for path in folder.glob("[0-9]*_*.png")}
    known = [kind + ending for ending in ("", ENLARGED) for kind in PANEL_KINDS]
    return [kind for kind in known if kind in kinds] + sorted(kinds - set(known))
