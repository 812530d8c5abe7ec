"""The batch script of a job: the one text that `--dry-run` prints and `--submit` sends."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uwm.runs.record import digest_of
from uwm.runs.slurm.plan import Job, dependency
from uwm.runs.slurm.site import Site

ENTRY = "-u -m submitit.core._submit"


def run_mark(work: Path) -> str:
    """What the comment of each job of a run begins with, so that the queue alone tells whose it is."""
    return f"uwm:{work.name}@{digest_of(str(work))[:6]}:"


def sbatch_options(job: Job, ids: Mapping[str, str]) -> list[str]:
    """Options of `sbatch` that are known only once the jobs before have their ids."""
    depends = dependency(job, ids)
    return [f"--dependency={depends}", "--kill-on-invalid-dep=yes"] if depends else []


def sbatch_text(job: Job, site: Site, code: Path, work: Path) -> str:
    """The batch script of a job."""
    from submitit.slurm.slurm import _make_sbatch_string

    folder = work / "jobs"
    python = shlex.quote(site.python or sys.executable)
    command = f'"${{hold[@]}}" {site.launcher} {python} {ENTRY} {shlex.quote(str(folder))}'.replace("  ", " ")
    count = len(job.tasks) if len(job.tasks) > 1 else None
    chosen = _parameters(job, site, code, folder, run_mark(work))
    return str(_make_sbatch_string(command=command, folder=folder, map_count=count, **chosen))


def _parameters(job: Job, site: Site, code: Path, folder: Path, mark: str) -> dict[str, Any]:
    """Submitit's parameters of a job."""
    resources = job.resources
    texts = {key: getattr(resources, key) for key in ("partition", "account", "qos", "constraint", "exclude")}
    chosen: dict[str, Any] = {key: text for key, text in texts.items() if text}
    chosen |= {
        "job_name": job.name,
        "comment": mark + (job.items[0] if len(job.items) == 1 else job.name),
        "time": max(1, round(resources.hours * 60)),
        "nodes": resources.nodes,
        "ntasks_per_node": resources.processes_per_node,
        "cpus_per_task": resources.cpus_per_task,
        "signal_delay_s": site.signal_delay_s,
        "setup": [*_first_lines(resources.cpus_per_task), *_site_lines(site), *_last_lines(code)],
        "teardown": _requeue_lines(folder),
        # Since Slurm 22.05 srun no longer takes --cpus-per-task over from sbatch.
        "srun_args": [
            "--kill-on-bad-exit=1",
            f"--cpus-per-task={resources.cpus_per_task}",
            *resources.srun_args,
        ],
        "stderr_to_stdout": True,
        "array_parallelism": job.parallel,
        "wckey": site.wckey or None,
    }
    if resources.gpus_per_node:
        chosen["gpus_per_node"] = resources.gpus_per_node
    if resources.mem_gb:
        chosen["mem"] = f"{round(resources.mem_gb * 1024)}MB"
    further = {key: value for key, value in resources.sbatch.items() if value is not False}
    return {**chosen, "additional_parameters": {"requeue": True, **further}}


def _first_lines(threads: int) -> list[str]:
    """A failing line ends the job and is named. No `-u`: conda's and Lmod's scripts use unset variables."""
    return [
        "set -eo pipefail",
        """trap 'echo "uwm: set-up failed with code $? at: $BASH_COMMAND" >&2' ERR""",
        f"export OMP_NUM_THREADS={threads}",
    ]


def _site_lines(site: Site) -> list[str]:
    return [*(f"module load {module}" for module in site.modules), *site.setup]


def _last_lines(code: Path) -> list[str]:
    """Python looks for modules in the working directory, then along PYTHONPATH: both are the snapshot.

    A signal that comes before Python listens is held back for it (GNU env 8.31 or newer). Whether `env` can
    is tried where it starts Python, which with arguments of srun may be inside a container.
    """
    quoted, block = shlex.quote(str(code)), "env --block-signal=USR2,TERM"
    return [
        f"cd {quoted}",
        f"export PYTHONPATH={quoted}${{PYTHONPATH:+:$PYTHONPATH}}",
        "trap - ERR",
        f"""hold=(sh -c '{block} true 2>/dev/null && exec {block} "$@"; exec "$@"' sh)""",
        "set +e",
    ]


def _requeue_lines(folder: Path) -> list[str]:
    """Where Python has no `scontrol` (a container), it leaves a file, and the batch script asks instead.

    One task of an array bears the array's own id as its job id, and a requeue of that id is one of all tasks.
    """
    mark = f"{shlex.quote(str(folder))}/$SLURM_JOB_ID.requeue"
    return [
        "code=$?",
        f"if [ -e {mark} ]; then",
        f"    rm {mark}",
        "    job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}",
        '    until scontrol requeue "$job"; do sleep 5; done',
        "    sleep 300",
        "fi",
        'exit "$code"',
    ]
