"""Lists of a corpus's pairs as jobs without a GPU: for one with many clips, opening each takes long."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

from uwm.data.action_pairs import has_actions
from uwm.data.corpora import INCLUDED, Corpus
from uwm.data.manifest_cache import files_key
from uwm.data.selection import first_clips, frozen_pairs
from uwm.runs.artifacts import Artifact, Stage
from uwm.runs.experiment import Cell, Context, StageJob
from uwm.stages.action_training import ActionRecipe
from uwm.stages.comparison_pairs import Tested
from uwm.stages.decoder import WATCHED, DecoderRecipe
from uwm.stages.finetune import FinetuneRecipe
from uwm.stages.jobs import PRETRAINING
from uwm.stages.pair_training import HELD_OUT
from uwm.stages.pretrained import corpus_of, zero_shot_corpus

OpenCorpus: TypeAlias = Callable[[Context, str], Corpus]


class Choice(NamedTuple):
    """What `frozen_pairs` is asked for."""

    split: str
    gap: float
    pairs: int | None
    seed: int


Chosen: TypeAlias = list[tuple[Corpus, Choice]]


def list_jobs(
    name: str, data: Mapping[str, Path], opened: OpenCorpus = zero_shot_corpus, cells: tuple[str, ...] = ()
) -> list[StageJob]:
    """The job `manifests-<name>` ahead of a corpus's evaluations; none for what comes with the project.

    `opened` gives the corpus whose test split is measured. `cells` read the list themselves.
    """
    return _jobs(name, data, partial(_choices, name=name, opened=opened), cells)


def _jobs(
    name: str, data: Mapping[str, Path], choose: Callable[[Context], Chosen], cells: tuple[str, ...]
) -> list[StageJob]:
    if name in INCLUDED and name not in data:
        return []
    run, stage = partial(_obtain, name=name, choose=choose), partial(_stage, name=name, choose=choose)
    return [StageJob(f"manifests-{name}", run, stage, trains=False, computes=False, cells=cells)]


def listed_first(
    needs: Callable[[Cell], Iterable[StageJob]],
    data: Mapping[str, Path],
    corpus: Callable[[Cell], str] = lambda cell: cell.corpus,
) -> Callable[[Cell], list[StageJob]]:
    """The jobs that a cell of an in-domain experiment needs, after the job `manifests-<name>` of its `corpus`
    where that is a user's: all but the pre-training, which reads other lists."""

    def with_lists(cell: Cell) -> list[StageJob]:
        jobs, name = list(needs(cell)), corpus(cell)
        lists = _jobs(name, data, partial(_domain_choices, name=name), ("*",)) if jobs else []
        before = tuple(job.name for job in lists)
        return [
            *lists,
            *(job if job.name in PRETRAINING else replace(job, needs=(*job.needs, *before)) for job in jobs),
        ]

    return with_lists


def read_lists(names: Iterable[str], data: Mapping[str, Path]) -> list[StageJob]:
    """Those of some corpora whose cells, `METHOD/NAME` with a seed or without, measure themselves."""
    each = (list_jobs(name, data, cells=(f"*/{name}", f"*/{name}/s*")) for name in names)
    return [job for jobs in each for job in jobs]


def _choices(context: Context, name: str, opened: OpenCorpus) -> Chosen:
    """The test pairs; where there are actions, those that their probes and readers learn from, too.

    Each with its corpus: where all clips are tested, it is another one whose training clips are learnt from.
    """
    config: Tested = context.config
    gap, split = config.pretrain.gap, config.test_split
    tested, learnt = opened(context, name), corpus_of(context, name)
    chosen = [(tested, Choice(split, gap, config.test_pairs, config.seed))]
    if has_actions(tested):
        chosen += [
            (corpus, Choice(part, gap, None, 0)) for corpus, part in ((learnt, "train"), (tested, split))
        ]
    return chosen


def _domain_choices(context: Context, name: str) -> Chosen:
    """What an in-domain experiment's config lists of a corpus: the pairs that its recipes train on and are
    watched by, and those that are tested."""
    config, corpus = context.config, corpus_of(context, name)
    chosen: Chosen = []
    for recipe in vars(config).values():
        if not isinstance(recipe, FinetuneRecipe | ActionRecipe):
            continue
        read = first_clips(corpus, recipe.clips)
        chosen += [(read, Choice("train", recipe.gap, None, 0))]
        if isinstance(recipe, FinetuneRecipe):
            seeds = sorted({recipe.train.seed, *config.seeds})
            chosen += [(read, Choice("validation", recipe.gap, HELD_OUT, seed)) for seed in seeds]
        else:
            pairs = WATCHED if isinstance(recipe, DecoderRecipe) else HELD_OUT
            chosen += [(corpus, Choice("validation", recipe.gap, pairs, 0))]
    for gap in sorted({choice.gap for _, choice in chosen} if hasattr(config, "test_split") else ()):
        chosen += [(corpus, Choice(config.test_split, gap, config.test_pairs, config.test_seed))]
        if hasattr(config, "probe_pairs"):  # and rollouts, which are of every pair there is
            probed = (Choice(split, gap, config.probe_pairs, 0) for split in ("train", "validation"))
            chosen += [(corpus, choice) for choice in (*probed, Choice(config.test_split, gap, None, 0))]
    return [pair for index, pair in enumerate(chosen) if pair not in chosen[:index]]


def _stage(context: Context, name: str, choose: Callable[[Context], Chosen]) -> Stage:
    """By the corpus's files as they are; opens none of them."""

    def find() -> Stage:
        choices = choose(context)
        asked = [[*choice, len(corpus.of(choice.split))] for corpus, choice in choices]
        files = {choice.split: corpus for corpus, choice in sorted(choices, key=lambda c: len(c[0].clips))}
        keys = {split: files_key(corpus, split, {}) for split, corpus in files.items()}
        return Stage("manifests", 2, {"corpus": name, "choices": asked}, keys)

    return context.once(("stage of lists", name), find)


def _obtain(context: Context, name: str, choose: Callable[[Context], Chosen]) -> Artifact:
    """The lists are kept with all others; the artifact only names them."""

    def compute(folder: Path) -> None:
        digests = {
            str(list(choice)): frozen_pairs(corpus, *choice).sha256 for corpus, choice in choose(context)
        }
        (folder / "manifests.json").write_text(json.dumps(digests, indent=1) + "\n")

    return context.artifacts.obtain(_stage(context, name, choose), compute, together=False)
