"""Generated folders: made anew whole, and never at the cost of a file that is not ours.

`.written.json` in such a folder lists what we wrote there. A new version is built in a temporary folder, then
moved into place file by file; of the old version only listed files go. Whatever stops it before leaves the
old version as it was.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from uwm.errors import UserError
from uwm.files import inside, remove_listed, write_atomically

WRITTEN = ".written.json"


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
    with tempfile.TemporaryDirectory(prefix=".making-", dir=out) as made:
        yield Path(made)
        names = {p.relative_to(made).as_posix() for p in Path(made).rglob("*") if p.is_file()}
        kept = {name for name in before if stays(name) and inside(out, name).is_file()}
        _note(out, names | set(before))  # from here on, the list knows of old and new files
        for name in sorted(names):
            target = inside(out, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(made) / name, target)
    remove_listed(out, set(before) - names - kept)
    _note(out, names | kept)


def written_before(out: Path) -> list[str]:
    """The names of the files in `out` that we wrote; [] for a new or empty folder. UserError as above."""
    if not out.exists():
        return []
    if not out.is_dir():
        raise UserError(f"{out} is no folder; name another")
    if not (out / WRITTEN).is_file():
        if any(out.iterdir()):
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
