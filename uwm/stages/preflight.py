"""What is checked before anything is computed: each corpus, and published weights."""

from collections.abc import Iterator
from typing import Protocol

from uwm.data.action_card import range_warnings
from uwm.data.corpora import Corpus
from uwm.data.robomimic.actions import check_corpus_actions
from uwm.data.shards import folders_of_shards, read_index
from uwm.data.video import BadVideo, probe
from uwm.env import launched_rank, shards_root, weights_folder
from uwm.errors import UserError
from uwm.metrics.perceptual import weights_at_hand
from uwm.runs.experiment import Context
from uwm.runs.plan import say
from uwm.stages.mae import MAERecipe, published_mae
from uwm.stages.pair_training import PairRecipe
from uwm.stages.pretrained import corpus_of

TRIED = 5  # clips that are opened to see whether a corpus is one of videos


class Trains(Protocol):
    """The fields of an experiment's config that name corpora to train on, and a published MAE."""

    @property
    def pretrain_on(self) -> tuple[str, ...]: ...
    @property
    def pretrain(self) -> PairRecipe: ...
    @property
    def mae(self) -> MAERecipe: ...


class Needs(Trains, Protocol):
    """Those of an experiment that measures in LPIPS, too."""

    @property
    def lpips(self) -> str: ...


def trainings_lack(context: Context) -> Iterator[str]:
    """A warning for shards that no folder holds.

    Raises:
        UserError: a corpus of the pre-training has nothing to train on; no MAE file.
    """
    config: Trains = context.config
    for name in config.pretrain_on:
        check_clips(corpus_of(context, name), "train")
    yield from _lacking_shards(config)
    if config.mae.train is None:
        published_mae(config.mae)


def nodes_lack(context: Context) -> Iterator[str]:
    """What trainings lack, and a warning for LPIPS weights that a run would have to download.

    Raises:
        UserError: as for trainings; at scales `small` and `paper`, no LPIPS weights either.
    """
    config: Needs = context.config
    yield from trainings_lack(context)
    if weights_at_hand(config.lpips, weights_folder()):
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


def check_clips(corpus: Corpus, split: str) -> None:
    """Open the first clip of a split that can be read.

    Raises:
        UserError: no clip in the split, or none that is a video.
    """
    problem: Exception | None = None
    for clip in corpus.of(split)[:TRIED]:
        try:
            probe(corpus.file(clip))
            return
        except (BadVideo, OSError) as error:
            problem = problem or error
    raise UserError(f"corpus {corpus.name!r}: none of its first {TRIED} {split} clips is a video ({problem})")


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
