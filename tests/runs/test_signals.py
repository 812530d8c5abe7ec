"""Signals and the end of processes: a training leaves a checkpoint, and no process is left behind."""

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from uwm.runs import stopping
from uwm.runs.experiment import Cell, load_experiment
from uwm.runs.stopping import ORPHANED, SILENT_S, Stop
from uwm.runs.workers import Answer, Items


def wait_for(project, pattern):
    for _ in range(600):
        found = list(project.root.glob(pattern))
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"no {pattern} came")


@pytest.fixture
def no_signal_ignored():
    """What a process starts with, also where these tests run under nohup or behind a shell's `&`."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGTERM, 143)]
)
@pytest.mark.usefixtures("no_signal_ignored")
def test_a_signal_during_a_training_leaves_a_checkpoint(project, number, code):
    process = project.start("--set", "fault=slow", "--only", "uwm/ours/s0")
    wait_for(project, "cache/*.partial/busy.txt")
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert "the same command goes on from there" in error
    assert "Traceback" not in error
    assert list(project.root.glob("cache/*.partial/half.txt"))
    assert not list(project.root.glob("runs/mini/*/results/*.json"))


def test_a_signal_that_is_ignored_stays_so(project):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = Stop()
    try:
        stop.install()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        stop.uninstall()
        signal.signal(signal.SIGHUP, before)


def test_control_c_ends_at_once_where_no_training_asks():
    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        stop.on_term(signal.SIGINT)
    stop.wished()
    stop.on_term(signal.SIGINT)
    assert (stop.asked, stop.code) == (True, 130)
    with pytest.raises(KeyboardInterrupt):  # the second time
        stop.on_term(signal.SIGINT)
    stop = Stop()
    stop.last_asked = time.monotonic() - SILENT_S - 1
    with pytest.raises(KeyboardInterrupt):
        stop.on_term(signal.SIGINT)


def test_a_parent_that_ends_by_the_same_signal_is_no_second_wish():
    stop = Stop()
    stop.wished()
    stop.on_term(signal.SIGINT)
    stop.on_term(ORPHANED)
    assert (stop.asked, stop.code) == (True, 130)
    stop = Stop()
    stop.wished()
    stop.on_term(ORPHANED)  # the parent was killed
    assert (stop.asked, stop.code) == (True, 143)
    stop = Stop()
    with pytest.raises(SystemExit):  # no training asks
        stop.on_term(ORPHANED)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.usefixtures("no_signal_ignored")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_workers_end_with_the_process_that_started_them(project, number):
    process = project.start("--set", "fault=slow", "--only", "uwm", "--jobs", "2")
    wait_for(project, "cache/*.partial/busy.txt")
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    workers = [int(pid) for path in threads for pid in path.read_text().split()]
    assert len(workers) == 2
    if number == signal.SIGINT:  # a terminal tells all of them
        for pid in workers:
            os.kill(pid, number)
    process.send_signal(number)
    process.communicate(timeout=30)
    for _ in range(200):
        if not any(map(alive, workers)):
            break
        time.sleep(0.05)
    assert not any(map(alive, workers))
    assert list(project.root.glob("cache/*.partial/half.txt"))  # the one that trained left a checkpoint


def test_recompute_after_a_kill_keeps_the_stages_that_it_finished(project):
    def finished():
        (path,) = project.root.glob("cache/weights-*/stage.json")
        return json.loads(path.read_text())["finished"]

    working = project.file.read_text()
    project.run()
    first = finished()
    project.file.write_text(
        working.replace("    samples = ", "    os.kill(os.getpid(), signal.SIGKILL)\n    samples = ")
    )
    process = project.start("--recompute")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    second = finished()
    assert second > first
    _, error = project.start("--recompute").communicate()
    assert "going on with the unfinished --recompute" in error
    assert finished() == second
    project.file.write_text(working)  # other code: all anew
    assert "going on" not in project.run("--recompute")[2]
    third = finished()
    assert third > second
    project.run("--recompute")
    assert finished() > third


def test_after_control_c_no_cell_starts_whose_last_part_ends_then(project):
    experiment = load_experiment(project.file)
    context = SimpleNamespace(experiment=experiment, config=experiment.configs["mini"])
    queue = Items(context, [Cell("uwm", "ours", 0)])
    items = [queue.next() for _ in range(3)]  # its parts
    queue.close()
    for item in items:
        queue.ended(item, Answer(0))
    assert queue.next() is None


class Ended(BaseException):
    """Slurm ends the attempt."""


def test_a_task_of_an_array_asks_for_its_own_requeue_alone(monkeypatch):
    """Its job id may be that of the whole array."""
    asked = []

    def ask(*words):
        asked.append(words)
        raise Ended

    monkeypatch.setattr(stopping, "REQUEUE_EVERY_S", 0)
    monkeypatch.setattr(stopping.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(stopping.slurm_queue, "ask", ask)
    for name, value in {"JOB_ID": "7", "ARRAY_JOB_ID": "7", "ARRAY_TASK_ID": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(Ended):
        stopping.requeue_until_ended(OSError("away"))
    assert asked == [("scontrol", "requeue", "7_2")]
