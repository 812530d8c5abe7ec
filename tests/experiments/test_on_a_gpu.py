"""Trainings and measures as they run on a GPU, tried on one that is pretended."""

import copy
import json
from pathlib import Path

import pytest
import torch

from tests.pretended_gpu import TwoDevices, pretended_gpu
from uwm.runs.cli import run_experiment
from uwm.runs.experiment import load_experiment
from uwm.runs.plan import RunPlan
from uwm.stages.adapter import obtain_adapter
from uwm.stages.finetune import Domain
from uwm.stages.pretrained import corpus_of

ROOT = Path(__file__).resolve().parents[2]
GIVEN = f"mine={ROOT}/tests/methods/models.py:Copy"  # codes, so that random ones are drawn too


def test_what_a_gpu_refuses_is_refused() -> None:
    with pretended_gpu() as gpu:
        there, here = torch.ones(3, device=gpu), torch.ones(3)
        assert (there.device, (2 * there).device, there.cpu().device, here.device.type) == (
            gpu, gpu, torch.device("cpu"), "cpu",
        )  # fmt: skip
        assert torch.equal(there[torch.tensor([0, 1])].cpu(), torch.ones(2))
        assert copy.deepcopy(there).device == there.device == gpu
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


def test_what_is_opened_is_on_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    folders = {name: str(tmp_path / name) for name in ("out", "work", "cache")}
    file = f"{ROOT}/experiments/planning.py"
    plan = RunPlan(file, "smoke", (), {}, **folders, recompute=False, since=0.0, command="", code={})
    with pretended_gpu() as gpu:
        context = plan.context()
        config = context.config
        domain = Domain(context, corpus_of(context, config.corpus), config.finetune)
        opened = {
            "adapter": obtain_adapter(config.adapter, domain).model,
            "MAE": domain.world.mae,
            "fine-tuned": domain.world.world_model,
            "pre-trained": domain.pretrained().world_model,
        }
        devices = {
            name: {value.device for value in model.state_dict().values()} for name, model in opened.items()
        }
    assert devices == {name: {gpu} for name in opened}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("figure4", ["--only", "w_ft/*"]),
        ("figure5", ["--only", "copy/*", "--set", "fvd=random"]),
        ("families", ["--only", "ours/sim-panda/*"]),
        ("planning", ["--only", "r_gt/reach/*"]),
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
