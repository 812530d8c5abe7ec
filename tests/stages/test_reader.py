"""Training a network that reads numbers off states."""

import torch

from uwm.baselines.reader import ReaderConfig, StateReader
from uwm.data.draws import Draws
from uwm.models import TokenConfig
from uwm.stages.reader import ReadingError

TOKENS = TokenConfig(state_width=4, state_tokens=5)


def test_a_place_is_learnt():
    """The number of the token that is lit."""
    reader = StateReader(ReaderConfig(outputs=1, channels=8, width=32, tokens=TOKENS))
    places = torch.arange(4).repeat(8)
    states = torch.zeros(32, 1, 5, 4)
    states[torch.arange(32), 0, 1 + places, :2] = 1.0
    targets = places[:, None].float()
    reader.mean.copy_(targets.mean(0))
    reader.deviation.copy_(targets.std(0))
    objective, draws = ReadingError(reader, noise=0.0), Draws(torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(reader.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        objective({"states": states, "targets": targets}, draws)["loss"].backward()
        optimizer.step()
    assert (reader(states) - targets).abs().max() < 0.2
