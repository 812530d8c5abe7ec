"""All actions of a corpus are read before anything is trained."""

from pathlib import Path

import pytest

from tests.data.test_robot_files import libero, wild
from tests.data.video_files import write_video
from uwm.data.corpora import open_corpus, parse_data
from uwm.data.robomimic.actions import check_corpus_actions
from uwm.errors import UserError


def test_actions_before_anything_is_trained(tmp_path: Path):
    path = wild(tmp_path / "d.hdf5")
    with pytest.raises(UserError, match="choose NAME:actions-clip"):
        check_corpus_actions(open_corpus("arm", path))
    check_corpus_actions(open_corpus("arm", f"actions-measured:{path}"))
    write_video(tmp_path / "v" / "0.mp4", 12)
    with pytest.raises(UserError, match="has no actions"):
        check_corpus_actions(open_corpus("arm", tmp_path / "v"))


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
