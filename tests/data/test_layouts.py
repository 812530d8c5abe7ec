import json
from pathlib import Path

import pytest
from PIL import Image

from tests.data.video_files import picture, read_number, write_video
from uwm.data.corpora import open_corpus
from uwm.data.manifest import build_manifest
from uwm.data.pairs import load_frames, load_pairs
from uwm.errors import UserError


def write_labels(folder: Path, prefix: str, splits: dict[str, list[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, ids in splits.items():
        (folder / f"{prefix}{split}.json").write_text(json.dumps([{"id": i, "label": "x"} for i in ids]))


SSV2 = {"train": ["1", "22", "3"], "validation": ["40"], "test": ["5"]}


@pytest.mark.parametrize(("labels", "prefix"), [("labels", ""), (".", "something-something-v2-")])
def test_ssv2_as_distributed(tmp_path: Path, labels, prefix):
    write_labels(tmp_path / labels, prefix, SSV2)
    for number in ("1", "22", "40", "5", "unlisted"):
        write_video(tmp_path / "20bn-something-something-v2" / f"{number}.webm", 20, size=(107, 60))
    corpus = open_corpus("ssv2", tmp_path)
    by_split = {split: [Path(clip.path).stem for clip in corpus.of(split)] for split in SSV2}
    assert by_split == SSV2 | {"train": ["1", "22"]}  # of a partial download what is there
    manifest = build_manifest(corpus, "train", pairs_per_clip=2)
    assert "4 of 5 listed clips are on disk" in corpus.note
    assert not manifest.skipped
    pairs = load_pairs(corpus, manifest, 60)
    assert pairs.shape == (4, 2, 3, 60, 60)


def test_ssv2_frame_folders(tmp_path: Path):
    write_labels(tmp_path / "labels", "", SSV2)
    for clip in ("1", "22", "3", "40", "5"):
        folder = tmp_path / "frames" / clip
        folder.mkdir(parents=True)
        for i in range(10):
            Image.fromarray(picture(i, 64, 64)).save(folder / f"{i + 1:06d}.jpg", quality=95)
    (tmp_path / "frames" / "fps.txt").write_text("12\n")
    corpus = open_corpus("ssv2", tmp_path)
    manifest = build_manifest(corpus, "train")
    assert len(manifest.table) == 3 * 8
    assert manifest.table.gap.unique().round(4).tolist() == [0.1667]
    pairs = load_pairs(corpus, manifest, 64)
    numbers = [[read_number(image.permute(1, 2, 0).numpy()) for image in pair] for pair in pairs]
    assert numbers == manifest.table[["frame0", "frame1"]].to_numpy().tolist()
    bank = load_frames(corpus, "train", 64)
    assert [read_number(image.permute(1, 2, 0).numpy()) for image in bank.frames] == 3 * list(range(10))


def test_ssv2_without_split_files(tmp_path: Path):
    write_video(tmp_path / "1.webm", 12)
    with pytest.raises(UserError, match=r"no split files .* ssv2:folder="):
        open_corpus("ssv2", tmp_path)
    for name in ("other", "ssv2real"):  # a name says nothing, but for the very names of known corpora
        assert open_corpus(name, tmp_path).layout == "folder"
    assert open_corpus("ssv2", tmp_path, "folder").layout == "folder"


def ego4d_table(uids: list[str]) -> dict:
    videos = [{"video_uid": uid, "duration_sec": 4.0, "video_components": []} for uid in uids]
    videos[0]["video_components"] = [{"duration_sec": 1.0}, {"duration_sec": 3.0}]
    clips = [{"clip_uid": f"c{i}-{uid}", "video_uid": uid} for uid in uids for i in range(3)]
    return {"videos": videos, "clips": clips}


def test_ego4d_videos_and_their_parts(tmp_path: Path):
    uids = [f"video-{i}" for i in range(6)]
    (tmp_path / "v2" / "full_scale").mkdir(parents=True)
    (tmp_path / "v2" / "ego4d.json").write_text(json.dumps(ego4d_table(uids)))
    for uid in uids[:5]:
        write_video(tmp_path / "v2" / "video_540ss" / f"{uid}.mp4", 40, fps=10)
    corpus = open_corpus("ego4d", tmp_path)
    assert [clip.path for clip in corpus.clips] == [f"v2/video_540ss/{uid}.mp4" for uid in uids[:5]]
    assert corpus.note == "from video_540ss; 5 of 6 listed videos are on disk"
    first = corpus.clips[0]
    assert first.cuts == (1.0,)
    table = build_manifest(corpus, first.split).table
    table = table[table.video == first.path]
    assert len(table) == 36  # 38 without the cut
    assert not ((table.t0 < 1.0) & (table.t1 >= 1.0)).any()


def test_ego4d_clips_stay_with_their_video(tmp_path: Path):
    uids = [f"video-{i}" for i in range(12)]
    (tmp_path / "ego4d.json").write_text(json.dumps(ego4d_table(uids)))
    (tmp_path / "clips").mkdir()
    for uid in uids:
        for i in range(3):
            (tmp_path / "clips" / f"c{i}-{uid}.mp4").write_bytes(b"")
    splits: dict[str, set[str]] = {}
    for clip in open_corpus("ego4d", tmp_path).clips:
        splits.setdefault(Path(clip.path).stem.split("-", 1)[1], set()).add(clip.split)
    assert len(splits) == 12
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {"train", "validation", "test"}


def test_ego4d_bad_folders(tmp_path: Path):
    with pytest.raises(UserError, match=r"no ego4d\.json"):
        open_corpus("ego4d", tmp_path)
    (tmp_path / "ego4d.json").write_text("{")
    with pytest.raises(UserError, match="JSON"):
        open_corpus("ego4d", tmp_path)
    (tmp_path / "ego4d.json").write_text("{}")
    with pytest.raises(UserError, match="no videos in"):
        open_corpus("ego4d", tmp_path)


def test_epic_kitchens_split_by_participant(tmp_path: Path):
    for participant in range(1, 11):
        folder = tmp_path / "EPIC-KITCHENS" / f"P{participant:02d}" / "videos"
        folder.mkdir(parents=True)
        for i in range(3):
            (folder / f"P{participant:02d}_{i:02d}.MP4").write_bytes(b"")
    clips = open_corpus("epic-kitchens", tmp_path).clips
    assert len(clips) == 30
    kitchens: dict[str, set[str]] = {}
    for clip in clips:
        kitchens.setdefault(clip.path.split("/")[1], set()).add(clip.split)
    assert all(len(splits) == 1 for splits in kitchens.values())


def test_frame_folders_need_a_stated_rate(tmp_path: Path):
    folder = tmp_path / "clip"
    folder.mkdir()
    Image.fromarray(picture(0, 32, 32)).save(folder / "000001.jpg")
    with pytest.raises(UserError, match="no video"):
        open_corpus("frames", tmp_path)
    (tmp_path / "fps.txt").write_text("fast")
    corpus = open_corpus("frames", tmp_path)
    with pytest.raises(UserError, match="one number"):
        build_manifest(corpus, "test")


def test_links_are_followed_once(tmp_path: Path):
    write_video(tmp_path / "elsewhere" / "a.mp4", 5)
    root = tmp_path / "root"
    root.mkdir()
    (root / "videos").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(root)
    assert [clip.path for clip in open_corpus("wild", root).clips] == ["videos/a.mp4"]


def test_what_macos_leaves_beside_files_is_no_video(tmp_path: Path):
    write_video(tmp_path / "1.webm", 12)
    (tmp_path / "._1.webm").write_bytes(b"\0\5\x16\7" + bytes(100))
    (tmp_path / ".Trash").mkdir()
    write_video(tmp_path / ".Trash" / "2.webm", 12)
    assert [clip.path for clip in open_corpus("wild", tmp_path).clips] == ["1.webm"]


@pytest.mark.parametrize("choice", ["clip", "rescale", "measured", "controller"])
def test_a_choice_for_actions_is_refused_where_there_are_none(tmp_path: Path, choice: str):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UserError, match=f"actions-{choice} is for demonstrations in HDF5"):
        open_corpus("x", tmp_path, f"actions-{choice}")
