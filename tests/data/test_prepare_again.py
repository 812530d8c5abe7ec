"""`prepare` where clips cannot be read for a while, where options differ, and where two run at once."""

import fcntl
import json
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.data.test_shards import SETTINGS, digests
from tests.data.video_files import write_video
from uwm.data import prepare as module
from uwm.data.bad_clips import BadClips
from uwm.data.corpora import Clip, Corpus
from uwm.data.decoders import BadVideo
from uwm.data.manifest import Manifest, build_manifest, write_manifest
from uwm.data.prepare import main, prepare
from uwm.data.shards import (
    Sample,
    ShardIndex,
    find_shards,
    pairs_missing,
    read_index,
    remove_leftovers,
    write_shard,
)
from uwm.data.stream import Visit
from uwm.errors import UserError, run_cli

CLIPS = 16


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    for i in range(CLIPS):
        write_video(folder / f"{i:02d}.mp4", 12, fps=10, size=(64, 64), first=20 * i)
    return Corpus("numbers", folder, tuple(Clip(f"{i:02d}.mp4", "train") for i in range(CLIPS)))


@pytest.fixture(scope="module")
def manifest(corpus) -> Manifest:
    return build_manifest(corpus, "train", pairs_per_clip=8)


@pytest.fixture
def closed(monkeypatch) -> set[str]:
    """Names of clips that give nothing as long as they are in here."""
    names: set[str] = set()
    decode = module.decode_visit

    def refusing(folder: Path, short_side: int, decoder: object, visit: Visit) -> object:
        if visit.video in names:
            raise BadVideo(folder / visit.video, "cannot be decoded: Permission denied")
        return decode(folder, short_side, decoder, visit)

    monkeypatch.setattr(module, "decode_visit", refusing)
    return names


def test_no_shard_is_written_of_clips_that_cannot_be_read(corpus, manifest, tmp_path, closed):
    closed |= {clip.path for clip in corpus.clips}
    for _ in range(2):
        with pytest.raises(UserError, match="clips cannot be used, more than the allowed share"):
            prepare(corpus, "train", manifest, tmp_path / "out", module.Settings(64, shard_pairs=64))
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["settings.json"]


def test_what_was_skipped_is_tried_again(corpus, manifest, tmp_path, closed, capsys):
    prepare(corpus, "train", manifest, tmp_path / "whole", SETTINGS)
    closed |= {"03.mp4", "11.mp4"}
    out = tmp_path / "shards" / "out"
    index = prepare(corpus, "train", manifest, out, SETTINGS)
    assert (index.pairs, index.listed, index.skipped) == (112, 128, 2)
    assert find_shards(out.parent, manifest, 64, SETTINGS.quality) == out
    assert "holds 112 of the list's 128 pairs; those of 2 clips" in pairs_missing(out, manifest)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert prepare(corpus, "train", manifest, out, SETTINGS).pairs == 112  # still not to be read
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.tar")} == before
    closed.remove("03.mp4")
    assert prepare(corpus, "train", manifest, out, SETTINGS).pairs == 120
    closed.clear()
    capsys.readouterr()
    assert prepare(corpus, "train", manifest, out, SETTINGS).pairs == 128
    assert "11.mp4 can be read now" in capsys.readouterr().err
    assert pairs_missing(out, manifest) is None
    assert digests(out) == digests(tmp_path / "whole")


def test_a_loss_in_mid_run_reaches_the_limit(corpus, manifest, tmp_path, closed, monkeypatch):
    """By then each clip was read; of its eight visits some are still to come."""
    shards = []

    def losing(*arguments: object) -> None:
        write_shard(*arguments)
        shards.append(arguments[0])
        if len(shards) == 8:
            closed.update(clip.path for clip in corpus.clips)

    monkeypatch.setattr(module, "write_shard", losing)
    settings = module.Settings(64, shard_pairs=8, pairs_per_visit=1)
    with pytest.raises(UserError, match=r"6 of 1\d clips cannot be used"):
        prepare(corpus, "train", manifest, tmp_path, settings)
    assert len(shards) < 16
    with pytest.raises(UserError, match=r"no index\.json"):
        read_index(tmp_path)


@pytest.mark.parametrize(("pairs", "skipped"), [(72, 7), (120, 0)])
def test_too_few_pairs_are_not_trained_on(manifest, tmp_path, pairs, skipped):
    (tmp_path / "x").mkdir()
    ShardIndex(2, "numbers", "train", manifest.sha256, 64, 90, [], pairs, skipped).write(tmp_path / "x")
    with pytest.raises(
        UserError, match=rf"{128 - pairs} of the list's 128 pairs are missing, of {skipped} of"
    ):
        find_shards(tmp_path, manifest, 64, 90)
    assert BadClips(0.2).too_many(7, CLIPS)


def test_two_equal_commands_at_once(corpus, manifest, tmp_path):
    prepare(corpus, "train", manifest, tmp_path / "one", SETTINGS)
    (tmp_path / "one" / ".00000.tar.abc.tmp").write_bytes(b"left by a kill")
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(prepare, corpus, "train", manifest, tmp_path / "two", SETTINGS) for _ in range(3)]
        assert {run.result().pairs for run in runs if run.result()} == {128}
    prepare(corpus, "train", manifest, tmp_path / "one", SETTINGS)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_a_shard_is_no_leftover_at_any_moment_of_its_writing(tmp_path, monkeypatch):
    """Another run looks for leftovers before the new file is locked, and before it gets its name."""
    flock, replace, looks = fcntl.flock, os.replace, []

    def locking(file, how: int) -> None:
        if how == fcntl.LOCK_EX and not looks:
            looks.append("before the lock")
            remove_leftovers(tmp_path)
        flock(file, how)

    def naming(source, target) -> None:
        looks.append("before the name")
        remove_leftovers(tmp_path)
        replace(source, target)

    monkeypatch.setattr("uwm.data.shards.fcntl.flock", locking)
    monkeypatch.setattr("uwm.files.os.replace", naming)
    path = tmp_path / "00000.tar"
    write_shard(path, [Sample(0, {}, (b"first", b"second"))], [])
    assert looks[:2] == ["before the lock", "before the name"]
    with tarfile.open(path) as tar:
        assert [tar.extractfile(member).read() for member in tar][:2] == [b"first", b"second"]
    assert not list(tmp_path.glob(".*"))


@pytest.fixture
def command(corpus, tmp_path) -> list[str]:
    (tmp_path / "splits.csv").write_text(
        "path,split\n" + "".join(f"{c.path},{'test' if c.path > '11' else 'train'}\n" for c in corpus.clips)
    )
    split = ["--split-file", str(tmp_path / "splits.csv")]
    return [f"mine={corpus.folder}", "--out", str(tmp_path / "out"), "--size", "64", *split]


DRAWN = ["--split", "test", "--gap", "0.4", "--pairs-per-clip", "3", "--pairs-per-visit", "2", "--seed", "5"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--split", "train"), ("--gap", "0.2"), ("--pairs-per-clip", "8"), ("--pairs-per-visit", "8")),
        *(("--seed", "0"), ("--pairs", "7")),
    ],
)
def test_options_of_another_list_are_refused(command, tmp_path, capsys, option, value):
    assert main([*command, *DRAWN, "--manifest-only"]) == 0
    assert main([*command, *DRAWN, "--manifest-only"]) == 0
    capsys.readouterr()
    assert run_cli(lambda: main([*command, option, value])) == 2
    error = capsys.readouterr().err
    by = "--split test --gap 0.4 --pairs-per-clip 3 --pairs-per-visit 2 --seed 5"
    assert f"was drawn by {by}, not by {option} {value}: " in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*.tar"))


def test_later_steps_need_no_options_and_keep_the_split(command, tmp_path):
    assert main([*command, *DRAWN, "--manifest-only"]) == 0
    for part in ("0/2", "1/2"):
        assert main([*command, "--shard-pairs", "4", "--part", part]) == 0
    index = read_index(tmp_path / "out")
    assert (index.split, index.pairs) == ("test", 15)
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert (settings["seed"], settings["list"]["seed"], settings["shard_pairs"]) == (5, 5, 4)
    assert main([*command, "--shard-pairs", "4", "--split", "test", "--seed", "5"]) == 0


def test_a_list_from_elsewhere(command, corpus, tmp_path):
    table = build_manifest(corpus, "train", pairs_per_clip=2).table
    tests = Manifest(table[table.video > "11"].reset_index(drop=True))
    write_manifest(tests, tmp_path / "given.csv")
    given = [*command, "--manifest", str(tmp_path / "given.csv")]
    with pytest.raises(UserError, match=r"is a list that nothing says to be of --gap 0\.2: leave that out"):
        main([*given, "--gap", "0.2"])
    with pytest.raises(UserError, match="--split train"):
        main([*given, "--split", "train"])
    assert main(given) == 0
    assert read_index(tmp_path / "out").split == "test"
