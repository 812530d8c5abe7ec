"""Known corpora where and as people have them: parts of them, labels elsewhere, cut into pieces."""

import json
import time
from pathlib import Path

import pytest

from tests.data.video_files import touch
from uwm.data import manifest, ssv2
from uwm.data.bad_clips import BadClips
from uwm.data.corpora import all_test, announce, open_corpus, parse_data
from uwm.data.tree import Tree
from uwm.errors import UserError

IDS = {"train": range(1, 9), "validation": range(9, 11), "test": range(11, 13)}
VIDEOS = "20bn-something-something-v2"
LABELS = "20bn-something-something-download-package-labels/labels"


def write_labels(folder: Path, prefix: str = "", validation: str = "validation", mark: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, ids in IDS.items():
        name = validation if split == "validation" else split
        text = json.dumps([{"id": str(i), "label": "pushing a cup"} for i in ids])
        (folder / f"{prefix}{name}.json").write_text(mark + text, encoding="utf-8")


def splits(corpus) -> dict[str, list[int]]:
    return {split: sorted(int(Path(c.path).stem) for c in corpus.clips if c.split == split) for split in IDS}


@pytest.mark.parametrize(
    ("videos", "labels", "given", "prefix"),
    [
        (VIDEOS, LABELS, ".", ""),
        ("videos", "annotations", ".", "something-something-v2-"),
        ("videos", "labels", "videos", ""),
        ("videos", ".", "videos", "something-something-v2-"),
        ("a/b/videos", "a/labels", ".", ""),
    ],
)
@pytest.mark.parametrize("name", ["ssv2", "something", "mine"])
def test_ssv2_labels_in_all_places(tmp_path: Path, videos, labels, given, prefix, name):
    touch(tmp_path / videos, *(f"{i}.webm" for i in range(1, 14)))
    write_labels(tmp_path / labels, prefix)
    corpus = open_corpus(name, tmp_path / given)
    assert (corpus.layout, corpus.note) == ("ssv2", "")
    assert splits(corpus) == {split: list(ids) for split, ids in IDS.items()}  # 13 is in no split


@pytest.mark.parametrize(("validation", "mark"), [("val", ""), ("validation", "\ufeff"), ("valid", "")])
def test_ssv2_other_names_and_a_byte_order_mark(tmp_path: Path, validation, mark):
    touch(tmp_path, *(f"v/{i}.mp4" for i in range(1, 13)))
    write_labels(tmp_path / "labels", validation=validation, mark=mark)
    assert splits(open_corpus("ssv2", tmp_path)) == {split: list(ids) for split, ids in IDS.items()}


def test_ssv2_without_one_label_file_says_so(tmp_path: Path):
    touch(tmp_path, *(f"{i}.webm" for i in range(1, 13)))
    write_labels(tmp_path)
    (tmp_path / "validation.json").unlink()
    assert open_corpus("ssv2", tmp_path).note == "no label file of the validation split"


def test_what_is_on_disk_is_used_and_counted(tmp_path: Path, capsys):
    touch(tmp_path, "1.webm", "2.webm", "9.webm")
    write_labels(tmp_path)
    corpus = open_corpus("ssv2", tmp_path)
    announce(corpus)
    announce(corpus)
    assert capsys.readouterr().err == "ssv2: read as ssv2 (3 of 12 listed clips are on disk)\n"
    with pytest.raises(UserError, match=r"no clip in its test split \(2 in train, 1 in validation\)"):
        corpus.of("test")


def test_ssv2_with_no_listed_clip(tmp_path: Path):
    touch(tmp_path, "x.webm")
    write_labels(tmp_path)
    with pytest.raises(UserError, match=r"none of the 12 listed clips is there, such as 1\.webm"):
        open_corpus("ssv2", tmp_path)
    assert open_corpus("mine", tmp_path).layout == "folder"


def test_other_json_files_are_no_labels(tmp_path: Path):
    touch(tmp_path, "1.webm", "2.webm")
    (tmp_path / "train.json").write_text('{"images": []}')
    (tmp_path / "test.json").write_text("{")
    assert open_corpus("coco", tmp_path).layout == "folder"
    with pytest.raises(UserError, match=r"train\.json: not a list of clips"):
        open_corpus("coco", tmp_path, "ssv2")


def test_all_of_ssv2_opens_in_a_second(tmp_path: Path):
    count = 220_847
    (tmp_path / "train.json").write_text(json.dumps([{"id": str(i)} for i in range(count)]))
    tree = Tree(tmp_path, tuple(f"v/{i}.webm" for i in range(0, count, 2)), (), ("train.json",))
    start = time.process_time()
    found = ssv2.read("ssv2", tree, True)
    assert time.process_time() - start < 5  # about 0.5; by a quadratic way over 10 minutes
    assert found is not None
    assert found.note.startswith("110,424 of 220,847 listed")


def test_ssv2_of_several_videos_of_a_name_the_last_counts(tmp_path: Path):
    touch(tmp_path, "a/2.webm", "a/3.MP4", "b/1.webm", "b/2.webm", "a/x.y.webm")
    write_labels(tmp_path)
    corpus = open_corpus("ssv2", tmp_path)
    assert [clip.path for clip in corpus.clips] == ["a/3.MP4", "b/1.webm", "b/2.webm"]
    assert corpus.note == "3 of 12 listed clips are on disk"


UIDS = [f"{i:08d}-0000-4000-8000-000000000000" for i in range(12)]


def write_table(folder: Path, uids: list[str] = UIDS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parts = [{"duration_sec": 1.0}, {"duration_sec": 1.0}]
    rows = [{"video_uid": uid, "duration_sec": 2.0, "video_components": parts} for uid in uids]
    (folder / "ego4d.json").write_text(json.dumps({"videos": rows, "clips": []}))


@pytest.mark.parametrize("name", ["ego4d", "kitchen"])
@pytest.mark.parametrize(
    ("table", "videos", "given"),
    [
        (".", "v2/video_540ss", "."),
        ("v2", "v2/full_scale", "."),
        (".", "v2_1/video_540ss", "."),
        (".", "v2/video_540ss", "v2"),
        (".", "v2/video_540ss", "v2/video_540ss"),
        ("v1", "clips", "."),
        (".", "video_540ss", "."),
    ],
)
def test_ego4d_in_all_places(tmp_path: Path, table, videos, given, name):
    write_table(tmp_path / table)
    touch(tmp_path / videos, *(f"{uid}.mp4" for uid in UIDS[:7]))
    corpus = open_corpus(name, tmp_path / given)
    assert corpus.layout == "ego4d"
    assert len(corpus.clips) == 7
    assert all(corpus.file(clip).is_file() for clip in corpus.clips)
    assert videos == "clips" or corpus.note.endswith("7 of 12 listed videos are on disk")
    assert all(clip.cuts == (1.0,) for clip in corpus.clips)


def test_ego4d_cut_into_pieces(tmp_path: Path):
    write_table(tmp_path)
    pieces = [f"{uid}.mp4/{k}.mp4" for uid in UIDS for k in range(20)]
    touch(tmp_path / "v2" / "video_540ss", *pieces)
    corpus = open_corpus("ego4d", tmp_path)
    assert len(corpus.clips) == 240
    of_each = {uid: {clip.split for clip in corpus.clips if uid in clip.path} for uid in UIDS}
    assert all(len(found) == 1 for found in of_each.values())
    assert all(clip.cuts == () for clip in corpus.clips)  # of a piece it is unknown where parts join
    (tmp_path / "ego4d.json").unlink()
    plain = open_corpus("mine", tmp_path)  # without the table the names still tell
    of_each = {uid: {clip.split for clip in plain.clips if uid in clip.path} for uid in UIDS}
    assert all(len(found) == 1 for found in of_each.values())


def test_a_layout_can_be_forced_and_is_checked(tmp_path: Path):
    write_table(tmp_path)
    touch(tmp_path / "v2" / "video_540ss", *(f"{uid}.mp4" for uid in UIDS))
    assert parse_data(f"mine={tmp_path}").layout == "ego4d"
    assert parse_data(f"mine:folder={tmp_path}").layout == "folder"
    assert open_corpus("mine", f"folder:{tmp_path}").layout == "folder"
    for layout, reason in (("ssv2", "no split files"), ("epic", "P01_01"), ("lerobot", r"info\.json"),
                           ("hdf5", r"no \.hdf5")):  # fmt: skip
        with pytest.raises(UserError, match=reason):
            parse_data(f"mine:{layout}={tmp_path}")
    with pytest.raises(UserError, match=r"unknown 'ssv3' .*ssv2, ego4d"):
        parse_data(f"mine:ssv3={tmp_path}")


def test_epic_is_known_by_its_videos(tmp_path: Path):
    touch(tmp_path, *(f"P{p:02d}/videos/P{p:02d}_{i:02d}.MP4" for p in range(1, 7) for i in range(2)))
    assert open_corpus("kitchens", tmp_path).layout == "epic"
    touch(tmp_path, "holiday.mp4")
    assert open_corpus("epicreal", tmp_path).layout == "folder"


@pytest.mark.parametrize("text", ["~/videos", "~/videos/"])
def test_the_home_folder(tmp_path: Path, text, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path / "videos", "a.mp4")
    assert len(parse_data(f"mine={text}").clips) == len(open_corpus("mine", text).clips) == 1


def test_every_clip_is_tested_where_nothing_is_trained(tmp_path: Path):
    touch(tmp_path, *(f"{i}.mp4" for i in range(32)))
    corpus = open_corpus("wild", tmp_path, splits="all-test")
    assert len(corpus.of("test")) == 32
    assert "every clip is tested" in corpus.note
    assert all_test(open_corpus("wild", tmp_path)) == corpus


def test_a_users_own_splits(tmp_path: Path, capsys):
    touch(tmp_path / "v", "a.mp4", "b.mp4", "c/1.mp4", "c/2.mp4", "d.mp4")
    table = tmp_path / "mine.csv"
    table.write_text("\ufefffile,split\na.mp4,train\nb.mp4,val\nc,test\ngone.mp4,train\n")
    corpus = open_corpus("mine", tmp_path / "v", split_file=table)
    assert {clip.path: clip.split for clip in corpus.clips} == {
        "a.mp4": "train", "b.mp4": "validation", "c/1.mp4": "test", "c/2.mp4": "test"
    }  # fmt: skip
    assert "4 clips by mine.csv, 1 of its rows not on disk" in corpus.note
    table.rename(tmp_path / "v" / "splits.csv")
    assert open_corpus("mine", tmp_path / "v").clips == corpus.clips


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a.mp4,learn\n", r"row 1: write `path,split`"),
        ("a.mp4\n", r"row 1: write `path,split`"),
        ("a.mp4,train\na.mp4,test\n", r"row 2: a\.mp4 is in train and in test"),
        ("x.mp4,train\n", r"names no clip .* a\.mp4,train"),
        ("", "names no clip"),
    ],
)
def test_a_bad_split_file(tmp_path: Path, text, reason):
    touch(tmp_path / "v", "a.mp4", "b.mp4")
    table = tmp_path / "mine.csv"
    table.write_text(text)
    with pytest.raises(UserError, match=reason):
        open_corpus("mine", tmp_path / "v", split_file=table)


def test_bad_shares_are_refused(tmp_path: Path, monkeypatch):
    touch(tmp_path, "a.mp4")
    with pytest.raises(UserError, match="--max-bad-share: 3 is too large; at most 1"):
        manifest.main([f"mine={tmp_path}", "--max-bad-share", "3"])
    monkeypatch.setenv("UWM_MAX_BAD_SHARE", "much")
    with pytest.raises(UserError, match="UWM_MAX_BAD_SHARE=much"):
        BadClips()
