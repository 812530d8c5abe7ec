import hashlib
import re
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tests.data.robot_simulator import needs_robosuite
from uwm.data.simulation.clips import (
    CLIPS_PER_SPLIT,
    CORPORA,
    ClipRow,
    SimulatedClip,
    all_clips,
    read_rows,
    write_rows,
)
from uwm.data.simulation.corpora import command, encode, merge_rows, render_clip, work_units
from uwm.data.simulation.policies import Explorer, Workspace, at_least
from uwm.data.simulation.scene import FPS, FRAMES, SCENES, SIZE, Simulator, draw_scene, held_out, object_names
from uwm.data.video import read_frames
from uwm.errors import run_cli

ASSETS = Path(__file__).parents[2] / "uwm" / "assets" / "corpora"
COLUMNS = "file,split,seed,task,robot,camera,width,height,fps,frames,sha256,states_sha256"


def rows_of(corpus: str) -> list[ClipRow]:
    return read_rows(ASSETS / corpus / "clips.csv")


def test_seeds_are_disjoint_and_do_not_depend_on_the_selection():
    clips = all_clips(0)
    assert (
        len({clip.seed for clip in clips})
        == len(clips)
        == sum(sum(CLIPS_PER_SPLIT[corpus].values()) for corpus in CORPORA)
    )
    assert all_clips(0, ["sim-ego"], ["test"])[7] in clips
    assert not {clip.seed for clip in clips} & {clip.seed for clip in all_clips(1)}


def test_held_out_scenes_are_never_rendered():
    assert held_out("Lift", ("Panda",))
    assert held_out("NutAssemblySquare", ("Panda",))
    assert not held_out("Lift", ("Sawyer",))
    assert not held_out("TwoArmLift", ("Panda", "UR5e"))
    assert not any(held_out(scene.task, scene.robots) for scene in SCENES)
    for clip in all_clips(0):
        scene, camera = draw_scene(clip.corpus, clip.seed)
        assert not held_out(scene.task, scene.robots)
        assert camera in (("fixed",) if clip.corpus == "sim-third-person" else ("wrist", "head"))


def test_work_units_hold_each_clip_once_and_one_scene():
    clips = all_clips(0)
    units = work_units(clips)
    key = lambda clip: (clip.corpus, clip.file)  # noqa: E731
    assert sorted((clip for _, group in units for clip in group), key=key) == sorted(clips, key=key)
    assert all(draw_scene(clip.corpus, clip.seed)[0] == scene for scene, group in units for clip in group)


@pytest.mark.parametrize("corpus", CORPORA)
def test_manifest_describes_the_committed_clips(corpus):
    with (ASSETS / corpus / "clips.csv").open(newline="", encoding="utf-8") as stream:
        text = stream.read()
    assert text.split("\n")[0] == COLUMNS
    assert "\r" not in text
    rows = rows_of(corpus)
    assert [row.file for row in rows] == sorted(row.file for row in rows)
    assert {row.file for row in rows} == {
        path.relative_to(ASSETS / corpus).as_posix() for path in (ASSETS / corpus).glob("*/*.mp4")
    }
    expected = {clip.file: clip for clip in all_clips(0, [corpus])}
    for row in rows:
        assert row.sha256 == hashlib.sha256((ASSETS / corpus / row.file).read_bytes()).hexdigest()
        scene, camera = draw_scene(corpus, row.seed)
        assert (row.task, row.robot, row.camera) == (scene.task, "+".join(scene.robots), camera)
        assert (row.width, row.height, row.fps, row.frames) == (SIZE, SIZE, FPS, FRAMES)
        assert re.fullmatch("[0-9a-f]{64}", row.states_sha256)
        assert (row.seed, row.split) == (expected[row.file].seed, expected[row.file].split)
    assert {row.split for row in rows} == set(CLIPS_PER_SPLIT[corpus])


def test_corpora_fit_in_24_mb():
    assert sum(path.stat().st_size for name in CORPORA for path in (ASSETS / name).rglob("*.mp4")) < 24e6


@pytest.mark.parametrize("corpus", CORPORA)
def test_motion_is_seen_in_nearly_every_pair(corpus):
    still = []
    for row in rows_of(corpus)[::7]:
        frames = read_frames(ASSETS / corpus / row.file, range(FRAMES)).astype(np.int16)
        change = np.abs(frames[2:] - frames[:-2]).max(axis=-1) > 16
        still.append((change.mean(axis=(1, 2)) < 0.01).mean())
    assert np.mean(still) < 0.02


def test_rows_survive_writing_and_reading(tmp_path):
    rows = [
        ClipRow(
            f"test/test-{i:04d}.mp4", "test", 2**62 + i, "Lift", "IIWA", "head", 128, 128, 10, 50, "a", "b"
        )
        for i in (3, 1, 2)
    ]
    write_rows(tmp_path / "clips.csv", rows)
    assert read_rows(tmp_path / "clips.csv") == sorted(rows, key=lambda row: row.file)
    assert read_rows(tmp_path / "none.csv") == []


def test_encoding_is_deterministic_and_decodes(tmp_path):
    ramp = np.linspace(0, 255, 128, dtype=np.uint8)
    images = [
        np.repeat(np.roll(np.tile(ramp, (128, 1)), 3 * i, axis=1)[..., None], 3, axis=2) for i in range(12)
    ]
    for name in ("a.mp4", "b.mp4"):
        encode(tmp_path / name, images, 20)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    decoded = read_frames(tmp_path / "a.mp4", range(12))
    assert np.abs(decoded.astype(int) - np.stack(images)).mean() < 3


def test_explorer_stays_near_its_workspace_and_keeps_moving():
    space = Workspace(np.array([-0.2, -0.2, 0.85]), np.array([0.2, 0.2, 1.1]), 0.8)
    explorer, hand = Explorer(np.random.default_rng(0), space), space.centre
    for _ in range(500):
        velocity = explorer.velocity(hand)
        assert np.linalg.norm(velocity) > 0.79
        hand = hand + 0.02 * np.clip(velocity, -1, 1)
        assert np.all(hand > space.low - 0.1)
        assert np.all(hand < space.high + 0.1)


def test_at_least_lengthens_only_short_vectors():
    assert np.allclose(at_least(np.array([0.3, 0.0]), 0.6), [0.6, 0.0])
    assert np.allclose(at_least(np.array([0.0, 0.9]), 0.6), [0.0, 0.9])


def test_object_names():
    names = ("robot0_eef_pos", "cubeB_pos", "cubeA_pos", "Can_to_robot0_eef_pos", "cubeA_quat")
    assert object_names(dict.fromkeys(names)) == ("cubeA", "cubeB")


@pytest.mark.parametrize(
    "options",
    [
        ["--corpus", "sim-third"],
        ["--split", "dev"],
        ["--only", "train-9999"],
        ["--jobs", "0"],
        ["--jobs", "x"],
        ["--seed", "-1"],
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(options, tmp_path, capsys):
    assert run_cli(lambda: command(["--out", str(tmp_path), *options])) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_missing_robosuite_is_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "robosuite", None)
    assert run_cli(lambda: command(["--out", str(tmp_path), "--only", "test-0000"])) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "make setup-robot" in error


def test_finished_clips_are_kept(tmp_path, capsys):
    """A stopped run leaves clips with their rows; the next one renders nothing that is there."""
    clip = next(clip for clip in all_clips(0, ["sim-ego"], ["test"]) if clip.index == 0)
    path = tmp_path / clip.corpus / clip.file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    scene, camera = draw_scene(clip.corpus, clip.seed)
    row = ClipRow(
        clip.file, "test", clip.seed, scene.task, "+".join(scene.robots), camera, 128, 128, 10, 50, "", ""
    )
    write_rows(tmp_path / clip.corpus / ".rows" / "test-0000.csv", [row])
    assert command(["--out", str(tmp_path), "--corpus", "sim-ego", "--only", "test-0000"]) == 0
    assert "0 clips rendered and 1 kept" in capsys.readouterr().out
    assert read_rows(tmp_path / clip.corpus / "clips.csv") == [row]
    assert not (tmp_path / clip.corpus / ".rows").exists()


def cheap_clip(corpus: str) -> SimulatedClip:
    """A committed clip of the scene that is built and stepped fastest."""
    robot = "XArm7" if any(row.robot == "XArm7" and row.task == "Lift" for row in rows_of(corpus)) else "IIWA"
    row = next(row for row in rows_of(corpus) if row.task == "Lift" and row.robot == robot)
    return SimulatedClip(corpus, row.split, int(row.file[-8:-4]), row.seed)


@needs_robosuite
@pytest.mark.robosuite
def test_rendering_again_gives_the_committed_clips(tmp_path):
    """One clip of each corpus, rendered one after the other; then the first again, which must not differ."""
    clips = [cheap_clip(corpus) for corpus in CORPORA]
    scenes = [draw_scene(clip.corpus, clip.seed)[0] for clip in clips]
    assert scenes[0] == scenes[1]
    simulator = Simulator(scenes[0])
    fresh = list(islice(simulator.frames(clips[0].corpus, clips[0].seed), 5))
    for clip in reversed(clips):
        render_clip(simulator, clip, tmp_path)
    after_another = list(islice(simulator.frames(clips[0].corpus, clips[0].seed), 5))
    simulator.close()
    for one, two in zip(fresh, after_another, strict=True):
        assert np.array_equal(one[0], two[0])
        assert np.array_equal(one[1], two[1])
    merge_rows(clips, tmp_path)
    for clip in clips:
        [again] = read_rows(tmp_path / clip.corpus / "clips.csv")
        committed = next(row for row in rows_of(clip.corpus) if row.file == clip.file)
        assert (again.task, again.robot, again.camera) == (committed.task, committed.robot, committed.camera)
        # Another CPU may round otherwise, and the paths then part slowly: the first second still agrees.
        frames = FRAMES if again.states_sha256 == committed.states_sha256 else 10
        pictures = [read_frames(root / clip.corpus / clip.file, range(frames)) for root in (ASSETS, tmp_path)]
        error = np.square(pictures[0].astype(float) - pictures[1]).mean(axis=(1, 2, 3))
        assert np.all(10 * np.log10(255**2 / np.maximum(error, 1e-9)) > 28)
