"""Submit a run to Slurm through submitit, and cancel it."""

import contextlib
import dataclasses
import io
import shlex
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uwm.env import REPOSITORY
from uwm.errors import UserError
from uwm.runs import state
from uwm.runs.experiment import Cell, Context
from uwm.runs.launch import check_writable
from uwm.runs.plan import Plan, say
from uwm.runs.report import done_cells
from uwm.runs.slurm import queue as slurm_queue
from uwm.runs.slurm.plan import Job, Submission, dependency, describe, parameters, plan_jobs, sbatch_text
from uwm.runs.slurm.site import Site
from uwm.runs.snapshot import take_snapshot
from uwm.runs.task import Task


@dataclass(frozen=True)
class Prepared:
    """A submission ready to go: its jobs, and the code and plan that they will run."""

    submission: Submission
    site: Site
    folder: Path  # submitit's
    code: Path
    code_digest: str
    plan_file: Path


def make_submission(context: Context, cells: list[Cell], site: Site) -> tuple[Submission, Site]:
    """The jobs still to be submitted, and the site with its array size filled in."""
    if not site.max_array:
        site = dataclasses.replace(site, max_array=slurm_queue.max_array_size() or 1000)
    live = live_jobs(Path(context.work))
    done = set() if context.artifacts.recompute else done_cells(context, cells)
    return plan_jobs(context, cells, site, live, done), site


def live_jobs(work: Path) -> dict[str, str]:
    """Job ids of this run's items that are queued or running.

    Raises:
        UserError: there are submitted jobs and squeue doesn't answer.
    """
    submitted = state.submitted_jobs(work)
    if not submitted:
        return {}
    queue = slurm_queue.queue()
    if queue is None:
        raise UserError(
            f"squeue doesn't answer; {work} has submitted jobs, so submitting blindly could double them"
        )
    return {item: job.job for item, job in submitted.items() if job.job in queue}


def submit(plan: Plan, context: Context, cells: list[Cell], site: Site) -> int:
    """Submit what is still to be done and return at once."""
    slurm_queue.require_slurm()
    check_writable(context.work)
    submission, site = make_submission(context, cells, site)
    if not submission.jobs:
        say(
            "nothing to submit: "
            + "; ".join(f"{item} {why}" for item, why in list(submission.skipped.items())[:5])
        )
        return 0
    prepared = _prepare(plan, context, submission, site)
    ids: dict[str, str] = {}
    with slurm_queue.outside_of_jobs():
        for job in submission.jobs:
            ids[job.name] = _submit_job(prepared, job, ids, context.work)
            say(f"{ids[job.name]}: {job.name} ({len(job.items)} items)")
    say(f"run folder: {context.work}\nask for --status, and in the end --collect, with the same options")
    return 0


def _prepare(plan: Plan, context: Context, submission: Submission, site: Site) -> Prepared:
    code, digest = take_snapshot(context.experiment.root, REPOSITORY, context.work)
    relative = context.experiment.file.relative_to(context.experiment.root)
    results = context.work / "results"
    results.mkdir(parents=True, exist_ok=True)
    job_plan = dataclasses.replace(plan, experiment_file=str(code / relative), out=str(results))
    folder = context.work / "jobs"
    folder.mkdir(exist_ok=True)
    return Prepared(submission, site, folder, code, digest, job_plan.write())


def _submit_job(prepared: Prepared, job: Job, ids: Mapping[str, str], work: Path) -> str:
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    site = prepared.site
    python = shlex.quote(site.python) if site.python else None
    executor = SlurmExecutor(prepared.folder, max_num_timeout=site.max_attempts, python=python)
    executor.update_parameters(**parameters(job, site, prepared.code, dependency(job, ids)))
    plan, code, grace_s = str(prepared.plan_file), str(prepared.code), site.signal_delay_s / 2
    tasks = [Task(plan, item, code, prepared.code_digest, grace_s) for item in job.items]
    complaints = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaints):
            submitted = executor.submit_array(tasks)
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"Slurm refused {job.name}: {_reason(complaints.getvalue() or str(error))}"
        ) from error
    now = time.time()
    entries = zip(job.items, submitted, strict=True)
    state.note_jobs(
        work, (state.SubmittedJob(item, done.job_id, str(prepared.folder), now) for item, done in entries)
    )
    return str(submitted[0].job_id).partition("_")[0]


def _reason(text: str) -> str:
    """The first line in which Slurm says what it dislikes."""
    lines = [line.partition("error:")[2].strip() for line in text.splitlines() if "error:" in line]
    return lines[0] if lines else " ".join(text.split())[:300]


def dry_run(context: Context, cells: list[Cell], site: Site, *, check: bool, as_json: bool) -> int:
    """Print the jobs, their scripts and what is cached. With `check`, ask the site about each script."""
    submission, site = make_submission(context, cells, site)
    folder, code = context.work / "jobs", context.work / "code-<digest>"
    texts = {job.name: sbatch_text(job, site, code, folder, {}) for job in submission.jobs}
    if as_json:
        from uwm.runs.report import print_json

        print_json({"jobs": [dataclasses.asdict(job) for job in submission.jobs], "scripts": texts,
                    "skipped": dict(submission.skipped)})  # fmt: skip
    else:
        print("\n".join(describe(submission, site)))
        for name, text in texts.items():
            print(f"\n# ---- {name}\n{text.rstrip()}")
    return _check(submission, site, code, folder) if check else 0


def _check(submission: Submission, site: Site, code: Path, folder: Path) -> int:
    slurm_queue.require_slurm()
    refused = 0
    for job in submission.jobs:
        alone = dataclasses.replace(job, after_ok=(), after_any=())
        with tempfile.NamedTemporaryFile("w", suffix=".sh") as script:
            script.write(sbatch_text(alone, site, code, folder, {}))
            script.flush()
            with slurm_queue.outside_of_jobs():
                done = subprocess.run(["sbatch", "--test-only", script.name], capture_output=True, text=True)
        answer = " ".join(done.stderr.replace("sbatch:", "").split())
        refused += done.returncode != 0
        print(f"{'accepted' if done.returncode == 0 else 'refused'}: {job.name}: {answer}")
    return 2 if refused else 0


def cancel(context: Context, cells: list[Cell], *, whole: bool) -> int:
    """Cancel the live jobs of `cells`, and those of the stages if `whole` (all cells were meant)."""
    slurm_queue.require_slurm()
    live = live_jobs(context.work)
    names = {cell.name for cell in cells}
    jobs = sorted(job for item, job in live.items() if whole or item in names)
    if not jobs:
        say("no job of this run is queued or running")
        return 0
    command: list[Any] = ["scancel", *jobs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise UserError(f"scancel failed: {' '.join(done.stderr.split())}")
    say(f"cancelled {len(jobs)} jobs")
    return 0
