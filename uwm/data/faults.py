"""Who failed where a file could not be read: the file, which is damaged, or the machine, for now."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import av

from uwm.data.decoders import BadVideo, reason_of

_Found = TypeVar("_Found")
OF_THE_NAME = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
OF_THE_MACHINE = frozenset({errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ESTALE,
                            errno.ETIMEDOUT})  # fmt: skip
EITHER = frozenset({errno.EIO, errno.ENOMEM})  # FFmpeg gives these for damaged Matroska files, too


class NotRead(BadVideo):
    """The machine failed at reading a file: permissions, a disk, a network. Another try may succeed."""

    machine = True


def told_apart(path: Path, read: Callable[[], _Found]) -> _Found:
    """What `read` gives of the file; tried again where a damaged file and a failing disk give the same error.

    Raises:
        NotRead: the machine failed, so that nothing is known of the file.
        BadVideo: the file is damaged, missing or none that can be used.
    """
    try:
        return _tried(path, read)
    except BadVideo as error:
        if not any(isinstance(c, av.FFmpegError) and _errno(c) in EITHER for c in _causes(error)):
            raise _judged(error) from None
    try:
        return _tried(path, read)
    except BadVideo as error:
        raise _judged(error) from None


def _tried(path: Path, read: Callable[[], _Found]) -> _Found:
    try:
        return read()
    except OSError as error:  # of what no reader expects, such as a folder that may not be listed
        raise BadVideo(path, reason_of(error)) from None


def _judged(error: BadVideo) -> BadVideo:
    """By what lay behind an error, and by reading a regular file once to its end: FFmpeg takes a disk that
    fails for the end of a file."""
    failed = any(_is_machines(cause) for cause in _causes(error)) or not _is_readable(Path(error.path))
    return NotRead(error.path, error.reason) if failed else error


def _is_machines(cause: BaseException) -> bool:
    number = _errno(cause)
    if isinstance(cause, av.FFmpegError):
        return number in OF_THE_MACHINE
    return isinstance(cause, OSError) and number is not None and number not in OF_THE_NAME


def _errno(cause: BaseException) -> int | None:
    return getattr(cause, "errno", None)


def _causes(error: BaseException) -> list[BaseException]:
    """What was being handled when the error was raised, and when that was."""
    causes = []
    cause = error.__context__
    while cause is not None:
        causes.append(cause)
        cause = cause.__context__
    return causes


def _is_readable(path: Path) -> bool:
    try:
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 20):
                    pass
    except OSError:
        return False
    return True
