"""A submission as text: its jobs, what waits for what, and the GPU hours that it may take."""

from collections.abc import Iterable, Iterator, Mapping

from uwm.runs.slurm.plan import Job, Submission
from uwm.runs.slurm.site import Site


def describe(submission: Submission, site: Site) -> Iterator[str]:
    """The plan as lines of text."""
    for job in submission.jobs:
        yield f"{job.name}: {shape(job)}"
        if job.after_ok or job.after_any:
            yield f"    after {', '.join((*job.after_ok, *job.after_any))}"
    yield from summary(submission.skipped.items())
    total = sum(job.gpu_hours for job in submission.jobs)
    yield f"site {site.name}: {len(submission.jobs)} jobs, at most {total:g} GPU hours per attempt"


def shape(job: Job) -> str:
    """`array of 3, 2 at a time; 1 x 8 processes, 8 GPUs per node, 12 CPUs each, 24 h`."""
    resources, tasks, items = job.resources, len(job.tasks), len(job.items)
    size = f"array of {tasks}, {job.parallel} at a time" if tasks > 1 else job.items[0]
    if items > tasks:
        size = f"{items} cells" + (f" in an array of {tasks}, {job.parallel} at a time" if tasks > 1 else "")
    processes = f"{resources.nodes} x {resources.processes_per_node} processes"
    gpus = f", {resources.gpus} GPUs per node" if resources.gpus else ""
    return f"{size}; {processes}{gpus}, {resources.cpus_per_task} CPUs each, {resources.hours:g} h"


def summary(skipped: Iterable[tuple[str, str]], most: int = 20) -> Iterator[str]:
    """Why items need no job; many items with one reason become one line."""
    reasons: dict[str, list[str]] = {}
    for item, reason in skipped:
        reasons.setdefault(reason, []).append(item)
    for reason, items in reasons.items():
        if len(items) > most:
            yield f"no job for {len(items)} items: {reason} ({items[0]} ... {items[-1]})"
        else:
            yield from (f"no job for {item}: {reason}" for item in items)


def graph(submission: Submission, counted: Mapping[str, float]) -> Iterator[str]:
    """The jobs as a tree, each below the last of those that it waits for. Beside a job stand the GPU hours
    that its time limit allows and, where some were `counted` for its name, those too."""
    below: dict[str, list[Job]] = {}
    names = {job.name for job in submission.jobs}
    for job in submission.jobs:
        before = [name for name in (*job.after_ok, *job.after_any) if name in names]
        below.setdefault(before[-1] if before else "", []).append(job)
    yield from _branches(below, counted, "", "")


def _branches(
    below: Mapping[str, list[Job]], counted: Mapping[str, float], parent: str, indent: str
) -> Iterator[str]:
    for job in below.get(parent, []):
        others = [name for name in (*job.after_ok, *job.after_any) if name != parent]
        also = f", also after {', '.join(others)}" if others else ""
        hours = f"{counted[job.name]:.3g} GPU hours counted, " if job.name in counted else ""
        yield f"{indent}{job.name}: {shape(job)}; {hours}at most {job.gpu_hours:g} GPU hours{also}"
        yield from _branches(below, counted, job.name, indent + "    ")
