"""The plan of a run: names and values, from which another process builds the same context.

Plans lie as `plan-<digest>.json` in the run folder `runs/<scale>/<experiment>-<digest>/`, beside the logs.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from uwm.env import allow_bad_share, cache_root, runs_root
from uwm.errors import UserError
from uwm.files import write_atomically
from uwm.runs.artifacts import Artifacts, NotThere, Stage
from uwm.runs.experiment import Cell, Context, Experiment, SkipCell, StageJob, load_experiment
from uwm.runs.provenance import code_provenance, shown_command
from uwm.runs.record import digest_of
from uwm.runs.settings import nearest, plain, with_settings

RELEASED_SCALE = "mini"  # of the released weights
RECOMPUTE = "recompute.json"  # in the run folder while a run with --recompute is unfinished


@dataclass(frozen=True)
class RunPlan:
    """Everything that a process needs to measure a cell of this run. Paths are absolute."""

    experiment_file: str
    scale: str
    settings: tuple[str, ...]
    data: dict[str, str]
    out: str  # where the records end up
    work: str  # the run folder
    cache: str
    recompute: bool
    since: float  # seconds since the epoch; with recompute, older artifacts do not count
    command: str
    code: dict[str, Any]
    max_bad_share: float | None = (
        None  # of a corpus's clips, that may be unusable: whether, not what, is read
    )

    def context(
        self, experiment: Experiment | None = None, *, stop: Callable[[], bool] = lambda: False
    ) -> Context:
        """The context of a process of this run; loads the experiment's file where it is not given."""
        if self.max_bad_share is not None:
            allow_bad_share(self.max_bad_share)
        experiment = experiment or load_experiment(Path(self.experiment_file))
        return Context(
            experiment=experiment,
            config=config_for(experiment, self.scale, self.settings),
            scale=self.scale,
            data={name: Path(folder) for name, folder in self.data.items()},
            artifacts=Artifacts(
                Path(self.cache),
                recompute=self.recompute,
                since=self.since,
                code=self.code,
                released_for=self.scale == RELEASED_SCALE,
            ),
            out=Path(self.out),
            work=Path(self.work),
            command=self.command,
            code=self.code,
            stop=stop,
        )

    def write(self) -> Path:
        """Write the plan into the run folder. Returns its path.

        Raises:
            UserError: the run folder cannot be written.
        """
        content = asdict(self)
        path = Path(self.work) / f"plan-{digest_of(content)}.json"
        try:
            write_atomically(path, json.dumps(content, indent=1) + "\n")
        except OSError as error:
            raise UserError(
                f"cannot write into {self.work} ({error.strerror}); set UWM_RUNS to another folder"
            ) from error
        return path

    @classmethod
    def read(cls, path: Path) -> "RunPlan":
        """Read a written plan."""
        content = json.loads(path.read_text())
        return cls(**{**content, "settings": tuple(content["settings"])})


def config_for(experiment: Experiment, scale: str, settings: tuple[str, ...]) -> Any:
    """The config of a scale with the user's settings applied."""
    if scale not in experiment.configs:
        raise UserError(
            f"--scale {scale}: {experiment.name} has no such scale{nearest(scale, experiment.configs)}"
        )
    config = with_settings(experiment.configs[scale], settings)
    check_config(config)
    return config


def check_config(config: Any) -> None:
    """A config is a frozen dataclass of plain values.

    Raises:
        TypeError: it is not.
    """
    parameters = getattr(type(config), "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise TypeError(f"the config {type(config).__name__} must be a frozen dataclass")


def own_corpora(experiment: Experiment, config: Any) -> set[str]:
    """The corpora that a config measures, pre-trains on, or names as that of a robot whose tasks it plays."""
    trained_on = {*getattr(config, "pretrain_on", ()), getattr(config, "corpus", "")} - {""}
    return {cell.corpus for cell in experiment.cells(config, {})} | trained_on


def named_places(
    experiment: Experiment, scale: str, settings: tuple[str, ...], folders: Mapping[str, str]
) -> dict[str, str]:
    """Of a site file's folders those of corpora that the experiment names: a site file adds none."""
    corpora = own_corpora(experiment, config_for(experiment, scale, settings))
    return {name: folder for name, folder in folders.items() if name in corpora}


def make_plan(
    experiment: Experiment,
    argv: list[str],
    *,
    scale: str,
    settings: tuple[str, ...],
    data: dict[str, str],
    out: str | None,
    recompute: bool,
) -> RunPlan:
    """The plan of a command line.

    Records go to `results/<scale>/<experiment>/`. With other settings or corpora than the experiment's own,
    or with other data for one that comes with the project, they go below the run folder, so that they never
    replace committed ones; `out` overrides both. An experiment's own corpora are those that its config
    measures or pre-trains on; `data` says where those lie that do not come with the project.
    """
    config = config_for(experiment, scale, settings)
    corpora = own_corpora(experiment, config)
    added = {name: data[name] for name in data if name in experiment.included or name not in corpora}
    identity = {"version": experiment.version, "config": plain(config), "data": added}
    work = runs_root(experiment.root) / scale / f"{experiment.name}-{digest_of(identity)[:8]}"
    usual = not settings and not added
    code = code_provenance(experiment.root, experiment.file)
    folder = experiment.root / "results" / scale / experiment.name if usual else work / "results"
    return RunPlan(
        experiment_file=str(experiment.file),
        scale=scale,
        settings=settings,
        data=data,
        out=str(Path(out).absolute() if out else folder),
        work=str(work),
        cache=str(cache_root()),
        recompute=recompute,
        since=_recompute_since(work, code) if recompute else 0.0,
        command=shown_command(experiment.file, argv, experiment.root),
        code=code,
    )


def _recompute_since(work: Path, code: dict[str, Any]) -> float:
    """Now, or when an unfinished --recompute of the same code and settings began: it goes on."""
    return _noted_since(work, code) or time.time()


def _noted_since(work: Path, code: dict[str, Any]) -> float | None:
    try:
        noted = json.loads((work / RECOMPUTE).read_text(encoding="utf-8"))
        return float(noted["since"]) if noted["code"] == code else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def recomputing(plan: RunPlan) -> Iterator[None]:
    """Around a run with --recompute: killed and started again, it keeps the stages that it has finished."""
    note = Path(plan.work) / RECOMPUTE
    if not plan.recompute:
        yield
        return
    if plan.since == _noted_since(Path(plan.work), plan.code):
        say(f"going on with the unfinished --recompute; remove {note} to start anew")
    write_atomically(note, json.dumps({"since": plan.since, "code": plan.code}) + "\n")
    yield
    note.unlink(missing_ok=True)


def planned_stage(context: Context, job: StageJob) -> Stage | SkipCell | None:
    """The identity of a stage job, computing nothing; None while that rests on what is not finished, and the
    reason for a stage that is not needed."""
    if job.stage is None:
        return None
    try:
        return job.stage(replace(context, artifacts=replace(context.artifacts, find_only=True)))
    except NotThere:
        return None
    except SkipCell as reason:
        return reason


def find_cell(context: Context, name: str) -> Cell:
    """The declared cell of that name."""
    for cell in context.cells:
        if cell.name == name:
            return cell
    raise UserError(f"no cell {name!r}{nearest(name, [cell.name for cell in context.cells])}")


def find_stage(context: Context, name: str) -> StageJob:
    """The declared stage job of that name."""
    jobs = context.experiment.stages(context.config, context.data)
    for job in jobs:
        if job.name == name:
            return job
    raise UserError(f"no stage {name!r}{nearest(name, [job.name for job in jobs])}")


def say(text: str) -> None:
    """A line about progress, on stderr: stdout belongs to the table and to --json."""
    with suppress(OSError, ValueError):  # a closed stderr is no reason to end a training
        print(text, file=sys.stderr, flush=True)
