"""Site files: what a cluster, or a partition of it, wants to hear. No site is built into the code."""

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from uwm.errors import UserError
from uwm.runs.settings import nearest


@dataclass(frozen=True)
class Resources:
    """What one job asks for. Empty text means that the option is not passed at all."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    exclude: str = ""
    nodes: int = 1
    gpus_per_node: int = 0
    tasks_per_node: int = 0  # processes per node; 0: one per GPU, or one without GPUs
    cpus_per_task: int = 1
    mem_gb: float = 0.0  # per node; 0: the partition's default
    hours: float = 1.0  # limit of one attempt; a job that reaches it goes on in the next attempt

    @property
    def processes_per_node(self) -> int:
        """Processes (ranks) on each node."""
        return self.tasks_per_node or max(1, self.gpus_per_node)

    @property
    def gpu_hours(self) -> float:
        """GPU hours of one attempt that uses all its time."""
        return self.nodes * self.gpus_per_node * self.hours


@dataclass(frozen=True)
class Site:
    """A site file: the resources of stage jobs (trainings) and of cell jobs, and how jobs start there."""

    name: str
    stages: Resources
    cells: Resources
    setup: tuple[str, ...] = ()  # shell lines before the command: modules, environment
    modules: tuple[str, ...] = ()  # `module load` these, in order
    python: str = ""  # the interpreter on the nodes; empty: the one that submits
    data: dict[str, str] = field(default_factory=dict)  # folders of the corpora there
    max_parallel: int = 256  # array tasks at a time
    max_array: int = 0  # tasks in one array; 0: ask the site, else 1000
    max_attempts: int = 100  # attempts that may end at the time limit before a job counts as timed out
    signal_delay_s: int = 120  # warning before the time limit
    wckey: str = ""

    def setup_lines(self) -> list[str]:
        """Shell lines that every job runs first."""
        return [*(f"module load {module}" for module in self.modules), *self.setup]


_RESOURCE_KEYS = {f.name for f in fields(Resources)}
_SITE_KEYS = {f.name for f in fields(Site)} - {"name", "stages", "cells"}
_TABLES = {"stages", "cells", "data"}


def load_site(path: Path) -> Site:
    """Read a site file. Its resource keys hold for all jobs; tables [stages] and [cells] override them.

    Raises:
        UserError: no such file, no TOML, an unknown key (the nearest known one is named), a wrong type.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"--site {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"--site {path}: {error}") from error
    known = _RESOURCE_KEYS | _SITE_KEYS | _TABLES
    for key in content:
        if key not in known:
            raise UserError(f"--site {path}: unknown key {key!r}{nearest(key, sorted(known))}")
    common = _resources(path, {k: v for k, v in content.items() if k in _RESOURCE_KEYS}, Resources(), "")
    tables = {
        name: _resources(path, content.get(name, {}), common, f"{name}.") for name in ("stages", "cells")
    }
    own = {k: _site_value(path, k, v) for k, v in content.items() if k in _SITE_KEYS}
    return Site(name=path.stem, stages=tables["stages"], cells=tables["cells"], **own)


def _resources(path: Path, table: Any, base: Resources, prefix: str) -> Resources:
    if not isinstance(table, dict):
        raise UserError(f"--site {path}: {prefix[:-1]} must be a table")
    for key, value in table.items():
        if key not in _RESOURCE_KEYS:
            raise UserError(
                f"--site {path}: unknown key {prefix + key!r}{nearest(key, sorted(_RESOURCE_KEYS))}"
            )
        _check_type(path, prefix + key, value, get_type_hints(Resources)[key])
    return replace(base, **table)


def _site_value(path: Path, key: str, value: Any) -> Any:
    if key in ("setup", "modules"):
        if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
            raise UserError(f"--site {path}: {key} must be a list of text")
        return tuple(value)
    if key == "data":
        if not isinstance(value, dict) or not all(isinstance(folder, str) for folder in value.values()):
            raise UserError(f"--site {path}: data must be a table of folders by corpus name")
        return dict(value)
    _check_type(path, key, value, get_type_hints(Site)[key])
    return value


def _check_type(path: Path, key: str, value: Any, kind: type) -> None:
    accepted = (int, float) if kind is float else (kind,)
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise UserError(f"--site {path}: {key} must be a {kind.__name__}, not {value!r}")
    if isinstance(value, int | float) and value < 0:
        raise UserError(f"--site {path}: {key} must not be negative, not {value!r}")
