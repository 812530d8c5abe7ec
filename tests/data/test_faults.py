"""Files that the machine failed to read: never taken for damaged, nor a list of the others for theirs."""

import errno
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.data.video_files import write_video
from uwm.data.bad_clips import BadClips
from uwm.data.corpora import Clip, Corpus
from uwm.data.decoders import BadVideo, reason_of
from uwm.data.faults import NotRead, told_apart
from uwm.data.manifest import build_manifest
from uwm.data.manifest_cache import cached_manifest
from uwm.data.pairs import load_frames
from uwm.errors import UserError


def corpus_of(folder: Path, clips: int) -> Corpus:
    for i in range(clips):
        write_video(folder / f"{i:02d}.mp4", 8, fps=10, size=(32, 32))
    return Corpus("numbers", folder, tuple(Clip(f"{i:02d}.mp4", "train") for i in range(clips)))


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of files that may not be opened, as `chmod 000` has it for all but root."""
    names: set[str] = set()
    opened = av.open

    def refusing(file: str, *arguments: object, **options: object) -> object:
        if Path(file).name in names:
            raise av.error.PermissionError(errno.EACCES, "Permission denied", file)
        return opened(file, *arguments, **options)

    monkeypatch.setattr(av, "open", refusing)
    return names


def failing(*errors: Exception) -> Callable[[], int]:
    """A reader that fails so, once for each, and then gives 7."""
    left = list(errors)

    def read() -> int:
        if left:
            try:
                raise left.pop()
            except Exception as caught:
                raise BadVideo(__file__, reason_of(caught)) from None
        return 7

    return read


DISK = av.error.OSError(errno.EIO, "Input/output error")
DAMAGED = av.error.InvalidDataError(1094995529, "Invalid data")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), NotRead),
        (OSError(errno.EIO, "Input/output error"), NotRead),
        (OSError(errno.ESTALE, "Stale file handle"), NotRead),
        (av.error.PermissionError(errno.EACCES, "Permission denied"), NotRead),
        (FileNotFoundError(errno.ENOENT, "No such file"), BadVideo),
        (OSError("image file is truncated"), BadVideo),  # Pillow's
        (DAMAGED, BadVideo),
        (DISK, BadVideo),  # FFmpeg's, of a file that can be read whole
        (ValueError("no"), BadVideo),
    ],
)
def test_a_failing_machine_and_a_damaged_file_are_told_apart(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(BadVideo) as found:
        told_apart(Path(__file__), failing(error, error))
    assert (type(found.value), found.value.reason) == (kind, reason_of(error))


def test_a_file_that_no_one_can_read_is_not_called_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", broken)
    with pytest.raises(NotRead):
        told_apart(Path(__file__), failing(DAMAGED))


def test_what_a_failing_disk_may_have_caused_is_tried_twice() -> None:
    assert told_apart(Path(__file__), failing(DISK)) == 7
    with pytest.raises(BadVideo):
        told_apart(Path(__file__), failing(DAMAGED))


@pytest.mark.parametrize("shut", [2, 8])
def test_files_that_can_be_read_later_give_the_list_of_all(tmp_path: Path, closed: set[str], shut: int):
    corpus = corpus_of(tmp_path / "v", 14)
    (tmp_path / "v" / "13.mp4").write_bytes(b"")
    fresh = build_manifest(corpus, "train", pairs=20, seed=3)
    closed |= {f"{i:02d}.mp4" for i in range(shut)}
    few = r"^2 of the clips could not be read, .*Permission denied.*kept in .*\.journal$"
    for _ in range(2):
        with pytest.raises(UserError, match=few if shut == 2 else "^9 of 14 clips"):
            cached_manifest(tmp_path / "cache", corpus, "train", pairs=20, seed=3)
    assert not list((tmp_path / "cache").glob("*.csv"))
    closed.clear()
    again = cached_manifest(tmp_path / "cache", corpus, "train", pairs=20, seed=3)
    assert (again.sha256, again.skipped) == (fresh.sha256, fresh.skipped)


def test_only_what_was_not_read_is_read_again(tmp_path: Path, closed: set[str], monkeypatch):
    corpus = corpus_of(tmp_path / "v", 6)
    closed.add("02.mp4")
    with pytest.raises(UserError, match="1 of the clips could not be read"):
        cached_manifest(tmp_path / "cache", corpus, "train", pairs_per_clip=2)
    closed.clear()
    names, opened = [], av.open

    def noting(file: str, *arguments: object, **options: object) -> object:
        names.append(Path(file).name)
        return opened(file, *arguments, **options)

    monkeypatch.setattr(av, "open", noting)
    cached_manifest(tmp_path / "cache", corpus, "train", pairs_per_clip=2)
    assert set(names) == {"02.mp4"}


def test_a_clip_at_which_the_machine_fails_once_costs_nothing(tmp_path: Path, closed: set[str], monkeypatch):
    corpus = corpus_of(tmp_path, 3)
    fresh = build_manifest(corpus, "train", pairs_per_clip=2)
    opened = av.open

    def opening(file: str, *arguments: object, **options: object) -> object:
        try:
            return opened(file, *arguments, **options)
        finally:
            closed.discard(Path(file).name)

    closed.add("01.mp4")
    monkeypatch.setattr(av, "open", opening)
    assert build_manifest(corpus, "train", pairs_per_clip=2).sha256 == fresh.sha256


def test_the_frames_of_a_split_are_all_there_or_none(tmp_path: Path, closed: set[str]):
    corpus = corpus_of(tmp_path, 3)
    closed.add("01.mp4")
    with pytest.raises(UserError, match="1 of the clips could not be read"):
        load_frames(corpus, "train", 32)


def test_what_cannot_be_read_counts_as_bad_too() -> None:
    bad = BadClips(0.2)
    for i in range(6):
        bad.add(f"{i}.mp4", "Permission denied", machine=True)
    with pytest.raises(UserError, match="6 of 10 clips"):
        bad.check(10)
