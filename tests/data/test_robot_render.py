"""Robots in the simulator: episodes, pictures, and files of them. Small pictures and few steps."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.data.robot_simulator import command, needs_robosuite
from uwm.data.corpora import IN_DOMAIN, open_corpus
from uwm.data.manifest import build_manifest
from uwm.data.pairs import load_pairs
from uwm.data.robomimic.actions import ACTIONS_FILE, pair_actions
from uwm.data.robot import main
from uwm.data.simulation.clips import read_rows
from uwm.data.simulation.episode import RecordedEpisode
from uwm.data.simulation.generate import Recording, Take, play
from uwm.data.simulation.robot_corpus import join_clips, panda_clips, record_clip, scene_of
from uwm.data.simulation.robot_scene import RobotScene, SceneConfig
from uwm.data.simulation.scene import lighten, shrink
from uwm.data.video import read_frames
from uwm.errors import UserError, run_cli

pytestmark = [needs_robosuite, pytest.mark.robosuite]

ASSETS = Path(__file__).parents[2] / "uwm" / "assets" / "corpora"
LIFT = Recording(SceneConfig(size=48, camera="workspace"), "scripted", steps=8, steps_per_frame=2, seed=3)


@contextmanager
def simulating(config: SceneConfig) -> Iterator[RobotScene]:
    """One scene at a time: each has an OpenGL context."""
    scene = RobotScene(config)
    try:
        yield scene
    finally:
        scene.close()


def same(one: RecordedEpisode, two: RecordedEpisode) -> bool:
    steps = ("actions", "states", "rewards", "success")
    names = (*steps, "images", "eef_pos", "eef_in_picture", "fingers", "objects")
    return all(np.array_equal(getattr(one, name), getattr(two, name), equal_nan=True) for name in names)


@pytest.mark.slow
def test_episodes_depend_on_seed_and_number_alone(tmp_path):
    """Made by a run that is killed and goes on with two processes, or one by one in another order."""
    out = tmp_path / "lift.hdf5"
    options = ["generate", "--out", out, "--episodes", 3, "--steps", 8, "--size", 48, "--seed", 3]
    options += ["--camera", "workspace"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(
        command(*options, "--jobs", 1), env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list(tmp_path.glob(".lift.hdf5.parts/demo_*")) and first.poll() is None:
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    kept = len(list(tmp_path.glob(".lift.hdf5.parts/demo_*")))
    assert kept >= 1
    assert not out.exists()
    second = subprocess.run(
        command(*options, "--jobs", 2), env=environment, capture_output=True, text=True, check=True
    )
    assert f"3 demos, {3 - kept} of them made now" in second.stdout
    assert "demo" in second.stderr  # the progress
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lift.hdf5"]

    with simulating(LIFT.scene) as scene:
        alone = {number: play(scene, LIFT, Take(f"demo_{number}", number)) for number in (2, 0, 1)}
        assert same(play(scene, LIFT, Take("demo_2", 2)), alone[2])
        other = play(scene, replace(LIFT, seed=4), Take("demo_2", 2))
        assert not np.array_equal(other.images[0], alone[2].images[0])
        assert np.array_equal(scene.env.action_spec[1], np.ones(7))
    with h5py.File(out) as file:
        assert file["data"].attrs["total"] == 24
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "Lift"
        for number, episode in alone.items():
            demo = file[f"data/demo_{number}"]
            assert np.array_equal(demo["obs/workspace_image"], episode.images)
            assert np.array_equal(demo["actions"], episode.actions)
            assert np.array_equal(demo["states"], episode.states)
            assert demo["frame_steps"][()].tolist() == [0, 2, 4, 6]
            assert demo["rewards"].shape == demo["dones"].shape == (8,)
            assert '"/' not in demo.attrs["model_file"].replace('"/>', "")  # no path of this machine

    corpus = open_corpus("robot", out)
    manifest = build_manifest(corpus, "train")
    number = int(manifest.table.video[0].split("/")[1].removeprefix("demo_"))
    assert np.array_equal(load_pairs(corpus, manifest, 48)[0, 1], alone[number].images[2].transpose(2, 0, 1))
    found = pair_actions(corpus, manifest)
    assert np.array_equal(found.actions[0], alone[number].actions[:4])
    assert np.allclose(found.eef_in_picture[0], alone[number].eef_in_picture[[0, 2]])
    assert run_cli(lambda: main([str(o) for o in (*options[:-4], "--seed", 4)])) == 2  # other settings


def test_the_hand_is_where_the_camera_sees_it():
    """Against robosuite's own projection, and against pixels: only the gripper's site is left visible."""
    from robosuite.utils import camera_utils

    config = SceneConfig(camera="workspace", size=96, quality="full")
    with simulating(config) as scene:
        scene.reset(np.random.default_rng(0))
        for action in np.random.default_rng(1).uniform(-1, 1, (6, 7)):
            scene.step(action)
        eef_pos, model, sim = scene.eef_pos(), scene.model, scene.env.sim
        arm = scene.env.robots[0]
        site = arm.eef_site_id[arm.arms[0]]
        model.geom_rgba[:, 3] = model.mat_rgba[:, 3] = 0
        model.site_group[site] = 0
        sim._render_context_offscreen.vopt.sitegroup[0] = 1
        for scene.camera in ("agentview", "frontview"):  # the first is now where the workspace is seen from
            x, y = scene.in_picture(eef_pos)
            matrix = camera_utils.get_camera_transform_matrix(sim, scene.camera, 1000, 1000)
            row, column = camera_utils.project_points_from_world_to_camera(eef_pos, matrix, 1000, 1000)
            assert abs(1000 * x - column) < 1.5
            assert abs(1000 * y - row) < 1.5
            model.site_size[site] = 1e-6
            without = scene.picture().astype(int)
            model.site_rgba[site], model.site_size[site] = [1, 0, 1, 1], 0.02
            seen = np.abs(scene.picture().astype(int) - without).max(-1) > 40
            rows, columns = np.nonzero(seen)
            assert abs(columns.mean() + 0.5 - 96 * x) < 1
            assert abs(rows.mean() + 0.5 - 96 * y) < 1
            behind = sim.data.cam_xpos[sim.model.camera_name2id(scene.camera)] + np.array([5.0, 0, 5.0])
            assert np.isnan(scene.in_picture(behind)).all()


@pytest.mark.slow
def test_a_door_and_another_arm_are_seen_again_as_they_were(tmp_path):
    """The place of a door is in no state: it comes from the demo's model."""
    config = SceneConfig("Door", ("UR5e",), gripper="Robotiq85Gripper", size=48, quality="full")
    recording = Recording(config, "random", steps=6, steps_per_frame=1, seed=5)
    path = tmp_path / "door.hdf5"
    with simulating(config) as scene:
        episode = play(scene, recording, Take("demo_0", 0))
        with h5py.File(path, "w") as file:
            demo = file.create_group("data/demo_1")
            demo["states"], demo["actions"] = episode.states, episode.actions
            demo.attrs["model_file"] = scene.model_text()
        play(scene, recording, Take("demo_7", 7))  # the door now stands elsewhere
        look = replace(recording, policy="look", demos=str(path))
        again = play(scene, look, Take("demo_0", 0, "demo_1"))
        assert np.abs(episode.images[0].astype(int) - again.images[0]).mean() < 0.1
        assert np.abs(episode.images.astype(int) - again.images).mean() < 0.1
        assert np.array_equal(again.states, episode.states)
        assert np.array_equal(again.frame_steps, np.arange(6))
        replayed = play(scene, replace(look, policy="replay"), Take("demo_0", 0, "demo_1"))
        assert np.array_equal(replayed.actions, episode.actions)
        assert np.abs(episode.images.astype(int) - replayed.images).mean() < 1

        with h5py.File(path, "r+") as file:
            file["data/demo_1"].attrs["model_file"] = "<mujoco><body name='Door_main' pos='1 2"
        with pytest.raises(UserError, match=r"door.hdf5: demo_1: model_file is no MJCF model"):
            play(scene, look, Take("demo_0", 0, "demo_1"))
        with h5py.File(path, "r+") as file:
            file["data/demo_1"].attrs["model_file"] = "<mujoco><body name='Door_main' pos='1 2 x'/></mujoco>"
        with pytest.raises(UserError, match="broken pos of the body Door_main"):
            play(scene, look, Take("demo_0", 0, "demo_1"))
        with h5py.File(path, "r+") as file:
            demo = file["data/demo_1"]
            demo.attrs["model_file"] = "model_1.xml"  # as in files of robosuite v1.0, and it is not there
            states = demo["states"][()]
            del demo["states"]
            demo["states"] = states[:, :-1]
        with pytest.raises(UserError, match="was it made with another task, robot or gripper"):
            play(scene, look, Take("demo_0", 0, "demo_1"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "policy", "numbers"),
    [
        (SceneConfig("Wipe", size=32), "scripted", 6),
        (
            SceneConfig("Stack", ("IIWA",), controller="JOINT_POSITION", camera="birdview", size=32),
            "random",
            8,
        ),
        (SceneConfig("TwoArmLift", ("Panda", "Sawyer"), size=32), "scripted", 14),
    ],
    ids=["wipe", "joints", "two arms"],
)
def test_tasks_arms_and_controllers(config, policy, numbers, tmp_path):
    with simulating(config) as scene:
        recording = Recording(config, policy, steps=4)
        first = play(scene, recording, Take("demo_0", 0))
        play(scene, recording, Take("demo_1", 1))
        assert same(first, play(scene, recording, Take("demo_0", 0)))
        with h5py.File(tmp_path / "demos.hdf5", "w") as file:
            demo = file.create_group("data/demo_1")
            demo["states"], demo["actions"] = first.states, first.actions + 3  # out of the controller's range
            demo.attrs["model_file"] = scene.model_text()
        look = replace(recording, policy="look", demos=str(tmp_path / "demos.hdf5"))
        seen = play(scene, look, Take("demo_0", 0, "demo_1"))
        assert np.array_equal(seen.actions, first.actions + 3)  # pictures want states alone
        assert first.images.shape == (2, 32, 32, 3)
        assert first.actions.shape == (4, numbers)
        assert np.abs(first.actions).max() <= 1
        assert np.isfinite(first.states).all()
        if config.controller:
            with pytest.raises(UserError, match="IIWA and JOINT_POSITION take --policy random"):
                play(scene, replace(recording, policy="scripted"), Take("demo_0", 0))


@pytest.mark.slow
def test_fast_pictures_are_close_to_full_ones():
    with simulating(SceneConfig(size=96, quality="full")) as scene:
        scene.reset(np.random.default_rng(0))
        full = scene.picture()
        lighten(scene.env, 2 * 96)
        fast = shrink(scene.env.sim.render(camera_name="agentview", width=192, height=192)[::-1])
    assert 0 < np.abs(full.astype(int) - fast).mean() < 2.5


@pytest.mark.slow
def test_the_corpus_is_made_again_from_its_seeds(tmp_path):
    clip = next(clip for clip in panda_clips() if clip.split == "test")
    with simulating(scene_of("Lift")) as scene:
        record_clip(scene, clip, tmp_path)
    assert join_clips(tmp_path) == 1
    [again] = read_rows(tmp_path / IN_DOMAIN / "clips.csv")
    committed = next(row for row in read_rows(ASSETS / IN_DOMAIN / "clips.csv") if row.file == clip.file)
    assert (again.task, again.seed, again.camera) == (committed.task, committed.seed, committed.camera)
    # Another CPU may round otherwise, and the paths then part slowly: the first second still agrees.
    frames = 50 if again.states_sha256 == committed.states_sha256 else 10
    pictures = [read_frames(root / IN_DOMAIN / clip.file, range(frames)) for root in (ASSETS, tmp_path)]
    error = np.square(pictures[0].astype(float) - pictures[1]).mean(axis=(1, 2, 3))
    assert np.all(10 * np.log10(255**2 / np.maximum(error, 1e-9)) > 28)
    with (
        h5py.File(tmp_path / IN_DOMAIN / ACTIONS_FILE) as made,
        h5py.File(ASSETS / IN_DOMAIN / ACTIONS_FILE) as kept,
    ):
        demo = next(demo for demo in kept["data"].values() if demo.attrs["clip"] == clip.file)
        new = made["data/demo_0"]
        assert dict(new.attrs) == dict(demo.attrs)
        names = ("robot0_eef_pos", "workspace_hand", "robot0_gripper_qpos", "object_pos")
        rows = {"actions": 2 * frames} | {f"obs/{name}": frames for name in names}
        for name, count in rows.items():
            assert np.allclose(new[name][:count], demo[name][:count], atol=1e-2)
        assert dict(new["obs/object_pos"].attrs) == dict(demo["obs/object_pos"].attrs) == {"names": "cube"}
        fingers = [file["obs/robot0_gripper_qpos"].attrs["closed_open"].tolist() for file in (new, demo)]
        assert fingers == [[0.0, 0.08]] * 2
