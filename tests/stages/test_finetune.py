"""Fine-tuning: which pairs are drawn, that their frames are the right ones, and what stays as it is."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from uwm.data.corpora import BUNDLED, Corpus, bundled
from uwm.data.manifest import Manifest
from uwm.data.pairs import load_frames, load_pairs
from uwm.data.selection import first_clips, nested_pairs, rows_in_bank
from uwm.errors import Interrupted, UserError
from uwm.models import MAE_PRESETS, WorldModel
from uwm.stages.finetune import FINETUNE, FROZEN, PartialTraining, available_pairs
from uwm.stages.world_model import high_rate
from uwm.training.batches import IndexSource
from uwm.training.loop import TrainConfig, train

SMOKE = FINETUNE["smoke"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UWM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield first_clips(bundled(BUNDLED[0]), 4)


def places(manifest: Manifest) -> set[tuple[str, int]]:
    return set(zip(manifest.table["video"], manifest.table["frame0"], strict=True))


def test_fewer_pairs_are_a_part_of_more(corpus: Corpus) -> None:
    everything = available_pairs(SMOKE, corpus)
    drawn = {n: nested_pairs(everything, n, seed=1) for n in (1, 5, 20, len(everything.table))}
    sets = [places(manifest) for manifest in drawn.values()]
    assert [len(s) for s in sets] == list(drawn)
    assert all(a < b for a, b in itertools.pairwise(sets))
    pd.testing.assert_frame_equal(drawn[len(everything.table)].table, everything.table)
    assert nested_pairs(everything, None, seed=1) is everything


def test_another_seed_draws_other_pairs(corpus: Corpus) -> None:
    everything = available_pairs(SMOKE, corpus)
    one, again, two = (nested_pairs(everything, 20, seed) for seed in (1, 1, 2))
    assert one.sha256 == again.sha256
    assert places(one) != places(two)


def test_too_few_pairs_are_one_line(corpus: Corpus) -> None:
    with pytest.raises(UserError, match="100000 training pairs are asked for, and there are ") as caught:
        nested_pairs(available_pairs(SMOKE, corpus), 100_000, seed=0)
    assert "\n" not in str(caught.value)


def test_the_frames_of_a_pair_are_found_in_memory(corpus: Corpus) -> None:
    manifest = nested_pairs(available_pairs(SMOKE, corpus), 25, seed=0)
    videos = set(manifest.table["video"])
    used = replace(corpus, clips=tuple(clip for clip in corpus.clips if clip.path in videos))
    bank = load_frames(used, "train", 64, gap=SMOKE.gap)
    found = bank.frames[rows_in_bank(bank, manifest)]  # (n, 2, 3, 64, W)
    side = (found.shape[-1] - 64) // 2
    assert found[..., side : side + 64].equal(load_pairs(corpus, manifest, 64))


def changed_parts(trained: str, folder: Path) -> set[str]:
    """Which parts of a small world model differ, weights and buffers, after three steps."""
    model = WorldModel(high_rate(64).fitted(MAE_PRESETS["tiny"]))
    model.step.fill_(1000)  # as after a pre-training: the codebook is in use
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = torch.randn(8, 2, 17, 48, generator=torch.Generator().manual_seed(0))
    source = IndexSource(8, lambda rows, generator: states[rows], batch_size=4)
    objective = PartialTraining(model, None, FROZEN[trained])
    train(objective, source, TrainConfig(steps=3, batch_size=4, checkpoint_every=2), folder)
    assert objective.world_model.step == 1003
    after = objective.world_model.state_dict()
    return {name.partition(".")[0] for name in before if not before[name].equal(after[name])} - {"step"}


@pytest.mark.parametrize(
    ("trained", "parts"),
    [
        ("all", {"extractor", "quantizer", "dynamics"}),
        ("no-codebook", {"extractor", "dynamics"}),
        ("dynamics", {"dynamics"}),
    ],
)
def test_frozen_parts_keep_every_bit(trained: str, parts: set[str], tmp_path: Path) -> None:
    assert changed_parts(trained, tmp_path) == parts


def test_a_resumed_training_keeps_them_too(tmp_path: Path) -> None:
    states = torch.randn(8, 2, 17, 48, generator=torch.Generator().manual_seed(0))

    def attempt(stop: Callable[[], bool] | None) -> tuple[WorldModel, dict[str, torch.Tensor]]:
        model = WorldModel(high_rate(64).fitted(MAE_PRESETS["tiny"]), seed=7)
        model.step.fill_(1000)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        source = IndexSource(8, lambda rows, generator: states[rows], batch_size=4)
        objective = PartialTraining(model, None, FROZEN["dynamics"])
        train(objective, source, TrainConfig(steps=4, batch_size=4), tmp_path, stop=stop)
        return model, before

    with pytest.raises(Interrupted):
        attempt(lambda: True)
    model, before = attempt(None)
    for name, value in model.state_dict().items():
        if name.startswith(("extractor", "quantizer")):
            assert value.equal(before[name]), name
    assert model.step == 1004
