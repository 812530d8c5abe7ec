"""Training a network that reads numbers off states."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from uwm.baselines.reader import ReaderConfig, StateReader
from uwm.bounds import OutOfBounds
from uwm.data.action_pairs import all_action_pairs
from uwm.data.corpora import IN_DOMAIN, bundled
from uwm.data.draws import Draws
from uwm.data.states import FrozenEncoder
from uwm.models import TokenConfig
from uwm.stages.reader import (
    PLANNING_READER,
    READER,
    Examples,
    ReaderRecipe,
    ReadingError,
    _at_most,
    later_goals,
    mixed_batch,
    predicted_examples,
    predicted_states,
    reader_stage,
    sees_hand,
    training_batches,
)

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


class Tenfold(nn.Module):
    """A world model whose latent action is the change of the state, and which predicts ten times of it."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(()))

    def infer_actions(self, s_t: Tensor, s_next: Tensor) -> SimpleNamespace:
        return SimpleNamespace(quantized=s_next - s_t)

    def predict(self, s_t: Tensor, quantized: Tensor) -> Tensor:
        return s_t + 10 * quantized


def scalar_states(*values: float) -> Tensor:
    """States (n, 1, 1) of one number each."""
    return torch.tensor(values)[:, None, None]


def numbered(first: int, last: int) -> Examples:
    """An example a number: its state and its target."""
    values = torch.arange(first, last).float()
    return Examples(scalar_states(*values), torch.arange(last - first)[:, None], values[:, None])


def test_the_second_frame_of_each_pair_is_predicted_from_the_first() -> None:
    """0 -> 1 -> 3, and 5 -> 7: to 0 + 10, 1 + 20 and 5 + 20, in the order of the pairs."""
    states, places = scalar_states(0, 1, 3, 5, 7).half(), torch.tensor([[1, 2], [0, 1], [3, 4]])
    found = predicted_states(Tenfold(), states, places)
    assert found.flatten().tolist() == [21, 10, 25]
    assert (found.dtype, found.shape[1:]) == (torch.float16, states.shape[1:])


def test_predictions_have_the_targets_of_their_frames_where_these_are_known() -> None:
    """Frame 2 shows no block."""
    states, places = scalar_states(0, 1, 3), torch.tensor([[0, 1], [1, 2]])
    known = Examples(states, torch.tensor([[0], [1]]), torch.tensor([[0.5], [1.5]]))
    predicted = predicted_examples(known, Tenfold(), places)
    batch = predicted.batch(torch.arange(len(predicted.targets)))
    assert batch["states"].flatten().tolist() == [10]
    assert batch["targets"].tolist() == [[1.5]]


def test_a_batch_takes_its_share_of_predicted_states_on_any_number_of_processes() -> None:
    true, predicted, rows = numbered(0, 1000), numbered(5000, 5500), torch.arange(1000)

    def drawn(share: float, rank: int = 0, ranks: int = 1) -> Tensor:
        draws = Draws(torch.Generator().manual_seed(0), rank, ranks)
        batch = mixed_batch(true, predicted, share, rows[rank::ranks], draws)
        assert torch.equal(batch["states"].flatten(), batch["targets"].flatten())
        return batch["targets"].flatten()

    assert torch.equal(drawn(0.0), rows.float())
    assert (drawn(1.0) >= 5000).all()
    mixed = drawn(0.25)
    assert 200 < (mixed >= 5000).sum() < 300
    assert torch.equal(mixed[mixed < 5000], rows[mixed < 5000].float())
    assert torch.equal(mixed, torch.stack([drawn(0.25, rank, 2) for rank in (0, 1)], dim=1).flatten())
    assert torch.equal(true.states, numbered(0, 1000).states)


def toy_domain() -> SimpleNamespace:
    """The bundled robot's, where a state is one number."""
    world = SimpleNamespace(world_model=Tenfold())
    world.to = lambda device: world
    encoder = FrozenEncoder("toy", 56, lambda images: images.float().mean((1, 2, 3))[:, None, None] / 255)
    return SimpleNamespace(corpus=bundled(IN_DOMAIN), encoder=encoder, world=world)


def test_a_training_reads_predicted_states_where_its_recipe_says_so() -> None:
    recipe, domain = READER["smoke"], toy_domain()
    domain.world.world_model.predict = lambda s_t, quantized: torch.full_like(s_t, 100.0)
    some, predicted = (batch_of(replace(recipe, predicted_share=share), domain) for share in (0.5, 1.0))
    domain.world = None
    true = batch_of(recipe, domain)
    assert (true["states"] < 1).all()
    assert (predicted["states"] == 100).all()
    far = (some["states"] == 100).flatten()
    assert far.any()
    assert not far.all()
    assert torch.equal(some["targets"][~far], true["targets"][~far])


def batch_of(recipe: ReaderRecipe, domain: SimpleNamespace) -> dict[str, Tensor]:
    """The first batch of a training."""
    return next(training_batches(recipe, domain)[1].batches(0, 0, 1))


def test_goals_are_what_was_reached_later_in_the_clip() -> None:
    table = pd.DataFrame({"video": list("aaab"), "t0": [0, 0.2, 0.6, 0], "t1": [0.2, 0.4, 0.8, 0.2]})
    places = torch.tensor([[0, 1], [1, 2], [3, 4], [5, 6]])
    rows, seen = later_goals(table, places, 0.2)
    assert rows.tolist() == [0, 1, 2, 3]
    assert torch.equal(seen, places)
    rows, seen = later_goals(table, places, 0.4)
    assert list(zip(rows.tolist(), seen[:, 1].tolist(), strict=True)) == [
        *((0, 1), (0, 2)),  # at 0.2 and 0.4 s
        *((1, 2), (1, 3)),
        (2, 4),  # the clip's last frame
        (3, 6),  # another clip
    ]
    assert torch.equal(seen[:, 0], places[rows, 0])


@pytest.mark.parametrize("reads", ["hand-in-picture", "action"])
def test_what_measures_or_acts_reads_no_predicted_states(reads: str) -> None:
    """Also where a config's own reader does."""
    with pytest.raises(OutOfBounds, match=f"predicted_share must be 0 for a reader of {reads}"):
        replace(PLANNING_READER["smoke"], reads=reads)


def test_a_world_model_is_part_of_the_identity_of_what_reads_its_predictions_alone() -> None:
    """Without, the identity is as before there was a choice: that of released weights."""
    mae = "ca0c60b916180836"
    corpus = bundled(IN_DOMAIN)

    def domain(digest: str) -> SimpleNamespace:
        stage = SimpleNamespace(name="finetune", digest=digest, inputs={"mae": mae})
        return SimpleNamespace(corpus=corpus, stage=stage)

    old, new = READER["mini"], PLANNING_READER["mini"]
    stages = {recipe: [reader_stage(recipe, domain(digest)) for digest in "ab"] for recipe in (old, new)}
    assert [stage.folder_name for stage in stages[old]] == ["reader-hand-06cbdc624083974f"] * 2
    assert [stage.inputs.get("finetune") for stage in stages[new]] == ["a", "b"]
    assert len({stage.digest for found in stages.values() for stage in found}) == 3
    assert stages[new][0].fields == {**stages[old][0].fields, "predicted_share": 0.5}
