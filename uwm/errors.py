"""Errors that a user can mend, and how the command line shows them."""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress


class UserError(Exception):
    """Bad input. The message is one line: what is wrong, where, and how to mend it."""


class BadInput(UserError, ValueError):  # noqa: N818
    """A value that a function cannot take: a `ValueError` in Python, one line on the command line."""


class Interrupted(RuntimeError):  # noqa: N818
    """A computation stopped on request and left a checkpoint; started again, it goes on from there."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` or, where nothing is near, `; there are a, b, c`."""
    names = list(known)
    return near(word, names) or f"; there are {', '.join(names) or 'none'}"


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or an empty string where nothing is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def is_machine_fault(error: BaseException) -> bool:
    """Whether the machine failed, not the computation: disk, memory, a closed pipe. That is no result."""
    return isinstance(error, OSError | MemoryError) or type(error).__name__ == "OutOfMemoryError"


def run_cli(main: Callable[[], int]) -> int:
    """Run a command. What a user can mend becomes one line on stderr and exit code 2.

    So do faults of the machine; Ctrl-C gives 130, and a reader that left (`| head`) 141 without a word.
    """
    try:
        code = main()
        sys.stdout.flush()
        return code
    except UserError as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on from what is finished", 130)
    except BrokenPipeError:
        _forget_output()
        return 141
    except UnicodeError as error:
        return _complain(f"a name or a text is not UTF-8 ({error}); rename it or save it as UTF-8", 2)
    except RecursionError:
        return _complain("a file is nested too deeply to be read", 2)
    except Exception as error:
        if not is_machine_fault(error):
            raise
        return _complain(machine_fault(error), 2)


def machine_fault(error: BaseException) -> str:
    """One line about an `OSError` or a lack of memory: what failed, where, and how to mend it."""
    if not isinstance(error, OSError):
        return f"out of memory ({_one_line(error)}); close other programs or ask for less"
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    mend = MENDS.get(error.errno or 0, "mend that and start again")
    return f"{where}{error.strerror or _one_line(error)}; {mend}"


MENDS = {
    errno.ENOSPC: "free some space and start again",
    errno.EDQUOT: "free some space and start again",
    errno.EACCES: "choose a place that you may write, or change its permissions",
    errno.EPERM: "choose a place that you may write, or change its permissions",
    errno.EROFS: "choose a place that can be written",
    errno.ENOENT: "check the name",
    errno.ENOTDIR: "check the name",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _complain(text: str, code: int) -> int:
    line = (
        " ".join(text.splitlines()).encode(errors="backslashreplace").decode()
    )  # names of files may be bytes
    try:
        print(f"error: {line}", file=sys.stderr)
    except (OSError, ValueError):  # nobody listens
        _forget_output()
    return code


def _forget_output() -> None:
    """Let Python end without another try to write into a closed pipe."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
