import logging
import os
import resource
from pathlib import Path

import pytest
import torch

from tests.training.toy import newest_checkpoint
from uwm.errors import UserError
from uwm.training.checkpoint import checkpoint_files, save_checkpoint


def state(value: float, size: int = 1000) -> dict:
    return {
        "weights": {"a": torch.full((size,), value)},
        "betas": (0.9, 0.95),
        "name": "x",
        "step": int(value),
    }


def test_round_trip(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 7, state(7))
    found = newest_checkpoint(tmp_path)
    assert found is not None
    step, loaded = found
    assert step == 7
    assert loaded["betas"] == (0.9, 0.95)
    assert torch.equal(loaded["weights"]["a"], state(7)["weights"]["a"])
    assert path.name.startswith("step-00000007-")
    assert torch.load(path, weights_only=True)["step"] == 7  # an ordinary torch file


def test_no_checkpoint(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "absent") is None


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 9999999, 100000000):
        save_checkpoint(tmp_path, step, state(step))
    assert [int(p.name.split("-")[1]) for p in checkpoint_files(tmp_path)] == [9999999, 100000000]
    assert newest_checkpoint(tmp_path)[0] == 100000000  # type: ignore[index]


@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "foreign"])
def test_a_damaged_newest_file_is_passed_over_and_named(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, 1, state(1))
    newest = save_checkpoint(tmp_path, 2, state(2))
    payload = bytearray(newest.read_bytes())
    if damage == "flip":
        payload[len(payload) // 2] ^= 1
    cut = {"truncate": len(payload) - 1, "empty": 0, "flip": len(payload), "foreign": 0}[damage]
    newest.write_bytes(b"not a checkpoint" if damage == "foreign" else payload[:cut])
    with caplog.at_level(logging.WARNING):
        found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found[0] == 1
    assert [str(newest) in message for message in caplog.messages] == [True]


def test_a_new_checkpoint_drives_out_damaged_ones_and_not_the_last_good_one(tmp_path: Path) -> None:
    good = save_checkpoint(tmp_path, 1, state(1))
    damaged = save_checkpoint(tmp_path, 2, state(2))
    damaged.write_bytes(b"")
    again = save_checkpoint(tmp_path, 2, state(2.5))
    assert checkpoint_files(tmp_path) == [good, again]


def test_temporary_files_of_a_killed_process_are_ignored_and_removed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, state(1))
    left = tmp_path / "checkpoints" / "step-00000002-0123456789abcdef.tmp"
    left.write_bytes(b"half")
    assert newest_checkpoint(tmp_path)[0] == 1  # type: ignore[index]
    save_checkpoint(tmp_path, 2, state(2))
    assert not left.exists()


def test_a_disk_that_fills_up_leaves_the_old_checkpoint_valid(tmp_path: Path) -> None:
    old = save_checkpoint(tmp_path, 1, state(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # a write beyond fails, as on a full disk
    try:
        with pytest.raises(
            UserError, match=r"cannot save checkpoint .*step-00000002.*goes on from .*step-00000001"
        ):
            save_checkpoint(tmp_path, 2, state(2, size=100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path / "checkpoints") == [old.name]
    assert newest_checkpoint(tmp_path)[0] == 1  # type: ignore[index]


def test_a_pickle_with_code_is_not_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"path": Path("x")})
    with pytest.raises(Exception, match=r"weights_only|WeightsUnpickler"):
        newest_checkpoint(tmp_path)
