"""Hand one job to `sbatch`: the script, and what each task runs, as submitit's entry point reads it."""

import re
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from uwm.errors import UserError
from uwm.runs.record import write_atomically
from uwm.runs.slurm.plan import Job
from uwm.runs.slurm.script import sbatch_options
from uwm.runs.task import Task

# What Slurm says when a user has as many jobs as the site allows: a matter of time, no error.
_LIMIT = re.compile(
    r"MaxSubmit|MaxJobCount|job submit limit|too many jobs|temporarily unable to accept", re.I
)

# A test may fail for these where a job would be taken, and wait.
_FOR_NOW = re.compile(r"nodes are busy|not available now|down, drained|reservation", re.I)


class SubmitLimit(Exception):  # noqa: N818
    """The site takes no more jobs of this user for now."""


def send(
    job: Job, text: str, ids: Mapping[str, str], folder: Path, attempts: int, task: Callable[..., Task]
) -> str:
    """Submit a job; returns its id. `task(items)` makes what a task of it runs.

    Raises:
        SubmitLimit: the user has as many jobs as the site allows.
        UserError: Slurm refuses the job for another reason.
    """
    from submitit.core.utils import JobPaths

    pickles = [_pickle(folder, task(items), job, attempts) for items in job.tasks]
    script = folder / f".{uuid.uuid4().hex}.sh"
    write_atomically(script, text)
    try:
        job_id = _sbatch(job, script, sbatch_options(job, ids))
    except BaseException:
        for path in (*pickles, script):
            path.unlink(missing_ok=True)
        raise
    for name, path in zip(task_ids(job, job_id), pickles, strict=True):
        path.rename(JobPaths(folder, job_id=name).submitted_pickle)
    script.rename(folder / f"{job_id}_submission.sh")
    return job_id


def ask_site(text: str) -> subprocess.CompletedProcess[str]:
    """What the site says of a batch script, which it does not take: `sbatch --test-only`."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as script:
        script.write(text)
        script.flush()
        return subprocess.run(
            ["sbatch", "--test-only", script.name], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )


def check_requests(jobs: Iterable[Job], text_of: Callable[[Job], str]) -> None:
    """Ask the site about the first job of each set of resources, so that none is sent where one is refused.

    What may be taken later (limits of a user, nodes that are down) is no refusal.

    Raises:
        UserError: Slurm refuses one.
    """
    first: list[Job] = []
    for job in jobs:
        if all(job.resources != other.resources for other in first):
            first.append(job)
    for job in first:
        answer = ask_site(text_of(job))
        if answer.returncode and not (_LIMIT.search(answer.stderr) or _FOR_NOW.search(answer.stderr)):
            raise _refusal(job, answer.stderr)


def task_ids(job: Job, job_id: str) -> list[str]:
    """Ids of a job's tasks: `12`, or `12_0`, `12_1` of an array."""
    return [job_id] if len(job.tasks) == 1 else [f"{job_id}_{index}" for index in range(len(job.tasks))]


def _pickle(folder: Path, task: Task, job: Job, attempts: int) -> Path:
    from submitit.core.utils import DelayedSubmission

    delayed = DelayedSubmission(task)
    delayed.set_timeout(max(1, round(job.resources.hours * 60)), attempts)
    path = folder / f"{uuid.uuid4().hex}.pkl"
    delayed.dump(path)
    return path


def _sbatch(job: Job, script: Path, options: list[str]) -> str:
    done = subprocess.run(
        ["sbatch", "--parsable", *options, str(script)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode == 0:
        return done.stdout.strip().partition(";")[0]
    if _LIMIT.search(done.stderr):
        raise SubmitLimit(_reason(done.stderr))
    raise _refusal(job, done.stderr)


def _refusal(job: Job, text: str) -> UserError:
    return UserError(f"Slurm refused {job.name}: {_reason(text)}")


def _reason(text: str) -> str:
    """The first line in which Slurm says what it dislikes."""
    lines = [line.partition("error:")[2].strip() for line in text.splitlines() if "error:" in line]
    return lines[0] if lines else " ".join(text.split())[:300]
