"""Two processes train what one would: the same global batch, the same weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.toy import (
    CONFIG,
    PATIENCE,
    Toy,
    free_port,
    newest_checkpoint,
    rank_main,
    start,
    train_toy,
)
from uwm.errors import UserError
from uwm.training import distributed
from uwm.training.distributed import Ranks, environment_ranks

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Toy]:
    run_dir, toy = tmp_path_factory.mktemp("alone"), Toy()
    train_toy(run_dir, toy)
    return run_dir, toy


def launch(run_dir: Path, mode: str) -> list[int]:
    """Two ranks as a launcher starts them; their exit codes."""
    port = free_port()
    processes = [start(rank_main, rank, 2, port, run_dir, mode) for rank in range(2)]
    for process in processes:
        process.join(PATIENCE)
    hanging = [process for process in processes if process.is_alive()]
    for process in hanging:
        process.kill()
    assert not hanging
    return [process.exitcode for process in processes]


def assert_close(run_dir: Path, alone: tuple[Path, Toy]) -> None:
    first, second = (torch.load(run_dir / f"weights-{rank}.pt", weights_only=True) for rank in range(2))
    for key, value in alone[1].state_dict().items():
        assert torch.equal(first[key], second[key]), key
        if key != "calls":  # each rank makes as many forward passes as one process alone
            torch.testing.assert_close(first[key], value, rtol=1e-5, atol=1e-6, msg=key)
    for mine, its in zip(read_log(run_dir), read_log(alone[0]), strict=True):
        assert mine == pytest.approx(its, rel=1e-4)


def read_log(run_dir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_torchrun_with_two_processes_equals_one(tmp_path: Path, alone: tuple[Path, Toy]) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = str(ROOT / "tests" / "training" / "toy.py")
    subprocess.run([*command, script, str(tmp_path)], env=environment, check=True, timeout=PATIENCE)
    assert_close(tmp_path, alone)


@pytest.mark.slow
def test_launcher_environment_with_a_stop_asked_of_one_rank(tmp_path: Path, alone: tuple[Path, Toy]) -> None:
    assert launch(tmp_path, "stop") == [1, 1]
    for rank in range(2):
        message = (tmp_path / f"error-{rank}.txt").read_text()
        assert message.startswith(
            "Interrupted: toy: stopped as asked after step 4; the last good checkpoint is"
        )
    assert newest_checkpoint(tmp_path)[0] == 4  # type: ignore[index]
    assert launch(tmp_path, "plain") == [0, 0]
    assert_close(tmp_path, alone)


def test_two_processes_can_go_on_as_one(tmp_path: Path, alone: tuple[Path, Toy]) -> None:
    assert launch(tmp_path, "stop") == [1, 1]
    toy = Toy()
    train_toy(tmp_path, toy)
    for key, value in alone[1].state_dict().items():
        torch.testing.assert_close(toy.state_dict()[key], value, rtol=1e-5, atol=1e-6, msg=key)


def test_one_rank_that_raises_ends_both(tmp_path: Path) -> None:
    codes = launch(tmp_path, "raise")
    assert all(code != 0 for code in codes)
    assert (tmp_path / "error-1.txt").read_text() == "RuntimeError: rank 1 breaks"


def test_ranks_wait_for_rank_0_in_the_group_with_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validation may first decode its pairs, for longer than the group of the computations would wait."""
    groups = []
    monkeypatch.setattr(distributed, "_messages", "patient")
    monkeypatch.setattr(
        torch.distributed, "broadcast_object_list", lambda box, src, group=None: groups.append(group)
    )
    distributed.from_leader(None, Ranks(1, 2, 1))
    assert groups == ["patient"]


def test_batch_that_two_processes_cannot_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert environment_ranks() == Ranks(0, 3, 0)
    with pytest.raises(UserError, match="batch_size 8 can't be split over 3 processes"):
        train_toy(tmp_path, Toy(), CONFIG)
    monkeypatch.delenv("MASTER_PORT")
    with pytest.raises(UserError, match="WORLD_SIZE=3 is set but MASTER_PORT isn't"):
        environment_ranks()
