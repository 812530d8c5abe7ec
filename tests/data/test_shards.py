import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.data.video_files import read_number, truncate, write_video
from uwm.data.corpora import Clip, Corpus, open_corpus
from uwm.data.manifest import build_manifest, read_manifest, write_manifest
from uwm.data.pairs import load_pairs
from uwm.data.prepare import Settings, main, prepare
from uwm.data.selection import frozen_pairs
from uwm.data.shard_stream import shard_stream
from uwm.data.shards import find_shards, load_row, read_index
from uwm.data.stream import video_stream
from uwm.errors import UserError

SETTINGS = Settings(short_side=64, quality=95, shard_pairs=12, pairs_per_visit=4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    for i, (suffix, fps) in enumerate([(".mp4", 25), (".webm", 12), (".mp4", 60), (".mp4", 29.97)]):
        write_video(folder / f"{i}{suffix}", 40, fps=fps, size=(96, 64), first=100 * i)
    uneven = np.cumsum([0, *([1, 1, 2, 1, 3] * 8)])[:40].tolist()
    write_video(folder / "4.mp4", 40, fps=15, size=(64, 64), ticks=uneven)
    files = sorted(file.name for file in folder.iterdir())
    return Corpus("numbers", folder, tuple(Clip(name, "train") for name in files))


@pytest.fixture(scope="module")
def manifest(corpus):
    return build_manifest(corpus, "train", pairs_per_clip=10)


@pytest.fixture(scope="module")
def shards(corpus, manifest, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("shards")
    assert prepare(corpus, "train", manifest, out, SETTINGS).pairs == 50
    return out


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_every_pair_is_stored_once_and_right(shards, manifest, corpus):
    rows = []
    for name in read_index(shards).shards:
        with tarfile.open(shards / name) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}
        for key in sorted({name.split(".")[0] for name in members}):
            rows.append(int(key))
            card = json.loads(members[f"{key}.json"])
            expected = manifest.table.iloc[int(key)]
            assert {column: card[column] for column in manifest.table} == expected.to_dict()
            first = 100 * int(card["video"][0]) if card["video"][0] != "4" else 0
            pictures = [np.asarray(Image.open(io.BytesIO(members[f"{key}.{i}.jpg"]))) for i in (0, 1)]
            assert [read_number(image) - first for image in pictures] == [card["frame0"], card["frame1"]]
    assert sorted(rows) == list(range(50))


def test_pictures_are_nearly_those_of_the_videos(shards, corpus, manifest):
    pairs = load_pairs(corpus, manifest, 64)
    for row in (0, 13, 27, 44):
        stored = load_row(shards, row)
        left = (stored.shape[-1] - 64) // 2
        error = (stored[..., left : left + 64].float() - pairs[row].float()).abs().mean()
        assert error < 2.5


def test_stream_of_shards_matches_the_stream_of_videos(shards, corpus, manifest):
    live = video_stream(corpus, manifest, 48, 50, short_side=64, seed=4)
    stored = shard_stream(shards, 48, 50, seed=4)
    by_video, by_shard = (next(stream.batches()).float() for stream in (live, stored))
    distances = torch.cdist(by_video.flatten(1), by_shard.flatten(1))
    assert sorted(distances.argmin(1).tolist()) == list(range(50))  # the same crops and flips
    assert (by_video - by_shard[distances.argmin(1)]).abs().mean() < 2.5


def test_raw_shards_hold_the_very_pixels(corpus, manifest, tmp_path):
    prepare(corpus, "train", manifest, tmp_path, Settings(short_side=64, quality=0, shard_pairs=12))
    pairs = load_pairs(corpus, manifest, 64)
    for row in (0, 13, 44):
        stored = load_row(tmp_path, row)
        left = (stored.shape[-1] - 64) // 2
        assert torch.equal(stored[..., left : left + 64], pairs[row])
    live = next(video_stream(corpus, manifest, 48, 50, short_side=64).batches())
    shown = {pair.numpy().tobytes() for pair in live}
    assert {pair.numpy().tobytes() for pair in next(shard_stream(tmp_path, 48, 50).batches())} == shown


def test_shard_stream_resumes_and_mixes(shards):
    def build():
        return shard_stream(shards, 48, 6, buffer=18, piece=4)

    whole, resumed = build().batches(), build().batches(7)
    everything = [next(whole) for _ in range(12)]
    assert all(torch.equal(next(resumed), batch) for batch in everything[7:])


def test_shards_are_found_by_manifest_size_and_quality(shards, corpus, manifest):
    assert find_shards(shards.parent, manifest, 64, SETTINGS.quality) == shards
    others = build_manifest(corpus, "train", pairs_per_clip=9)
    for asked in [(manifest, 72, SETTINGS.quality), (others, 64, SETTINGS.quality), (manifest, 64, 1)]:
        with pytest.raises(UserError, match="no folder holds shards of the manifest"):
            find_shards(shards.parent, *asked)


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_make_the_same_shards(shards, corpus, manifest, tmp_path, parts):
    made = [prepare(corpus, "train", manifest, tmp_path, SETTINGS, part=(i, parts)) for i in range(parts)]
    assert made[:-1] == [None] * (parts - 1)
    assert digests(tmp_path) == digests(shards)


KILLER = """
import os, signal, sys
from pathlib import Path
from uwm.data import prepare
from uwm.data.corpora import Clip, Corpus
from uwm.data.manifest import read_manifest
encode, calls = prepare._encode_visit, []
def dying(*args):
    calls.append(1)
    if len(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(*args)
prepare._encode_visit = dying
folder, out, manifest = map(Path, sys.argv[1:])
clips = tuple(Clip(name, "train") for name in sorted(p.name for p in folder.iterdir()))
settings = prepare.Settings(short_side=64, quality=95, shard_pairs=12, pairs_per_visit=4)
prepare.prepare(Corpus("numbers", folder, clips), "train", read_manifest(manifest), out, settings)
"""


def test_killed_and_resumed_is_the_same_byte_for_byte(shards, corpus, manifest, tmp_path):
    write_manifest(manifest, tmp_path / "manifest.csv")
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLER, str(corpus.folder), str(out), str(tmp_path / "manifest.csv")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    before = digests(out)
    assert "00000.json" in before
    assert any(name.endswith(".tmp") for name in before)
    with pytest.raises(UserError, match=r"no index\.json"):
        read_index(out)
    prepare(corpus, "train", manifest, out, SETTINGS)
    assert digests(out) == digests(shards)


def test_command_line_names_what_it_skips(tmp_path, capsys):
    folder, out = tmp_path / "ssv2", tmp_path / "out"
    for name in ("0", "1", "2"):
        write_video(folder / f"{name}.webm", 20, fps=12, size=(64, 64))
    truncate(write_video(folder / "cut.webm", 60, size=(64, 64)), 0.5)
    (folder / "text.webm").write_text("no video")
    rows = [{"id": name} for name in ("0", "1", "2", "cut", "text", "gone")]
    (folder / "something-something-v2-train.json").write_text(json.dumps(rows))
    command = [f"ssv2={folder}", "--out", str(out), "--size", "64", "--pairs-per-clip", "3"]
    assert main([*command, "--manifest-only"]) == 0
    counts = read_manifest(out / "manifest.csv").table.video.value_counts().to_dict()
    assert counts == {"0.webm": 3, "1.webm": 3, "2.webm": 3}
    (folder / "1.webm").write_bytes(b"")  # breaks after the manifest was made
    assert main([*command, "--part", "0/1"]) == 0
    assert "6 pairs of 9 in 1 shards; 3 clips were skipped" in capsys.readouterr().out
    named = pd.read_csv(out / "skipped.csv").file.tolist()
    assert sorted(named) == ["1.webm", "cut.webm", "text.webm"]
    with pytest.raises(UserError, match="other settings"):
        main([*command, "--quality", "50"])


def test_the_pairs_are_those_of_a_training(tmp_path, monkeypatch):
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    for number in range(30):
        write_video(tmp_path / "videos" / f"{number}.mp4", 20, size=(64, 64))
    command = [f"wild={tmp_path / 'videos'}", "--out", str(tmp_path / "out"), "--size", "64"]
    assert main([*command, "--pairs", "50", "--pairs-per-visit", "1", "--manifest-only"]) == 0
    corpus = open_corpus("wild", tmp_path / "videos")
    wanted = frozen_pairs(corpus, "train", 0.2, 50, 0).sha256
    assert read_manifest(tmp_path / "out" / "manifest.csv").sha256 == wanted
    assert main([*command, "--pairs", "50", "--pairs-per-visit", "1", "--manifest-only"]) == 0  # again
    with pytest.raises(UserError, match=r"drawn by .*--pairs 50 .*, not by --pairs 40: .*name another --out"):
        main([*command, "--pairs", "40", "--pairs-per-visit", "1"])
    with pytest.raises(UserError, match="not allowed with"):
        main([*command, "--pairs", "50", "--pairs-per-clip", "3"])


def test_bad_options(tmp_path):
    write_video(tmp_path / "videos" / "a.mp4", 20)
    command = [f"wild={tmp_path / 'videos'}", "--split", "test", "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="manifest-only"):
        main([*command, "--part", "1/2"])
    for part in ("2/2", "x"):
        with pytest.raises(UserError, match="--part"):
            main([*command, "--part", part])


def test_the_system_is_asked_for_pieces_before_they_are_read(shards, monkeypatch):
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda file, start, size, advice: asked.append((start, size)))
    stream = shard_stream(shards, 48, 6, buffer=18, piece=4, workers=1)
    tasks = [task for plan in itertools.islice(stream.plans(0, 0, 1), 3) for task in plan.tasks]
    batches = stream.batches()
    next(batches)
    batches.close()
    assert len(asked) > len(next(stream.plans(0, 0, 1)).tasks)  # those of the first block, and more
    for (start, size), task in zip(asked, tasks, strict=False):
        spans = np.reshape(task.spans, (-1, 2))
        assert (start, start + size) == (spans[:, 0].min(), spans.sum(1).max())
