"""Site files: what a cluster, or a partition of it, wants to hear. No site is built into the code."""

import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from uwm.errors import UserError
from uwm.runs.experiment import StageJob
from uwm.runs.patterns import matches
from uwm.runs.settings import nearest
from uwm.runs.slurm.resources import OWN_OPTIONS, Resources, gpu_count, own_option

# A cell that only reads what stages left needs no GPU, and hundreds of them fit into one job.
READING: Mapping[str, Any] = {"nodes": 1, "gpus_per_node": 0, "tasks_per_node": 1, "cells_per_job": 1000}


TFLOPS = 280.0
"""Where a site tells none: what an H200 reaches in the pre-training of scale `paper` (slurm/README.md)."""
TFLOPS_FP32 = 30.0
"""In fp32, in which measures are taken: assumed, not measured."""


@dataclass(frozen=True)
class Rule:
    """Keys of a table like [cells."uwm/*"], for the stages or cells whose name the pattern matches."""

    pattern: str
    keys: Mapping[str, Any]


@dataclass(frozen=True)
class Site:
    """A site file: resources of trainings, of small ones, of cells, of cells that only read, and how jobs
    start there."""

    name: str
    stages: Resources
    cells: Resources
    reading: Resources = field(default_factory=Resources)
    small: Resources = field(default_factory=Resources)
    stage_rules: tuple[Rule, ...] = ()
    cell_rules: tuple[Rule, ...] = ()
    setup: tuple[str, ...] = ()  # shell lines before the command: modules, environment
    modules: tuple[str, ...] = ()  # `module load` these, in order
    launcher: str = ""  # what starts Python, as shell text: "apptainer exec --nv uwm.sif", "conda run -n uwm"
    python: str = ""  # the interpreter on the nodes; empty: the one that submits
    data: dict[str, str] = field(default_factory=dict)  # folders of the corpora there
    max_parallel: int = 256  # array tasks at a time
    max_array: int = 0  # tasks in one array; 0: ask the site, else 1000
    max_submit: int = 0  # array tasks queued at a time, where the site limits them; 0: no limit
    max_attempts: int = 100  # attempts that may end at the time limit before a job counts as timed out
    signal_delay_s: int = 120  # warning before the time limit
    tflops: float = 0.0  # TFLOP/s that a GPU reaches in a training, for the GPU hours of --graph; 0: not told
    wckey: str = ""

    def for_stage(self, stage: StageJob) -> Resources:
        """Resources of a stage: trainings get those of [stages] or [small], other stages those of [cells], or
        where they only read files those of [reading]."""
        if stage.trains:
            base = self.small if stage.small else self.stages
        else:
            base = self.cells if stage.computes else self.reading
        return _with_rules(base, self.stage_rules, stage.name)

    def for_cell(self, name: str, reads: bool) -> Resources:
        """Resources of a cell; one that only reads what stages left gets those of [reading]."""
        return _with_rules(self.reading if reads else self.cells, self.cell_rules, name)

    def unmatched(self, stages: Iterable[str], cells: Iterable[str]) -> Iterator[str]:
        """What to say of each table whose pattern matches none of these names."""
        for table, rules, names in (
            ("stages", self.stage_rules, [*stages]),
            ("cells", self.cell_rules, [*cells]),
        ):
            for rule in rules:
                if not any(matches(name, (rule.pattern,)) for name in names):
                    yield f'[{table}."{rule.pattern}"] matches none of the {table} of this run'


def _with_rules(base: Resources, rules: tuple[Rule, ...], name: str) -> Resources:
    for rule in rules:
        if matches(name, (rule.pattern,)):
            base = _changed(base, rule.keys)
    return base


def _changed(base: Resources, keys: Mapping[str, Any]) -> Resources:
    table = {**base.sbatch, **keys.get("sbatch", {})}
    made = replace(base, **{**keys, "sbatch": table})
    if gpu_count(made.gpus_per_node) and made.gpus_of_gres:
        raise UserError("gpus_per_node and gres of [sbatch] both ask for GPUs of the same job; keep one")
    return made


_RESOURCE_KEYS = {f.name for f in fields(Resources)}
_SITE_KEYS = {f.name for f in fields(Site)} - {
    "name", "stages", "small", "cells", "reading", "stage_rules", "cell_rules"
}  # fmt: skip
_AT_LEAST_ONE = ("nodes", "cpus_per_task", "cells_per_job", "max_parallel")
_TABLES = ("stages", "small", "cells", "reading")


def load_site(path: Path) -> Site:
    """Read a site file. Its resource keys hold for all jobs; [stages] and [cells] override them,
    [small] and [reading] override those of [cells].

    Raises:
        UserError: no such file, no TOML, an unknown key (the nearest known one is named), a wrong type.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"--site {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"--site {path}: {error}") from error
    try:
        return _site(path.stem, content)
    except UserError as error:
        raise UserError(f"--site {path}: {error}") from error


def _site(name: str, content: dict[str, Any]) -> Site:
    known = _RESOURCE_KEYS | _SITE_KEYS | {*_TABLES}
    for key in content:
        if key not in known:
            raise UserError(f"unknown key {key!r}{_advice(key, known)}")
    site_values = {key: _site_value(key, value) for key, value in content.items() if key in _SITE_KEYS}
    _check_python(site_values.get("python", ""))
    common = _changed(Resources(), _resource_keys(content, "", also={*_SITE_KEYS, *_TABLES}))
    tables = {table: _table(content, table) for table in _TABLES}
    for table in ("small", "reading"):
        for pattern in (key for key, value in tables[table].items() if _is_rule(key, value)):
            raise UserError(f'[{table}."{pattern}"]: patterns stand in [stages] and [cells]')
    plain = {table: _plain_keys(tables[table], f"{table}.") for table in _TABLES}
    cells = _changed(common, plain["cells"])
    return Site(
        name=name,
        stages=_changed(common, plain["stages"]),
        cells=cells,
        reading=_changed(cells, {**READING, **plain["reading"]}),
        small=_changed(cells, plain["small"]),
        stage_rules=_rules(tables["stages"], "stages"),
        cell_rules=_rules(tables["cells"], "cells"),
        **site_values,
    )


def _table(content: dict[str, Any], name: str) -> dict[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise UserError(f"{name} must be a table")
    return table


def _is_rule(key: str, value: Any) -> bool:
    return isinstance(value, dict) and key not in _RESOURCE_KEYS


def _plain_keys(table: dict[str, Any], prefix: str) -> dict[str, Any]:
    return _resource_keys({k: v for k, v in table.items() if not _is_rule(k, v)}, prefix)


def _rules(table: dict[str, Any], name: str) -> tuple[Rule, ...]:
    return tuple(
        Rule(pattern, _resource_keys(keys, f"{name}.{pattern}."))
        for pattern, keys in table.items()
        if _is_rule(pattern, keys)
    )


def _resource_keys(table: dict[str, Any], prefix: str, also: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    resources = {}
    for key, value in table.items():
        if key in also:
            continue
        if key not in _RESOURCE_KEYS:
            raise UserError(f"unknown key {prefix + key!r}{_advice(key, _RESOURCE_KEYS)}")
        resources[key] = _resource_value(prefix + key, key, value)
    return resources


def _resource_value(label: str, key: str, value: Any) -> Any:
    if key == "sbatch":
        return _sbatch_options(label, value)
    if key == "srun_args":
        return _texts(label, value)
    _check_type(label, value, get_type_hints(Resources)[key])
    if key == "gpus_per_node":
        try:
            gpu_count(value)
        except ValueError as error:
            raise UserError(f"{label}: {error}") from error
    _check_positive(label, key, value)
    return value


def _sbatch_options(label: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{label} must be a table of sbatch's long options")
    options = {key.replace("_", "-").lstrip("-"): content for key, content in value.items()}
    for key, content in options.items():
        reserved = own_option(key)
        if reserved is not None:
            advice = (
                f"write {OWN_OPTIONS[reserved]} = ... outside of [sbatch]"
                if OWN_OPTIONS[reserved]
                else "leave it out"
            )
            raise UserError(f"{label}.{key}: this option is the launcher's own; {advice}")
        if not isinstance(content, str | int | float):
            raise UserError(f"{label}.{key} must be text, a number or true, not {content!r}")
    try:
        gpu_count(Resources(sbatch=options).gpus_of_gres or 0)
    except ValueError as error:
        raise UserError(f"{label}.gres: {error}") from error
    return options


def _advice(key: str, known: set[str]) -> str:
    """The nearest key; an option of sbatch that this file has no key for has a table of its own."""
    ours = OWN_OPTIONS.get(key.replace("_", "-"))
    if ours in known:
        return f"; did you mean {ours!r}?"
    if ours is not None:
        return f"; {ours} holds for all jobs, at the top" if ours else "; the launcher sets this itself"
    close = nearest(key, sorted(known))
    if close.startswith("; did you mean") and not key.startswith(("gres", "mem", "mail")):
        return close
    return f"; an option of sbatch goes into the table [sbatch], as {key.replace('_', '-')} = ..."


def _check_python(text: str) -> None:
    if " " in text and not Path(text).exists():
        raise UserError(
            f"python must be one program, not {text!r}; put what comes before it into launcher, as shell text"
        )


def _site_value(key: str, value: Any) -> Any:
    if key in ("setup", "modules"):
        return _texts(key, value)
    if key == "data":
        if not isinstance(value, dict) or not all(isinstance(folder, str) for folder in value.values()):
            raise UserError("data must be a table of folders by corpus name")
        for name, folder in value.items():
            if not folder:
                raise UserError(f"data.{name} is empty; write its folder")
        return dict(value)
    _check_type(key, value, get_type_hints(Site)[key])
    _check_positive(key, key, value)
    return value


def _texts(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise UserError(f"{key} must be a list of text")
    return tuple(value)


def _check_type(key: str, value: Any, kind: Any) -> None:
    kinds = get_args(kind) or (kind,)
    accepted = (int, float) if kind is float else kinds
    if isinstance(value, bool) or not isinstance(value, accepted):
        names = " or ".join(each.__name__ for each in kinds)
        raise UserError(f"{key} must be a {names}, not {value!r}")
    if isinstance(value, int | float) and value < 0:
        raise UserError(f"{key} must not be negative, not {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key} must be a number, not {value!r}")


def _check_positive(label: str, key: str, value: Any) -> None:
    if key in ("hours", "tasks_per_node") and value == 0:
        raise UserError(f"{label} must be more than 0; leave it out for its default")
    if key in _AT_LEAST_ONE and value < 1:
        raise UserError(f"{label} must be at least 1, not {value}")
