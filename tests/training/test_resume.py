"""A run killed by SIGKILL and started again ends bit-identical to one that never was."""

import random
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.training.toy import (
    CONFIG,
    PATIENCE,
    Toy,
    finished_training,
    killed_training,
    newest_checkpoint,
    start,
    train_toy,
)
from uwm.training.checkpoint import checkpoint_files


def finish(run_dir: Path) -> None:
    process = start(finished_training, run_dir)
    process.join(PATIENCE)
    assert process.exitcode == 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("undisturbed")
    finish(run_dir)
    return run_dir


def assert_same_run(run_dir: Path, undisturbed: Path) -> None:
    assert (run_dir / "log.jsonl").read_bytes() == (undisturbed / "log.jsonl").read_bytes()
    mine, its = (torch.load(d / "weights.pt", weights_only=True) for d in (run_dir, undisturbed))
    assert list(mine) == list(its)
    for key in mine:
        assert torch.equal(mine[key], its[key]), key
    first, second = (newest_checkpoint(d)[1]["optimizer"]["state"] for d in (run_dir, undisturbed))  # type: ignore[index]
    for index in first:
        for key in first[index]:
            assert torch.equal(first[index][key], second[index][key]), (index, key)


# Steps count from 0 in forward passes, from 1 in checkpoints and validations.
POINTS = [("forward-0", 0), ("forward-1", 1), ("validate", 4)]
POINTS += [("write", 3), ("write", 9), ("rename", 6), ("rename", 12), ("write", 12)]
POINTS += [(f"forward-{random.Random(i).randrange(2)}", random.Random(i).randrange(2, 12)) for i in range(5)]


@pytest.mark.parametrize(("where", "step"), POINTS)
def test_killed_once(tmp_path: Path, undisturbed: Path, where: str, step: int) -> None:
    process = start(killed_training, tmp_path, where, step)
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    finish(tmp_path)
    assert_same_run(tmp_path, undisturbed)


def newest_step(run_dir: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in checkpoint_files(run_dir)), default=0)


def test_killed_again_and_again_at_any_time(tmp_path: Path, undisturbed: Path) -> None:
    draw, exitcode = random.Random(0), None
    while exitcode != 0:
        before = newest_step(tmp_path)
        process = start(finished_training, tmp_path)
        while process.is_alive() and newest_step(tmp_path) == before:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.02))
        process.kill()
        process.join(PATIENCE)
        exitcode = process.exitcode
        assert exitcode in (0, -signal.SIGKILL)
    assert_same_run(tmp_path, undisturbed)


def test_newest_checkpoint_cut_short(tmp_path: Path, undisturbed: Path) -> None:
    process = start(killed_training, tmp_path, "forward-0", 7)
    process.join(PATIENCE)
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    assert newest.name.startswith("step-00000006")
    newest.write_bytes(newest.read_bytes()[:-100])
    finish(tmp_path)
    assert_same_run(tmp_path, undisturbed)


def test_a_finished_run_returns_at_once_with_its_weights(undisturbed: Path) -> None:
    toy = Toy()

    def forbidden(call: int) -> None:
        raise AssertionError("trained again")

    toy.before = forbidden
    before = (undisturbed / "log.jsonl").read_bytes()
    result = train_toy(undisturbed, toy)
    assert result.steps == CONFIG.steps
    assert set(result.metrics) == {"lr", "loss", "codebook_loss", "grad_norm", "val/error"}
    assert (undisturbed / "log.jsonl").read_bytes() == before
    weights = torch.load(undisturbed / "weights.pt", weights_only=True)
    assert all(torch.equal(value, weights[key]) for key, value in toy.state_dict().items())


def test_frozen_parts_are_not_stored(undisturbed: Path) -> None:
    stored = newest_checkpoint(undisturbed)[1]["objective"]  # type: ignore[index]
    assert {"ema", "calls", "codebook", "net.0.weight"} <= set(stored)
    assert not any(key.startswith("encoder") for key in stored)
