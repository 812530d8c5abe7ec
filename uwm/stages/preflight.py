"""What is checked before anything is computed: each corpus, and published weights."""

import math
import time
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from uwm.data.action_card import range_warnings
from uwm.data.bad_clips import MAX_BAD_FEW, allowed_bad_share
from uwm.data.corpora import Corpus, announce
from uwm.data.robomimic.actions import check_corpus_actions
from uwm.data.sampling import clip_pairs
from uwm.data.shards import folders_of_shards, read_index
from uwm.data.video import BadVideo
from uwm.env import launched_rank, shards_root, weights_folder
from uwm.errors import UserError
from uwm.metrics.perceptual import load_lpips, weights_at_hand
from uwm.runs.experiment import Context
from uwm.runs.plan import say
from uwm.stages.mae import MAERecipe, mae_identity
from uwm.stages.pretrained import corpus_of
from uwm.stages.world_model import PretrainRecipe

PROBED = 40  # clips of a split that are opened at most
ENOUGH_SECONDS = 1.0  # after them no more clips, once one could be used: a long video takes that long alone
DEVIATIONS = 3.0  # by which the bad share of a sample must pass the allowed one


class Trains(Protocol):
    """The fields of an experiment's config that name corpora to train on, and a published MAE."""

    @property
    def pretrain_on(self) -> tuple[str, ...]: ...
    @property
    def pretrain(self) -> PretrainRecipe: ...
    @property
    def mae(self) -> MAERecipe: ...


class Needs(Trains, Protocol):
    """Those of an experiment that measures in LPIPS, too."""

    @property
    def lpips(self) -> str: ...


def trainings_lack(context: Context) -> Iterator[str]:
    """A warning for shards that no folder holds.

    Raises:
        UserError: a corpus of the pre-training has nothing to train on; no MAE file, or one of other sizes.
    """
    config: Trains = context.config
    for name in config.pretrain_on:
        check_clips(corpus_of(context, name), "train", config.pretrain.gap)
    yield from _lacking_shards(config)
    if config.mae.train is None:
        mae_identity(config.mae, {})  # opens it


def nodes_lack(context: Context) -> Iterator[str]:
    """What trainings lack, and a warning for LPIPS weights that a run would have to download.

    Raises:
        UserError: as for trainings; LPIPS weights of another network, or damaged
            ones; at scales `small` and `paper`, none at all.
    """
    config: Needs = context.config
    yield from trainings_lack(context)
    if weights_at_hand(config.lpips, weights_folder()):
        load_lpips(config.lpips, allow_random=False)
        return
    text = (
        f"no weights of LPIPS ({config.lpips}) in UWM_WEIGHTS or torch's cache: without internet runs "
        "measure with lpips-random; fetch them here: python -m uwm.prefetch --to DIR, and set UWM_WEIGHTS=DIR"
    )
    if context.scale in ("small", "paper"):
        raise UserError(text)
    yield text


def _lacking_shards(config: Trains) -> Iterator[str]:
    """A warning for each corpus of which no folder has shards, where the pre-training reads such; whether
    they are of its very pairs is seen once these are listed."""
    recipe, root = config.pretrain, shards_root()
    if recipe.shards is None:
        return
    there = {index.corpus for index in map(read_index, folders_of_shards(root))
             if (index.short_side, index.quality) == (recipe.short_side, recipe.shards)}  # fmt: skip
    for name in config.pretrain_on:
        if name not in there:
            which = f"{name} (short side {recipe.short_side}, quality {recipe.shards})"
            yield (
                f"no shards of {which} below {root}: a pre-training stops there and names the command that "
                "makes them; set UWM_SHARDS=DIR"
            )


def check_clips(corpus: Corpus, split: str, gap: float) -> None:
    """Open some clips of a split, evenly over it: they can be read, and have frames `gap` seconds apart. Says
    as what layout the corpus is read.

    Raises:
        UserError: no clip in the split; none of those tried can be used, or so few that more of the split
            is bad than is allowed.
    """
    announce(corpus)
    clips, share = corpus.of(split), allowed_bad_share()
    indices = np.linspace(0, len(clips) - 1, min(PROBED, len(clips))).round().astype(int)
    tried, faults, began = 0, list[str](), time.monotonic()
    for tried, index in enumerate(np.random.default_rng(0).permutation(indices), start=1):
        clip = clips[index]
        try:
            clip_pairs(corpus.file(clip), gap, clip.cuts)
        except (BadVideo, OSError) as error:
            faults.append(str(error))
        if len(faults) < tried and time.monotonic() - began > ENOUGH_SECONDS:
            break
    bad = len(faults)
    # A sample's share is only near that of the split.
    slack = 0.0 if tried == len(clips) else DEVIATIONS * math.sqrt(share * (1 - share) * tried)
    where = f"corpus {corpus.name!r}, {split} split"
    if bad == tried:
        raise UserError(f"{where}: none of {tried} clips tried can be used; {faults[0]}")
    if bad > MAX_BAD_FEW and bad > share * tried + slack:
        raise UserError(
            f"{where}: {bad} of {tried} clips tried cannot be used, and the allowed share is {share:g} "
            f"(--max-bad-share, UWM_MAX_BAD_SHARE); {faults[0]}"
        )


def check_all_actions(corpus: Corpus) -> None:
    """Read every action of a corpus; say where the range that is assumed is far off.

    Raises:
        UserError: no actions, or actions out of range; no clip to train on.
    """
    check_corpus_actions(corpus)
    if launched_rank()[0] == 0:
        for text in range_warnings(corpus):
            say(f"{corpus.name}: {text}")
    corpus.of("train")
