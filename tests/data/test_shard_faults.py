"""Prepared shards that were deleted, cut or changed: noticed by streams, and made again by `prepare`."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.data.test_shards import SETTINGS, digests
from tests.data.video_files import write_video
from uwm.data.bad_clips import BadClips
from uwm.data.corpora import Clip, Corpus
from uwm.data.manifest import build_manifest
from uwm.data.prepare import prepare
from uwm.data.selection import frozen_pairs, reading_workers
from uwm.data.shard_stream import shard_stream
from uwm.data.shards import describe_shard, dump, load_row, read_index
from uwm.data.stream import video_stream, visits
from uwm.errors import UserError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    for i in range(5):
        write_video(folder / f"{i}.mp4", 40, fps=12, size=(96, 64), first=100 * i)
    return Corpus("numbers", folder, tuple(Clip(f"{i}.mp4", "train") for i in range(5)))


@pytest.fixture(scope="module")
def manifest(corpus):
    return build_manifest(corpus, "train", pairs_per_clip=10)


@pytest.fixture(scope="module")
def whole(corpus, manifest, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    prepare(corpus, "train", manifest, out, SETTINGS)
    return out


@pytest.fixture
def shards(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "shards"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[describe_shard(path)["spans"][3][0] + 60] ^= 4
    path.write_bytes(data)


def reorder(path: Path) -> None:
    described = describe_shard(path)
    described["rows"] = described["rows"][::-1]
    path.with_suffix(".json").write_bytes(dump(described))


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "deleted": (Path.unlink, r"00001\.tar: No such file"),
    "cut": (cut, r"00001\.tar: has \d+ bytes of \d+"),
    "no description": (lambda path: path.with_suffix(".json").unlink(), r"00001\.json: cannot be read"),
    "other description": (reorder, r"00001\.json: was changed"),
    "empty description": (
        lambda path: path.with_suffix(".json").write_text("{}"),
        r"00001\.json: cannot be read",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_stream_does_not_open_damaged_shards(shards, damage):
    change, reason = DAMAGES[damage]
    change(shards / "00001.tar")
    with pytest.raises(UserError, match=reason + r".* \(1 of 4 shards are damaged\); .*prepare") as caught:
        shard_stream(shards, 48, 6)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [*DAMAGES, "flipped bit"])
def test_prepare_again_makes_damaged_shards_again(shards, whole, corpus, manifest, damage, capsys):
    change = flip if damage == "flipped bit" else DAMAGES[damage][0]
    change(shards / "00001.tar")
    prepare(corpus, "train", manifest, shards, SETTINGS)
    assert digests(shards) == digests(whole)
    assert ("making again" in capsys.readouterr().err) == (damage != "no description")


def test_a_flipped_bit_is_noticed_counted_and_shown(shards, capsys):
    flip(shards / "00001.tar")
    stream = shard_stream(shards, 48, 25, buffer=50)
    stream.bad = BadClips(1.0)
    batches = stream.batches()
    for _ in range(2):
        next(batches)
    assert stream.report()["pairs_replaced"] == len(describe_shard(shards / "00001.tar")["rows"])
    assert stream.report()["pairs_read"] == 50
    [(name, reason)] = stream.report()["skipped"]
    assert (name, "was changed after it was made" in reason) == ("00001.tar", True)
    assert "skipped 00001.tar: was changed" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{}", "[]"])
def test_prepare_again_mends_a_broken_index(shards, whole, corpus, manifest, text):
    (shards / "index.json").write_text(text)
    with pytest.raises(UserError, match=r"index\.json: not the index"):
        shard_stream(shards, 48, 6)
    prepare(corpus, "train", manifest, shards, SETTINGS)
    assert digests(shards) == digests(whole)


def test_a_folder_of_the_first_format_is_still_read(shards, whole):
    index = read_index(shards)
    for name in index.shards:
        old = {
            key: value
            for key, value in describe_shard(shards / name).items()
            if key not in ("digests", "bytes")
        }
        (shards / name).with_suffix(".json").write_bytes(dump(old))
    fields = {key: value for key, value in vars(index).items() if key != "sha256"} | {"format": 1}
    (shards / "index.json").write_bytes(dump(fields))
    old, new = (next(shard_stream(folder, 48, 50).batches()) for folder in (shards, whole))
    assert torch.equal(old, new)
    cut(shards / "00001.tar")
    with pytest.raises(UserError, match=r"00001\.tar: has"):
        shard_stream(shards, 48, 6)
    assert load_row(whole, 3).shape[0] == 2


def test_a_video_that_is_skipped_is_counted(corpus, manifest, tmp_path, capsys):
    folder = Path(shutil.copytree(corpus.folder, tmp_path / "videos"))
    (folder / "3.mp4").unlink()
    stream = video_stream(Corpus("numbers", folder, corpus.clips), manifest, 48, 25, short_side=64, buffer=50)
    batches = stream.batches()
    for _ in range(2):
        assert next(batches).shape == (25, 2, 3, 48, 48)
    assert (stream.report()["pairs_read"], stream.report()["pairs_replaced"]) == (50, 10)
    assert "skipped 3.mp4: there is no such file; other pairs stand in for it" in capsys.readouterr().err


def test_pairs_of_a_long_video_by_visits(tmp_path, monkeypatch):
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    write_video(tmp_path / "v" / "long.mp4", 600, fps=10, size=(32, 32))
    corpus = Corpus("long", tmp_path / "v", (Clip("long.mp4", "train"),))
    alone = frozen_pairs(corpus, "train", 0.2, 64, 0)
    together = frozen_pairs(corpus, "train", 0.2, 64, 0, pairs_per_visit=8)
    assert len(alone.table) == len(together.table) == 64
    assert len(visits(together.table, 8)) <= 12
    assert len(visits(alone.table, 8)) > 12


def test_few_clips_start_no_processes():
    assert reading_workers(20) == 0
    assert 1 <= reading_workers(10_000) <= 32
