"""The network that reads numbers off states."""

import torch

from uwm.baselines.reader import ReaderConfig, StateReader
from uwm.models import TokenConfig

TOKENS = TokenConfig(state_width=4, state_tokens=5)


def test_outputs_are_in_the_targets_units_and_survive_the_disk(tmp_path):
    reader = StateReader(
        ReaderConfig(outputs=2, states=2, channels=3, maps=2, width=8, tokens=TOKENS), seed=1
    ).eval()
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


def test_a_map_gives_the_place_where_it_looks():
    """A reader made by hand: one map, which looks where the first channel of the states is large."""
    reader = StateReader(ReaderConfig(outputs=2, channels=1, maps=1, values=1, width=2, tokens=TOKENS))
    with torch.no_grad():
        for parameter in reader.parameters():
            parameter.zero_()
        reader.norm.weight.fill_(1.0)
        reader.reduce.weight[0, 0, 1, 1] = 1.0  # the patch itself, not its neighbours
        reader.maps.weight.fill_(100.0)
        reader.head[0].weight[:, 1:] = 10 * torch.eye(2)  # the place (y, x), far right of GELU's bend
        reader.head[0].bias.fill_(30.0)
        reader.head[2].weight.copy_(torch.eye(2))
        states = torch.zeros(1, 1, 5, 4)
        states[0, 0, 2, 0] = 1.0  # the patch above right of a 2 x 2 grid
        found = reader(states)
    assert torch.allclose(found, torch.tensor([[30.0 - 10.0, 30.0 + 10.0]]), atol=1e-3)
