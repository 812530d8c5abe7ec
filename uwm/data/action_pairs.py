"""Frame pairs with the robot's own actions between the frames."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from torch import Tensor

from uwm.data.corpora import SPLITS, Corpus
from uwm.data.manifest import Manifest
from uwm.data.robomimic.actions import PairActions, action_files, pair_actions
from uwm.data.selection import first_clips, frozen_pairs
from uwm.errors import UserError


@dataclass(frozen=True)
class ActionPairs:
    """Pairs of a corpus and their actions; equal where their `sha256` is."""

    sha256: str
    corpus: Corpus = field(compare=False)
    manifest: Manifest = field(compare=False)
    actions: PairActions = field(compare=False)

    def __len__(self) -> int:
        return len(self.manifest.table)

    @property
    def controls(self) -> tuple[Tensor, Tensor]:
        """Actions (n, T, A) and their mask (n, T)."""
        return torch.from_numpy(self.actions.actions), torch.from_numpy(self.actions.mask)

    def part(self, rows: Sequence[int]) -> "ActionPairs":
        """Some of the pairs."""
        index = list(rows)
        manifest = Manifest(self.manifest.table.iloc[index].reset_index(drop=True), self.manifest.skipped)
        whole = ("low", "high")  # of all pairs alike
        of_pairs = {f.name: getattr(self.actions, f.name) for f in fields(PairActions) if f.name not in whole}
        actions = replace(self.actions, **{name: values[index] for name, values in of_pairs.items()})
        return replace(self, sha256=f"{self.sha256}/{index}", manifest=manifest, actions=actions)

    @property
    def limits(self) -> tuple[Tensor, Tensor]:
        """The controller's range: low and high (A,)."""
        return torch.from_numpy(self.actions.low), torch.from_numpy(self.actions.high)


def action_pairs(corpus: Corpus, manifest: Manifest) -> ActionPairs:
    """The pairs of a manifest with their actions. Raises UserError as `pair_actions`."""
    actions = pair_actions(corpus, manifest)
    digest = hashlib.sha256(manifest.sha256.encode())
    for array in (actions.actions, actions.mask, actions.low, actions.high):
        digest.update(f"{array.shape}".encode() + array.tobytes())
    return ActionPairs(digest.hexdigest(), corpus, manifest, actions)


@functools.lru_cache(maxsize=8)
def all_action_pairs(corpus: Corpus, gap: float, clips: int | None) -> ActionPairs:
    """Every training pair of a corpus."""
    corpus = first_clips(corpus, clips)
    return action_pairs(corpus, frozen_pairs(corpus, "train", gap, None, 0))


def eef_in_crop(pairs: ActionPairs, short_side: int, size: int) -> Tensor:
    """The end effector (x, y) in both frames, in pixels of the evaluated crop: (n, 2, 2) float64.

    From fractions of the whole picture, through the resizing to `short_side` and the centre crop to `size`.
    NaN where it is not known.
    """
    table = pairs.manifest.table
    sides = torch.tensor(table[["width", "height"]].to_numpy(np.float64).copy())
    resized = (sides * short_side / sides.amin(1, keepdim=True)).round()  # (n, 2)
    corner = (resized - size).div(2, rounding_mode="floor")
    return torch.from_numpy(pairs.actions.eef_in_picture).double() * resized[:, None] - corner[:, None]


def check_action_sizes(pairs: ActionPairs, steps: int, width: int) -> None:
    """UserError where pairs have other actions than those that a network was trained with."""
    length, numbers = pairs.actions.actions.shape[1:]
    if numbers != width:
        raise UserError(f"{pairs.corpus.name}: actions of {numbers} numbers, trained with {width}")
    if length > steps:
        raise UserError(
            f"{pairs.corpus.name}: {length} control actions between two frames, the training pairs have at "
            f"most {steps}; cut the recordings to one frame rate"
        )


def has_actions(corpus: Corpus) -> bool:
    """Whether a corpus brings the robot's actions."""
    return bool(action_files(corpus))


def can_be_probed(corpus: Corpus) -> bool:
    """Whether a probe of real actions can be fitted, chosen and tested: there are some, in every split."""
    return has_actions(corpus) and {clip.split for clip in corpus.clips} == set(SPLITS)
