"""Files: written whole or not at all, and removed one by one, by names that we know to be ours.

Nothing in this project removes a folder with whatever is in it (a test holds that): where a folder is to go,
the files that we wrote go first, and it stays when another one is left.
"""

import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from uwm.errors import BadInput, UserError


def home_path(text: Path | str) -> Path:
    """A path as a user writes it: `~` and `~name` are home folders.

    Raises:
        BadInput: `~` of nobody, or what no file system can name.
    """
    try:
        path = Path(text).expanduser()
        os.fsencode(path)
    except TypeError:
        raise BadInput(f"{text!r} is no path; name a file or folder") from None
    except RuntimeError:
        raise BadInput(f"{text}: `~` is no home folder here; write the path in full") from None
    except UnicodeError:
        raise BadInput(f"{str(text)!r}: no file can have such a name; write another") from None
    if "\0" in str(path):
        raise BadInput(f"{str(text)!r}: no file can have such a name; write another")
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write into; it gets that name when the block ends without an error.

    Whatever ends the block early removes it again. The file's mode follows the umask. A link is followed.

    Raises:
        UserError: `path` is a folder, a device or the like.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file that can be replaced; name another")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex[:12]}.tmp")
    made = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    mode = stat.S_IMODE(os.fstat(made).st_mode)
    os.close(made)
    try:
        yield temporary
        if stat.S_IMODE(temporary.stat().st_mode) != mode:  # some writers make a private file of their own
            temporary.chmod(mode)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` so that no reader ever sees half a file, and a full disk leaves the old one."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file so that another process sees the old one or the new one, never a part."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def appending(path: Path) -> BinaryIO:
    """A file of lines, opened to append to; its folder is made. Where a kill or a full disk cut the last line
    short, that one is ended first, so that the next line is not lost with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "ab+")  # noqa: SIM115 (the caller closes it)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    if file.read(1) not in (b"", b"\n"):
        file.write(b"\n")
    return file


def check_ours(path: Path, ours: Callable[[Path], bool]) -> None:
    """Let nothing be written in place of a file that somebody else made.

    `ours` tells from a file's content whether the same tool wrote it; what it cannot read is not ours.

    Raises:
        UserError: the file is there, and is none of ours.
    """
    if not path.exists():
        return
    try:
        known = path.is_file() and ours(path)
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise UserError(f"{path} is there already and was not written by uwm: move it away or name another")


def begins_with(start: str) -> Callable[[Path], bool]:
    """For `check_ours`: a file with this text at its beginning."""

    def ours(path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(len(start.encode())) == start.encode()

    return ours


def inside(folder: Path, name: str) -> Path:
    """The file `name` of a folder, where `name` was read from a file.

    Raises:
        UserError: it leads out of the folder, by `..`, as an absolute path or over a link.
    """
    path, parts = folder / name, PurePosixPath(name).parts
    climbs = not parts or parts[0] == "/" or ".." in parts or "\0" in name
    if climbs or not path.parent.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{folder}: the name {name!r} leads out of this folder; nothing was touched")
    return path


def remove_listed(folder: Path, names: Iterable[str]) -> list[Path]:
    """Remove the named files of a folder, then those folders of theirs that are empty, itself included.

    Returns what is left: files that nobody listed.

    Raises:
        UserError: the folder is a link, or a name leads out of it.
    """
    if folder.is_symlink():
        raise UserError(f"{folder} is a link; remove what it leads to by hand")
    paths = [inside(folder, name) for name in names]
    for path in paths:
        if path.is_file() or path.is_symlink():
            path.unlink()
    above = {folder, *(parent for path in paths for parent in path.parents if folder in parent.parents)}
    for parent in sorted(above, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):  # not empty, or gone
            parent.rmdir()
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def remove_matching(folder: Path, *patterns: str) -> None:
    """Remove the files of a folder whose names match, and the folder if that leaves it empty."""
    names = [path.name for pattern in patterns for path in folder.glob(pattern)]
    if folder.is_dir():
        remove_listed(folder, names)
