"""The package's corpus of a robot: clips, their demonstrations, and actions that go with the frames."""

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from uwm.data.corpora import IN_DOMAIN, open_corpus
from uwm.data.manifest import build_manifest
from uwm.data.pairs import load_pairs
from uwm.data.robomimic.actions import pair_actions
from uwm.data.simulation.clips import CLIPS_PER_SPLIT, PANDA, all_clips, read_rows
from uwm.data.simulation.robot_corpus import PANDA_TASKS, clip_task, panda_clips

ASSETS = Path(__file__).parents[2] / "uwm" / "assets" / "corpora" / IN_DOMAIN


def test_in_domain_corpus_is_whole_and_small():
    rows = read_rows(ASSETS / "clips.csv")
    clips = {clip.file: clip for clip in panda_clips()}
    assert {row.file for row in rows} == set(clips)
    assert {row.file for row in rows} == {p.relative_to(ASSETS).as_posix() for p in ASSETS.glob("*/*.mp4")}
    for row in rows:
        clip = clips[row.file]
        assert (row.split, row.seed, row.task) == (clip.split, clip.seed, clip_task(clip))
        assert row.sha256 == hashlib.sha256((ASSETS / row.file).read_bytes()).hexdigest()
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) <= 15e6
    seeds = [clip.seed for clip in (*panda_clips(), *all_clips(0))]
    assert len(set(seeds)) == len(seeds)
    assert {clip_task(clip) for clip in panda_clips()} == set(PANDA_TASKS)


@pytest.mark.parametrize("split", CLIPS_PER_SPLIT[PANDA])
def test_in_domain_corpus_has_actions_for_its_pairs(split):
    corpus = open_corpus(IN_DOMAIN)
    manifest = build_manifest(corpus, split, pairs=60)
    found = pair_actions(corpus, manifest)
    assert found.actions.shape == (60, 4, 7)
    assert found.mask.all()
    for values in (found.eef_in_picture, found.eef_pos, found.gripper_opening):
        assert np.isfinite(values).all()
    assert found.gripper_opening.min() >= 0
    assert found.gripper_opening.max() <= 1


def test_in_domain_corpus_has_a_demo_for_every_clip():
    with h5py.File(ASSETS / "robot.hdf5") as file:
        demos = {demo.attrs["clip"]: demo for demo in file["data"].values()}
        assert set(demos) == {clip.file for clip in panda_clips()}
        for clip in panda_clips():
            assert (demos[clip.file].attrs["seed"], demos[clip.file].attrs["task"]) == (
                clip.seed,
                clip_task(clip),
            )
            assert demos[clip.file]["actions"].shape == (100, 7)
        places = np.concatenate([demo["obs/workspace_hand"][()] for demo in demos.values()])
        masks = {name: len(names) for name, names in file["mask"].items()}
    assert masks == {"train": 420, "valid": 20, "test": 60}
    assert ((places > 0) & (places < 1)).all(1).mean() > 0.99  # the gripper hardly leaves the picture


def test_actions_go_with_their_frames():
    """The hand moves as it is told: more so by the actions of the pair than by those before or after."""
    corpus = open_corpus(IN_DOMAIN)
    manifest = build_manifest(corpus, "validation")
    found = pair_actions(corpus, manifest)
    told = found.actions[:, :, :3].sum(1)  # (n, 3), displacement in the base's frame, here the world's
    moved = found.eef_pos[:, 1] - found.eef_pos[:, 0]

    def agreement(shift: int) -> float:
        same = manifest.table.video.to_numpy()[8:-8] == np.roll(manifest.table.video, shift)[8:-8]
        return np.corrcoef(np.roll(told, shift, 0)[8:-8][same].ravel(), moved[8:-8][same].ravel())[0, 1]

    assert agreement(0) > 0.6
    assert agreement(0) > max(agreement(2), agreement(-2)) + 0.1


def test_the_hand_moves_where_the_pictures_change():
    """Around the hand's place more pixels change than in the rest of the picture."""
    corpus = open_corpus(IN_DOMAIN)
    manifest = build_manifest(corpus, "validation", pairs=100)
    pairs = load_pairs(corpus, manifest, 128).float()
    change = ((pairs[:, 1] - pairs[:, 0]).abs().amax(1) > 16).float().numpy()  # (n, 128, 128)
    places = (pair_actions(corpus, manifest).eef_in_picture[:, 1] * 128).astype(int)
    near = [
        c[max(0, y - 8) : y + 8, max(0, x - 8) : x + 8].mean()
        for c, (x, y) in zip(change, places, strict=True)
    ]
    assert np.mean(near) > 2 * change.mean()
    assert change.mean() > 0.05
    assert (change.mean((1, 2)) < 0.01).mean() < 0.02
