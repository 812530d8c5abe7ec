"""Read the records, per-pair samples and panels below `results/`.

The layout is the one of `experiments/`: `results/<scale>/<experiment>/<cell with __>.json`, next to them
`samples/*.csv`, `panels/<corpus>/`, `curves/*.csv` and `code_use/*.csv`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np

from paper.reading import SAFE_NAME, read_json, read_table, record_of
from paper.samples import Samples, read_samples
from uwm.errors import UserError
from uwm.files import inside
from uwm.metrics.spec import METRICS, MOVING, known_metric
from uwm.metrics.statistics import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_ratio_difference,
    gain,
    wilson,
)
from uwm.runs.record import sample_files

ROOT = Path(__file__).resolve().parent.parent
SCALES = ("mini", "paper")  # read always
OPTIONAL_SCALES = ("small",)  # read where they were measured: nothing is missing without them
CODE_SAMPLES = "codes"  # folder of samples with a row per code
FAILURES = ("failed", "timeout")


@dataclass(frozen=True)
class Measured:
    """One number of our own: the mean over pairs (and seeds) and its 95% interval over clips (and seeds)."""

    value: float
    low: float
    high: float
    n: int
    protocol: str = ""


@dataclass(frozen=True)
class RecordedCell:
    """One record and its file; `method`, `corpus` and `seed` are parsed from the cell's name."""

    path: Path
    record: dict[str, Any]

    @cached_property
    def parts(self) -> list[str]:
        return str(self.record["cell"]).split("/")

    @cached_property
    def method(self) -> str:
        return self.parts[0]

    @cached_property
    def corpus(self) -> str:
        return self.parts[1]

    @cached_property
    def seed(self) -> str:
        """`s0`, or an empty string for a cell without a seed."""
        return self.parts[2] if len(self.parts) > 2 else ""

    @cached_property
    def column(self) -> str:
        """Prefix of this cell's columns in the samples file: the method, with the seed where there is one."""
        return "/".join(filter(None, (self.method, self.seed)))

    @cached_property
    def status(self) -> str:
        return str(self.record["status"])

    @cached_property
    def samples_path(self) -> Path | None:
        """The per-pair file, named relative to the record's folder. UserError for a name that leads out."""
        return self.sample_paths[0] if self.sample_paths else None

    @cached_property
    def sample_paths(self) -> list[Path]:
        """That file, then further ones with rows of another kind."""
        return [inside(self.path.parent, entry["path"]) for entry in sample_files(self.record.get("samples"))]


@dataclass(frozen=True)
class Values:
    """A metric per pair: the pairs' names and the numbers of their clips, (n,), and values (n,) by seed."""

    pairs: np.ndarray
    clips: np.ndarray
    seeds: Mapping[str, np.ndarray]

    def rows(self, chosen: np.ndarray) -> "Values":
        """Some of the pairs."""
        values = {seed: value[chosen] for seed, value in self.seeds.items()}
        return Values(self.pairs[chosen], self.clips[chosen], values)

    def table(self, seeds: Sequence[str] = ()) -> np.ndarray:
        """(n, seeds), of all seeds or of the named ones."""
        return np.stack([self.seeds[seed] for seed in seeds or self.seeds], axis=1)


def in_common(tables: list[Values]) -> list[Values]:
    """Each table with the pairs that all have."""
    if all(np.array_equal(table.pairs, tables[0].pairs) for table in tables[1:]):
        return tables
    shared = reduce(np.intersect1d, [table.pairs for table in tables])
    return [table.rows(np.intersect1d(shared, table.pairs, return_indices=True)[2]) for table in tables]


def scales_at(root: Path) -> tuple[str, ...]:
    """The scales that are read of a `results` folder where none is asked for."""
    return (*SCALES, *(scale for scale in OPTIONAL_SCALES if any((root / scale).glob("*/*.json"))))


class Results:
    """Everything measured, below one `results` folder.

    `unreadable` lists (path, reason) of records that are no valid JSON or lack what is relied on.
    """

    def __init__(self, root: Path = ROOT / "results", scales: tuple[str, ...] | None = None) -> None:
        self.root = root
        self.scales = scales = scales_at(root) if scales is None else scales
        self.unreadable: list[tuple[Path, str]] = []
        self.cells: dict[tuple[str, str], list[RecordedCell]] = {}
        self._samples: dict[Path, Samples] = {}
        for scale in scales:
            for folder in sorted(path for path in (root / scale).glob("*") if path.is_dir()):
                if SAFE_NAME.fullmatch(folder.name):
                    self.cells[scale, folder.name] = list(self._read_folder(folder))
                else:
                    self.unreadable.append((folder, "no experiment has such a name"))

    def _read_folder(self, folder: Path) -> Iterator[RecordedCell]:
        for path in sorted(folder.glob("*__*.json")):
            try:
                record = record_of(read_json(path))
                _ = RecordedCell(path, record).sample_paths  # refuses a name that leads out
                yield RecordedCell(path, record)
            except (ValueError, OSError, UserError) as error:
                self.unreadable.append((path, f"{type(error).__name__}: {error}"))

    def find(self, scale: str, experiment: str, method: str, corpus: str) -> list[RecordedCell]:
        """All seeds of one method on one corpus."""
        cells = self.cells.get((scale, experiment), [])
        return [cell for cell in cells if cell.method == method and cell.corpus == corpus]

    def corpora(self, scale: str, experiment: str) -> list[str]:
        return sorted({cell.corpus for cell in self.cells.get((scale, experiment), [])})

    def status(self, scale: str, experiment: str, method: str, corpus: str) -> str:
        """`ok` when a seed is there, else `failed` when one failed, else `missing`."""
        states = {cell.status for cell in self.find(scale, experiment, method, corpus)}
        return "ok" if "ok" in states else "failed" if states & set(FAILURES) else "missing"

    def samples(self, path: Path) -> Samples:
        """A file of samples, read once."""
        if path not in self._samples:
            self._samples[path] = read_samples(path)
        return self._samples[path]

    def _tables(self, cell: RecordedCell) -> Iterator[Samples]:
        """The samples of a finished cell that have a row per pair, or per run of pairs."""
        paths = cell.sample_paths if cell.status == "ok" else []
        for path in paths:
            if path.exists() and path.parent.name != CODE_SAMPLES:
                yield self.samples(path)

    def measured(self, cell: RecordedCell) -> list[str]:
        """The names of the cell's own columns with a row per pair, or per run of pairs."""
        prefix = f"{cell.column}/"
        names = {str(name) for samples in self._tables(cell) for name in samples.columns}
        columns = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        return sorted(name for name in columns if "/" not in name)  # without those of its seeds

    def code_counts(self, cell: RecordedCell) -> np.ndarray | None:
        """How often each code occurs that does, (codes,); None where the cell has no such samples."""
        for path in cell.sample_paths:
            if path.parent.name == CODE_SAMPLES and path.exists():
                table = read_table(path)
                if f"{cell.column}/count" in table:
                    return table[f"{cell.column}/count"].to_numpy()
        return None

    def has_samples(self, cell: RecordedCell, metric: str) -> bool:
        """Whether the cell's samples hold what `metric` is computed from."""
        base = metric.removesuffix(MOVING)
        spec = known_metric(base)
        if spec is not None and spec.counted:
            return self.code_counts(cell) is not None
        parts = spec.ratio if spec is not None and spec.ratio else (base,)
        return all(self.pairs([cell], part) is not None for part in parts)

    def pairs(self, cells: list[RecordedCell], metric: str) -> Values | None:
        """Values of `metric` per pair that all seeds have; `<metric>_moving` is of the moving half.

        None when no cell has the columns for it.
        """
        by_seed = {}
        for cell in cells:
            for samples in self._tables(cell):
                column = samples.column(cell.column, metric.removesuffix(MOVING))
                if column is not None:
                    values = Values(samples.pairs, samples.clips, {cell.seed: column})
                    by_seed[cell.seed] = values.rows(samples.moving) if metric.endswith(MOVING) else values
                    break
        if not by_seed:
            return None
        first, *others = in_common(list(by_seed.values()))
        return replace(first, seeds={seed: v for part in (first, *others) for seed, v in part.seeds.items()})

    def measure(
        self, scale: str, experiment: str, method: str, corpus: str, metric: str, *, interval: bool = True
    ) -> Measured | None:
        """The record's own number; with several seeds their mean, with an interval over clips and seeds, or
        without samples (a rollout's) from the lowest to the highest limit of the seeds' intervals over clips.
        """
        cells = [c for c in self.find(scale, experiment, method, corpus) if c.status == "ok"]
        entries = [cell.record["metrics"][metric] for cell in cells if metric in cell.record["metrics"]]
        if not entries:
            return None
        value = float(np.mean([entry["value"] for entry in entries]))
        low, high = self._limits(cells, metric, entries) if interval else (math.nan, math.nan)
        return Measured(value, low, high, int(entries[0]["n"]), str(entries[0].get("protocol") or ""))

    def _limits(
        self, cells: list[RecordedCell], metric: str, entries: list[dict[str, Any]]
    ) -> tuple[float, float]:
        several = len(entries) > 1 and all(self.has_samples(cell, metric) for cell in cells)
        again = self.interval(cells, metric) if several else None
        intervals = [again.ci] if again else [entry["ci"] for entry in entries if entry.get("ci")]
        lows, highs = zip(*intervals, strict=True) if intervals else ([math.nan], [math.nan])
        return min(lows), max(highs)

    def interval(self, cells: list[RecordedCell], metric: str) -> Interval | None:
        """`metric` and its interval computed anew from the per-pair samples, or None without such columns."""
        base = metric.removesuffix(MOVING)
        spec = METRICS.get(base)
        if spec is not None and spec.ratio:
            above, below = (self.pairs(cells, metric.replace(base, name)) for name in spec.ratio)
            if above is None or below is None or below.table().sum() <= 0:  # a copy of O_t is at 0 of it
                return None
            ratio = bootstrap_ratio(above.table(), below.table(), above.clips)
            return gain(ratio) if spec.gain else ratio
        values = self.pairs(cells, metric)
        if values and spec is not None and spec.binomial and len(values.seeds) == 1:
            return wilson(int(values.table().sum()), len(values.pairs))
        return bootstrap_mean(values.table(), values.clips) if values and len(values.pairs) else None

    def difference(self, a: list[RecordedCell], b: list[RecordedCell], metric: str) -> Measured | None:
        """Mean of a - b over the pairs that both have, with its paired interval; None without samples. Of a
        ratio of means, the difference of the two ratios.

        Seeds are paired too; a method without seeds stands beside each of the other's.
        """
        base = metric.removesuffix(MOVING)
        spec = METRICS.get(base)
        parts = [metric.replace(base, name) for name in spec.ratio] if spec and spec.ratio else [metric]
        measured = [self.pairs(cells, part) for cells in (a, b) for part in parts]
        values = in_common([table for table in measured if table is not None])
        if len(values) < len(measured) or not len(values[0].pairs):
            return None
        half = len(parts)
        seeds = _common(list(values[0].seeds), list(values[half].seeds))
        if not all(seeds):
            return None
        tables = [table.table(seeds[index >= half]) for index, table in enumerate(values)]
        clips = values[0].clips
        if half == 1:
            interval = bootstrap_difference(tables[0], tables[1], clips)
        elif min(tables[1].sum(), tables[3].sum()) <= 0:  # a copy of O_t is at 0 of it
            return None
        else:
            ratios = [(tables[0], tables[1]), (tables[2], tables[3])]
            # A gain is 1 minus its ratio.
            first, second = reversed(ratios) if spec and spec.gain else ratios
            interval = bootstrap_ratio_difference(first, second, clips)
        return Measured(interval.estimate, interval.low, interval.high, interval.n)


def _common(a: list[str], b: list[str]) -> tuple[list[str], list[str]]:
    """The seeds that two methods have both; all of them where one has no seeds."""
    if a == [""] or b == [""]:
        return a, b
    both = [seed for seed in a if seed in b]
    return both, both
