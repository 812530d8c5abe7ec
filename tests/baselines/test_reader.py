"""The network that reads numbers off states."""

import torch

from uwm.baselines.reader import ReaderConfig, StateReader
from uwm.models import TokenConfig

TOKENS = TokenConfig(state_width=4, state_tokens=5)


def test_outputs_are_in_the_targets_units_and_survive_the_disk(tmp_path):
    reader = StateReader(ReaderConfig(outputs=2, states=2, channels=3, maps=2, width=8, tokens=TOKENS), seed=1).eval()
    states = torch.randn(6, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    scaled = reader.scaled(states)
    reader.mean.copy_(torch.tensor([10.0, -1.0]))
    reader.deviation.copy_(torch.tensor([2.0, 0.5]))
    assert torch.allclose(reader(states), scaled * torch.tensor([2.0, 0.5]) + torch.tensor([10.0, -1.0]))
    reader.save(tmp_path / "reader.safetensors")
    assert torch.equal(StateReader.load(tmp_path / "reader.safetensors")(states), reader(states))


def test_the_cls_token_is_not_read_and_places_are_told_apart():
    reader = StateReader(ReaderConfig(channels=3, maps=2, width=8, tokens=TOKENS))
    states = torch.randn(1, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    other_cls, swapped = states.clone(), states.clone()
    other_cls[:, :, 0] += 1
    swapped[:, :, [1, 2]] = states[:, :, [2, 1]]
    assert torch.equal(reader(other_cls), reader(states))
    assert not torch.allclose(reader(swapped), reader(states))
