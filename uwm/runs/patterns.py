"""Names of cells and stages, and the patterns that choose some of them."""

import fnmatch
from collections.abc import Iterable


def matches(name: str, patterns: Iterable[str]) -> bool:
    """True when a pattern matches the name, wholly or as a prefix of its parts: `uwm/*`, `uwm`."""
    return any(fnmatch.fnmatchcase(name, p) for pattern in patterns for p in (pattern, f"{pattern}/*"))
