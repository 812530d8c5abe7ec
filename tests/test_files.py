"""Files appear whole or not at all, and only what is ours is ever removed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from uwm.data.simulation.clips import write_rows
from uwm.data.simulation.write import join_parts
from uwm.errors import UserError
from uwm.evaluation.animation import write_animation
from uwm.evaluation.panels import save_tile
from uwm.files import (
    appending,
    copy_atomically,
    home_path,
    inside,
    remove_listed,
    replacing,
    write_atomically,
)
from uwm.planning.episodes import Episode
from uwm.verified import damage, digests_of

ROOT = Path(__file__).resolve().parents[1]


def write_half(path: Path, error: BaseException) -> None:
    with replacing(path) as temporary:
        temporary.write_text("ne")
        raise error


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "old")
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            write_half(tmp_path / "a", error)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


class BrokenError(RuntimeError):
    """What breaks a writer after it has begun."""


def breaking(file: Any, *_: Any, **__: Any) -> None:
    """In place of a library's writer: half a file, and an error."""
    if isinstance(file, Path):
        file.write_bytes(b"half")
    else:
        file.write(b"half")
    raise BrokenError


def play(path: Path) -> None:
    empty = np.zeros((1, 1))
    Episode(0, False, empty, empty, empty.astype(int), empty, empty, empty, empty).save(path, "")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_tile(torch.zeros(3, 4, 4), path),
        lambda path: write_animation({"clip": torch.zeros(2, 3, 8, 8)}, path, 0.1),
        play,
        lambda path: write_rows(path, [{"no": "row"}]),  # type: ignore[list-item]
        lambda path: join_parts(path, [path.with_name("gone")], ["demo_0"], {}, {}, {}),
        lambda path: copy_atomically(ROOT / "README.md", path),
    ],
    ids=["tile", "animation", "episode", "rows", "demos", "copy"],
)
def test_writers_that_break_leave_nothing(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image.Image, "save", lambda image, *args, **options: breaking(*args))
    monkeypatch.setattr(np, "savez_compressed", breaking)
    monkeypatch.setattr(shutil, "copyfile", lambda source, target: breaking(target))
    with pytest.raises((BrokenError, OSError, AttributeError, TypeError)):
        write(tmp_path / "new" / "file")
    assert [path.name for path in tmp_path.rglob("*")] == ["new"]


@pytest.mark.parametrize("before", [None, b"", b"a\n", b"a\nb", b"b", b"\n", b"a\n\xff"])
def test_an_appended_line_stands_alone(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "new" / "lines"
    if before is not None:
        path.parent.mkdir()
        path.write_bytes(before)
    for line in (b"c\n", b"d\n"):
        with appending(path) as file:
            file.write(line)
    earlier = before or b""
    assert path.read_bytes() == earlier + b"\n" * (not earlier.endswith(b"\n") and earlier != b"") + b"c\nd\n"


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_the_mode_follows_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "a") as temporary:
            temporary.unlink()
            os.close(os.open(temporary, os.O_CREAT, 0o600))  # as some writers do
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path(os.devnull), tmp_path, tmp_path / "pipe"):
        with pytest.raises(UserError, match="is no file that can be replaced"):
            write_atomically(path, "x")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "x"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "", ".", "a/../../x", "link/x", "a\0b", ".."])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="leads out of this folder"):
        inside(tmp_path / "folder", name)


def test_only_listed_files_go(tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    for name in ("weights", "run/log", "run/notes", "thesis/chapter"):
        write_atomically(folder / name, name)
    (folder / "empty").mkdir()
    assert [path.name for path in remove_listed(folder, ["weights", "run/log", "gone"])] == [
        "notes",
        "chapter",
    ]
    assert (folder / "empty").is_dir()
    with pytest.raises(UserError):
        remove_listed(folder, ["run/notes", "../stage/thesis/chapter"])
    assert (folder / "run" / "notes").exists()  # all names are looked at before anything goes
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UserError, match="is a link"):
        remove_listed(tmp_path / "link", ["run/notes"])
    (folder / "empty").rmdir()
    assert remove_listed(folder, ["run/notes", "thesis/chapter"]) == []
    assert not folder.exists()


def test_damage_is_seen_and_hashing_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "a", "abc")
    wanted = digests_of(tmp_path, ["a"])
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("hashed twice"))
        assert damage(tmp_path, wanted) is None
    write_atomically(tmp_path / "a", "abd")
    assert damage(tmp_path, wanted) == "a was altered (another sha256)"
    write_atomically(tmp_path / "a", "ab")
    assert damage(tmp_path, wanted) == "a has 2 bytes, not 3"
    (tmp_path / "a").unlink()
    assert damage(tmp_path, wanted) == "a is missing"


@pytest.mark.parametrize("text", ["~nobody-of-that-name/x", "a\0b", "\ud800"])
def test_a_path_that_nobody_can_name_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match="write") as raised:
        home_path(text)
    assert "\n" not in str(raised.value)
    assert home_path("~") == Path.home()
