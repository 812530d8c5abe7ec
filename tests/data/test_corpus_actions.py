"""All actions of a corpus are read before anything is trained."""

from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from tests.data.demos import libero, wild, write_demos
from tests.data.video_files import write_video
from tests.robot_toy import write_toy
from uwm.data.action_card import range_warnings
from uwm.data.action_pairs import action_pairs, all_action_pairs
from uwm.data.assignment import Choices
from uwm.data.corpora import open_corpus, parse_data
from uwm.data.manifest import build_manifest
from uwm.data.robomimic.actions import check_corpus_actions
from uwm.data.selection import first_clips
from uwm.errors import UserError
from uwm.runs.options import data_folders


def test_actions_before_anything_is_trained(tmp_path: Path):
    path = wild(tmp_path / "d.hdf5")
    with pytest.raises(UserError, match="choose NAME:actions-clip"):
        check_corpus_actions(open_corpus("arm", path))
    check_corpus_actions(open_corpus("arm", f"actions-measured:{path}"))
    write_video(tmp_path / "v" / "0.mp4", 12)
    with pytest.raises(UserError, match="has no actions"):
        check_corpus_actions(open_corpus("arm", tmp_path / "v"))


def test_a_measured_range_is_that_of_the_training_clips(tmp_path: Path):
    """A held-out action beyond it stays as it is. Where no clip is trained on, all are measured."""
    masks = {"train": [0, 1, 2, 3], "valid": [4], "test": [5]}
    path = write_demos(tmp_path / "d.hdf5", [8] * 6, size=3, masks=masks)
    with h5py.File(path, "r+") as file:
        for number in range(6):
            file[f"data/demo_{number}/actions"][...] = 0.25 * (number + 1)
    ranges = {"measured": ([0.25] * 3, [1.0] * 3, 1.0), "rescale": ([-1.0] * 3, [1.0] * 3, 1.0)}
    for choice, (low, high, factor) in ranges.items():
        corpus = open_corpus("arm", f"actions-{choice}:{path}")
        check_corpus_actions(corpus)
        assert not [line for line in range_warnings(corpus) if "beyond" in line]
        held_out = action_pairs(corpus, build_manifest(corpus, "test"))
        assert [limit.tolist() for limit in held_out.limits] == [low, high]
        assert held_out.actions.actions.max() == 1.5 * factor
        fewer = first_clips(corpus, 2)  # as a recipe trains on; the range is that of all training clips
        some = action_pairs(fewer, build_manifest(fewer, "train"))
        assert [limit.tolist() for limit in some.limits] == [low, high]
        assert some.actions.actions.max() == 0.5 * factor
    tested = replace(corpus, clips=tuple(clip._replace(split="test") for clip in corpus.clips))
    scaled = action_pairs(tested, build_manifest(tested, "test")).actions.actions
    assert scaled.max() == pytest.approx(1)


def test_one_option_says_the_range_of_all_demonstrations(tmp_path: Path):
    """Of those that choose none themselves; a plan, a job and a record's command hold it as any other."""
    file, told = wild(tmp_path / "d.hdf5"), tmp_path / "robots" / "more" / "t.hdf5"
    told.parent.mkdir(parents=True)
    write_toy(told)
    write_video(tmp_path / "v" / "0.mp4", 12)
    words = [f"d={file}", f"own:actions-clip={file}", f"top:camera-front={told.parent}", f"v={tmp_path}/v"]
    places = data_folders(words, "measured")
    assert places == {
        "d": f"actions-measured:{file}",
        "own": f"actions-clip:{file}",
        "top": f"camera-front,actions-measured:{told.parent}",
        "v": f"{tmp_path}/v",
    }
    assert open_corpus("top", places["top"]).choices == Choices("hdf5", False, "measured", "front")
    check_corpus_actions(open_corpus("d", places["d"]))
    with pytest.raises(UserError, match="no corpus of --data holds demonstrations"):
        data_folders([f"v={tmp_path}/v"], "measured")
    assert data_folders(words) == data_folders(words, None)


def test_the_range_of_the_file_is_one_that_it_tells(tmp_path: Path):
    place = write_toy(tmp_path / "t.hdf5")
    corpus = open_corpus("toy", data_folders([f"toy={place}"], "file")["toy"])
    with pytest.raises(UserError, match="tells no range of its actions: choose controller or measured"):
        check_corpus_actions(corpus)
    check_corpus_actions(open_corpus("toy", data_folders([f"toy={place}"], "controller")["toy"]))
    with h5py.File(place, "a") as file:
        file["data"].attrs.update(action_low=-2.0, action_high=2.0)
    check_corpus_actions(corpus)
    assert all_action_pairs(corpus, 0.2, None).limits[1].tolist() == [2.0] * 3


def test_a_camera_of_a_folder_of_files(tmp_path: Path):
    libero(tmp_path / "a.hdf5")
    libero(tmp_path / "b.hdf5")
    corpus = parse_data(f"libero:camera-eye_in_hand,upside-down={tmp_path}")
    assert all(clip.path.endswith("/eye_in_hand_rgb@upside-down") for clip in corpus.clips)
    kept = open_corpus("libero", f"camera-eye_in_hand,upside-down:{tmp_path}")
    assert kept == corpus
    check_corpus_actions(corpus)
    with pytest.raises(UserError, match="no camera 'top'; there is agentview, eye_in_hand"):
        parse_data(f"libero:camera-top={tmp_path}")
    with pytest.raises(UserError, match="one camera"):
        parse_data(f"libero:camera-a,camera-b={tmp_path}")
