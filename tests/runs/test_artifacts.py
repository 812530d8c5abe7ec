"""Stages: found by digest, computed once, continued after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from uwm.errors import UserError
from uwm.runs.artifacts import Artifacts, Stage
from uwm.runs.experiment import load_experiment
from uwm.runs.lock import Lock
from uwm.runs.plan import make_plan
from uwm.runs.stage_folder import write_stage

ROOT = Path(__file__).resolve().parents[2]
STAGE = Stage("weights", 1, {"steps": 3}, {"manifest": "abc"})


def write(text):
    return lambda folder: (folder / "weights.txt").write_text(text)


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(tmp_path / "cache", tmp_path / "released")


def test_digest_depends_on_everything_that_is_declared():
    others = [
        Stage("other", 1, {"steps": 3}, {"manifest": "abc"}),
        Stage("weights", 2, {"steps": 3}, {"manifest": "abc"}),
        Stage("weights", 1, {"steps": 4}, {"manifest": "abc"}),
        Stage("weights", 1, {"steps": 3}, {"manifest": "abd"}),
    ]
    assert len({STAGE.digest, *(stage.digest for stage in others)}) == 5
    assert (
        Stage("weights", 1, {"b": (1, 2), "a": None}).digest
        == Stage("weights", 1, {"a": None, "b": [1, 2]}).digest
    )


def test_computed_then_cached(artifacts):
    first = artifacts.obtain(STAGE, write("one"))
    second = artifacts.obtain(STAGE, write("two"))
    assert (first.origin, second.origin) == ("computed", "cached")
    assert (second.path / "weights.txt").read_text() == "one"
    content = json.loads((second.path / "stage.json").read_text())
    assert (content["name"], content["digest"], content["fields"]) == ("weights", STAGE.digest, {"steps": 3})
    assert sorted(path.name for path in artifacts.root.iterdir()) == [STAGE.folder_name]


def test_a_finished_stage_keeps_its_logs_and_no_checkpoints(artifacts):
    def train(folder: Path) -> None:
        for name in ("run/checkpoints/step-00000003-0123456789abcdef.pt", "run/log.csv", "mine.pt"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("1")

    found = artifacts.obtain(STAGE, train)
    assert {path.name for path in found.path.rglob("*") if path.is_file()} == {
        "stage.json",
        "log.csv",
        "mine.pt",
    }
    assert artifacts.obtain(STAGE, write("two")).origin == "cached"
    artifacts.recompute, artifacts.since = True, time.time() + 1
    assert artifacts.obtain(STAGE, write("two")).origin == "computed"  # files that are gone hinder nothing


def test_a_stage_names_the_code_that_made_it_which_is_no_part_of_its_identity(artifacts):
    artifacts.code = {"commit": "1" * 40, "dirty": False}
    made = artifacts.obtain(STAGE, write("one"))
    artifacts.code = {"commit": "2" * 40, "dirty": True}
    assert artifacts.obtain(STAGE, write("two")).origin == "cached"
    assert json.loads((made.path / "stage.json").read_text())["code"] == {"commit": "1" * 40, "dirty": False}


def release(artifacts, text="released"):
    folder = artifacts.released / STAGE.folder_name
    folder.mkdir(parents=True)
    write(text)(folder)
    write_stage(folder, {**STAGE.describe(), "digest": STAGE.digest})
    return folder


def test_released_comes_first_and_recompute_passes_it_over(artifacts):
    release(artifacts)
    assert artifacts.obtain(STAGE, write("x")).origin == "released"
    again = Artifacts(artifacts.root, artifacts.released, recompute=True)
    assert again.obtain(STAGE, write("new")).origin == "computed"
    assert again.obtain(STAGE, write("newer")).origin == "cached"  # one run computes it once


def flip(path):
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def edit_stage(**changes):
    def how(folder):
        content = json.loads((folder / "stage.json").read_text())
        (folder / "stage.json").write_text(json.dumps(content | changes))

    return how


DAMAGES = {
    "a flipped bit": lambda folder: flip(folder / "weights.txt"),
    "cut": lambda folder: (folder / "weights.txt").write_text("o"),
    "emptied": lambda folder: (folder / "weights.txt").write_text(""),
    "removed": lambda folder: (folder / "weights.txt").unlink(),
    "a folder instead": lambda folder: ((folder / "weights.txt").unlink(), (folder / "weights.txt").mkdir()),
    "empty stage.json": lambda folder: (folder / "stage.json").write_text(""),
    "cut stage.json": lambda folder: (folder / "stage.json").write_text('{"name": "wei'),
    "binary stage.json": lambda folder: (folder / "stage.json").write_bytes(b"\xff\x00"),
    "no stage.json": lambda folder: (folder / "stage.json").unlink(),
    "a list": lambda folder: (folder / "stage.json").write_text("[1]"),
    "of another stage": edit_stage(name="other"),
    "no time": edit_stage(finished="yesterday"),
    "files that lead out": edit_stage(files={"../../x": {"sha256": "0" * 64, "size": 1}}),
    "files that are none": edit_stage(files=["weights.txt"]),
    "files without digests": edit_stage(files={"weights.txt": {}}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_stage_of_the_cache_is_computed_again_and_said(damage, artifacts, capsys, tmp_path):
    (tmp_path / "x").write_text("somebody's")
    path = artifacts.obtain(STAGE, write("one")).path
    (path / "notes.txt").write_text("somebody's")
    DAMAGES[damage](path)
    assert artifacts.find(STAGE) is None
    assert artifacts.obtain(STAGE, write("two")).origin == "computed"
    assert (path / "weights.txt").read_text() == "two"
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("stage weights is damaged: ")
    assert str(path) in error
    kept = [file.read_text() for file in artifacts.root.glob("*.aside-1/notes.txt")]
    assert kept == ["somebody's"]
    assert artifacts.obtain(STAGE, write("three")).origin == "cached"


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_released_weights_are_an_error_that_says_how_to_mend(damage, artifacts):
    folder = release(artifacts)
    DAMAGES[damage](folder)
    with pytest.raises(UserError, match="git checkout") as caught:
        artifacts.obtain(STAGE, write("x"))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stage_from_before_digests_is_given_them(artifacts, capsys):
    path = artifacts.obtain(STAGE, write("one")).path
    content = json.loads((path / "stage.json").read_text())
    finished = content["finished"]
    for name in ("files", "working_files"):
        del content[name]
    (path / "stage.json").write_text(json.dumps(content))
    assert artifacts.obtain(STAGE, write("two")).origin == "cached"
    assert json.loads((path / "stage.json").read_text())["finished"] == finished
    flip(path / "weights.txt")
    assert artifacts.obtain(STAGE, write("two")).origin == "computed"


def test_recompute_replaces_what_is_cached(artifacts):
    artifacts.obtain(STAGE, write("old"))
    again = Artifacts(artifacts.root, artifacts.released, recompute=True)
    assert (again.obtain(STAGE, write("new")).path / "weights.txt").read_text() == "new"


def test_a_changed_recipe_is_said(artifacts, capsys):
    (artifacts.released / f"weights-{'0' * 16}").mkdir(parents=True)
    artifacts.obtain(STAGE, write("x"))
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"stage weights: its recipe or data differ from those of the released weights-{'0' * 16}" in error


def test_where_nothing_was_released_nothing_differs_from_it(artifacts, capsys):
    (artifacts.released / f"weights-{'0' * 16}").mkdir(parents=True)
    replace(artifacts, released_for=False).obtain(STAGE, write("x"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("scale", "told"), [("mini", True), ("smoke", False)])
def test_the_released_weights_are_of_scale_mini(project, scale, told):
    plan = make_plan(
        load_experiment(project.file), [], scale=scale, settings=(), data={}, out=None, recompute=False
    )
    assert plan.context().artifacts.released_for is told


def test_a_failed_computation_goes_on_in_its_folder(artifacts):
    def fail(folder):
        (folder / "checkpoint").write_text("half")
        raise ValueError

    with pytest.raises(ValueError):
        artifacts.obtain(STAGE, fail)
    assert artifacts.find(STAGE) is None
    found = []
    artifacts.obtain(STAGE, lambda folder: found.append((folder / "checkpoint").read_text()))
    assert found == ["half"]


WORKER = """
import sys, time
from pathlib import Path
from uwm.runs.artifacts import Artifacts, Stage
def compute(folder):
    with open(folder / "attempts.txt", "a") as file:
        file.write("x")
    time.sleep(float(sys.argv[2]))
found = Artifacts(Path(sys.argv[1]) / "cache", Path(sys.argv[1]) / "none").obtain(Stage("s", 1, {}), compute)
print(found.origin)
"""


def worker(folder, seconds):
    command = [sys.executable, "-c", WORKER, str(folder), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def attempts(folder):
    return [path.read_text() for path in folder.glob("cache/s-*/attempts.txt")]


def test_several_processes_compute_a_stage_once(tmp_path):
    origins = sorted(
        process.communicate()[0].strip() for process in [worker(tmp_path, 0.5) for _ in range(4)]
    )
    assert origins == ["cached"] * 3 + ["computed"]
    assert attempts(tmp_path) == ["x"]


def test_a_killed_owner_is_followed_at_once(tmp_path):
    first = worker(tmp_path, 600)
    while not list(tmp_path.glob("cache/*.partial/attempts.txt")):
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert worker(tmp_path, 0).communicate()[0].strip() == "computed"
    assert attempts(tmp_path) == ["xx"]


def test_a_silent_owner_on_another_machine_is_followed_and_notices(tmp_path):
    path = tmp_path / "stage.lock"
    owner = Lock(path, stale_s=0.6, poll_s=0.01)
    with owner:
        owner._released.set()  # its heart stops
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"machine": "elsewhere"}))
        with Lock(path, stale_s=0.3, poll_s=0.01) as heir:
            assert json.loads(path.read_text())["token"] == heir.token
            owner._released.clear()
            owner._beat()
            assert owner.lost.is_set()
            assert not heir.lost.is_set()
    assert not path.exists()


def test_a_living_owner_is_waited_for(tmp_path):
    path, order = tmp_path / "stage.lock", []
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path; from uwm.runs.lock import Lock; import time
with Lock(Path({str(path)!r}), stale_s=0.5):
    print("held", flush=True); time.sleep(1.5)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with Lock(path, stale_s=0.5, poll_s=0.02):
        order.append(process.wait())
    assert order == [0]
