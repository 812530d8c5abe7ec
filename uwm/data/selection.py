"""Which clips, pairs and frames of a corpus a training or a measurement reads."""

import functools
import multiprocessing
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uwm.data.corpora import SPLITS, Corpus, announce
from uwm.data.manifest import Manifest, say_fewer
from uwm.data.manifest_cache import cached_manifest, kept_manifest
from uwm.data.pairs import FrameBank
from uwm.env import cache_root
from uwm.errors import UserError

MANY_CLIPS = 2000
MOST_WORKERS = 32

Corpora = Mapping[str, Corpus]


def first_clips_of_each(corpora: Corpora, clips: int | None) -> dict[str, Corpus]:
    return {name: first_clips(corpus, clips) for name, corpus in corpora.items()}


def first_clips(corpus: Corpus, clips: int | None) -> Corpus:
    """The corpus with at most so many clips in each split."""
    if clips is None:
        return corpus
    chosen = [clip for split in SPLITS for clip in [c for c in corpus.clips if c.split == split][:clips]]
    return replace(corpus, clips=tuple(chosen), uncut=corpus.uncut or corpus.clips)


@functools.lru_cache(maxsize=32)
def frozen_pairs(
    corpus: Corpus, split: str, gap: float, pairs: int | None, seed: int, pairs_per_visit: int = 1
) -> Manifest:
    """The pair list of a split: made once for the same files, for that opens each. Names bad clips, and says
    where there are fewer pairs than are asked for.

    `pairs_per_visit` takes that many pairs of a long video from the same 4 s, for decoding them live.
    """
    announce(corpus)
    arguments = list_arguments(gap, pairs, seed, pairs_per_visit)
    workers = reading_workers(len(corpus.of(split)))
    manifest = cached_manifest(cache_root() / "manifests", corpus, split, workers=workers, **arguments)
    for file, reason in manifest.skipped:
        print(f"skipped {corpus.name} ({split}): {file}: {reason}", file=sys.stderr)
    say_fewer(corpus, split, manifest, pairs)
    return manifest


def quickly_listed(corpus: Corpus, split: str, gap: float, pairs: int | None, seed: int) -> bool:
    """Whether `frozen_pairs` opens few clips, or none since the list is kept."""
    if len(corpus.of(split)) <= MANY_CLIPS:
        return True
    arguments = list_arguments(gap, pairs, seed)
    return kept_manifest(cache_root() / "manifests", corpus, split, arguments).is_file()


def list_arguments(gap: float, pairs: int | None, seed: int, pairs_per_visit: int = 1) -> dict[str, Any]:
    """What a list is made by. All pairs are the same ones by any draw: whatever the seeds of the trainings,
    such a list is made once."""
    if pairs is None:
        seed, pairs_per_visit = 0, 1
    visits = {"pairs_per_visit": pairs_per_visit} if pairs_per_visit > 1 else {}
    return {"gap": gap, "pairs": pairs, "seed": seed, **visits}


def reading_workers(clips: int) -> int:
    """Processes that read so many clips: none for a few (each takes a second to start), else one per core."""
    if clips < MANY_CLIPS or multiprocessing.current_process().daemon:  # a daemon may start none
        return 0
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS)


def nested_pairs(manifest: Manifest, pairs: int | None, seed: int) -> Manifest:
    """`pairs` rows of a manifest drawn at random, in its order; all of them for None.

    For one seed a smaller number gives a part of what a larger one does.
    """
    if pairs is None:
        return manifest
    if pairs > len(manifest.table):
        total = len(manifest.table)
        raise UserError(
            f"{pairs} training pairs are asked for, and there are {total}; "
            f"lower the recipe's field, as in --set finetune.pairs={total}"
        )
    rows = np.random.default_rng(seed).permutation(len(manifest.table))[:pairs]
    return Manifest(manifest.table.iloc[np.sort(rows)].reset_index(drop=True), manifest.skipped)


def needed_frames(bank: FrameBank, manifest: Manifest) -> tuple[FrameBank, Tensor]:
    """The frames of a bank that a manifest's pairs need, and the pairs' index (n, 2) among them.

    UserError as `rows_in_bank`.
    """
    frames, pairs = torch.unique(rows_in_bank(bank, manifest), return_inverse=True)  # (F,), (n, 2)
    if len(frames) == len(bank.frames):
        return bank, pairs  # a gigabyte in the mini corpus, which need not be copied
    return replace(bank, frames=bank.frames[frames], clip=bank.clip[frames]), pairs


def rows_in_bank(bank: FrameBank, manifest: Manifest) -> Tensor:
    """The index (n, 2) int64 among the bank's frames of each pair of a manifest of the same clips.

    Raises:
        UserError: a clip of the manifest could be listed, but not decoded as a whole. The pairs that a
            training's digest names are all there, or it does not begin.
    """
    counts = np.bincount(bank.clip.numpy(), minlength=len(bank.clips))
    starts = dict(zip(bank.clips, np.cumsum(counts) - counts, strict=True))
    if lacking := next((clip for clip in manifest.table["video"].unique() if clip not in starts), None):
        reason = dict(bank.skipped).get(lacking, "no clip of these")
        raise UserError(
            f"{lacking}: {reason}, and pairs of it are to be trained on; replace the file by a whole one, or "
            "move it away, and start again"
        )
    first = manifest.table["video"].map(starts).to_numpy()
    pairs = np.stack([first + manifest.table[name].to_numpy() for name in ("frame0", "frame1")], axis=1)
    return torch.from_numpy(pairs.astype(np.int64))
