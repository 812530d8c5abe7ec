"""Declare an experiment: its config per scale, its cells (method x corpus x seed), and how one is measured.

An experiment file ends with

    EXPERIMENT = Experiment(name="table1", version=1, configs=..., cells=..., run_cell=..., summarize=...)

    if __name__ == "__main__":
        raise SystemExit(main(EXPERIMENT))  # uwm.runs.cli

The guard lets a job load the file to run one of its cells.
"""

import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

from uwm import methods
from uwm.env import REPOSITORY
from uwm.errors import UserError
from uwm.garbage import no_collection
from uwm.runs.artifacts import Artifact, Artifacts, Stage
from uwm.runs.provenance import environment
from uwm.runs.record import (
    Record,
    config_digest,
    file_stem,
    read_record,
    stale_measures,
)
from uwm.runs.settings import plain_value

_T = TypeVar("_T")


@dataclass(frozen=True)
class Cell:
    """One measurement: a method on a corpus, with a seed where the method has one."""

    method: str
    corpus: str
    seed: int | None = None

    @property
    def name(self) -> str:
        """`uwm/sim-ego/s0`, or `copy/sim-ego` without a seed."""
        return f"{self.method}/{self.corpus}" + ("" if self.seed is None else f"/s{self.seed}")

    @property
    def file_name(self) -> str:
        """`uwm__sim-ego__s0`, the record's file name without `.json`."""
        return file_stem(self.name)


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` samples with its 95% interval; `protocol` names how it was measured (which LPIPS)."""

    value: float
    n: int
    ci: tuple[float, float] | None = None
    protocol: str | None = None


@dataclass(frozen=True)
class CellResult:
    """What `run_cell` returns.

    `samples`: file below `context.out` with the values per pair; `further_samples`: files of rows of another
    kind (runs of pairs, codes) behind metrics that the first has no columns for. `stages`: artifacts that the
    number rests on; those that the cell obtains through `context.artifacts` are added by themselves.
    """

    metrics: Mapping[str, Estimate]
    samples: Path | None = None
    manifest_sha256: str | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, Artifact] = field(default_factory=dict)
    further_samples: Sequence[Path] = ()


class SkipCell(Exception):  # noqa: N818 (no error: the cell cannot be measured here)
    """Raised by `run_cell` when a cell cannot be measured here; its record gets the status `skipped`."""


@dataclass(frozen=True)
class StageJob:
    """A stage that several cells share, as a job of its own on a cluster (locally it runs in the first cell).

    `run` computes it through `context.artifacts.obtain`. `stage` tells its identity, so that a plan can say
    whether it is cached; where the identity depends on another artifact, it is known once that is finished.
    It raises SkipCell for a stage that is not needed: cells that name it do without.
    `needs` names the stage jobs that come first. `cells`: patterns of the cells that read it; they alone
    wait for it, or go down with it. A stage that `trains` gets the site's resources for trainings (many
    GPUs), or where one GPU is enough (`small`) those of small trainings; any other those of a cell, and one
    that only reads files (not `computes`) those of cells that read, without a GPU. `operations` counts its
    floating-point operations, those of a measurement in fp32, from which a plan tells GPU hours; the counting
    takes seconds.
    """

    name: str
    run: Callable[["Context"], object]
    stage: Callable[["Context"], Stage | None] | None = None
    needs: tuple[str, ...] = ()
    trains: bool = True
    small: bool = False
    computes: bool = True
    cells: tuple[str, ...] = ("*",)
    operations: Callable[["Context"], float | None] = lambda context: None


@dataclass(frozen=True)
class Parts:
    """Work of a cell that several processes do ahead of it (`--jobs`), part by part and in any order.

    `names(config, cell)` are a cell's parts; `run(context, cell, part)` does one and leaves a file, which the
    cell looks for. The cell does itself what it does not find, so that the number of processes changes
    nothing but the time.
    """

    names: Callable[[Any, Cell], Sequence[str]] = lambda config, cell: ()
    run: Callable[["Context", Cell, str], None] = lambda context, cell, part: None


@dataclass
class Context:
    """What a cell may know: its config, the data folders given by the user, the artifacts, where to write.

    `out` is the records' folder. `stop()` is true once the run should end at the next checkpoint; hand it to
    the training loop.
    """

    experiment: "Experiment"
    config: Any
    scale: str
    data: Mapping[str, Path]
    artifacts: Artifacts
    out: Path
    work: Path  # logs and other files of this run that are no results
    command: str
    code: Mapping[str, Any]
    stop: Callable[[], bool] = lambda: False
    memo: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Hashable, find: Callable[[], _T]) -> _T:
        """What `find()` gives, looked for at the first call with this key: for what takes seconds to find.

        It holds as long as this context and its copies by `replace`, which is one command or one job: files
        that change meanwhile are seen by the next one.
        """
        if key not in self.memo:
            self.memo[key] = find()
        return cast(_T, self.memo[key])

    def afresh(self) -> "Context":
        """The same, to look again for what was found: for a command that has waited meanwhile."""
        return replace(self, memo={})

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells of this config and data, whether chosen by --only or not."""
        cells = self.experiment.cells(self.config, self.data)
        if len({cell.name for cell in cells}) < len(cells):
            raise ValueError(f"experiment {self.experiment.name} declares a cell twice")
        for method in {cell.method for cell in cells}:
            methods.parse(method)  # UserError for one that is not declared
        return cells

    @cached_property
    def env(self) -> dict[str, Any]:
        """The record's `env` field."""
        return environment(REPOSITORY)

    def cell_config(self, cell: Cell) -> dict[str, Any]:
        """The record's `config` field: what the cell reads of the config."""
        return plain_value(self.experiment.reads(self.config, cell))

    def record(self, cell: Cell) -> Record | None:
        """The cell's record in `out`, if there is one and it is current."""
        path = self.out / f"{cell.file_name}.json"
        if not path.is_file():
            return None
        record = read_record(path)
        return record if self.is_current(cell, record.to_json()) else None

    def measured(self, cell: Cell) -> Mapping[str, Any] | None:
        """The cell's record in `out`, if it is current and says `ok`; none that cannot be read."""
        try:
            content = json.loads((self.out / f"{cell.file_name}.json").read_text(encoding="utf-8"))
            return content if content["status"] == "ok" and self.is_current(cell, content) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_current(self, cell: Cell, record: Mapping[str, Any]) -> bool:
        """Whether the experiment's version, those of the record's measures and the fields of the config that
        the cell reads are still what they were."""
        experiment, measures = self.experiment, record.get("measures", {})
        digest = config_digest(
            experiment.name, experiment.version, self.cell_config(cell), cell.name, measures
        )
        return record.get("config_digest") == digest and not stale_measures(measures)

    def records(self) -> dict[str, Record]:
        """Current records of the declared cells by cell name, in their order; missing cells are left out."""
        records = {cell.name: self.record(cell) for cell in self.cells}
        return {name: record for name, record in records.items() if record is not None}


@dataclass(frozen=True)
class Experiment:
    """A table or figure: its name, configs by scale, cells, and the function that measures a cell.

    `reads(config, cell)` gives what of the config changes the cell's numbers, as a dict of JSON values and
    dataclasses; by default all of it. `summarize(context)` prints the table and draws the panels from
    `context.records()` at the end. `without_gpu`: patterns of the cells that only read what stages left; a
    cluster packs them into jobs without a GPU. `checks` gives a warning for each thing that a cluster's nodes
    may lack, and raises UserError for what they need. `check_corpus` raises UserError for a corpus that can't
    be measured, `check_cell` SkipCell for a cell that would be skipped; both are asked before anything is
    computed. `parts`: what several processes share of a cell. `operations` counts, as a stage's do, what
    measuring a cell takes, by what it reads; None where that is not known. `included`: the corpora
    that come with the project; records of other data under these names never go among the committed ones.
    """

    name: str
    version: int
    configs: Mapping[str, Any]
    cells: Callable[[Any, Mapping[str, Path]], list[Cell]]
    run_cell: Callable[[Context, Cell], CellResult]
    reads: Callable[[Any, Cell], Mapping[str, Any]] = lambda config, cell: vars(config)
    summarize: Callable[[Context], None] = lambda context: None
    stages: Callable[[Any, Mapping[str, Path]], list[StageJob]] = lambda config, data: []
    description: str = ""
    without_gpu: tuple[str, ...] = ()
    checks: Callable[[Context], Iterable[str]] = lambda context: ()
    check_corpus: Callable[[Context, str], None] = lambda context, name: None
    check_cell: Callable[[Context, Cell], object] = lambda context, cell: None
    parts: Parts = Parts()
    operations: Callable[[Mapping[str, Any]], float | None] = lambda read: None
    included: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The experiment's own file."""
        return Path(inspect.getfile(self.run_cell)).resolve()

    @property
    def root(self) -> Path:
        """The repository, in whose folder `experiments` the file lies."""
        return self.file.parent.parent


def load_experiment(path: Path) -> Experiment:
    """The `EXPERIMENT` of an experiment file.

    Raises:
        UserError: no such file, or it declares no experiment.
    """
    if not path.is_file():
        raise UserError(f"no experiment file {path}")
    name = f"uwm_experiment_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    with no_collection():
        spec.loader.exec_module(module)
    experiment = getattr(module, "EXPERIMENT", None)
    if not isinstance(experiment, Experiment):
        raise UserError(f"{path} declares no EXPERIMENT = Experiment(...)")
    return experiment
