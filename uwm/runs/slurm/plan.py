"""The jobs of a submission: stages as single jobs, cells as arrays, each after the jobs that it needs.

Nothing here talks to a cluster, so that `--dry-run` works anywhere.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from uwm.runs.experiment import Cell, Context, SkipCell, StageJob
from uwm.runs.listing import STAGE
from uwm.runs.patterns import matches
from uwm.runs.plan import planned_stage
from uwm.runs.preflight import reason_to_skip
from uwm.runs.slurm.resources import Resources
from uwm.runs.slurm.site import Site


@dataclass(frozen=True)
class Job:
    """One `sbatch` call: an array where there are several tasks, each of one or more items.

    `after_ok` names jobs that must succeed, `after_any` jobs that must end, before it starts.
    """

    name: str
    tasks: tuple[tuple[str, ...], ...]
    resources: Resources
    after_ok: tuple[str, ...] = ()
    after_any: tuple[str, ...] = ()
    parallel: int = 1

    @property
    def items(self) -> tuple[str, ...]:
        """The stages or cells that it works on."""
        return tuple(item for task in self.tasks for item in task)

    @property
    def gpu_hours(self) -> float:
        """GPU hours of one attempt of each task that uses all its time: an upper bound without time-outs."""
        return self.resources.gpu_hours * len(self.tasks)


@dataclass(frozen=True)
class Submission:
    """What is to be submitted, and what needs no job: `skipped` gives the reason by item.

    `folders`: the artifact's folder name of each stage whose identity is known by now. `readers`: patterns of
    the cells that need each stage, themselves or through other stages.
    """

    jobs: tuple[Job, ...]
    skipped: Mapping[str, str]
    folders: Mapping[str, str]
    readers: Mapping[str, tuple[str, ...]]


def plan_jobs(
    context: Context, cells: list[Cell], site: Site, live: Mapping[str, str], done: set[str]
) -> Submission:
    """The jobs for `cells` and for the stages that they need.

    `live` gives the job id of items that are queued or running already, `done` the cells with a record. Jobs
    depend on live ones by their id, on new ones by their name. A cell that will be skipped needs no stage.
    """
    skipped: dict[str, str] = {cell.name: "done" for cell in cells if cell.name in done}
    skipped |= {cell.name: f"already job {live[cell.name]}" for cell in cells if cell.name in live}
    missing = [cell.name for cell in cells if cell.name not in skipped]
    declared = context.experiment.stages(context.config, context.data) if missing else []
    skips = {cell.name for cell in cells if cell.name not in skipped and reason_to_skip(context, cell)}
    graph = _Graph(context, declared, live, skips)
    stages = tuple(graph.jobs(site, missing))
    arrays = tuple(_cell_jobs(context, site, missing, graph))
    return Submission((*stages, *arrays), {**skipped, **graph.skipped}, graph.folders, graph.readers())


class _Graph:
    """The stages of an experiment: which are finished, and what the others and the cells wait for."""

    def __init__(
        self, context: Context, declared: list[StageJob], live: Mapping[str, str], skips: set[str]
    ) -> None:
        self.context, self.live, self.skips = context, live, skips
        self.declared = {stage.name: stage for stage in declared}
        self.skipped: dict[str, str] = {}
        self.folders: dict[str, str] = {}
        self.finished: dict[str, bool] = {}
        self._check_order()

    def _check_order(self) -> None:
        earlier: set[str] = set()
        for stage in self.declared.values():
            unknown = [need for need in stage.needs if need not in earlier]
            if unknown:
                raise ValueError(f"stage {stage.name} needs {unknown[0]}, which is not declared before it")
            earlier.add(stage.name)

    def is_finished(self, name: str) -> bool:
        """True when the stage's artifact is there, or none is needed. Looked up once."""
        if name not in self.finished:
            stage = planned_stage(self.context, self.declared[name])
            if isinstance(stage, SkipCell):
                self.finished[name] = True
                self.skipped[STAGE + name] = f"not needed, {stage}"
                return True
            artifact = self.context.artifacts.find(stage) if stage else None
            self.finished[name] = artifact is not None
            if stage:
                self.folders[name] = stage.folder_name
            if artifact:
                self.skipped[STAGE + name] = artifact.origin
        return self.finished[name]

    def of_cell(self, cell: str) -> tuple[str, ...]:
        """The unfinished stages that a cell itself reads."""
        if cell in self.skips:
            return ()
        names = (name for name, stage in self.declared.items() if matches(cell, stage.cells))
        return tuple(name for name in names if not self.is_finished(name))

    def readers(self) -> dict[str, tuple[str, ...]]:
        """Patterns of the cells that need each stage, themselves or through the stages after it."""
        patterns: dict[str, tuple[str, ...]] = {}
        for name, stage in reversed(self.declared.items()):
            after = [patterns[other.name] for other in self.declared.values() if name in other.needs]
            patterns[name] = tuple(sorted({*stage.cells, *(pattern for group in after for pattern in group)}))
        return patterns

    def wanted(self, cells: Iterable[str]) -> set[str]:
        """The unfinished stages behind some cells, with those that these need in turn."""
        names: set[str] = set()
        todo = [name for cell in cells for name in self.of_cell(cell)]
        while todo:
            name = todo.pop()
            if name not in names:
                names.add(name)
                todo += [need for need in self.declared[name].needs if not self.is_finished(need)]
        return names

    def job_name(self, name: str) -> str:
        """What others wait for: the id of its live job, or the name of the one to be submitted."""
        return self.live.get(STAGE + name) or f"{self.context.experiment.name}-{name}"

    def jobs(self, site: Site, cells: list[str]) -> Iterator[Job]:
        """A job for each stage that is wanted and not queued yet."""
        names = self.wanted(cells)
        for name in (name for name in self.declared if name in names):
            stage, item = self.declared[name], STAGE + name
            if item in self.live:
                self.skipped[item] = f"already job {self.live[item]}"
                continue
            after = tuple(self.job_name(need) for need in stage.needs if not self.is_finished(need))
            yield Job(self.job_name(name), ((item,),), site.for_stage(stage), after)


def _cell_jobs(context: Context, site: Site, cells: list[str], graph: _Graph) -> Iterator[Job]:
    """Arrays of the cells that wait for the same stages and want the same resources."""
    groups: dict[str, tuple[Resources, tuple[str, ...], list[str]]] = {}
    for cell in cells:
        resources = site.for_cell(cell, matches(cell, context.experiment.without_gpu))
        after = tuple(graph.job_name(name) for name in graph.of_cell(cell))
        groups.setdefault(repr((resources, after)), (resources, after, []))[2].append(cell)
    for number, (resources, after, names) in enumerate(groups.values()):
        label = f"{context.experiment.name}-cells" + (f"-{number}" if len(groups) > 1 else "")
        yield from _arrays(label, packed(names, resources.cells_per_job), resources, site, after)


def packed(names: list[str], size: int) -> list[tuple[str, ...]]:
    """`names` in tuples of at most `size`."""
    return [tuple(names[start : start + size]) for start in range(0, len(names), size)]


def _arrays(
    label: str, tasks: list[tuple[str, ...]], resources: Resources, site: Site, after: tuple[str, ...]
) -> Iterator[Job]:
    """Arrays of at most `max_array` tasks which together run at most `max_parallel` at a time."""
    size = site.max_array or 1000
    chunks = [tuple(tasks[start : start + size]) for start in range(0, len(tasks), size)]
    together = min(len(chunks), site.max_parallel)  # arrays that run side by side; the others wait for them
    names = [label if len(chunks) == 1 else f"{label}-part-{number}" for number in range(len(chunks))]
    for number, chunk in enumerate(chunks):
        before = (names[number - together],) if number >= together else ()
        yield Job(names[number], chunk, resources, after, before, max(1, site.max_parallel // together))


def dependency(job: Job, ids: Mapping[str, str]) -> str:
    """Slurm's dependency text; names of jobs without an id yet are shown in angle brackets."""

    def joined(names: Iterable[str]) -> str:
        return ":".join(ids.get(name, name if name[0].isdigit() else f"<{name}>") for name in names)

    parts = [f"afterok:{joined(job.after_ok)}" if job.after_ok else ""]
    parts += [f"afterany:{joined(job.after_any)}" if job.after_any else ""]
    return ",".join(part for part in parts if part)


def first_tasks(job: Job, count: int) -> tuple[Job, Job | None]:
    """The job with its first `count` tasks, and one with the rest."""
    rest = job.tasks[count:]
    return replace(job, tasks=job.tasks[:count]), replace(job, tasks=rest) if rest else None
