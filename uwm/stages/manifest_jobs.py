"""Lists of a corpus's pairs as jobs without a GPU: for one with many clips, opening each takes long."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from uwm.data.action_pairs import has_actions
from uwm.data.corpora import INCLUDED, Corpus
from uwm.data.manifest_cache import files_key
from uwm.data.selection import frozen_pairs
from uwm.runs.artifacts import Artifact, Stage
from uwm.runs.experiment import Context, StageJob
from uwm.stages.comparison_pairs import Tested
from uwm.stages.pretrained import corpus_of, zero_shot_corpus

OpenCorpus: TypeAlias = Callable[[Context, str], Corpus]


class Choice(NamedTuple):
    """What `frozen_pairs` is asked for."""

    split: str
    gap: float
    pairs: int | None
    seed: int


def list_jobs(
    name: str, data: Mapping[str, Path], opened: OpenCorpus = zero_shot_corpus, cells: tuple[str, ...] = ()
) -> list[StageJob]:
    """The job `manifests-<name>` ahead of a corpus's evaluations; none for what comes with the project.

    `opened` gives the corpus whose test split is measured. `cells` read the list themselves.
    """
    if name in INCLUDED and name not in data:
        return []
    run, stage = partial(_obtain, name=name, opened=opened), partial(_stage, name=name, opened=opened)
    return [StageJob(f"manifests-{name}", run, stage, trains=False, computes=False, cells=cells)]


def read_lists(names: Iterable[str], data: Mapping[str, Path]) -> list[StageJob]:
    """Those of some corpora whose cells, `METHOD/NAME` with a seed or without, measure themselves."""
    each = (list_jobs(name, data, cells=(f"*/{name}", f"*/{name}/s*")) for name in names)
    return [job for jobs in each for job in jobs]


def _choices(context: Context, name: str, opened: OpenCorpus) -> list[tuple[Corpus, Choice]]:
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


def _stage(context: Context, name: str, opened: OpenCorpus) -> Stage:
    """By the corpus's files as they are; opens none of them."""

    def find() -> Stage:
        choices = _choices(context, name, opened)
        fields: dict[str, Any] = {"corpus": name, "choices": [list(choice) for _, choice in choices]}
        keys = {choice.split: files_key(corpus, choice.split, {}) for corpus, choice in choices}
        return Stage("manifests", 1, fields, keys)

    return context.once(("stage of lists", name), find)


def _obtain(context: Context, name: str, opened: OpenCorpus) -> Artifact:
    """The lists are kept with all others; the artifact only names them."""

    def compute(folder: Path) -> None:
        found = {
            str(list(choice)): frozen_pairs(corpus, *choice).sha256
            for corpus, choice in _choices(context, name, opened)
        }
        (folder / "manifests.json").write_text(json.dumps(found, indent=1) + "\n")

    return context.artifacts.obtain(_stage(context, name, opened), compute, together=False)
