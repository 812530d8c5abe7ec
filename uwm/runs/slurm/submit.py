"""Submit a run to Slurm: what is missing, behind what it needs, as much as the site takes."""

import dataclasses
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from uwm.env import REPOSITORY
from uwm.runs import report, state
from uwm.runs.experiment import Cell, Context
from uwm.runs.launch import check_writable
from uwm.runs.listing import FILE, Listing, read_listing
from uwm.runs.plan import RunPlan, say
from uwm.runs.slurm import queue as slurm_queue
from uwm.runs.slurm.describe import summary
from uwm.runs.slurm.live import live_jobs, refuse_orphans, submit_lock
from uwm.runs.slurm.plan import Job, Submission, first_tasks, plan_jobs
from uwm.runs.slurm.script import sbatch_text
from uwm.runs.slurm.send import SubmitLimit, check_requests, send, task_ids
from uwm.runs.slurm.site import Site
from uwm.runs.snapshot import take_snapshot
from uwm.runs.task import Task


@dataclass(frozen=True)
class Prepared:
    """A submission ready to go: its jobs, and the code and plan that they will run."""

    submission: Submission
    site: Site
    work: Path
    code: Path
    code_digest: str
    plan_file: Path

    @property
    def folder(self) -> Path:
        """Where scripts, logs and results of the jobs are."""
        return self.work / "jobs"

    def text(self, job: Job) -> str:
        """The batch script of a job."""
        return sbatch_text(job, self.site, self.code, self.work)


GPU_SCALES = ("small", "paper")  # whose trainings are counted in GPU hours


@dataclass
class Sent:
    """The ids of the jobs that Slurm has taken, and the items that it would not take for now."""

    ids: dict[str, str] = field(default_factory=dict)
    items: set[str] = field(default_factory=set)
    remaining: list[str] = field(default_factory=list)
    reason: str = ""
    gpu_hours: float = 0.0


@dataclass(frozen=True)
class Then:
    """What comes after a submission: to `wait` for its end, or to `follow` it, printing each change.

    `question` is the command that asks for its state.
    """

    wait: bool
    follow: bool
    question: str


def make_submission(
    context: Context, cells: list[Cell], site: Site, done: set[str]
) -> tuple[Submission, Site]:
    """The jobs still to be submitted, and the site with its array size filled in."""
    if not site.max_array:
        site = dataclasses.replace(site, max_array=slurm_queue.max_array_size() or 1000)
    return plan_jobs(context, cells, site, live_jobs(context.work), done), site


def submit(
    plan: RunPlan,
    context: Context,
    cells: list[Cell],
    site: Site,
    listing: Listing,
    *,
    rerun: bool,
    then: Then,
) -> int:
    """Submit what is still to be done; return at once, or once all of it has ended."""
    slurm_queue.require_slurm()
    check_writable(context.work)
    names = {cell.name for cell in cells}
    anew = rerun or context.artifacts.recompute
    done = set() if anew else listing.done() & names
    warn_of_site(context, site)
    if done and done == names:
        say_all_is_there(context, cells, site)
        return 0
    for warning in context.experiment.checks(context):
        say(f"warning: {warning}")
    sent = _submit_locked(plan, context, cells, site, listing, done)
    if sent.items:
        say(f"ask: {then.question}")
    if not (then.wait or then.follow):
        return 0
    again = partial(_next_wave, plan, context, cells, site, listing, sent, anew)
    written = read_listing(context.work / FILE) or listing  # with the stages as they are submitted now
    return report.follow(written.chosen(sorted(names)), verbose=then.follow, again=again)


def warn_of_site(context: Context, site: Site) -> None:
    """Say what of the site file is no error, and yet hardly meant."""
    if context.scale in GPU_SCALES and not site.stages.gpus:
        say(f"warning: {site.name} asks for no GPU for trainings: at scale {context.scale} they take weeks "
            "without; set gpus_per_node in the site file")  # fmt: skip
    if site.stages.gpus and not site.small.gpus:
        say(f"warning: {site.name} asks for no GPU for small trainings, such as adapters and decoders; set "
            "gpus_per_node in [small] of the site file")  # fmt: skip
    stages = (stage.name for stage in context.experiment.stages(context.config, context.data))
    for text in site.unmatched(stages, (cell.name for cell in context.cells)):
        say(f"warning: {site.name}: {text}")


def _submit_locked(
    plan: RunPlan, context: Context, cells: list[Cell], site: Site, listing: Listing, done: set[str]
) -> Sent:
    with submit_lock(context.work):
        refuse_orphans(context.work)
        submission, site = make_submission(context, cells, site, done)
        if not submission.jobs:
            say("nothing to submit")
            for line in summary(submission.skipped.items(), most=5):
                say(f"  {line}")
            return Sent()
        prepared = _prepare(plan, context, submission, site)
        with slurm_queue.outside_of_jobs():
            check_requests(submission.jobs, prepared.text)
            dataclasses.replace(listing, stages=submission.folders, readers=submission.readers).write()
            sent = _send_all(prepared)
    _say_sent(context, sent)
    return sent


def say_all_is_there(context: Context, cells: list[Cell], site: Site) -> None:
    """Say that each cell has its record, and what measuring them again would take."""
    count = len(cells)
    say(f"{count} of {count} cells are already in {shown_folder(context)}; --rerun measures them again")
    submission, _ = make_submission(context, cells, site, set())
    hours = sum(job.gpu_hours for job in submission.jobs)
    say(f"  that would be {len(submission.jobs)} jobs, at most {hours:g} GPU hours")


def shown_folder(context: Context) -> str:
    """The records' folder as a user would write it."""
    root = context.experiment.root
    return str(context.out.relative_to(root) if context.out.is_relative_to(root) else context.out)


def _prepare(plan: RunPlan, context: Context, submission: Submission, site: Site) -> Prepared:
    code, digest = take_snapshot(context.experiment.root, REPOSITORY, context.work)
    relative = context.experiment.file.relative_to(context.experiment.root)
    results = context.work / "results"
    results.mkdir(parents=True, exist_ok=True)
    job_plan = dataclasses.replace(plan, experiment_file=str(code / relative), out=str(results))
    (context.work / "jobs").mkdir(exist_ok=True)
    return Prepared(submission, site, context.work, code, digest, job_plan.write())


def _send_all(prepared: Prepared) -> Sent:
    """Send job after job. What the site takes no more, and what waits for that, remains."""
    sent, site = Sent(), prepared.site
    room = site.max_submit - len(slurm_queue.queue() or {}) if site.max_submit else 10**9
    for job in prepared.submission.jobs:
        needs = (*job.after_ok, *job.after_any)
        if any(not name[0].isdigit() and name not in sent.ids for name in needs):
            sent.remaining += job.items
            continue
        room = _send_job(prepared, job, room, sent)
    return sent


def _send_job(prepared: Prepared, job: Job, room: int, sent: Sent) -> int:
    """Send a job, or as many of its tasks as there is room for. Returns the room left."""
    rest: list[str] = []
    while True:
        if room < 1:
            sent.reason = sent.reason or f"max_submit = {prepared.site.max_submit}"
            sent.remaining += [*job.items, *rest]
            return 0
        if len(job.tasks) > room:
            job, left = first_tasks(job, room)
            rest = [*(left.items if left else ()), *rest]
            sent.reason = sent.reason or f"max_submit = {prepared.site.max_submit}"
        try:
            _send_one(prepared, job, sent)
        except SubmitLimit as limit:
            sent.reason, room = str(limit), len(job.tasks) // 2
            continue
        sent.remaining += rest
        return 0 if rest else room - len(job.tasks)


def _send_one(prepared: Prepared, job: Job, sent: Sent) -> None:
    site, now = prepared.site, time.time()
    grace_s, plan = site.signal_delay_s / 2, str(prepared.plan_file)

    def task(items: tuple[str, ...]) -> Task:
        return Task(plan, items, str(prepared.code), prepared.code_digest, grace_s, now)

    job_id = send(job, prepared.text(job), sent.ids, prepared.folder, site.max_attempts, task)
    gpus = job.resources.nodes * job.resources.gpus
    state.note_jobs(
        prepared.work,
        (
            state.SubmittedJob(item, name, str(prepared.folder), now, gpus)
            for name, items in zip(task_ids(job, job_id), job.tasks, strict=True)
            for item in items
        ),
    )
    sent.ids[job.name] = job_id
    sent.items |= set(job.items)
    sent.gpu_hours += job.gpu_hours
    say(f"{job_id}: {job.name} ({len(job.items)} items)")


def _say_sent(context: Context, sent: Sent) -> None:
    if sent.remaining:
        say(f"{len(sent.remaining)} items remain, for the site takes no more jobs now ({sent.reason}): "
            "the same command later sends them, and --submit --wait does so by itself")  # fmt: skip
    say(f"at most {sent.gpu_hours:g} GPU hours per attempt; logs: {context.work / 'jobs'}/ID_0_log.out")


def _next_wave(
    plan: RunPlan, context: Context, cells: list[Cell], site: Site, listing: Listing, sent: Sent, anew: bool
) -> bool:
    """Send what remained, with `anew` whatever has a record too. True while something remains or was sent
    just now."""
    if not sent.remaining:
        return False
    queue = slurm_queue.queue()
    if queue is None or (site.max_submit and len(queue) >= site.max_submit):
        return True
    context = context.afresh()  # hours have passed: files of a corpus may have changed
    left = [cell for cell in cells if cell.name in sent.remaining]
    done = set() if anew else listing.done()
    submission, _ = make_submission(context, left, site, done)
    failed = sent.items & {item for job in submission.jobs for item in job.items}
    if failed:
        say(f"{len(sent.remaining)} items are not sent: {sorted(failed)[0]} failed")
        sent.remaining.clear()
        return False
    wave = _submit_locked(plan, context, left, site, listing, done)
    sent.items |= wave.items
    sent.remaining = wave.remaining
    return bool(wave.items or wave.remaining)
