"""What can be known of a corpus, whatever its size, in seconds: its splits, files and actions."""

from collections.abc import Sequence

import numpy as np

from uwm.data.corpora import Clip, Corpus
from uwm.data.decoders import BadVideo
from uwm.data.robomimic.actions import check_corpus_actions
from uwm.data.sampling import nearest_pairs, without_cuts
from uwm.data.video import probe
from uwm.errors import UserError

PROBED = 5  # clips of each split that are opened


def check_corpus(corpus: Corpus, splits: Sequence[str], *, gap: float = 0.2, actions: bool = False) -> None:
    """Raise the `UserError` that a run on this corpus would end in, as far as a few files tell.

    Every split that is asked for has clips, and one of the first `PROBED` of each can be read and has two
    frames `gap` seconds apart. With `actions` the demonstrations of every clip are read: their number, size
    and range.
    """
    for split in splits:
        _check_split(corpus, split, gap)
    if actions:
        check_corpus_actions(corpus)


def _check_split(corpus: Corpus, split: str, gap: float) -> None:
    clips = corpus.of(split)
    places = np.linspace(0, len(clips) - 1, min(PROBED, len(clips))).round().astype(int)
    faults = []
    for place in places:
        fault = _fault(corpus, clips[place], gap)
        if fault is None:
            return
        faults.append(fault)
    tried = f"none of {len(faults)} clips tried of its {split} split can be used"
    raise UserError(f"{corpus.name}: {tried}; {faults[0]}")


def _fault(corpus: Corpus, clip: Clip, gap: float) -> str | None:
    try:
        times = probe(corpus.file(clip)).timestamps
    except BadVideo as error:
        return str(error)
    pairs = without_cuts(nearest_pairs(times, gap), times, clip.cuts)
    return None if len(pairs) else f"{clip.path}: no two frames {gap:g} s apart"
