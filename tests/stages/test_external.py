"""What a model's own trainer is given: pairs of all corpora, no more than its budget."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from uwm.data.pairs import FrameBank
from uwm.stages.external import TrainingPairs, save_state


def bank(first: int, frames: int, side: int) -> FrameBank:
    """Frames of one grey level each, rising by one; pairs of neighbours."""
    levels = torch.arange(first, first + frames, dtype=torch.uint8)
    pictures = levels[:, None, None, None].expand(-1, 3, side, side + 4).contiguous()
    rows = torch.arange(frames)
    pairs = torch.stack([rows[:-1], rows[1:]], dim=1)
    return FrameBank(pictures, torch.zeros(frames, dtype=torch.int64), rows.double(), pairs, ("clip",), {})


def test_pairs_of_all_corpora_until_the_budget_is_used() -> None:
    corpora = TrainingPairs([bank(0, 5, 32), bank(100, 9, 24)], size=16, budget=203, seed=0)
    batches = list(corpora.batches(50))
    assert [len(now) for now, _ in batches] == [50, 50, 50, 50, 3]
    now, then = (torch.cat(frames) for frames in zip(*batches, strict=True))
    assert now.shape == (203, 3, 16, 16)
    levels = (255 * now.mean((1, 2, 3))).round()
    torch.testing.assert_close((255 * then.mean((1, 2, 3))).round() - levels, torch.ones(203))
    assert set(levels.int().tolist()) == {*range(4), *range(100, 108)}  # every pair of both
    assert list(corpora.batches(50)) == []  # a second pass is no way around it


def test_the_seed_draws_the_pairs() -> None:
    def first(seed: int) -> torch.Tensor:
        corpora = TrainingPairs([bank(0, 50, 32)], size=16, budget=20, seed=seed)
        return next(corpora.batches(20))[0]

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


@pytest.mark.parametrize("size", [8, 28, 64])
def test_frames_have_the_models_size_and_range(size: int) -> None:
    now, then = next(TrainingPairs([bank(0, 200, 32)], size=size, budget=4, seed=0).batches(4))
    assert now.shape == then.shape == (4, 3, size, size)
    assert now.min() >= 0
    assert then.max() <= 1


def test_tied_weights_are_saved_after_a_training(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        model = nn.ModuleDict({"embed": nn.Linear(4, 4), "unembed": nn.Linear(4, 4)})
        model["unembed"].weight = model["embed"].weight
        return model

    model, other = tied(), tied()
    save_state(model, tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
