"""Two processes obtain artifacts: one that works alone hangs no other; to part ways is an error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(case, folder):
    """What each of two ranks got."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = str(Path(__file__).with_name("two_ranks.py"))
    done = subprocess.run(
        [*command, script, case, str(folder)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [(folder / f"rank-{number}.txt").read_text() for number in range(2)]


@pytest.mark.slow
def test_an_evaluation_by_rank_0_may_obtain_artifacts(tmp_path):
    first, second = run("plain", tmp_path)
    assert first == second
    assert first.startswith("evaluation-")
    (evaluation,) = tmp_path.glob("cache/evaluation-*/evaluation.txt")
    assert evaluation.read_text() == "0"
    assert len([*tmp_path.glob("cache/training-*/by-*.txt")]) == 2  # a training is everybody's


@pytest.mark.slow
def test_all_ranks_train_first_what_rank_0_then_needs(tmp_path):
    first, second = run("trained-first", tmp_path)
    assert first == second
    assert first.startswith("evaluation-")
    assert len([*tmp_path.glob("cache/another-*/by-*.txt")]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("fails", "ValueError: a broken video"),
        ("differ", "all ranks must obtain the same artifacts in the same order"),
        ("alone-needs-training", "rank 0 alone needs stage another for evaluation"),
    ],
)
def test_an_error_of_one_rank_is_that_of_all(tmp_path, case, message):
    first, second = run(case, tmp_path)
    assert message in first
    assert message in second
