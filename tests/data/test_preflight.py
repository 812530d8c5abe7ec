from pathlib import Path

import pytest

from tests.data.test_robot import write_demos
from tests.data.test_robot_files import libero, wild
from tests.data.video_files import write_video
from uwm.data.corpora import open_corpus, parse_data
from uwm.data.preflight import check_corpus
from uwm.errors import UserError

ALL = ("train", "validation", "test")


def test_a_good_corpus_passes(tmp_path: Path):
    for i in range(5):
        write_video(tmp_path / f"{i}.mp4", 12)
    (tmp_path / "9.mp4").write_bytes(b"")
    check_corpus(open_corpus("wild", tmp_path), ALL)
    check_corpus(open_corpus("arm", write_demos(tmp_path / "d.hdf5", [8] * 10)), ALL, actions=True)


def test_an_empty_split_unreadable_clips_and_short_ones(tmp_path: Path):
    write_video(tmp_path / "a" / "0.mp4", 12)
    with pytest.raises(
        UserError, match=r"no clip in its train split \(1 in test\); name some in .*splits\.csv"
    ):
        check_corpus(open_corpus("wild", tmp_path / "a"), ALL)
    for name in "abc":
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / f"{name}.mp4").write_bytes(b"no video")
    with pytest.raises(
        UserError, match=r"none of 1 clips tried of its test split can be used; .*cannot be decoded"
    ):
        check_corpus(open_corpus("wild", tmp_path / "b"), ["test"])
    write_video(tmp_path / "c" / "0.mp4", 2)
    with pytest.raises(UserError, match=r"no two frames 0\.2 s apart"):
        check_corpus(open_corpus("wild", tmp_path / "c"), ["test"])


def test_actions_before_anything_is_trained(tmp_path: Path):
    path = wild(tmp_path / "d.hdf5")
    with pytest.raises(UserError, match="choose NAME:actions-clip"):
        check_corpus(open_corpus("arm", path), ALL, actions=True)
    check_corpus(open_corpus("arm", f"actions-measured:{path}"), ALL, actions=True)
    write_video(tmp_path / "v" / "0.mp4", 12)
    with pytest.raises(UserError, match="has no actions"):
        check_corpus(open_corpus("arm", tmp_path / "v", splits="all-test"), ["test"], actions=True)


def test_a_camera_of_a_folder_of_files(tmp_path: Path):
    libero(tmp_path / "a.hdf5")
    libero(tmp_path / "b.hdf5")
    corpus = parse_data(f"libero:camera-eye_in_hand,upside-down={tmp_path}")
    assert all(clip.path.endswith("/eye_in_hand_rgb@upside-down") for clip in corpus.clips)
    kept = open_corpus("libero", f"camera-eye_in_hand,upside-down:{tmp_path}")
    assert kept == corpus
    check_corpus(corpus, ALL, actions=True)
    with pytest.raises(UserError, match="no camera 'top'; there is agentview, eye_in_hand"):
        parse_data(f"libero:camera-top={tmp_path}")
    with pytest.raises(UserError, match="one camera"):
        parse_data(f"libero:camera-a,camera-b={tmp_path}")
