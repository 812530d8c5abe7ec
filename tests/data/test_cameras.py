"""Several cameras of one episode: all its videos are in one split."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.data.video_files import touch
from uwm.data.corpora import SPLITS, open_corpus
from uwm.errors import UserError

CAMERAS = ("observation.images.top", "observation.images.wrist")


def lerobot(root: Path, version: str) -> None:
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps({"codebase_version": version, "fps": 30}))


def split_of_episodes(corpus, key) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for clip in corpus.clips:
        found.setdefault(key(clip.path), set()).add(clip.split)
    return found


def test_lerobot_cameras_of_an_episode_stay_together(tmp_path: Path):
    lerobot(tmp_path, "v2.1")
    touch(tmp_path, *(f"videos/chunk-000/{c}/episode_{e:06d}.mp4" for c in CAMERAS for e in range(20)))
    corpus = open_corpus("arm", tmp_path)
    assert corpus.layout == "lerobot"
    found = split_of_episodes(corpus, lambda path: Path(path).stem)
    assert len(found) == 20
    assert all(len(splits) == 1 for splits in found.values())


def test_lerobot_v3_files_that_share_an_episode_stay_together(tmp_path: Path):
    lerobot(tmp_path, "v3.0")
    places = {CAMERAS[0]: [0, 0, 1, 2, 3, 4], CAMERAS[1]: [0, 1, 1, 2, 3, 4]}  # file of each episode
    rows: dict[str, list] = {"episode_index": list(range(6))}
    for camera, files in places.items():
        rows |= {f"videos/{camera}/chunk_index": [0] * 6, f"videos/{camera}/file_index": files}
        rows[f"videos/{camera}/from_timestamp"] = [2.0 * files[:e].count(files[e]) for e in range(6)]
        touch(tmp_path, *(f"videos/{camera}/chunk-000/file-{k:03d}.mp4" for k in range(5)))
    (tmp_path / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(tmp_path / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    corpus = open_corpus("arm", tmp_path)
    clips = {clip.path: clip for clip in corpus.clips}
    joined = [f"videos/{c}/chunk-000/file-{k:03d}.mp4" for c in CAMERAS for k in (0, 1)]
    assert len({clips[path].split for path in joined}) == 1
    for k in (2, 3, 4):
        assert len({clips[f"videos/{c}/chunk-000/file-{k:03d}.mp4"].split for c in CAMERAS}) == 1
    assert clips[joined[0]].cuts == (2.0,)
    assert clips[joined[1]].cuts == ()
    for file in (tmp_path / "meta" / "episodes").rglob("*.parquet"):
        file.unlink()
    with pytest.raises(UserError, match="meta/episodes: cannot be read"):
        open_corpus("arm", tmp_path)


DROID = "AUTOLab/success/2023-07-07/Fri_Jul__7_0{}:42:23_2023/recordings/MP4/{}.mp4"


@pytest.mark.parametrize(
    ("paths", "episode"),
    [
        ([DROID.format(e, c) for e in range(9) for c in (22008760, 24400334)], lambda p: p.split("/")[3]),
        ([f"traj{i}/images{c}.mp4" for i in range(9) for c in range(3)], lambda p: p.split("/")[0]),
        ([f"ep_{i}_cam{c}.mp4" for i in range(9) for c in range(3)], lambda p: p.split("_")[1]),
        ([f"{i}/{c}.mp4" for i in range(9) for c in ("left", "right")], lambda p: p.split("/")[0]),
        ([f"{c}/ep_{i}.mp4" for i in range(9) for c in ("north", "south")], lambda p: p.split("_")[1]),
        ([f"videos/{c}_episode_{i:06d}.mp4" for i in range(9) for c in CAMERAS], lambda p: p[-10:]),
        ([f"take{i}/frame_aligned_videos/{c}.mp4" for i in range(9) for c in ("cam01", "aria01_214-1")],
         lambda p: p.split("/")[0]),
    ],
)  # fmt: skip
def test_cameras_of_an_episode_stay_together(tmp_path: Path, paths, episode):
    touch(tmp_path, *paths)
    corpus = open_corpus("arm", tmp_path)
    found = split_of_episodes(corpus, episode)
    assert len(found) == 9
    assert all(len(splits) == 1 for splits in found.values())
    assert {clip.split for clip in corpus.clips} == set(SPLITS)
    assert "9 episodes with several cameras" in corpus.note


@pytest.mark.parametrize(
    "paths",
    [
        [f"camera_{i:03d}.mp4" for i in range(40)],
        [f"P{p}/P{p}_{i}.mp4" for p in range(5) for i in range(4)],
        [f"{i}.webm" for i in range(40)],
        [f"class{c}/v{c}_{i}.mp4" for c in range(10) for i in range(4)],
    ],
)
def test_names_that_call_no_camera_are_split_one_by_one(tmp_path: Path, paths):
    touch(tmp_path, *paths)
    corpus = open_corpus("wild", tmp_path)
    assert corpus.note == ""
    assert {clip.split for clip in corpus.clips} == set(SPLITS)
