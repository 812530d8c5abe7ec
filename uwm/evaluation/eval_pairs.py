"""The test pairs of a corpus as predictors get them: frames, states, actions; single pairs or runs."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from uwm.data.action_pairs import ActionPairs, action_pairs
from uwm.data.corpora import Corpus
from uwm.data.manifest import Manifest
from uwm.data.selection import frozen_pairs
from uwm.data.states import FrozenEncoder, encode_frames, evaluation_images
from uwm.evaluation.segments import rollout_segments, segments_from


@dataclass(frozen=True)
class EvalSetting:
    """How pairs of a corpus are seen: the encoder, the frames' size before the crop, the gap."""

    encoder: FrozenEncoder
    corpus: Corpus
    short_side: int
    gap: float


class EvalPairs(NamedTuple):
    """Labelled pairs with their frames, uint8 (n, 2, 3, S, S), and states (n, 2, 1+N, D)."""

    pairs: ActionPairs
    images: Tensor
    states: Tensor

    @property
    def controls(self) -> tuple[Tensor, Tensor]:
        """Actions (n, T, A) and their mask (n, T)."""
        return self.pairs.controls

    @property
    def clips(self) -> np.ndarray:
        """The clip of each pair."""
        return self.pairs.manifest.table["video"].to_numpy()

    def part(self, rows: Sequence[int]) -> "EvalPairs":
        """Some of the pairs."""
        index = torch.tensor(list(rows))
        return EvalPairs(self.pairs.part(rows), self.images[index], self.states[index])


@functools.lru_cache(maxsize=6)
def load_eval_pairs(setting: EvalSetting, split: str, pairs: int | None, seed: int) -> EvalPairs:
    """`pairs` of a split, evenly over its clips."""
    manifest = frozen_pairs(setting.corpus, split, setting.gap, pairs, seed)
    return _eval_pairs(setting, manifest, split)


class RolloutSegments(NamedTuple):
    """Runs of H pairs, each from where the one before ends: the pairs, and their index (n, H) among them."""

    pairs: EvalPairs
    pair_index: Tensor

    @property
    def clips(self) -> np.ndarray:
        """The clip of each run."""
        return self.pairs.clips[self.pair_index[:, 0].numpy()]

    @property
    def rows(self) -> pd.DataFrame:
        """The runs: video, and the times t0 of the first frame and t1 of the last."""
        table = self.pairs.pairs.manifest.table
        first, last = (table.iloc[self.pair_index[:, k].numpy()].reset_index(drop=True) for k in (0, -1))
        return first.assign(t1=last["t1"])[["video", "t0", "t1"]]


@functools.lru_cache(maxsize=2)
def load_rollout_segments(setting: EvalSetting, split: str, horizon: int, most: int) -> RolloutSegments:
    """Up to `most` runs of `horizon` pairs, evenly over those that a split has."""
    everything = frozen_pairs(setting.corpus, split, setting.gap, None, 0)
    manifest, pair_index = rollout_segments(everything, horizon, most)
    return RolloutSegments(_eval_pairs(setting, manifest, f"{split}, runs"), pair_index)


@functools.lru_cache(maxsize=2)
def load_pairs_ahead(
    setting: EvalSetting, split: str, steps: int, pairs: int, seed: int
) -> tuple[EvalPairs, RolloutSegments]:
    """`pairs` frames of a split, evenly over its clips, each with the one `steps` steps later; and the steps
    between."""
    starts = frozen_pairs(setting.corpus, split, round(steps * setting.gap, 6), pairs, seed)
    everything = frozen_pairs(setting.corpus, split, setting.gap, None, 0)
    manifest, pair_index, ends = segments_from(everything, starts, steps)
    segments = RolloutSegments(_eval_pairs(setting, manifest, f"{split}, steps"), pair_index)
    return _eval_pairs(setting, ends, f"{split}, {steps} steps ahead"), segments


def _eval_pairs(setting: EvalSetting, manifest: Manifest, name: str) -> EvalPairs:
    pairs = action_pairs(setting.corpus, manifest)
    images = evaluation_images(pairs, setting.short_side, setting.encoder.image_size)
    name = f"{setting.corpus.name} {name}"
    return EvalPairs(pairs, images, encode_frames(setting.encoder, images, name, dtype=torch.float32))
