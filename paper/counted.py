"""How many pairs of how many clips a table's numbers are of."""

from collections.abc import Iterable, Sequence

from paper.names import corpus_label
from paper.store import Results


def pairs_and_clips(results: Results, key: tuple[str, str, str], names: Sequence[str]) -> str:
    """`300 pairs of 60 clips`, the same for all methods of a scale, experiment and corpus; empty where none
    of them has samples."""
    scale, experiment, corpus = key
    for name in names:
        for cell in results.find(scale, experiment, name, corpus):
            if cell.status == "ok" and cell.sample_paths and cell.sample_paths[0].exists():
                samples = results.samples(cell.sample_paths[0])
                return f"{len(samples.pairs):,} pairs of {len(set(samples.clips)):,} clips"
    return ""


def told_pairs(results: Results, key: tuple[str, str, str], names: Sequence[str], share: str = "") -> str:
    """The same as the last sentence of a note; `share` says of which part of them the rows are."""
    count = pairs_and_clips(results, key, names)
    return f" {share}{count}." if count else ""


def told_by_corpus(counts: Iterable[tuple[str, str]]) -> str:
    """The same of several corpora (name, what `pairs_and_clips` gives): once where two are alike."""
    parts = dict.fromkeys(f"{corpus_label(corpus)} {number}" for corpus, number in counts if number)
    return f" Pairs in all: {'; '.join(parts)}." if parts else ""
