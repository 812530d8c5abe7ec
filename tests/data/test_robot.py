"""Reading demonstrations: HDF5 files of robomimic's layout as corpora, and the actions of their pairs."""

import hashlib
import io
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.data.demos import grey, write_demos
from uwm.data.corpora import BUNDLED, open_corpus
from uwm.data.manifest import build_manifest
from uwm.data.manifest_cache import cached_manifest
from uwm.data.pairs import load_frames, load_pairs
from uwm.data.robomimic.actions import PANDA_FINGERS, pair_actions
from uwm.data.robot import main
from uwm.data.video import BadVideo, content_hash, probe, read_frames, read_whole
from uwm.errors import UserError, run_cli


@pytest.mark.parametrize(("frequency", "step"), [(None, 4), (10, 2)])
def test_every_consumer_reads_the_frames_that_are_meant(tmp_path, frequency, step):
    env = {"env_name": "Lift", "env_kwargs": {"control_freq": frequency} if frequency else {}}
    path = write_demos(tmp_path / "d.hdf5", [9, 8], side=30, env=env, masks={"train": [0], "test": [1]})
    corpus = open_corpus("robot", path)
    manifest = build_manifest(corpus, "train")
    table = manifest.table
    assert set(table.video) == {"data/demo_0/obs/agentview_image"}
    assert (table.frame1 - table.frame0 == step).all()
    assert np.allclose(table.gap, 0.2)
    assert (table.width[0], table.height[0], table.fps[0]) == (30, 30, frequency or 20)
    pairs = load_pairs(corpus, manifest, 30)
    assert pairs.shape == (9 - step, 2, 3, 30, 30)
    assert pairs[:, :, 0, 0, 0].tolist() == [[i, i + step] for i in range(9 - step)]
    bank = load_frames(corpus, "test", 30)
    assert bank.frames[:, 0, 5, 5].tolist() == [10 + i for i in range(8)]


def test_a_demo_is_a_video(tmp_path):
    path = write_demos(tmp_path / "d.hdf5", [5, 7]) / "data" / "demo_1" / "obs" / "agentview_image"
    info = probe(path)
    assert (info.frames, info.fps, info.width, info.height) == (7, 20.0, 24, 24)
    assert np.allclose(info.timestamps, np.arange(7) / 20)
    assert read_frames(path, [6, 0, 6])[:, 0, 0, 0].tolist() == [16, 10, 16]
    assert np.concatenate(list(read_whole(path, chunk=3)))[:, 0, 0, 0].tolist() == list(range(10, 17))
    pictures = np.stack([grey(10 + i, 24) for i in range(7)])
    assert content_hash(path) == hashlib.sha256(pictures.tobytes()).hexdigest()
    with pytest.raises(BadVideo, match="has 7 frames, frame 7 was asked for"):
        read_frames(path, [7])


def test_pictures_may_be_compressed(tmp_path):
    path = write_demos(tmp_path / "d.hdf5", [6], side=32)
    smooth = np.linspace(0, 255, 32).astype(np.uint8)[None, :, None].repeat(32, 0).repeat(3, 2)
    with h5py.File(path, "r+") as file:
        obs = file["data/demo_0/obs"]
        images = obs["agentview_image"][()]
        obs.create_dataset("side_image", data=images, chunks=(1, 32, 32, 3), compression="gzip")
        jpeg = obs.create_dataset("front_image", (6,), h5py.vlen_dtype(np.uint8))
        jpeg.attrs["encoding"] = "jpeg"
        for i in range(6):
            buffer = io.BytesIO()
            Image.fromarray(np.roll(smooth, i, 1)).save(buffer, "JPEG", quality=95)
            jpeg[i] = np.frombuffer(buffer.getvalue(), np.uint8)
    obs = path / "data" / "demo_0" / "obs"
    assert np.array_equal(read_frames(obs / "side_image", range(6)), images)
    found = read_frames(obs / "front_image", [4, 1]).astype(int)
    assert np.abs(found[0] - np.roll(smooth, 4, 1)).mean() < 4
    assert np.abs(found[1] - np.roll(smooth, 1, 1)).mean() < 4


def test_camera_is_the_first_on_no_hand_or_the_one_asked_for(tmp_path):
    path = write_demos(tmp_path / "d.hdf5", [5] * 4, cameras=("a_eye_in_hand", "sideview", "zview"))
    by_default, asked = open_corpus("robot", path), open_corpus("robot", path / "a_eye_in_hand")
    assert by_default.clips[0].path.endswith("/sideview_image")
    assert asked.clips[0].path.endswith("/a_eye_in_hand_image")
    assert read_frames(asked.file(asked.clips[0]), [0]).max() < 100
    split = lambda corpus: {clip.path.split("/")[1]: clip.split for clip in corpus.clips}  # noqa: E731
    assert split(by_default) == split(asked)
    with pytest.raises(UserError, match="no camera 'topview'; there is a_eye_in_hand, sideview, zview"):
        open_corpus("robot", path / "topview")
    only = write_demos(tmp_path / "hand.hdf5", [5], cameras=("robot0_eye_in_hand",))
    assert open_corpus("robot", only).clips[0].path.endswith("robot0_eye_in_hand_image")


def test_splits_are_the_masks_of_the_file_or_hashes(tmp_path):
    masks = {"train": [0, 3], "valid": [1], "test": [2], "20_percent": [0]}
    corpus = open_corpus("robot", write_demos(tmp_path / "m.hdf5", [5] * 6, masks=masks))
    assert {clip.path.split("/")[1]: clip.split for clip in corpus.clips} == {
        "demo_0": "train", "demo_1": "validation", "demo_2": "test", "demo_3": "train",
    }  # fmt: skip
    hashed = open_corpus("robot", write_demos(tmp_path / "h.hdf5", [5] * 30))
    assert len(hashed.clips) == 30
    assert {clip.split for clip in hashed.clips} == {"train", "validation", "test"}


def test_actions_between_the_frames(tmp_path):
    path = write_demos(tmp_path / "d.hdf5", [7, 9], size=4, masks={"train": [0, 1]})
    corpus = open_corpus("robot", path)
    manifest = build_manifest(corpus, "train")
    found = pair_actions(corpus, manifest)
    assert found.actions.shape == (3 + 5, 4, 4)
    assert found.mask.all()
    assert (found.low.tolist(), found.high.tolist()) == ([-1] * 4, [1] * 4)
    assert np.isnan(found.eef_in_picture).all()
    assert np.isnan(found.eef_pos).all()
    assert np.isnan(found.gripper_opening).all()
    with h5py.File(path) as file:
        for row, (video, first) in enumerate(manifest.table[["video", "frame0"]].itertuples(index=False)):
            stored = file[f"data/{video.split('/')[1]}/actions"][first : first + 4]
            assert np.array_equal(found.actions[row], stored.astype(np.float32))


def test_sparse_frames_have_all_actions_and_the_gripper(tmp_path):
    """Frames at uneven steps: pairs of 3 and of 4 actions; the shorter are padded."""
    env = {"env_name": "Lift", "env_kwargs": {"robots": ["Panda"], "control_freq": 20}}
    path = write_demos(tmp_path / "d.hdf5", [12], size=2, env=env, masks={"test": [0]})
    with h5py.File(path, "r+") as file:
        file["data"].attrs["action_low"], file["data"].attrs["action_high"] = [-1.0, -2.0], [1.0, 2.0]
        demo = file["data/demo_0"]
        images = demo["obs/agentview_image"][()][:3]
        del demo["obs/agentview_image"]
        demo["frame_steps"] = [1, 4, 8]
        demo["obs/agentview_image"] = images
        demo["obs/agentview_hand"] = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
        demo["obs/robot0_eef_pos"] = np.arange(9.0).reshape(3, 3)
        demo["obs/robot0_gripper_qpos"] = [[0.0, 0.0], [0.01, -0.03], [0.04, -0.04]]
        actions = demo["actions"][()].astype(np.float32)
    corpus = open_corpus("robot", path)
    manifest = build_manifest(corpus, "test")
    assert manifest.table[["frame0", "frame1"]].to_numpy().tolist() == [[0, 1], [1, 2]]
    found = pair_actions(corpus, manifest)
    assert np.array_equal(found.actions[0], [*actions[1:4], [0, 0]])
    assert np.array_equal(found.actions[1], actions[4:8])
    assert found.mask.tolist() == [[True, True, True, False], [True] * 4]
    assert (found.low.tolist(), found.high.tolist()) == ([-1, -2], [1, 2])
    assert np.allclose(found.eef_in_picture, [[[0.1, 0.2], [0.3, 0.4]], [[0.3, 0.4], [0.5, 0.6]]])
    assert np.array_equal(found.eef_pos[1], [[3, 4, 5], [6, 7, 8]])
    assert PANDA_FINGERS == (0.0, 0.08)
    assert np.allclose(found.gripper_opening, [[0, 0.5], [0.5, 1]])


def broken(path: Path, what: str) -> None:
    """Breaks a file of demos with two demos in its train split."""
    if what == "no HDF5":
        path.write_bytes(b"not a file of that kind" * 100)
        return
    if what == "cut off":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        return
    with h5py.File(path, "r+") as file:
        demo = file["data/demo_1"]
        actions = demo["actions"][()]
        if what == "no data":
            del file["data"]
        elif what == "no demo":
            del file["data/demo_0"], file["data/demo_1"]
        elif what == "no pictures":
            del file["data/demo_0/obs"]
        elif what == "no JSON":
            file["data"].attrs["env_args"] = "{env_name: Lift"
        elif what == "other size":
            del demo["actions"]
            demo["actions"] = actions[:, :3]
        elif what == "no actions":
            del demo["actions"]
        elif what == "short":
            del demo["actions"]
            demo["actions"] = actions[:4]
        else:
            demo["actions"][2, 1] = {"NaN": np.nan, "range": 1.25}[what]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no HDF5", r"d.hdf5: cannot be read as HDF5"),
        ("cut off", r"d.hdf5: cannot be read as HDF5 .*truncated"),
        ("no data", r"d.hdf5: no group `data`"),
        ("no demo", r"d.hdf5: no demonstration in it"),
        ("no pictures", r"demo_0 has no pictures .*python -m uwm.data.robot render d.hdf5"),
        ("no JSON", r"d.hdf5.*: the attribute env_args of `data` is not JSON"),
        ("other size", r"d.hdf5: demo_1 has actions \(8, 3\), the first demo has 7 numbers each"),
        ("no actions", r"d.hdf5: cannot be read .*actions"),
        ("short", r"d.hdf5: demo_1 has 8 frames, .* and 4 actions, which do not fit"),
        ("NaN", r"d.hdf5: demo_1, step 2: action 1 is nan, no number"),
        ("range", r"d.hdf5: demo_1, step 2: action 1 is 1.25, out of the controller's range \[-1, 1\]"),
    ],
)
def test_broken_files_are_named_in_one_line(tmp_path, what, message):
    path = write_demos(tmp_path / "d.hdf5", [8, 8], masks={"train": [0, 1]})
    broken(path, what)
    with pytest.raises(UserError, match=message) as caught:  # noqa: PT012, any of these may notice
        corpus = open_corpus("robot", path)
        pair_actions(corpus, build_manifest(corpus, "train"))
    assert "\n" not in str(caught.value)


def test_a_broken_demo_that_no_pair_is_of_does_no_harm(tmp_path):
    path = write_demos(tmp_path / "d.hdf5", [8, 8], masks={"train": [0], "test": [1]})
    broken(path, "NaN")
    corpus = open_corpus("robot", path)
    assert np.isfinite(pair_actions(corpus, build_manifest(corpus, "train")).actions).all()
    with pytest.raises(UserError, match="demo_1, step 2"):
        pair_actions(corpus, build_manifest(corpus, "test"))


def test_actions_are_read_again_from_a_changed_file(tmp_path):
    path = write_demos(tmp_path / "d.hdf5", [8], masks={"train": [0]})
    corpus = open_corpus("robot", path)
    manifest = build_manifest(corpus, "train")
    before = pair_actions(corpus, manifest).actions
    with h5py.File(path, "r+") as file:
        file["data/demo_0/actions"][0] = 0.125
    after = pair_actions(corpus, manifest).actions
    assert (after[0, 0] == 0.125).all()
    assert (before[0, 0] != 0.125).all()


def test_a_demo_without_the_camera_is_skipped_and_named(tmp_path):
    path = write_demos(tmp_path / "d.hdf5", [8, 8, 8], masks={"train": [0, 1, 2]})
    with h5py.File(path, "r+") as file:
        del file["data/demo_1/obs/agentview_image"]
        file["data/demo_2/obs/agentview_image"].attrs["encoding"] = "jpeg"
    manifest = build_manifest(open_corpus("robot", path), "train")
    assert set(manifest.table.video) == {"data/demo_0/obs/agentview_image"}
    reasons = dict(manifest.skipped)
    assert "no such pictures" in reasons["data/demo_1/obs/agentview_image"]
    assert "write them as uint8" in reasons["data/demo_2/obs/agentview_image"]


def test_a_changed_file_makes_a_new_manifest(tmp_path):
    path = write_demos(tmp_path / "d.hdf5", [8], masks={"train": [0]})
    corpus = open_corpus("robot", path)
    before = cached_manifest(tmp_path / "cache", corpus, "train").sha256
    assert cached_manifest(tmp_path / "cache", corpus, "train").sha256 == before
    write_demos(path, [9], masks={"train": [0]})
    assert cached_manifest(tmp_path / "cache", corpus, "train").sha256 != before


def test_videos_without_actions_say_so(tmp_path):
    corpus = open_corpus(BUNDLED[0])
    with pytest.raises(UserError, match=r"has no actions \(robot.hdf5\)"):
        pair_actions(corpus, build_manifest(corpus, "validation", pairs=2))


# The command line, as far as it needs no robosuite


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["generate", "--out", "x.hdf5", "--frame-seconds", "0.07"], "0.07 is no multiple of 0.05"),
        (
            ["generate", "--out", "x.hdf5", "--size", "0"],
            "--size: 0 is too small; at least 8 is needed",
        ),
        (
            ["generate", "--out", "x.hdf5", "--episodes", "0"],
            "--episodes: 0 is too small",
        ),
        (["generate", "--out", "x.hdf5", "--jobs", "0"], "argument --jobs: 0 is too small"),
        (["generate", "--out", "x.hdf5", "--policy", "replay"], "go together"),
        (["generate", "--out", "x.npz"], "must end in .hdf5"),
        (["generate"], "--out"),
        (["render", "nowhere.hdf5", "--out", "x.hdf5"], "nowhere.hdf5: cannot be read as HDF5"),
        (["corpus", "--out", "x", "--only", "test-9999"], "no clip 'test-9999'"),
        (["bake"], "invalid choice"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_cli(lambda: main(options)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_missing_robosuite_is_one_line_and_exit_code_2(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "robosuite", None)
    assert run_cli(lambda: main(["generate", "--out", str(tmp_path / "x.hdf5")])) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "make setup-robot" in error
