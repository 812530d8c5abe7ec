"""The jobs of a submission on paper: stages as single jobs, cells as arrays, with their dependencies.

Nothing here talks to a cluster, so that `--dry-run` works anywhere.
"""

import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uwm.runs.experiment import Cell, Context
from uwm.runs.slurm.site import Resources, Site
from uwm.runs.task import STAGE

ENTRY = "-u -m submitit.core._submit"


@dataclass(frozen=True)
class Job:
    """One `sbatch` call: an array where there are several items.

    `after_ok` names jobs that must succeed, `after_any` jobs that must end, before it starts.
    """

    name: str
    items: tuple[str, ...]
    resources: Resources
    after_ok: tuple[str, ...] = ()
    after_any: tuple[str, ...] = ()
    parallel: int = 1

    @property
    def gpu_hours(self) -> float:
        """GPU hours of one attempt of each item that uses all its time: an upper bound without time-outs."""
        return self.resources.gpu_hours * len(self.items)


@dataclass(frozen=True)
class Submission:
    """What is to be submitted, and what needs no job: `skipped` gives the reason by item."""

    jobs: tuple[Job, ...]
    skipped: Mapping[str, str]


def plan_jobs(
    context: Context, cells: list[Cell], site: Site, live: Mapping[str, str], done: set[str]
) -> Submission:
    """The jobs for `cells` and the stages before them.

    `live` gives the job id of items that are queued or running already, `done` the cells with a record. Jobs
    depend on live ones by their id, on new ones by their name.
    """
    skipped: dict[str, str] = {cell.name: "done" for cell in cells if cell.name in done}
    stages = _stage_jobs(context, site, live, skipped) if any(cell.name not in done for cell in cells) else []
    names = tuple(job.name for job in stages)
    waiting = tuple(live[item] for item in live if item.startswith(STAGE))
    items = []
    for cell in cells:
        if cell.name in live:
            skipped[cell.name] = f"already job {live[cell.name]}"
        elif cell.name not in done:
            items.append(cell.name)
    arrays = _cell_arrays(context.experiment.name, items, site, (*names, *waiting))
    return Submission((*stages, *arrays), skipped)


def _stage_jobs(context: Context, site: Site, live: Mapping[str, str], skipped: dict[str, str]) -> list[Job]:
    jobs: list[Job] = []
    names: dict[str, str] = {}  # stage -> the job that it waits for
    for stage in context.experiment.stages(context.config, context.data):
        item = STAGE + stage.name
        found = context.artifacts.find(stage.stage(context)) if stage.stage else None
        if found:
            skipped[item] = found.origin
        elif item in live:
            skipped[item] = f"already job {live[item]}"
            names[stage.name] = live[item]
        else:
            unknown = [need for need in stage.needs if need not in names and STAGE + need not in skipped]
            if unknown:
                raise ValueError(f"stage {stage.name} needs {unknown[0]}, which is not declared before it")
            after = tuple(names[need] for need in stage.needs if need in names)
            names[stage.name] = f"{context.experiment.name}-{stage.name}"
            resources = site.stages if stage.trains else site.cells
            jobs.append(Job(names[stage.name], (item,), resources, after))
    return jobs


def _cell_arrays(name: str, items: list[str], site: Site, after: tuple[str, ...]) -> list[Job]:
    """Arrays of at most `max_array` cells which together run at most `max_parallel` at a time."""
    size = site.max_array or 1000
    chunks = [tuple(items[start : start + size]) for start in range(0, len(items), size)]
    together = min(len(chunks), site.max_parallel)  # arrays that run side by side; the others wait for them
    jobs: list[Job] = []
    for number, chunk in enumerate(chunks):
        label = f"{name}-cells" if len(chunks) == 1 else f"{name}-cells-{number}"
        before = (jobs[number - together].name,) if number >= together else ()
        jobs.append(Job(label, chunk, site.cells, after, before, max(1, site.max_parallel // together)))
    return jobs


def dependency(job: Job, ids: Mapping[str, str]) -> str:
    """Slurm's dependency text; names of jobs without an id yet are shown in angle brackets."""
    after_ok = ":".join(ids.get(name, name if name[0].isdigit() else f"<{name}>") for name in job.after_ok)
    after_any = ":".join(ids.get(name, f"<{name}>") for name in job.after_any)
    parts = [f"afterok:{after_ok}" if after_ok else "", f"afterany:{after_any}" if after_any else ""]
    return ",".join(part for part in parts if part)


def parameters(job: Job, site: Site, code: Path, depends: str) -> dict[str, Any]:
    """Submitit's parameters of a job."""
    wanted = job.resources
    texts = {key: getattr(wanted, key) for key in ("partition", "account", "qos", "constraint", "exclude")}
    extra: dict[str, Any] = {"requeue": True}
    if depends:
        extra |= {"dependency": depends, "kill-on-invalid-dep": "yes"}
    chosen: dict[str, Any] = {key: text for key, text in texts.items() if text}
    chosen |= {
        "job_name": job.name,
        "time": max(1, round(wanted.hours * 60)),
        "nodes": wanted.nodes,
        "ntasks_per_node": wanted.processes_per_node,
        "cpus_per_task": wanted.cpus_per_task,
        "signal_delay_s": site.signal_delay_s,
        "setup": [*site.setup_lines(), *_code_lines(code)],
        # Since Slurm 22.05 srun no longer takes --cpus-per-task over from sbatch.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={wanted.cpus_per_task}"],
        "stderr_to_stdout": True,
        "array_parallelism": job.parallel,
        "wckey": site.wckey or None,
        "additional_parameters": extra,
    }
    if wanted.gpus_per_node:
        chosen["gpus_per_node"] = wanted.gpus_per_node
    if wanted.mem_gb:
        chosen["mem"] = f"{round(wanted.mem_gb * 1024)}MB"
    return chosen


def _code_lines(code: Path) -> list[str]:
    """Python looks for modules in the working directory, then along PYTHONPATH: both are the snapshot."""
    quoted = shlex.quote(str(code))
    return [f"cd {quoted}", f"export PYTHONPATH={quoted}${{PYTHONPATH:+:$PYTHONPATH}}"]


def sbatch_text(job: Job, site: Site, code: Path, folder: Path, ids: Mapping[str, str]) -> str:
    """The batch script of a job, as submitit writes it."""
    from submitit.slurm.slurm import _make_sbatch_string

    chosen = parameters(job, site, code, dependency(job, ids))
    count = len(job.items) if len(job.items) > 1 else None
    command = f"{site.python or shlex.quote(sys.executable)} {ENTRY} {shlex.quote(str(folder))}"
    return str(_make_sbatch_string(command=command, folder=folder, map_count=count, **chosen))


def describe(submission: Submission, site: Site) -> Iterable[str]:
    """The plan as lines of text."""
    for job in submission.jobs:
        wanted = job.resources
        size = f"array of {len(job.items)}, {job.parallel} at a time" if len(job.items) > 1 else job.items[0]
        processes = f"{wanted.nodes} x {wanted.processes_per_node} processes"
        gpus = f", {wanted.gpus_per_node} GPUs per node" if wanted.gpus_per_node else ""
        yield f"{job.name}: {size}; {processes}{gpus}, {wanted.cpus_per_task} CPUs each, {wanted.hours:g} h"
        if job.after_ok or job.after_any:
            yield f"    after {', '.join((*job.after_ok, *job.after_any))}"
    for item, reason in submission.skipped.items():
        yield f"no job for {item}: {reason}"
    total = sum(job.gpu_hours for job in submission.jobs)
    yield f"site {site.name}: {len(submission.jobs)} jobs, at most {total:g} GPU hours per attempt"
