"""Frame pairs with the robot's own actions between the frames: which ones, their states, their batches."""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from tqdm import tqdm

from uwm.data.corpora import Corpus
from uwm.data.manifest import Manifest
from uwm.data.pairs import FrameBank, center_crop, load_frames, load_pairs
from uwm.data.robot import PairActions, pair_actions
from uwm.errors import UserError
from uwm.finetune import nested_pairs, rows_in_bank
from uwm.stages import first_clips, frozen_pairs
from uwm.training.batches import IndexSource
from uwm.training.optimizer import TrainConfig
from uwm.training.sources import fixed_views, random_crops


@dataclass(frozen=True)
class LabelledRecipe:
    """A training on action-labelled pairs of one corpus."""

    train: TrainConfig
    pairs: int | None = None  # labelled ones; None: every pair there is
    short_side: int = 256
    gap: float = 0.2  # seconds between the frames of a pair (section 5.1)
    clips: int | None = None  # per split; None: every clip there is
    # Crops whose states are computed once: the centre, then random ones; 0: crop and encode at every step.
    # Never flipped, unlike in the pre-training: a mirrored picture would want a mirrored action.
    views: int = 0


@dataclass(frozen=True)
class LabelledPairs:
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

    def part(self, rows: Sequence[int]) -> "LabelledPairs":
        """Some of the pairs."""
        index = list(rows)
        manifest = Manifest(self.manifest.table.iloc[index].reset_index(drop=True), self.manifest.skipped)
        found = self.actions
        some = PairActions(
            found.actions[index],
            found.mask[index],
            found.low,
            found.high,
            found.hand[index],
            found.hand_position[index],
            found.gripper[index],
        )
        return replace(self, sha256=f"{self.sha256}/{index}", manifest=manifest, actions=some)

    @property
    def limits(self) -> tuple[Tensor, Tensor]:
        """The controller's range: low and high (A,)."""
        return torch.from_numpy(self.actions.low), torch.from_numpy(self.actions.high)


def with_actions(corpus: Corpus, manifest: Manifest) -> LabelledPairs:
    """The pairs of a manifest with their actions. Raises UserError as `pair_actions`."""
    found = pair_actions(corpus, manifest)
    digest = hashlib.sha256(manifest.sha256.encode())
    for array in (found.actions, found.mask, found.low, found.high):
        digest.update(f"{array.shape}".encode() + array.tobytes())
    return LabelledPairs(digest.hexdigest(), corpus, manifest, found)


@functools.lru_cache(maxsize=8)
def all_labelled(corpus: Corpus, gap: float, clips: int | None) -> LabelledPairs:
    """Every training pair of a corpus."""
    corpus = first_clips(corpus, clips)
    return with_actions(corpus, frozen_pairs(corpus, "train", gap, None, 0))


@functools.lru_cache(maxsize=8)
def labelled_pairs(recipe: LabelledRecipe, corpus: Corpus) -> LabelledPairs:
    """The pairs that a recipe trains on; fewer are a part of more, another seed draws others."""
    everything = all_labelled(corpus, recipe.gap, recipe.clips)
    if recipe.pairs is None:
        return everything
    manifest = nested_pairs(everything.manifest, recipe.pairs, recipe.train.seed)
    return with_actions(everything.corpus, manifest)


def control_steps(recipe: LabelledRecipe, corpus: Corpus) -> int:
    """Most control actions between the frames of any training pair."""
    return int(all_labelled(corpus, recipe.gap, recipe.clips).actions.mask.shape[1])


def check_controls(pairs: LabelledPairs, steps: int, width: int) -> None:
    """UserError where pairs have other actions than those that a network was trained with."""
    found, numbers = pairs.actions.actions.shape[1:]
    if numbers != width:
        raise UserError(f"{pairs.corpus.name}: actions of {numbers} numbers, trained with {width}")
    if found > steps:
        raise UserError(
            f"{pairs.corpus.name}: {found} control actions between two frames, the training pairs have at "
            f"most {steps}; cut the recordings to one frame rate"
        )


# States


@dataclass(frozen=True)
class FrozenEncoder:
    """Uint8 images (B, 3, S, S) -> states (B, 1+N, D), on the CPU; two are equal where their weights are."""

    sha256: str
    image_size: int
    encode: Callable[[Tensor], Tensor] = field(compare=False)


@torch.no_grad()
def encoded(
    encoder: FrozenEncoder, images: Tensor, name: str = "", *, dtype: torch.dtype = torch.float16
) -> Tensor:
    """States (..., 1+N, D) of uint8 images (..., 3, S, S), on the CPU."""
    parts = images.flatten(0, -4).split(64)
    states = [encoder.encode(part).to(dtype).cpu() for part in tqdm(parts, f"encode {name}", mininterval=10)]
    return torch.cat(states).unflatten(0, images.shape[:-3])


def center_views(bank: FrameBank, size: int, views: int) -> list[Tensor]:
    """Crops (F, 3, size, size) of all frames: the centre, as in evaluation, then random ones per clip."""
    others = fixed_views(bank.frames, bank.clip, size, views - 1, seed=0, flip=False)
    return [center_crop(bank.frames, size, size), *others]


@functools.lru_cache(maxsize=4)
def view_states(
    encoder: FrozenEncoder, pairs: LabelledPairs, short_side: int, gap: float, views: int
) -> tuple[Tensor, Tensor]:
    """States (V, F, 1+N, D) of the frames that the pairs need, and the pairs' places (n, 2) among them.

    The crops are the same for every seed, so that trainings in one process share the states.
    """
    bank, places = frames_of(pairs, short_side, gap)
    crops = center_views(bank, encoder.image_size, views)
    states = [encoded(encoder, view, f"{pairs.corpus.name}, view {i + 1}") for i, view in enumerate(crops)]
    return torch.stack(states), places


def frames_of(pairs: LabelledPairs, short_side: int, gap: float) -> tuple[FrameBank, Tensor]:
    """The training frames that pairs need, and the pairs' places (n, 2) among them."""
    bank = _every_frame(pairs.corpus, short_side, gap)
    frames, places = torch.unique(rows_in_bank(bank, pairs.manifest), return_inverse=True)  # (F,), (n, 2)
    if len(frames) == len(bank.frames):
        return bank, places  # a gigabyte in the mini corpus, which need not be copied
    return replace(bank, frames=bank.frames[frames], clip=bank.clip[frames]), places


@functools.lru_cache(maxsize=1)
def _every_frame(corpus: Corpus, short_side: int, gap: float) -> FrameBank:
    """The training split, decoded once for all trainings of a process."""
    return load_frames(corpus, "train", short_side, gap=gap)


# Batches


def labelled_source(
    recipe: LabelledRecipe,
    encoder: FrozenEncoder,
    pairs: LabelledPairs,
    per_view: Mapping[str, Tensor] | None = None,
) -> IndexSource:
    """Batches with `actions`, `mask` and the pairs' `states`, or (no `views`) their `images`.

    `per_view`: more of each pair by name, (V, n, ...), of the view that the states are of.
    """
    load = (
        _states(recipe, encoder, pairs, per_view or {}) if recipe.views else _images(recipe, encoder, pairs)
    )
    actions, mask = pairs.controls

    def load_labelled(rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return {**load(rows, generator), "actions": actions[rows], "mask": mask[rows]}

    return IndexSource(len(pairs), load_labelled, batch_size=recipe.train.batch_size, seed=recipe.train.seed)


LoadNamed = Callable[[Tensor, torch.Generator], dict[str, Tensor]]


def _states(
    recipe: LabelledRecipe, encoder: FrozenEncoder, pairs: LabelledPairs, per_view: Mapping[str, Tensor]
) -> LoadNamed:
    states, places = view_states(encoder, pairs, recipe.short_side, recipe.gap, recipe.views)

    def load(rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        view = torch.randint(len(states), (len(rows),), generator=generator)
        batch = {"states": states[view[:, None], places[rows]]}  # (B, 2, 1+N, D)
        return batch | {name: values[view, rows] for name, values in per_view.items()}

    return load


def _images(recipe: LabelledRecipe, encoder: FrozenEncoder, pairs: LabelledPairs) -> LoadNamed:
    bank, places = frames_of(pairs, recipe.short_side, recipe.gap)

    def load(rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        frames = bank.frames[places[rows]]  # (B, 2, 3, H, W)
        return {"images": random_crops(frames, encoder.image_size, generator, flip=False)}

    return load


def evaluation_images(pairs: LabelledPairs, short_side: int, size: int) -> Tensor:
    """The pairs' frames, uint8 (n, 2, 3, S, S): the centre of each."""
    return center_crop(load_pairs(pairs.corpus, pairs.manifest, short_side), size, size)
