"""Training a network that reads numbers off states."""

from dataclasses import replace

import torch

from uwm.baselines.reader import ReaderConfig, StateReader
from uwm.data.action_pairs import all_action_pairs
from uwm.data.corpora import IN_DOMAIN, bundled
from uwm.data.draws import Draws
from uwm.models import TokenConfig
from uwm.stages.reader import READER, ReadingError, _at_most, sees_hand

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


def test_places_are_read_from_at_most_so_many_pairs_and_cloning_from_just_so_many() -> None:
    corpus, recipe = bundled(IN_DOMAIN), READER["smoke"]
    there = len(all_action_pairs(corpus, recipe.gap, recipe.clips))
    more = replace(recipe, pairs=there + 1)
    assert sees_hand(more, corpus)
    assert _at_most(more, corpus).pairs is None
    assert _at_most(recipe, corpus) == recipe
    cloning = replace(more, reads="action")
    assert _at_most(cloning, corpus) == cloning
