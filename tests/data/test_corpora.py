from pathlib import Path

import pytest

from uwm.data.corpora import BUNDLED, SPLITS, bundled, open_corpus
from uwm.data.splits import split_by_group
from uwm.errors import UserError


def splits(count: int) -> dict[str, str]:
    return {
        clip.path: clip.split
        for clip in split_by_group({f"clip{i}.mp4": f"clip{i}.mp4" for i in range(count)})
    }


@pytest.mark.parametrize("count", [3, 4, 5, 34, 300])
def test_every_split_has_a_clip(count):
    assert set(splits(count).values()) == set(SPLITS)


def test_one_and_two_clips():
    assert list(splits(1).values()) == ["test"]
    assert sorted(splits(2).values()) == ["test", "train"]


def test_shares_and_stability():
    large, larger = splits(2000), splits(2600)
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert list(large.values()).count(split) / 2000 == pytest.approx(share, abs=0.03)
    assert all(larger[path] == split for path, split in large.items())


def test_folder_of_videos(tmp_path: Path):
    for name in ("b/x.MP4", "a.webm", "b/c/y.mkv", "notes.txt", "clips.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    corpus = open_corpus("wild", tmp_path)
    assert [clip.path for clip in corpus.clips] == ["a.webm", "b/c/y.mkv", "b/x.MP4"]
    assert corpus.file(corpus.clips[0]) == tmp_path / "a.webm"


def test_missing_and_empty_folder(tmp_path: Path):
    with pytest.raises(UserError, match="no such folder"):
        open_corpus("wild", tmp_path / "nowhere")
    (tmp_path / "readme.txt").write_text("no video here")
    with pytest.raises(UserError, match="no video file"):
        open_corpus("wild", tmp_path)


def test_unknown_name_and_split(tmp_path: Path):
    with pytest.raises(UserError, match="--data mars=DIR"):
        open_corpus("mars")
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="unknown split"):
        open_corpus("wild", tmp_path).of("dev")
    with pytest.raises(UserError, match="no clip in its train split"):
        open_corpus("wild", tmp_path).of("train")


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_corpora(name):
    corpus = bundled(name)
    assert {clip.split for clip in corpus.clips} == set(SPLITS)
    assert all(corpus.file(clip).is_file() for clip in corpus.clips)


def test_an_unknown_option_after_the_name_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown 'foo' after the name; it may be ssv2"):
        open_corpus("wild", f"foo:{tmp_path}")
