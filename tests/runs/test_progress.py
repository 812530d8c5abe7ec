"""How far a training or a job with a bar is, read off its logs while it writes them."""

import io
import json
import time

from tqdm import tqdm

from tests.runs.fake_slurm import fake_slurm  # noqa: F401 (a fixture)
from uwm.runs import state
from uwm.runs.progress import bar_progress, duration, training_progress
from uwm.runs.report import status_line
from uwm.runs.rows import Row


def write(folder, losses, times):
    run = folder / "run"
    run.mkdir(exist_ok=True)
    lines = [json.dumps({"step": step, "loss": loss}) for step, loss in losses.items()]
    (run / "log.jsonl").write_text("\n".join([*lines, '{"step": 99, "lo']))  # a line that is being written
    (run / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in times))


def test_step_of_steps_loss_and_time_left(tmp_path):
    assert training_progress(tmp_path) is None
    write(tmp_path, {1: 0.5, 2: 0.25}, [])
    assert str(training_progress(tmp_path)) == "step 2, loss 0.25"
    speed = {"step": 2, "steps_per_second": 0.5}
    write(tmp_path, {1: 0.5, 40: 0.1234567}, [{"steps": 100}, {"step": 1, "steps_per_second": 9}, speed])
    assert str(training_progress(tmp_path)) == "step 40 of 100, loss 0.1235, 2 min left"  # 60 steps at 0.5/s


def bars(*counts, total=220_847):
    """What `tqdm` writes of a list of pairs, an hour after its start."""
    written = io.StringIO()
    for count in counts:
        bar = tqdm(desc="ssv2 train", total=total, unit="clip", file=written, mininterval=0)
        bar.start_t = time.time() - 3600
        bar.update(count)
    return written.getvalue()


def test_clips_of_clips_and_time_left(tmp_path):
    log = tmp_path / "log"
    assert bar_progress(log) is None
    log.write_text(f"reading\n{bars(0)}")
    assert bar_progress(log) == "ssv2 train: 0 of 220847"
    log.write_text(f"{'x' * 20_000}\n{bars(1, 110_424)}\nskipped ssv2 (train): 7.webm: no frame\n")
    assert bar_progress(log).startswith("ssv2 train: 110424 of 220847, ")
    assert bar_progress(log).endswith(" left")
    log.write_text(bars(5, total=5))
    assert bar_progress(log) is None
    log.write_text(": " * 4_000)  # no line's end: read in no time
    assert bar_progress(log) is None


def test_the_status_of_a_running_job_shows_its_bar(project, fake_slurm, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "site.toml").write_text("")
    assert project.run("--submit", "--site", str(tmp_path / "site.toml"))[0] == 0
    queue = fake_slurm.folder / "queue"
    queue.write_text(queue.read_text().replace("1|PENDING|Priority|", "1|RUNNING|None|n1"))
    (work,) = project.root.glob("runs/mini/toy-*")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    state.note_start(work, "stage:weights", {})
    (work / "jobs" / "1_0_log.out").write_text(bars(7))
    (line,) = [line for line in project.run("--status")[1].splitlines() if "stage:weights" in line]
    assert "ssv2 train: 7 of 220847, " in line


def test_durations():
    assert [duration(seconds) for seconds in (45, 720, 12_600)] == ["45 s", "12 min", "3.5 h"]


def test_a_row_of_the_status_names_the_log_of_what_is_not_well() -> None:
    failed = status_line(Row("stage:pretrain", "failed", 1, "12", "n1", "/runs/12_log.out", "exit code 1"))
    assert "log /runs/12_log.out" in failed
    assert failed.endswith("exit code 1")
    assert "log" not in status_line(Row("uwm/ssv2", "done", 1, "12", "n1", "/runs/12_log.out"))
