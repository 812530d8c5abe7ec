"""Trainings and measures as they run on a GPU, tried on one that is pretended."""

import json
from pathlib import Path

import pytest
import torch

from tests.pretended_gpu import TwoDevices, pretended_gpu
from uwm.runs.cli import run_experiment
from uwm.runs.experiment import load_experiment

ROOT = Path(__file__).resolve().parents[2]
GIVEN = f"mine={ROOT}/tests/methods/models.py:Copy"  # codes, so that random ones are drawn too


def test_what_a_gpu_refuses_is_refused() -> None:
    with pretended_gpu() as gpu:
        there, here = torch.ones(3, device=gpu), torch.ones(3)
        assert (there.device, (2 * there).device, there.cpu().device, here.device.type) == (
            gpu, gpu, torch.device("cpu"), "cpu",
        )  # fmt: skip
        assert torch.equal(there[torch.tensor([0, 1])].cpu(), torch.ones(2))
        for wrong in (
            lambda: there + here,
            lambda: there.numpy(),
            lambda: there.pin_memory(),
            lambda: here[torch.zeros(1, dtype=torch.int64, device=gpu)],
            lambda: torch.rand(2, device=gpu, generator=torch.Generator()),
            lambda: torch.cat([there, here]),
            lambda: here.add_(there),
        ):
            with pytest.raises(TwoDevices):
                wrong()
    assert there.device.type == "cpu"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("figure4", ["--only", "w_ft/*"]),
        ("figure5", ["--only", "copy/*", "--set", "fvd=random"]),
        ("table1", ["--only", "mine/*", "--set", "corpora=sim-panda", "--method", GIVEN]),
    ],
)
def test_no_cell_mixes_devices(
    name: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UWM_RUNS", str(tmp_path / "runs"))
    experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
    with pretended_gpu():
        assert run_experiment(experiment, ["--scale", "smoke", "--out", str(tmp_path / "out"), *words]) == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*__*.json")]
    assert [record["status"] for record in records] == ["ok"] * len(records) != []
