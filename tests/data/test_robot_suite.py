"""The in-domain set of the larger scales: what is in it, and that its parts make the same file."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.data.robot_simulator import needs_robosuite
from uwm.data.corpora import open_corpus
from uwm.data.robot import main
from uwm.data.simulation.suite import Suite, make_suite, sized
from uwm.errors import UserError
from uwm.runs.experiment import load_experiment

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FRAMES, PAIRS = 50, 48  # of an episode: 0.1 s from frame to frame, 0.2 s in a pair
SHORT = Suite(
    tasks=("Lift", "Stack"), episodes={"train": 2, "validation": 1, "test": 1}, steps=6, size=32, jpeg=90
)


def test_it_has_the_pairs_that_the_experiments_name():
    suite = Suite()
    pairs = PAIRS * suite.episodes["train"]
    assert suite.steps // suite.steps_per_frame == FRAMES
    figure4, figure5 = (
        load_experiment(EXPERIMENTS / f"{name}.py").configs["paper"] for name in ("figure4", "figure5")
    )
    assert pairs >= max(*figure4.curve, figure5.decoder.pairs)
    assert PAIRS * suite.episodes["test"] >= figure4.test_pairs


def test_splits_are_apart_and_hold_every_task():
    suite = sized(224, seed=1, episodes=24)
    splits = suite.splits()
    assert {split: len(names) for split, names in splits.items()} == {"train": 20, "validation": 1, "test": 3}
    takes = {take.name: take for take in suite.takes()}
    assert sorted(name for names in splits.values() for name in names) == sorted(takes)
    assert {suite.task_of(takes[name]) for name in splits["train"][:3]} == set(suite.tasks)
    assert {suite.task_of(takes[name]) for name in splits["test"]} == set(suite.tasks)


def test_a_missing_in_domain_corpus_names_the_command():
    with pytest.raises(UserError, match=r"python -m uwm\.data\.robot suite --out robosuite\.hdf5 makes it"):
        open_corpus("robosuite")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--part", "3/3"], "counts from 0"),
        (["--size", "4"], "--size: 4 is too small"),
        (["--jobs", "0"], "--jobs: 0 is too small"),
    ],
)
def test_a_bad_command_line_is_one_line(tmp_path, words, problem):
    with pytest.raises(UserError, match=problem):
        main(["suite", "--out", str(tmp_path / "x.hdf5"), *words])


@pytest.mark.slow
@needs_robosuite
@pytest.mark.robosuite
def test_parts_make_the_file_that_one_run_makes(tmp_path):
    whole, parts = tmp_path / "whole.hdf5", tmp_path / "parts.hdf5"
    assert make_suite(whole, SHORT, 1) == (4, True)
    assert make_suite(parts, SHORT, 1, (0, 2)) == (2, False)
    assert make_suite(parts, SHORT, 1, (0, 2)) == (0, False)  # goes on where it was
    assert make_suite(parts, SHORT, 1, (1, 2)) == (2, True)
    with h5py.File(whole) as one, h5py.File(parts) as two:
        assert sorted(one["data"]) == sorted(two["data"]) == [f"demo_{i}" for i in range(4)]
        assert [one[f"data/demo_{i}"].attrs["task"] for i in range(4)] == ["Lift", "Stack"] * 2
        for name in one["data"]:
            assert np.array_equal(one[f"data/{name}/actions"], two[f"data/{name}/actions"])
            first, second = (list(file[f"data/{name}/obs/workspace_image"]) for file in (one, two))
            assert [bytes(jpeg) for jpeg in first] == [bytes(jpeg) for jpeg in second]
        assert list(one["mask/train"]) == [b"demo_0", b"demo_1"]
    corpus = open_corpus("robosuite", parts)
    assert [len(corpus.of(split)) for split in ("train", "validation", "test")] == [2, 1, 1]
    with pytest.raises(UserError, match="made with other settings"):
        make_suite(parts, Suite(size=48), 1)
