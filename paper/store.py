"""Read the records, per-pair samples and panels below `results/`, and the numbers that the paper reports.

The layout is the one of `experiments/`: `results/<scale>/<experiment>/<cell with __>.json`, next to them
`samples/*.csv`, `panels/<corpus>/`, `curves/*.csv` and `code_use/*.csv`.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from uwm.metrics.statistics import Interval, bootstrap_difference, bootstrap_mean, bootstrap_ratio

ROOT = Path(__file__).resolve().parent.parent
SCALES = ("mini", "paper")
PAIR = ["video", "t0", "t1"]
MOVING = "_moving"  # ends the names of metrics over the moving half
FAILED = ("failed", "timeout")
RATIO = ("lpips_to_next", "lpips_to_current")


@dataclass(frozen=True)
class Measured:
    """One number of our own: the mean over pairs (and seeds) and its 95% interval over clips (and seeds)."""

    value: float
    low: float
    high: float
    n: int
    protocol: str = ""


@dataclass(frozen=True)
class Cell:
    """One record and its file; `method`, `corpus` and `seed` are parsed from the cell's name."""

    path: Path
    record: dict[str, Any]

    @property
    def parts(self) -> list[str]:
        return str(self.record["cell"]).split("/")

    @property
    def method(self) -> str:
        return self.parts[0]

    @property
    def corpus(self) -> str:
        return self.parts[1]

    @property
    def seed(self) -> str:
        """`s0`, or an empty string for a cell without a seed."""
        return self.parts[2] if len(self.parts) > 2 else ""

    @property
    def column(self) -> str:
        """Prefix of this cell's columns in the samples file: the method, with the seed where there is one."""
        return "/".join(filter(None, (self.method, self.seed)))

    @property
    def status(self) -> str:
        return str(self.record["status"])

    @property
    def samples_path(self) -> Path | None:
        """The per-pair file, named in the record relative to the record's folder."""
        samples = self.record.get("samples")
        return self.path.parent / samples["path"] if samples else None


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def read_json(path: Path) -> Any:
    """Strict JSON: NaN and Infinity raise `ValueError`."""
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)


class Results:
    """Everything measured, below one `results` folder.

    `unreadable` lists (path, reason) of records that are no valid JSON or lack a cell name.
    """

    def __init__(self, root: Path = ROOT / "results", scales: tuple[str, ...] = SCALES) -> None:
        self.root = root
        self.scales = scales
        self.unreadable: list[tuple[Path, str]] = []
        self.cells: dict[tuple[str, str], list[Cell]] = {}
        self._samples: dict[Path, pd.DataFrame] = {}
        for scale in scales:
            for folder in sorted(path for path in (root / scale).glob("*") if path.is_dir()):
                self.cells[scale, folder.name] = list(self._read_folder(folder))

    def _read_folder(self, folder: Path) -> Iterator[Cell]:
        for path in sorted(folder.glob("*__*.json")):
            try:
                cell = Cell(path, read_json(path))
                if len(cell.parts) < 2:
                    raise ValueError(f"cell {cell.record['cell']!r} is not METHOD/CORPUS[/sSEED]")
                _ = cell.status
                yield cell
            except (ValueError, KeyError, TypeError) as error:
                self.unreadable.append((path, f"{type(error).__name__}: {error}"))

    def find(self, scale: str, experiment: str, method: str, corpus: str) -> list[Cell]:
        """All seeds of one method on one corpus."""
        cells = self.cells.get((scale, experiment), [])
        return [cell for cell in cells if cell.method == method and cell.corpus == corpus]

    def corpora(self, scale: str, experiment: str) -> list[str]:
        return sorted({cell.corpus for cell in self.cells.get((scale, experiment), [])})

    def status(self, scale: str, experiment: str, method: str, corpus: str) -> str:
        """`ok` when a seed is there, else `failed` when one failed, else `missing`."""
        states = {cell.status for cell in self.find(scale, experiment, method, corpus)}
        return "ok" if "ok" in states else "failed" if states & set(FAILED) else "missing"

    def samples(self, path: Path) -> pd.DataFrame:
        """One row per pair, indexed by video, t0 and t1 (columns `moving,motion` and `<method>/<metric>`)."""
        if path not in self._samples:
            table = pd.read_csv(path, index_col=PAIR)
            table["moving"] = table["moving"].astype(str).str.lower().isin(["1", "true", "1.0"])
            self._samples[path] = table
        return self._samples[path]

    def pairs(self, cells: list[Cell], metric: str) -> pd.DataFrame:
        """Values of `metric` per pair that all seeds have, indexed as the samples: one column per seed (`s0`,
        or an empty name).

        `<metric>_moving` is of the moving half. Empty when no cell has the columns for it.
        """
        found = {}
        for cell in cells:
            if cell.status != "ok" or cell.samples_path is None or not cell.samples_path.exists():
                continue
            table = self.samples(cell.samples_path)
            values = _column(table, cell.column, metric.removesuffix(MOVING))
            if values is not None:
                found[cell.seed] = values[table["moving"]] if metric.endswith(MOVING) else values
        return pd.concat(found, axis=1, join="inner") if found else pd.DataFrame()

    def measure(self, scale: str, experiment: str, method: str, corpus: str, metric: str) -> Measured | None:
        """The record's own number; with several seeds their mean, with an interval over clips and seeds."""
        cells = [c for c in self.find(scale, experiment, method, corpus) if c.status == "ok"]
        entries = [cell.record["metrics"][metric] for cell in cells if metric in cell.record["metrics"]]
        if not entries:
            return None
        value = float(np.mean([entry["value"] for entry in entries]))
        low, high = entries[0].get("ci") or (math.nan, math.nan)
        if len(entries) > 1:
            interval = self.interval(cells, metric)
            low, high = (interval.low, interval.high) if interval else (math.nan, math.nan)
        return Measured(value, low, high, int(entries[0]["n"]), str(entries[0].get("protocol") or ""))

    def interval(self, cells: list[Cell], metric: str) -> Interval | None:
        """`metric` and its interval computed anew from the per-pair samples, or None without such columns."""
        if metric.startswith("lpips_ratio"):
            above, below = (self.pairs(cells, metric.replace("lpips_ratio", name)) for name in RATIO)
            if above.empty or below.to_numpy().sum() <= 0:  # a copy of O_t is at distance 0 of it
                return None
            return bootstrap_ratio(above.to_numpy(), below.to_numpy(), _clips(above))
        table = self.pairs(cells, metric)
        return None if table.empty else bootstrap_mean(table.to_numpy(), _clips(table))

    def difference(self, a: list[Cell], b: list[Cell], metric: str) -> Measured | None:
        """Mean of a - b over the pairs that both have, with its paired interval; None without samples.

        Seeds are paired too; a method without seeds stands beside each of the other's.
        """
        left, right = self.pairs(a, metric), self.pairs(b, metric)
        seeds = _common(list(left), list(right))
        if not all(seeds):
            return None
        both = pd.concat({"a": left[seeds[0]], "b": right[seeds[1]]}, axis=1, join="inner")
        if both.empty:
            return None
        interval = bootstrap_difference(both["a"].to_numpy(), both["b"].to_numpy(), _clips(both))
        return Measured(interval.estimate, interval.low, interval.high, len(both))


def _column(table: pd.DataFrame, method: str, metric: str) -> pd.Series | None:
    """A method's column; the success rates follow from the distances."""
    then = table.get(f"{method}/lpips_to_next")
    other = {"success_vs_current": f"{method}/lpips_to_current", "success_vs_copy": "lpips_of_copy"}
    if metric in other:
        limit = table.get(other[metric])
        return None if then is None or limit is None else (then < limit).astype(float)
    return table.get(f"{method}/{metric}")


def _common(a: list[str], b: list[str]) -> tuple[list[str], list[str]]:
    """The seeds that two methods have both; all of them where one has no seeds."""
    if a == [""] or b == [""]:
        return a, b
    both = [seed for seed in a if seed in b]
    return both, both


def _clips(table: pd.DataFrame) -> np.ndarray:
    """The number of each row's clip, in the order of their names."""
    return np.asarray(cast(pd.MultiIndex, table.index).codes[0])


@dataclass(frozen=True)
class Reported:
    """What the paper reports: `results/reported/*.csv`. Nothing measured in there."""

    root: Path = ROOT / "results" / "reported"

    @cached_property
    def table1(self) -> pd.DataFrame:
        return pd.read_csv(self.root / "table1.csv")

    @cached_property
    def items(self) -> pd.DataFrame:
        return pd.read_csv(self.root / "items.csv")

    @cached_property
    def claims(self) -> pd.DataFrame:
        return pd.read_csv(self.root / "claims.csv")

    def row(self, corpus: str, metric: str) -> pd.DataFrame:
        """The five reported numbers of one row of Table 1, in the paper's order."""
        table = self.table1
        return table[(table["corpus"] == corpus) & (table["metric"] == metric)]

    def mean(self, corpus: str, metric: str) -> float:
        return float(self.row(corpus, metric)["value"].mean())

    def ratio(self, corpus: str) -> float:
        """Mean of row O_t+1 over mean of row O_t."""
        return self.mean(corpus, "lpips_to_next") / self.mean(corpus, "lpips_to_current")

    def share_nearer_to_next(self, corpus: str) -> float:
        nearer = (
            self.row(corpus, "lpips_to_next")["value"].to_numpy()
            < self.row(corpus, "lpips_to_current")["value"].to_numpy()
        )
        return float(nearer.mean())
