"""Labelled pairs: which are drawn, that batches hold each pair's own frames and actions, unflipped."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.robot_toy import REACH, SIDE, write_toy
from uwm.data.action_pairs import check_action_sizes
from uwm.data.corpora import BUNDLED, Corpus, bundled, open_corpus
from uwm.data.states import FrozenEncoder, evaluation_images, view_states
from uwm.errors import UserError
from uwm.models import LatentActions
from uwm.stages.action_training import ActionData, ActionRecipe, controller, training_pairs
from uwm.stages.adapter import FrozenInference, latent_targets
from uwm.training.loop import TrainConfig

SIZE = 40
RECIPE = ActionRecipe(TrainConfig(steps=1, batch_size=16), short_side=SIDE, views=3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UWM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield open_corpus("toy", write_toy(tmp_path_factory.mktemp("toy") / "toy.hdf5"))


def pixels(images: Tensor) -> Tensor:
    """An encoder whose states are the pictures themselves."""
    return images.float().flatten(2).transpose(1, 2)  # (B, S * S, 3)


def pictures(states: Tensor) -> Tensor:
    """And back: (B, 2, S * S, 3) -> (B, 2, 3, S, S)."""
    return states.float().transpose(2, 3).unflatten(3, (SIZE, SIZE))


PIXELS = FrozenEncoder("pixels", SIZE, pixels)


def test_fewer_pairs_are_a_part_of_more(corpus: Corpus) -> None:
    def names(pairs: int | None, seed: int = 0) -> set[tuple[str, int]]:
        found = training_pairs(
            replace(RECIPE, pairs=pairs, train=replace(RECIPE.train, seed=seed)), corpus
        ).manifest.table
        return set(zip(found["video"], found["frame0"], strict=True))

    assert names(5) < names(50) < names(None)
    assert names(5, seed=1) != names(5)
    first, again = (training_pairs(replace(RECIPE, pairs=9), corpus) for _ in range(2))
    assert first == again
    assert first != training_pairs(replace(RECIPE, pairs=10), corpus)


def square(images: Tensor) -> Tensor:
    """The middle (x, y) of the bright square in pictures (n, 3, S, S)."""
    bright = (images[:, 0] > 180).double()
    across = torch.arange(images.shape[-1], dtype=torch.float64)
    columns, rows = bright.sum(1), bright.sum(2)
    return torch.stack([(columns * across).sum(1), (rows * across).sum(1)], 1) / bright.sum((1, 2))[:, None]


@pytest.mark.parametrize("views", [0, 3])
def test_a_batch_has_each_pairs_own_frames_and_actions(corpus: Corpus, views: int) -> None:
    """What the actions say is what the frames show: so nothing is mixed up, and nothing is mirrored."""
    recipe = replace(RECIPE, views=views)
    batch = next(ActionData(recipe, corpus, PIXELS).batches().batches(0, 0, 1))
    assert batch["actions"].shape == (16, 4, 3)
    assert batch["mask"].all()
    frames = pictures(batch["states"]) if views else batch["images"]
    moved = square(frames[:, 1]) - square(frames[:, 0])
    told = REACH * batch["actions"][:, :, :2].sum(1)
    inside = ((square(frames[:, 1]) - SIZE / 2).abs() < 10).all(1)  # elsewhere a wall may have stopped it
    assert inside.sum() >= 6
    assert (moved - told)[inside].abs().max() < 1.6


def test_views_are_the_centre_and_shifted_ones(corpus: Corpus) -> None:
    pairs = training_pairs(replace(RECIPE, pairs=12), corpus)
    states, places = view_states(PIXELS, pairs, SIDE, 0.2, 3)
    assert torch.equal(pictures(states[0, places]).byte(), evaluation_images(pairs, SIDE, SIZE))
    assert not torch.equal(states[1], states[0])
    assert not torch.equal(states[1], states[2])


def test_more_of_each_pair_comes_along(corpus: Corpus) -> None:
    pairs = training_pairs(RECIPE, corpus)
    numbers = torch.arange(len(pairs)).expand(3, -1)
    source = ActionData(RECIPE, corpus, PIXELS).batches({"number": numbers})
    batch = next(source.batches(0, 0, 1))
    assert torch.equal(batch["actions"], pairs.controls[0][batch["number"]])


def test_latent_targets_are_those_of_each_pairs_own_frames_and_inferred_once(corpus: Corpus) -> None:
    """An "action" that is the mean of the next picture and the change of means."""

    def infer(s_t: Tensor, s_next: Tensor) -> LatentActions:
        now, then = (s.mean((1, 2))[:, None] for s in (s_t, s_next))
        latents = torch.stack([then, then - now], dim=2)  # (B, 1, 2)
        return LatentActions(latents, latents, latents[..., 0].round().long())

    pairs = training_pairs(RECIPE, corpus)
    states, places = view_states(PIXELS, pairs, SIDE, 0.2, 2)
    inference = FrozenInference("one", torch.device("cpu"), infer)
    data = ActionData(replace(RECIPE, views=2), corpus, PIXELS)
    found = latent_targets(inference, data)
    means = states.float().mean((2, 3))  # (V, F)
    then, now = means[:, places[:, 1]], means[:, places[:, 0]]
    assert torch.allclose(found["latents"][:, :, 0, 0].float(), then, atol=0.1)
    assert torch.allclose(found["latents"][:, :, 0, 1].float(), then - now, atol=0.1)
    assert torch.equal(found["codes"][..., 0], then.round().int())

    never = FrozenInference("one", torch.device("cpu"), lambda s_t, s_next: pytest.fail("inferred again"))
    assert latent_targets(never, data) is found


def test_a_part_is_those_rows(corpus: Corpus) -> None:
    pairs = training_pairs(RECIPE, corpus)
    some = pairs.part([3, 1])
    assert len(some) == 2
    np.testing.assert_array_equal(some.actions.actions, pairs.actions.actions[[3, 1]])
    assert list(some.manifest.table["frame0"]) == list(pairs.manifest.table["frame0"][[3, 1]])


def test_other_actions_than_trained_with_are_refused(corpus: Corpus) -> None:
    pairs = training_pairs(RECIPE, corpus)
    assert controller(RECIPE, corpus).steps == 4
    check_action_sizes(pairs, 4, 3)
    for steps, width, words in ((3, 3, "4 control actions"), (4, 7, "trained with 7")):
        with pytest.raises(UserError, match=words) as caught:
            check_action_sizes(pairs, steps, width)
        assert "\n" not in str(caught.value)


def test_videos_have_no_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UWM_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="has no actions") as caught:
        training_pairs(replace(RECIPE, clips=2), bundled(BUNDLED[0]))
    assert "\n" not in str(caught.value)
