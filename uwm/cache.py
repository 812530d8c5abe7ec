"""What lies in the cache of trained stages and manifests (`UWM_CACHE`, else `.cache/uwm`).

python -m uwm.cache ls           each entry: size, kind, name
python -m uwm.cache verify       compare every file with its digest; exit 1 when one is damaged
python -m uwm.cache rm NAME ...  remove entries by the names that ls shows
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uwm.arguments import Parser, named_path
from uwm.data.manifest_cache import digests_path
from uwm.env import cache_root
from uwm.errors import UserError, nearest, run_cli
from uwm.files import remove_listed
from uwm.runs.lock import Lock
from uwm.runs.stage_folder import NAMED, STAGE_FILE, DamagedStage, files_of, verify_stage
from uwm.verified import damage

_UNFINISHED = re.compile(NAMED.pattern + r"\.(?P<what>partial|aside-\d+)")
_MANIFEST = re.compile(r".+-(train|validation|test)-[0-9a-f]{16}\.csv")


@dataclass(frozen=True)
class Entry:
    """Something of ours in the cache: a finished stage, an unfinished or set aside one, a manifest."""

    kind: str
    name: str
    files: tuple[Path, ...]
    folder: Path | None = None  # that goes with them

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(path.stat().st_size for path in self.files if path.is_file())


def entries(root: Path) -> Iterator[Entry]:
    """What the cache holds, sorted by name. Files of others are no entries."""
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        kind = _kind(path)
        if kind:
            files = tuple(path / name for name in (*files_of(path), STAGE_FILE))
            yield Entry(kind, path.name, files, path)
    for path in sorted((root / "manifests").glob("*.csv")):
        if _MANIFEST.fullmatch(path.name) and not path.is_symlink():
            beside = path.parent.glob(f"{path.stem}.*")
            yield Entry("manifest", f"manifests/{path.name}", tuple(sorted(beside)))


def _kind(path: Path) -> str | None:
    if path.is_symlink() or not path.is_dir():
        return None
    if NAMED.fullmatch(path.name) and (path / STAGE_FILE).is_file():
        return "stage"
    unfinished = _UNFINISHED.fullmatch(path.name)
    return ("unfinished" if unfinished["what"] == "partial" else "set aside") if unfinished else None


def problem(entry: Entry) -> str | None:
    """What is wrong with the bytes of an entry; None where nothing is, or nothing can be told."""
    try:
        if entry.kind == "stage" and entry.folder:
            verify_stage(entry.folder)
        if entry.kind == "manifest":
            folder = entry.files[0].parent
            digests = digests_path(folder / Path(entry.name).name)
            reason = damage(folder, json.loads(digests.read_text(encoding="utf-8")))
            return f"{entry.name}: {reason}" if reason else None
    except DamagedStage as reason:
        return str(reason)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError) as error:
        return f"{entry.name}: {type(error).__name__}: {error}"
    return None


def remove(root: Path, names: list[str]) -> None:
    """Remove entries by name; all names are looked up before anything goes.

    Raises:
        UserError: no entry of that name, or a process works on it.
    """
    known = {entry.name: entry for entry in entries(root)}
    for name in names:
        if name not in known:
            raise UserError(f"{root} has no entry {name!r}{nearest(name, known)}")
        lock = root / f"{name.removesuffix('.partial')}.lock"
        if Lock(lock).held():
            raise UserError(f"{name}: a process works on it ({lock})")
    for name in names:
        entry = known[name]
        folder = entry.folder or entry.files[0].parent
        remove_listed(folder, [path.relative_to(folder).as_posix() for path in entry.files])
        print(f"removed {name}")


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m uwm.cache", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=named_path, default=cache_root(), help="another folder")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("ls", help="list the entries")
    actions.add_parser("verify", help="compare every file with its digest")
    actions.add_parser("rm", help="remove entries").add_argument("name", nargs="+")
    options = parser.parse_args(argv)
    if not options.cache.is_dir():
        raise UserError(f"no folder {options.cache}; nothing is cached there")
    if options.action == "rm":
        remove(options.cache, options.name)
        return 0
    return _verify(options.cache) if options.action == "verify" else _list(options.cache)


def _list(root: Path) -> int:
    listed = list(entries(root))
    for entry in listed:
        print(f"{entry.size / 1e6:10.1f} MB  {entry.kind:10s}  {entry.name}")
    print(f"{sum(entry.size for entry in listed) / 1e6:10.1f} MB in {root}")
    return 0


def _verify(root: Path) -> int:
    problems = {entry.name: problem(entry) for entry in entries(root)}
    broken = [reason for reason in problems.values() if reason]
    print(*broken, f"{len(problems)} entries, {len(broken)} damaged", sep="\n")
    return int(bool(broken))


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
