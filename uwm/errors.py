"""Errors that a user can mend, and how the command line shows them."""

import difflib
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """Bad input. The message is one line: what is wrong, where, and how to mend it."""


class Interrupted(RuntimeError):  # noqa: N818
    """A computation stopped on request and left a checkpoint; started again, it goes on from there."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` or, where nothing is near, `; there are a, b, c`."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(names) or 'none'}"


def run_cli(main: Callable[[], int]) -> int:
    """Run a command; a `UserError` becomes one line on stderr and exit code 2."""
    try:
        return main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
