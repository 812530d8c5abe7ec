"""A model by others with a trainer of its own: its training as a cached stage.

    def fit(self, corpora, budget, seed):
        for frames_t, frames_next in corpora.batches(32): ...

It sees the pairs of our own model's training, in random crops, and no more of them than our model saw.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from uwm.data.crops import random_crops
from uwm.data.draws import Draws
from uwm.data.pairs import FrameBank, load_frames
from uwm.data.selection import first_clips_of_each
from uwm.errors import UserError
from uwm.methods.protocol import resize_frames
from uwm.runs.artifacts import Artifact, Stage
from uwm.runs.experiment import Context
from uwm.runs.record import file_sha256
from uwm.stages.pair_training import training_manifests
from uwm.stages.pretrained import Pretrained, corpus_of
from uwm.stages.trained import WEIGHTS

CROP = 7 / 8  # of the frames' shorter side, as the 112 of 128 pixels of scale mini


class TrainingPairs:
    """Pairs of frames for a model's own trainer. Each that is handed out counts; after `budget` none is."""

    def __init__(self, banks: Sequence[FrameBank], size: int, budget: int, seed: int) -> None:
        self.banks, self.size, self.left = banks, size, budget
        self.generator = torch.Generator().manual_seed(seed)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Frames at t and at t+1, floats (B, 3, S, S) in [0, 1]: pairs at random out of all corpora, each in
        a random crop, mirrored or not. The last batch may be smaller."""
        counts = [len(bank.pairs) for bank in self.banks]
        while self.left > 0:
            rows = torch.randint(sum(counts), (min(batch_size, self.left),), generator=self.generator)
            self.left -= len(rows)
            parts = []
            for bank, bank_rows in zip(self.banks, _by_bank(rows, counts), strict=True):
                if len(bank_rows):
                    parts.append(self._seen(bank.frames[bank.pairs[bank_rows]]))
            now, then = torch.cat(parts).unbind(1)
            yield now, then

    def _seen(self, pairs: Tensor) -> Tensor:
        """Pairs uint8 (b, 2, 3, H, W) -> floats (b, 2, 3, S, S)."""
        side = round(CROP * min(pairs.shape[-2:]))
        crops = random_crops(pairs, side, Draws(self.generator)).float() / 255
        return resize_frames(crops.flatten(0, 1), self.size).unflatten(0, (-1, 2))


def _by_bank(rows: Tensor, counts: Sequence[int]) -> Iterator[Tensor]:
    """Places in the joined lists of pairs -> those of each list."""
    first = 0
    for count in counts:
        yield rows[(rows >= first) & (rows < first + count)] - first
        first += count


class Fitted(NamedTuple):
    """A model by others: its name, what a record says of it, and what builds it untrained."""

    name: str
    identity: Mapping[str, Any]
    build: Callable[[], Any]


def obtain_fitted(context: Context, method: Fitted) -> tuple[Any, str]:
    """The model, trained by its own `fit` or found, and the sha256 of its weights.

    Raises:
        UserError: it has no `state_dict` and `load_state_dict`; or the corpora are read live, for they may
            fit in no memory.
    """
    config: Pretrained = context.config
    if not config.pretrain.views:
        raise UserError(
            f"method {method.name}: fit gets corpora that are held in memory (pretrain.views above 0), not "
            "those that are decoded live: train it yourself, and name its weights"
        )
    model = method.build()
    if not all(callable(getattr(model, name, None)) for name in ("state_dict", "load_state_dict")):
        raise UserError(f"method {method.name}: a class with fit needs state_dict and load_state_dict too")
    compute = functools.partial(_fit, context, method)
    artifact: Artifact = context.artifacts.obtain(fitted_stage(context, method), compute, together=False)
    model.load_state_dict(load_file(artifact.path / WEIGHTS))
    return model, file_sha256(artifact.path / WEIGHTS)


def fitted_stage(context: Context, method: Fitted) -> Stage:
    """Identity of the training; trains nothing."""
    config: Pretrained = context.config
    recipe = config.pretrain
    fields: dict[str, Any] = {"gap": recipe.gap, "short_side": recipe.short_side, "seed": recipe.train.seed}
    corpora = first_clips_of_each({n: corpus_of(context, n) for n in config.pretrain_on}, recipe.clips)
    fields |= {"budget": pairs_budget(context), "method": dict(method.identity)}
    return Stage(f"fitted-{method.name}", 1, fields, training_manifests(corpora, recipe))


def pairs_budget(context: Context) -> int:
    """As many pairs as the training of our own model sees, with the steps for a perceptual loss."""
    config: Pretrained = context.config
    last = config.pretrain.perceptual
    trainings = [config.pretrain.train, *([last.train] if last.weight else [])]
    return sum(train.steps * train.batch_size for train in trainings)


def _fit(context: Context, method: Fitted, folder: Path) -> None:
    config: Pretrained = context.config
    recipe, model = config.pretrain, method.build()
    corpora = first_clips_of_each({n: corpus_of(context, n) for n in config.pretrain_on}, recipe.clips)
    banks = [load_frames(c, "train", recipe.short_side, gap=recipe.gap) for c in corpora.values()]
    budget, seed = pairs_budget(context), recipe.train.seed
    model.fit(TrainingPairs(banks, int(model.image_size), budget, seed), budget, seed)
    save_state(model, folder / WEIGHTS)


def save_state(model: Any, path: Path) -> None:
    """The `state_dict` of a model, whose tensors may share memory or lie on a GPU, as safetensors."""
    state = model.state_dict().items()
    save_file({name: value.detach().cpu().clone().contiguous() for name, value in state}, path)
