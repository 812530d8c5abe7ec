"""A submission that is only shown: its jobs, their scripts, and what the site says of them."""

import dataclasses
from collections.abc import Mapping

from uwm.env import REPOSITORY
from uwm.runs import report
from uwm.runs.experiment import Cell, Context
from uwm.runs.slurm import queue as slurm_queue
from uwm.runs.slurm.describe import describe, graph
from uwm.runs.slurm.plan import Submission
from uwm.runs.slurm.script import sbatch_options, sbatch_text
from uwm.runs.slurm.send import ask_site
from uwm.runs.slurm.site import TFLOPS, TFLOPS_FP32, Site
from uwm.runs.slurm.submit import make_submission, say_all_is_there, warn_of_site
from uwm.runs.snapshot import snapshot_digest


def show_jobs(
    context: Context, cells: list[Cell], site: Site, done: set[str], *, check: bool, as_json: bool, tree: bool
) -> int:
    """Print the jobs, their scripts and what is cached. With `check`, ask the site about each script."""
    warn_of_site(context, site)
    if cells and {cell.name for cell in cells} <= done:
        say_all_is_there(context, cells, site)
    submission, site = make_submission(context, cells, site, done)
    code = context.work / f"code-{snapshot_digest(context.experiment.root, REPOSITORY)}"
    texts = {job.name: sbatch_text(job, site, code, context.work) for job in submission.jobs}
    verdicts = _verdicts(submission, texts) if check else {}
    if as_json:
        report.print_json(_as_json(submission, texts) | ({"verdicts": verdicts} if check else {}))
    elif tree:
        counted = _counted_hours(context, submission, site)
        print("\n".join([*graph(submission, counted), _how_counted(submission, counted, site)]))
    else:
        print("\n".join(describe(submission, site)))
        for job in submission.jobs:
            options = " ".join(sbatch_options(job, {}))
            print(f"\n# ---- {job.name}: sbatch {options}".rstrip() + f"\n{texts[job.name].rstrip()}")
    if not as_json:
        for name, verdict in verdicts.items():
            print(f"{verdict['verdict']}: {name}: {verdict['answer']}")
    return 2 if any(verdict["verdict"] == "refused" for verdict in verdicts.values()) else 0


def _counted_hours(context: Context, submission: Submission, site: Site) -> dict[str, float]:
    """GPU hours of the jobs with GPUs whose operations are known: of trainings at the rate that the site's
    file states, else at that of one GPU that was measured; of measuring at TFLOPS_FP32."""
    experiment, cells = context.experiment, {cell.name: cell for cell in context.cells}
    declared = experiment.stages(context.config, context.data)
    stages = {f"{experiment.name}-{stage.name}": stage for stage in declared}
    counted: dict[str, float] = {}
    for job in submission.jobs:
        if not job.resources.gpus:
            continue
        stage = stages.get(job.name)
        if stage is not None:
            rate = (site.tflops or TFLOPS) if stage.trains else TFLOPS_FP32
            counts = [stage.operations(context)]
        else:
            rate = TFLOPS_FP32
            read = [experiment.reads(context.config, cells[item]) for item in job.items]
            counts = [experiment.operations(fields) for fields in read]
        if all(operations is not None for operations in counts):
            counted[job.name] = sum(filter(None, counts)) / (rate * 1e12 * 3600)
    return counted


def _how_counted(submission: Submission, counted: Mapping[str, float], site: Site) -> str:
    """Which rate stands behind the GPU hours of a graph, or why there are none."""
    if not any(job.resources.gpus for job in submission.jobs):
        return "no job asks for a GPU: no GPU hours are counted"
    if not counted:
        return "no job with a GPU whose operations are known is left: no GPU hours are counted"
    measuring = f"measuring at {TFLOPS_FP32:g}, in fp32"
    if site.tflops:
        return f"counted at {site.tflops:g} TFLOP/s a GPU, as {site.name} says; {measuring}"
    return (
        f"counted at {TFLOPS:g} TFLOP/s a GPU, as an H200 reaches at scale paper; {measuring}; other GPUs "
        "and smaller models reach less: set tflops in the site file"
    )


def _as_json(submission: Submission, texts: Mapping[str, str]) -> dict[str, object]:
    jobs = [{**dataclasses.asdict(job), "items": job.items} for job in submission.jobs]
    return {"jobs": jobs, "scripts": dict(texts), "skipped": dict(submission.skipped)}


def _verdicts(submission: Submission, texts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What the site says of each job's script: `verdict`, `accepted` or `refused`, and its `answer`."""
    slurm_queue.require_slurm()
    verdicts = {}
    for job in submission.jobs:
        with slurm_queue.outside_of_jobs():
            done = ask_site(texts[job.name])
        answer = " ".join(done.stderr.replace("sbatch:", "").split())
        verdict = "accepted" if done.returncode == 0 else "refused"
        verdicts[job.name] = {"verdict": verdict, "answer": answer}
    return verdicts
