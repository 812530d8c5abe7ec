"""Denormal numbers are flushed while a training runs, and no longer."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from uwm.data.draws import Draws
from uwm.training.batches import IndexSource
from uwm.training.denormals import flushed_denormals
from uwm.training.loop import TrainConfig, train


def smallest() -> float:
    return float(torch.tensor(1e-40) * 1)


class Watching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[float] = []

    def forward(self, batch: Tensor, draws: Draws) -> dict[str, Tensor]:
        self.seen.append(smallest())
        return {"loss": (self.weight * batch).square().mean()}


def test_a_training_flushes_them_and_leaves_the_cpu_as_it_was(tmp_path: Path) -> None:
    objective = Watching()
    source = IndexSource(4, lambda rows, draws: rows.float(), batch_size=2)
    assert smallest() > 0
    train(objective, source, TrainConfig(steps=2, batch_size=2), tmp_path)
    assert objective.seen == [0.0, 0.0]
    assert smallest() > 0


def test_so_it_does_after_an_error_and_where_they_were_flushed_before() -> None:
    with pytest.raises(ValueError, match="inside"), flushed_denormals():
        raise ValueError("inside")
    assert smallest() > 0
    with flushed_denormals():
        with flushed_denormals():
            assert smallest() == 0
        assert smallest() == 0
