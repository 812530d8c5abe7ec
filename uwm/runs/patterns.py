"""Names of cells and stages, and the patterns that choose some of them."""

import fnmatch
from collections.abc import Collection, Iterable, Sequence

from uwm.errors import UserError, nearest


def matches(name: str, patterns: Iterable[str]) -> bool:
    """True when a pattern matches the name, wholly or as a prefix of its parts: `uwm/*`, `uwm`."""
    return any(fnmatch.fnmatchcase(name, p) for pattern in patterns for p in (pattern, f"{pattern}/*"))


def chosen_names(names: Collection[str], patterns: Sequence[str]) -> set[str]:
    """The names that `--only` means: those that one of its patterns matches, all without a pattern.

    Raises:
        UserError: a pattern matches nothing, or there is none in a given list, as of an empty shell variable.
    """
    parts = [part for text in patterns for part in text.split(",") if part]
    if patterns and not parts:
        raise UserError("--only names no cell; leave it out to mean all")
    chosen = set() if patterns else set(names)
    for pattern in parts:
        hits = {name for name in names if matches(name, [pattern])}
        if not hits:
            raise UserError(f"--only {pattern}: no such cell{nearest(pattern, names)}")
        chosen |= hits
    return chosen
