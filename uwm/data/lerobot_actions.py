"""Copies the actions of a LeRobot data set, v2 or v3, into `robot.hdf5` beside its videos.

    python -m uwm.data.lerobot_actions DIR
    python experiments/figure5.py --data arm=DIR

The rows of `data/**/*.parquet` become one demonstration for each video file, of the episodes in it. Row i is
the action commanded at frame i. No controller's range is told: a run measures that of its training clips.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from uwm.arguments import Parser, named_path
from uwm.data.corpora import Corpus, open_corpus
from uwm.data.lerobot import episodes_of_files
from uwm.data.robomimic.actions import ACTIONS_FILE
from uwm.data.tree import read_tree
from uwm.data.video import probe
from uwm.errors import UserError, run_cli
from uwm.files import replacing

Actions = dict[int, NDArray[np.float32]]  # of each episode, (frames, A)


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m uwm.data.lerobot_actions", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=named_path, metavar="DIR", help="with meta/info.json, data/, videos/")
    options: argparse.Namespace = parser.parse_args(argv)
    path, demos, size = write_table_actions(options.folder)
    print(f"{path}: actions of {size} numbers for {demos} videos")
    return 0


def write_table_actions(folder: Path) -> tuple[Path, int, int]:
    """Write `robot.hdf5` into a data set's folder: its path, the videos in it, the numbers of an action.

    Raises:
        UserError: it is there already; no LeRobot data set, or one whose videos and rows do not fit.
    """
    path = folder / ACTIONS_FILE
    if path.exists():
        raise UserError(f"{path} is there already; remove it to write it anew")
    corpus = open_corpus("lerobot", folder, "lerobot")
    about = json.loads((folder / "meta" / "info.json").read_text(encoding="utf-8"))
    files, actions = episodes_of_files(read_tree(folder), about), read_table_actions(folder)
    demos = list(_demos(corpus, files, actions))
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        data = file.create_group("data")
        data.attrs["action_range"] = "measured"
        environment = {"env_name": "LeRobot", "type": 1, "env_kwargs": {"control_freq": about.get("fps")}}
        data.attrs["env_args"] = json.dumps(environment)
        for number, (clip, rows) in enumerate(demos):
            demo = data.create_group(f"demo_{number}")
            demo.attrs.update(clip=clip, num_samples=len(rows))
            demo["actions"], demo["frame_steps"] = rows, np.arange(len(rows), dtype=np.int32)
    return path, len(demos), demos[0][1].shape[1]


def read_table_actions(folder: Path) -> Actions:
    """The actions of every episode in the tables of `data/`."""
    by_episode: dict[int, list[pd.DataFrame]] = {}
    columns = ["episode_index", "frame_index", "action"]
    for path in sorted(folder.glob("data/**/*.parquet")):
        try:
            table = pd.read_parquet(path, columns=columns)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{path}: no table with {', '.join(columns)} ({reason})") from None
        for episode, rows in table.groupby("episode_index"):
            by_episode.setdefault(int(str(episode)), []).append(rows)
    if not by_episode:
        raise UserError(f"{folder}: no data/**/*.parquet, where LeRobot has actions")
    return {episode: _stacked(folder, episode, pd.concat(parts)) for episode, parts in by_episode.items()}


def _stacked(folder: Path, episode: int, rows: pd.DataFrame) -> NDArray[np.float32]:
    try:
        stacked = np.stack(rows.sort_values("frame_index")["action"].tolist()).astype(np.float32)
    except (ValueError, TypeError):
        stacked = np.full((1, 1), np.nan, np.float32)
    if stacked.ndim != 2 or not np.isfinite(stacked).all():
        raise UserError(f"{folder}: the actions of episode {episode} are not rows of as many numbers each")
    return stacked


def _demos(
    corpus: Corpus, files: dict[str, list[int]], actions: Actions
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Each video and the actions (frames, A) of its episodes, one after the other."""
    for clip in corpus.clips:
        episodes = files.get(clip.path, [])
        missing = [episode for episode in episodes if episode not in actions]
        if missing or not episodes:
            raise UserError(
                f"{corpus.file(clip)}: no actions of its episode {missing[0] if missing else '?'}"
            )
        rows = np.concatenate([actions[episode] for episode in episodes])
        frames = len(probe(corpus.file(clip)).timestamps)
        if frames != len(rows):
            raise UserError(f"{corpus.file(clip)} has {frames} frames, and its episodes {len(rows)} actions")
        yield clip.path, rows


if __name__ == "__main__":
    sys.exit(run_cli(main))
