"""The frozen test pairs that the variations of a world model are compared on."""

from typing import Protocol

from torch import Tensor

from uwm.data.corpora import Corpus
from uwm.data.crops import center_crop
from uwm.data.manifest import Manifest
from uwm.data.pairs import load_pairs
from uwm.data.selection import frozen_pairs, quickly_listed
from uwm.runs.artifacts import NotThere
from uwm.runs.experiment import Context
from uwm.stages.pretrained import zero_shot_corpus
from uwm.stages.world_model import PretrainRecipe


class Tested(Protocol):
    """The fields of an experiment's config that say which pairs are measured, and how they are seen."""

    @property
    def pretrain(self) -> PretrainRecipe: ...
    @property
    def test_split(self) -> str: ...
    @property
    def test_pairs(self) -> int: ...
    @property
    def seed(self) -> int: ...


def test_manifest(context: Context, name: str, corpus: Corpus | None = None) -> Manifest:  # noqa: PT028
    """The frozen test pairs of a corpus, the same for every variation.

    `corpus`: where the clips to test are not those of `zero_shot_corpus`.

    Raises:
        NotThere: a plan asks (`find_only`), and listing them would take long: the job that measures does it.
    """
    config: Tested = context.config
    choice = (config.test_split, config.pretrain.gap, config.test_pairs, config.seed)
    corpus = corpus or zero_shot_corpus(context, name)
    if context.artifacts.find_only and not quickly_listed(corpus, *choice):
        raise NotThere(f"test pairs of {name}")
    return frozen_pairs(corpus, *choice)


def test_images(
    context: Context,
    name: str,
    size: int,
    corpus: Corpus | None = None,  # noqa: PT028
) -> tuple[Manifest, Tensor]:
    """Those pairs and their frames, cropped: uint8 (n, 2, 3, size, size)."""
    config: Tested = context.config
    corpus = corpus or zero_shot_corpus(context, name)
    manifest = test_manifest(context, name, corpus)
    images = load_pairs(corpus, manifest, config.pretrain.short_side)
    return manifest, center_crop(images, size, size)
