"""How far a training is, read off its logs while it writes them."""

import json

from uwm.runs.progress import duration, training_progress
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


def test_durations():
    assert [duration(seconds) for seconds in (45, 720, 12_600)] == ["45 s", "12 min", "3.5 h"]


def test_a_row_of_the_status_names_the_log_of_what_is_not_well() -> None:
    failed = status_line(Row("stage:pretrain", "failed", 1, "12", "n1", "/runs/12_log.out", "exit code 1"))
    assert "log /runs/12_log.out" in failed
    assert failed.endswith("exit code 1")
    assert "log" not in status_line(Row("uwm/ssv2", "done", 1, "12", "n1", "/runs/12_log.out"))
