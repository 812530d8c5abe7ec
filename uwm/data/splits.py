"""Which clip belongs to which split."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

Split = Literal["train", "validation", "test"]
SPLITS: tuple[str, ...] = get_args(Split)
HELD_OUT_SHARE = 0.1  # of the clips, for validation and for test each


class Clip(NamedTuple):
    """One video: its path relative to the corpus's folder (with `/`), and the split that it belongs to.

    `cuts` are times (s) at which one recording ends and another begins: no pair spans a cut. (A named tuple:
    SSv2 has 220,847, made at every start.)
    """

    path: str
    split: str
    cuts: tuple[float, ...] = ()


def hash_unit(text: str) -> float:
    """A number in [0, 1) from the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def split_by_hash(names: Sequence[str]) -> dict[str, str]:
    """The split of each name by its hash: below 0.1 test, below 0.2 validation, else train.

    Three names or more give at least one to each split; two give a test and a train one, one a test one.
    """
    by_hash = sorted(names, key=hash_unit)
    below = [sum(hash_unit(name) < share * HELD_OUT_SHARE for name in names) for share in (1, 2)]
    tests = min(max(below[0], 1), max(len(names) - 2, 1))
    validations = min(max(below[1] - tests, 1), max(len(names) - tests - 1, 0))
    counts = {"test": tests, "validation": validations, "train": len(names) - tests - validations}
    splits = [split for split, count in counts.items() for _ in range(count)]
    return dict(zip(by_hash, splits, strict=True))


def split_by_group(groups: Mapping[str, str]) -> tuple[Clip, ...]:
    """Clips of one group (path -> group) always land in the same split."""
    splits = split_by_hash(sorted(set(groups.values())))
    return tuple(Clip(path, splits[group]) for path, group in sorted(groups.items()))
