"""Generated folders: made anew whole, and never at the cost of a file that is not ours.

`.written.json` in such a folder lists what we wrote there. A new version is built in a temporary folder, then
moved into place file by file; of the old version only listed files go. Whatever stops it before leaves the
old version as it was; a folder that a killed run left half made goes with the next.
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from uwm.errors import UserError
from uwm.files import inside, remove_listed, write_atomically

WRITTEN = ".written.json"
MAKING = ".making-"  # begins the name of the temporary folder, which holds:
LOCKED = "lock"  # a file that its maker keeps locked
LOCK_TEXT = "paper.figures is making files beside this one\n"  # its content


@contextmanager
def made_anew(out: Path, stays: Callable[[str], bool]) -> Iterator[Path]:
    """A temporary folder to fill; its files then take the place of those that we wrote into `out` before.

    Of those before, the ones stay that are not made anew and whose name (relative, with `/`) `stays` accepts.

    Raises:
        UserError: `out` is no folder, or holds files and none says that we wrote them.
    """
    out = out.resolve()
    before = written_before(out)
    out.mkdir(parents=True, exist_ok=True)
    for left in filter(_half_made, out.glob(f"{MAKING}*")):
        _remove_unless_making(left)
    with tempfile.TemporaryDirectory(prefix=MAKING, dir=out) as folder, _kept_locked(Path(folder)):
        made = Path(folder) / "made"
        made.mkdir()
        yield made
        names = {p.relative_to(made).as_posix() for p in made.rglob("*") if p.is_file()}
        kept = {name for name in before if stays(name) and inside(out, name).is_file()}
        _note(out, names | set(before))  # from here on, the list knows of old and new files
        for name in sorted(names):
            target = inside(out, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(made / name, target)
    remove_listed(out, set(before) - names - kept)
    _note(out, names | kept)


@contextmanager
def _kept_locked(folder: Path) -> Iterator[None]:
    """While the block runs, other processes see that this folder is being filled."""
    with (folder / LOCKED).open("w") as file:
        file.write(LOCK_TEXT)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _half_made(folder: Path) -> bool:
    """Did `made_anew` make this folder?"""
    lock = folder / LOCKED
    is_ours = folder.name.startswith(MAKING) and not folder.is_symlink() and lock.is_file()
    return is_ours and lock.read_bytes() == LOCK_TEXT.encode()


def _remove_unless_making(folder: Path) -> None:
    """Remove the files of a half-made folder, unless the process that fills it still runs."""
    with (folder / LOCKED).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        paths = [folder / "made", *(folder / "made").rglob("*")]
        # Of a folder any name in it: `remove_listed` takes away the folders above what it is given.
        names = [path / LOCKED if path.is_dir() and not path.is_symlink() else path for path in paths]
        remove_listed(folder, [*(path.relative_to(folder).as_posix() for path in names), LOCKED])


def written_before(out: Path) -> list[str]:
    """The names of the files in `out` that we wrote; [] for a new or empty folder. UserError as above."""
    if not out.exists():
        return []
    if not out.is_dir():
        raise UserError(f"{out} is no folder; name another")
    if not (out / WRITTEN).is_file():
        if not all(path.name.startswith(MAKING) for path in out.iterdir()):
            raise UserError(f"{out} holds files of others (no {WRITTEN}); name a new or an empty folder")
        return []
    try:
        names = json.loads((out / WRITTEN).read_text(encoding="utf-8"))["files"]
        return [name for name in names if inside(out, name)]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out / WRITTEN} is damaged ({error}); name a new folder") from error


def _note(out: Path, names: set[str]) -> None:
    content = {
        "what": "files that paper.figures wrote here and may replace",
        "files": sorted(names),
    }
    write_atomically(out / WRITTEN, json.dumps(content, indent=1) + "\n")
