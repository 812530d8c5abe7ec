"""What the simulator's tool refuses: unknown names, other kinds of files, a machine without OpenGL."""

import os
import subprocess

import h5py
import numpy as np
import pytest

from tests.data.robot_simulator import command, needs_robosuite
from uwm.data.robot import main
from uwm.data.simulation.render import read_demonstration
from uwm.data.simulation.robot_scene import RobotScene, SceneConfig
from uwm.errors import UserError, run_cli

pytestmark = [needs_robosuite, pytest.mark.robosuite]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "Lft"], "no task 'Lft'; did you mean Lift?"),
        (["--robot", "Pandas"], "no robot 'Pandas'; did you mean Panda?"),
        (["--gripper", "panda"], "no gripper 'panda'; did you mean PandaGripper?"),
        (["--controller", "OSC"], "no controller 'OSC'; did you mean OSC_POSE?"),
        (["--camera", "frontviw"], "no camera 'frontviw'; did you mean frontview?"),
        (["--task", "TwoArmLift"], "robosuite cannot build TwoArmLift"),
    ],
)
def test_unknown_names_are_one_line_with_the_nearest_and_leave_nothing(options, message, tmp_path, capfd):
    assert run_cli(lambda: main(["generate", "--out", str(tmp_path / "x.hdf5"), *options])) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.splitlines()[-1].startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_unknown_camera_is_named_with_the_nearest():
    with pytest.raises(UserError, match="no camera 'frontviw'; did you mean frontview"):
        RobotScene(SceneConfig(camera="frontviw"))


def test_missing_opengl_is_one_line_and_exit_code_2(tmp_path):
    """A real EGL without a driver."""
    environment = {**os.environ, "MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_DIRS": str(tmp_path)}
    run = subprocess.run(
        command("generate", "--out", tmp_path / "x.hdf5"), env=environment, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "apt-get install libegl1" in run.stderr
    assert "libosmesa6" in run.stderr


def test_demonstrations_of_other_kinds_are_named(tmp_path):
    path = tmp_path / "d.hdf5"
    with h5py.File(path, "w") as file:
        file.create_group("data/demo_1")["actions"] = np.zeros((3, 7))
    with pytest.raises(UserError, match="demo_1 has no states"):
        read_demonstration(path, "demo_1")
    with h5py.File(path, "r+") as file:
        file["data/demo_1/states"] = np.full((3, 32), np.nan)
    with pytest.raises(UserError, match="needs a finite state for each of its 3 actions"):
        read_demonstration(path, "demo_1")


@pytest.mark.parametrize("width", [7, 6])
def test_demonstrations_that_cannot_act_again_leave_nothing(width, tmp_path, capfd):
    path = tmp_path / "d.hdf5"
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_1")
        demo["actions"] = np.zeros((3, width))
        if width == 6:
            demo["states"] = np.zeros((3, 32))
    options = ["--policy", "replay", "--demos", str(path), "--out", str(tmp_path / "x.hdf5")]
    assert run_cli(lambda: main(["generate", *options])) == 2
    message = "actions of 6 numbers, the controller takes 7" if width == 6 else "demo_1 has no states"
    assert message in capfd.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [path]
