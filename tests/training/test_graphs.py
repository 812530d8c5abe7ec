"""CUDA graphs of a training: recorded once, of what can be, and nothing remains of the recording."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from uwm.data.draws import Draws
from uwm.models import MAE_PRESETS, MaskedAutoencoder, WorldModel
from uwm.stages.finetune import FROZEN, PartialTraining
from uwm.stages.world_model import PLACED
from uwm.training.device import Graphs
from uwm.training.objectives import LatentActionPrediction, PictureLoss, action_gap

MAE = MAE_PRESETS["tiny"]


def objective(device: str = "cpu") -> LatentActionPrediction:
    model = WorldModel(PLACED.fitted(MAE), seed=0).train().to(device)
    return LatentActionPrediction(model, None, PictureLoss(MaskedAutoencoder(MAE, seed=1), 0.5))


def states(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 2, 1 + MAE.tokens, MAE.encoder_width, generator=generator)


def three_steps(objective: LatentActionPrediction, recorded: bool, device: str = "cpu") -> list[float]:
    """The losses of three steps; the parts are recorded after the first."""
    found, optimizer = [], torch.optim.SGD(objective.parameters(), lr=0.1)
    for step in range(3):
        batch = states(step).to(device)
        if recorded and step == 1:
            objective.record(batch)
        optimizer.zero_grad()
        loss = objective(batch, Draws(torch.Generator()))["loss"]
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def pretend_recording(monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., Any]]:
    """A stand-in for the recorder runs its part with gradients, as CUDA's does to warm up. Returns what it is
    given."""
    recorded: list[Callable[..., Any]] = []

    def run(part: Callable[..., Any], sample: tuple[Tensor, ...], **_: Any) -> Callable[..., Any]:
        for _ in range(3):
            part(*sample)
        recorded.append(part)
        return part

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", run)
    return recorded


def test_nothing_remains_of_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = pretend_recording(monkeypatch)
    plain, other = objective(), objective()
    assert three_steps(plain, recorded=False) == three_steps(other, recorded=True)
    assert recorded[:2] == [other.world_model.extractor, other.world_model.dynamics]
    assert len(recorded) == 3  # and the picture's loss
    for (name, one), (_, two) in zip(plain.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(one, two), name


def test_an_extractor_that_stays_as_it_is_has_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in evaluation mode while the others train, so validation of other batches would hit its graph."""
    recorded = pretend_recording(monkeypatch)
    objective = PartialTraining(WorldModel(PLACED.fitted(MAE)), None, FROZEN["dynamics"]).train()
    objective.record(states(0))
    assert recorded == [objective.world_model.dynamics]


@pytest.mark.gpu
def test_a_gpu_validates_beside_a_graph() -> None:
    objective = PartialTraining(WorldModel(PLACED.fitted(MAE)), None, FROZEN["dynamics"]).train().to("cuda")
    three_steps(objective, recorded=True, device="cuda")
    gaps = action_gap(objective.world_model, [states(3)[:4]], torch.Generator())
    assert gaps["state_mse"] > 0


@pytest.mark.gpu
def test_a_gpu_computes_the_same_with_graphs() -> None:
    plain = three_steps(objective("cuda"), recorded=False, device="cuda")
    assert three_steps(objective("cuda"), recorded=True, device="cuda") == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize(
    ("device", "precision", "world_size", "asked", "wanted"),
    [
        ("cuda", "fp32", 1, "1", True),
        ("cuda", "fp32", 1, "0", False),
        ("cuda", "bf16", 1, "1", False),
        ("cuda", "fp32", 2, "1", False),
        ("cpu", "fp32", 1, "1", False),
    ],
)
def test_graphs_are_for_one_gpu_and_full_precision(
    device: str,
    precision: str,
    world_size: int,
    asked: str,
    wanted: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where they are asked for in vain, a line says so."""
    monkeypatch.setenv("UWM_GRAPHS", asked)
    assert Graphs(torch.device(device), precision, world_size).wanted is wanted
    assert ("UWM_GRAPHS has no effect" in capsys.readouterr().err) is (asked == "1" and not wanted)


def test_an_objective_is_recorded_once_and_only_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UWM_GRAPHS", "1")
    seen: list[Tensor] = []

    class Recorder(nn.Module):
        def record(self, batch: Tensor) -> None:
            seen.append(batch)

    graphs = Graphs(torch.device("cuda"), "fp32", 1)
    for step in range(2):
        graphs.record(Recorder(), states(step))
    assert len(seen) == 1
    Graphs(torch.device("cuda"), "fp32", 1).record(Recorder(), torch.zeros(2, 3, dtype=torch.uint8))  # images
    Graphs(torch.device("cuda"), "fp32", 1).record(nn.Linear(2, 2), {"states": states(0)})
    assert len(seen) == 1
