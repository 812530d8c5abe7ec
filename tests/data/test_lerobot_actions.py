"""Actions of LeRobot's tables become those of the videos, episode by episode."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.data.video_files import write_video
from uwm.data.action_card import range_warnings
from uwm.data.action_pairs import action_pairs, has_actions
from uwm.data.corpora import open_corpus
from uwm.data.inspect import main as inspect
from uwm.data.lerobot_actions import main, write_table_actions
from uwm.data.manifest import build_manifest
from uwm.data.robomimic.actions import check_corpus_actions
from uwm.errors import UserError

CAMERAS = ("observation.images.top", "observation.images.wrist")
FRAMES, FPS = 20, 10


def action(episode: int, frame: int) -> list[float]:
    """What was commanded then, with its place written in it."""
    return [float(episode), float(frame), 0.5]


def rows(episode: int) -> pd.DataFrame:
    frames = range(FRAMES)
    actions = [np.array(action(episode, frame), np.float32) for frame in frames]
    return pd.DataFrame({"episode_index": episode, "frame_index": frames, "action": actions})


def put(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)


def about(folder: Path, version: str) -> None:
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps({"codebase_version": version, "fps": FPS}))


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    """Six episodes, each a table and a video of each camera."""
    about(tmp_path, "v2.1")
    for episode in range(6):
        put(rows(episode)[::-1], tmp_path / "data" / "chunk-000" / f"episode_{episode:06d}.parquet")
        for camera in CAMERAS:
            path = tmp_path / "videos" / "chunk-000" / camera / f"episode_{episode:06d}.mp4"
            write_video(path, FRAMES, fps=FPS, first=100 * episode)
    return tmp_path


@pytest.fixture
def v3(tmp_path: Path) -> Path:
    """Six episodes in one table, two in each video; the episodes' table names them in another order."""
    about(tmp_path, "v3.0")
    put(
        pd.concat([rows(episode) for episode in range(6)]),
        tmp_path / "data" / "chunk-000" / "file-000.parquet",
    )
    table: dict[str, list] = {"episode_index": [5, 4, 3, 2, 1, 0]}
    for camera in CAMERAS:
        table[f"videos/{camera}/chunk_index"] = [0] * 6
        table[f"videos/{camera}/file_index"] = [2, 2, 1, 1, 0, 0]
        table[f"videos/{camera}/from_timestamp"] = [FRAMES / FPS, 0.0] * 3
        for number in range(3):
            path = tmp_path / "videos" / camera / "chunk-000" / f"file-{number:03d}.mp4"
            write_video(path, 2 * FRAMES, fps=FPS, first=200 * number)
    put(pd.DataFrame(table), tmp_path / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    return tmp_path


def check(folder: Path, episode_of) -> None:
    """Every pair has the actions of its own episode and frames."""
    corpus = open_corpus("arm", folder)
    assert corpus.layout == "lerobot"
    assert has_actions(corpus)
    manifest = build_manifest(corpus, "train", gap=0.2)
    found = action_pairs(corpus, manifest).actions
    assert found.mask.all()
    assert found.actions.shape[1:] == (2, 3)  # two steps of 0.1 s
    # The range is that of the training episodes. The last number never changes: 0.5 - 1 and 0.5 + 1.
    episodes = [episode_of(row.video, row.frame0)[0] for row in manifest.table.itertuples()]
    assert {min(episodes), max(episodes)} != {0, 5}
    np.testing.assert_array_equal(found.low, [min(episodes), 0, -0.5])
    np.testing.assert_array_equal(found.high, [max(episodes), FRAMES - 1, 1.5])
    check_corpus_actions(corpus)  # of held-out episodes, too, which are beyond it
    assert not [line for line in range_warnings(corpus) if "beyond" in line]
    for row, actions in zip(manifest.table.itertuples(), found.actions, strict=True):
        assert actions.tolist() == [action(*episode_of(row.video, row.frame0 + step)) for step in (0, 1)]


def test_v2_a_video_is_an_episode(v2, capsys, monkeypatch):
    monkeypatch.chdir(v2)  # the card is drawn there
    assert main([str(v2)]) == 0
    assert "actions of 3 numbers for 12 videos" in capsys.readouterr().out
    check(v2, lambda video, frame: (int(Path(video).stem[-6:]), frame))
    assert inspect([f"arm={v2}"]) == 0
    assert "actions  3 numbers, 10 control steps/s" in capsys.readouterr().out


def test_v3_a_video_holds_episodes_and_no_pair_spans_two(v3):
    write_table_actions(v3)
    check(v3, lambda video, frame: (2 * int(Path(video).stem[-3:]) + frame // FRAMES, frame % FRAMES))


def test_what_does_not_fit_is_one_line_and_nothing_is_written(v2):
    table = v2 / "data" / "chunk-000" / "episode_000003.parquet"
    put(rows(3)[:-1], table)
    with pytest.raises(UserError, match=r"episode_000003\.mp4 has 20 frames, and its episodes 19 actions"):
        write_table_actions(v2)
    table.write_bytes(b"no table")
    with pytest.raises(UserError, match=r"episode_000003\.parquet: no table with"):
        write_table_actions(v2)
    table.unlink()
    with pytest.raises(UserError, match="no actions of its episode 3"):
        write_table_actions(v2)
    assert not (v2 / "robot.hdf5").exists()
    put(rows(3), table)
    write_table_actions(v2)
    with pytest.raises(UserError, match="is there already"):
        write_table_actions(v2)
