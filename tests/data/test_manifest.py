from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.video_files import read_number, truncate, write_video
from uwm.data import prepare
from uwm.data.corpora import Clip, Corpus
from uwm.data.manifest import COLUMNS, build_manifest, main, read_manifest, write_manifest
from uwm.data.sampling import nearest_pairs, visit_order, without_cuts
from uwm.data.selection import frozen_pairs
from uwm.data.video import read_frames
from uwm.errors import UserError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    for i, fps in enumerate((12, 25, 60, 30)):
        write_video(folder / f"{i}.mp4", 30, fps=fps)
    return Corpus("numbers", folder, tuple(Clip(f"{i}.mp4", "train") for i in range(4)))


def test_nearest_frame_by_timestamp():
    pairs = nearest_pairs(np.arange(10) / 12, 0.2)
    assert pairs[:3].tolist() == [[0, 2], [1, 3], [2, 4]]  # 2.4 frames: 2 is nearer
    assert pairs[-1].tolist() == [7, 9]
    assert nearest_pairs(np.arange(6) / 10, 0.2).tolist() == [[0, 2], [1, 3], [2, 4], [3, 5]]
    assert nearest_pairs(np.array([0.0, 0.19, 0.5, 0.71]), 0.2).tolist() == [[0, 1], [2, 3]]
    assert len(nearest_pairs(np.array([0.0]), 0.2)) == 0
    assert len(nearest_pairs(np.array([0.0, 5.0]), 0.2)) == 0


def test_equally_near_frames_do_not_depend_on_rounding():
    for fps in (10, 30, 7.5):
        steps = np.diff(nearest_pairs(np.arange(2000) / fps, 0.2))[5:-5]
        assert len(np.unique(steps)) == 1


def test_manifest_rows(corpus):
    table = build_manifest(corpus, "train", pairs=40, seed=3).table
    assert list(table.columns) == COLUMNS
    assert len(table) == 40
    assert table.groupby("video").size().tolist() == [10] * 4
    assert table.equals(table.sort_values(["video", "frame0"], ignore_index=True))
    assert not table.duplicated(["video", "frame0"]).any()
    np.testing.assert_allclose(table.t1 - table.t0, table.gap, atol=2e-6)
    by_fps = table.groupby("fps").gap.agg(["min", "max"])
    np.testing.assert_allclose(by_fps.loc[12], 2 / 12, atol=1e-3)
    np.testing.assert_allclose(by_fps.loc[60], 0.2, atol=1e-3)
    row = table.iloc[17]
    frames = read_frames(corpus.file(row.video), [row.frame0, row.frame1], times=[row.t0, row.t1])
    assert [read_number(frame) for frame in frames] == [row.frame0, row.frame1]


def test_same_bytes_each_time_and_after_reading(corpus, tmp_path):
    first, again = (build_manifest(corpus, "train", pairs_per_clip=3, seed=1) for _ in range(2))
    other = build_manifest(corpus, "train", pairs_per_clip=3, seed=2)
    assert first.sha256 == again.sha256 != other.sha256
    write_manifest(first, tmp_path / "deep" / "m.csv")
    assert read_manifest(tmp_path / "deep" / "m.csv").sha256 == first.sha256


def test_several_may_write_the_same_manifest_at_once(corpus, tmp_path):
    manifest, path = build_manifest(corpus, "train", pairs=6), tmp_path / "m.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: write_manifest(manifest, path), range(100)))
    assert read_manifest(path).sha256 == manifest.sha256
    assert list(tmp_path.iterdir()) == [path]


def test_quota_and_what_there_is(corpus):
    assert build_manifest(corpus, "train", pairs=3).table.video.nunique() == 3
    assert sorted(build_manifest(corpus, "train", pairs=6).table.video.value_counts()) == [1, 1, 2, 2]
    everything = build_manifest(corpus, "train").table
    per_clip = everything.groupby("video").size().to_dict()
    assert per_clip == {"0.mp4": 28, "1.mp4": 25, "2.mp4": 18, "3.mp4": 24}
    assert len(build_manifest(corpus, "train", pairs=80).table) == 80  # 2.mp4 has only 18
    assert len(build_manifest(corpus, "train", pairs=500).table) == len(everything)


@pytest.mark.parametrize("command", ["manifest", "prepare", "frozen"])
@pytest.mark.parametrize("pairs", [10, 95, 96, 5000])
def test_fewer_pairs_than_asked_for_are_told(corpus, tmp_path, monkeypatch, capsys, command, pairs):
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "splits.csv").write_text("path,split\n" + "".join(f"{i}.mp4,train\n" for i in range(4)))
    words = [f"wild={corpus.folder}", "--split-file", str(tmp_path / "splits.csv"), "--pairs", str(pairs)]
    if command == "manifest":
        main([*words, "--split", "train", "--out", str(tmp_path / "m.csv")])
    elif command == "prepare":
        prepare.main([*words, "--out", str(tmp_path / "out"), "--manifest-only"])
    else:
        frozen_pairs(replace(corpus, name="wild"), "train", 0.2, pairs, 0)
    told = f"wild (train): 95 of {pairs} pairs asked for; it has no more\n"
    assert (told in capsys.readouterr().err) == (pairs > 95)


def test_bad_clips_are_named_once(tmp_path: Path):
    write_video(tmp_path / "good.mp4")
    truncate(write_video(tmp_path / "cut.mp4", 60), 0.5)
    (tmp_path / "empty.mp4").write_bytes(b"")
    write_video(tmp_path / "one.mp4", 1)
    clips = tuple(Clip(f"{name}.mp4", "train") for name in ("cut", "empty", "good", "gone", "one"))
    manifest = build_manifest(Corpus("mixed", tmp_path, clips), "train", pairs_per_clip=2)
    assert manifest.table.video.unique().tolist() == ["good.mp4"]
    assert [name for name, _ in manifest.skipped] == ["cut.mp4", "empty.mp4", "gone.mp4", "one.mp4"]


def test_too_many_bad_clips_stop(tmp_path: Path):
    write_video(tmp_path / "0.mp4")
    for i in range(1, 8):
        (tmp_path / f"{i}.mp4").write_bytes(b"")
    corpus = Corpus("mostly-bad", tmp_path, tuple(Clip(f"{i}.mp4", "train") for i in range(8)))
    with pytest.raises(UserError, match="7 of 8 clips"):
        build_manifest(corpus, "train")
    assert len(build_manifest(corpus, "train", max_bad_share=0.9).skipped) == 7


def test_no_usable_clip(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="no usable clip"):
        build_manifest(Corpus("bad", tmp_path, (Clip("a.mp4", "test"),)), "test")


def test_reading_something_else(tmp_path: Path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    for path in (tmp_path / "x.csv", tmp_path / "nowhere.csv"):
        with pytest.raises(UserError, match="no manifest"):
            read_manifest(path)


def test_workers_give_the_same_bytes(corpus):
    alone = build_manifest(corpus, "train", pairs=20, seed=5)
    assert build_manifest(corpus, "train", pairs=20, seed=5, workers=2).sha256 == alone.sha256


def test_no_pair_spans_a_cut():
    times = np.arange(10) / 10
    pairs = without_cuts(nearest_pairs(times, 0.2), times, (0.5,))
    assert pairs[:, 0].tolist() == [0, 1, 2, 5, 6, 7]


def test_visits_stay_together():
    starts = np.arange(0, 100, 0.1)
    for per_visit in (1, 4, 8):
        order = visit_order(starts, np.random.default_rng(0), per_visit)
        assert sorted(order) == list(range(1000))
        visits = (starts[order[:96]] // 4).reshape(-1, per_visit)
        assert (visits == visits[:, :1]).all()
        assert len(np.unique(visits[:12, 0])) > 6


def test_command_line(corpus, tmp_path, capsys):
    (corpus.folder / "broken.mp4").write_bytes(b"nothing")
    out = tmp_path / "pairs.csv"
    command = [f"wild={corpus.folder}", "--split", "train", "--pairs", "7", "--out", str(out)]
    try:
        assert main(command) == 0
    finally:
        (corpus.folder / "broken.mp4").unlink()
    assert len(read_manifest(out).table) == 7
    assert read_manifest(out).sha256 in capsys.readouterr().out
