"""Files of demonstrations of other projects: masks, cameras, ranges of actions, hostile content."""

import io
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.data.demos import libero, wild, write_demos
from uwm.data.action_pairs import action_pairs
from uwm.data.corpora import open_corpus, parse_data
from uwm.data.inspect import main as inspect
from uwm.data.manifest import build_manifest
from uwm.data.robomimic.actions import check_corpus_actions, pair_actions
from uwm.data.video import BadVideo, probe, read_frames
from uwm.errors import UserError


def splits(path: Path, name: str = "robot") -> dict[str, list[str]]:
    clips = open_corpus(name, path).clips
    return {
        s: [c.path.split("/")[-3] for c in clips if c.split == s] for s in ("train", "validation", "test")
    }


def test_official_masks_of_train_and_valid_give_a_test_split(tmp_path):
    path = write_demos(
        tmp_path / "d.hdf5", [8] * 12, masks={"train": list(range(8)), "valid": [8, 9, 10, 11]}
    )
    found = splits(path)
    assert found["train"] == [f"demo_{i}" for i in range(8)]
    assert len(found["validation"]) == len(found["test"]) == 2
    assert sorted(found["validation"] + found["test"]) == sorted(f"demo_{i}" for i in range(8, 12))
    assert "no mask/test: half of mask/valid" in open_corpus("robot", path).note


@pytest.mark.parametrize(
    ("masks", "counts"),
    [
        ({"train": list(range(20))}, (16, 2, 2)),
        ({"train": list(range(20)), "test": [20, 21]}, (18, 2, 2)),
        ({"train": list(range(20)), "valid": [20]}, (18, 1, 2)),
        ({"train": list(range(20)), "valid": [0, 1], "test": [2]}, (17, 2, 1)),  # in two masks: held out
        ({"20_percent": [1, 2], "better": [3]}, None),
    ],
)
def test_no_split_is_empty_where_masks_leave_one_out(tmp_path, masks, counts):
    found = splits(write_demos(tmp_path / "d.hdf5", [5] * 22, masks=masks))
    assert all(found.values())
    names = [name for held in found.values() for name in held]
    assert len(names) == len(set(names))
    assert counts is None or tuple(map(len, found.values())) == counts


def test_masks_as_text_and_of_missing_demos(tmp_path):
    path = write_demos(tmp_path / "d.hdf5", [5] * 6)
    with h5py.File(path, "r+") as file:
        file["mask/train"] = [f"demo_{i}" for i in (0, 1, 2, 99)]
        file["mask/valid"], file["mask/test"] = ["demo_3"], ["demo_4"]
    assert splits(path) == {
        "train": ["demo_0", "demo_1", "demo_2"],
        "validation": ["demo_3"],
        "test": ["demo_4"],
    }


def test_libero_names_and_pictures_upside_down(tmp_path):
    path = libero(tmp_path / "task.hdf5")
    for option, below in (("", 0), (":upside-down", 34)):
        corpus = parse_data(f"libero{option}={path}")
        clip = next(clip for clip in corpus.clips if "demo_3/" in clip.path)
        [frame] = read_frames(corpus.file(clip), [3])
        assert frame[-1, 0, 0] == below
    found = pair_actions(corpus, build_manifest(corpus, "train"))
    assert found.mask.all()
    assert "camera agentview" in corpus.note
    hand = open_corpus("libero", path / "eye_in_hand_rgb")
    assert hand.clips[0].path.endswith("eye_in_hand_rgb")
    with pytest.raises(UserError, match="no camera 'top'; there is agentview, eye_in_hand"):
        open_corpus("libero", path / "top")


def test_a_folder_of_files_is_one_corpus(tmp_path):
    for task in ("a", "b/c"):
        (tmp_path / task).parent.mkdir(parents=True, exist_ok=True)
        libero(tmp_path / f"{task}.hdf5")
    corpus = parse_data(f"libero:upside-down={tmp_path}")
    assert len(corpus.clips) == 20
    manifest = build_manifest(corpus, "train", pairs_per_clip=2)
    pairs = action_pairs(corpus, manifest)
    assert len(pairs) == len(manifest.table)
    for row, actions in zip(manifest.table.itertuples(), pairs.actions.actions, strict=True):
        file, _, inside = row.video.partition(".hdf5/")
        with h5py.File(tmp_path / f"{file}.hdf5") as opened:
            stored = opened[f"data/{inside.split('/')[1]}/actions"][row.frame0 : row.frame1]
        np.testing.assert_allclose(actions[: len(stored)], stored, rtol=1e-6)
    write_demos(tmp_path / "other.hdf5", [8] * 5, size=4)
    mixed = parse_data(f"libero={tmp_path}")
    with pytest.raises(UserError, match=r"other\.hdf5: its actions have another size"):
        check_corpus_actions(mixed)


def test_actions_beyond_the_range_need_a_choice(tmp_path):
    path = wild(tmp_path / "d.hdf5")
    plain = parse_data(f"arm={path}")
    ways = r"\[-1, 1\] \(7\d\.\d% of the values are\); choose NAME:actions-clip=..., actions-rescale or"
    with pytest.raises(UserError, match=ways):
        check_corpus_actions(plain)
    manifest = build_manifest(plain, "train")
    found = {}
    for choice in ("clip", "rescale", "measured"):
        corpus = parse_data(f"arm:actions-{choice}={path}")
        check_corpus_actions(corpus)
        found[choice] = action_pairs(corpus, manifest)
    clipped, scaled, measured = (found[c].actions for c in ("clip", "rescale", "measured"))
    np.testing.assert_allclose(clipped.actions, np.clip(measured.actions, -1, 1))
    assert np.abs(scaled.actions).max() <= 1 + 1e-5
    ratio = measured.actions[measured.mask] / scaled.actions[measured.mask]
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-4)
    assert (measured.low >= -3.75).all()
    assert (measured.high > 3).all()
    assert len({pairs.sha256 for pairs in found.values()}) == 3  # no cache mixes them up


def test_small_and_still_numbers(tmp_path):
    path = wild(tmp_path / "d.hdf5", scale=0.006)
    with h5py.File(path, "r+") as file:
        for number in range(10):
            file[f"data/demo_{number}/actions"][:, 6] = 0.5
    found = pair_actions(
        corpus := parse_data(f"arm:actions-measured={path}"), build_manifest(corpus, "train")
    )
    assert (found.high[:6] < 0.0061).all()
    assert (found.low[6], found.high[6]) == (-0.5, 1.5)


def test_the_data_card_tells_of_actions(tmp_path, capsys):
    small = wild(tmp_path / "small.hdf5", scale=0.006)
    assert inspect([f"arm={small}", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "actions  7 numbers, 20 control steps/s; cameras: agentview" in told
    assert "range [-1, 1] filled to 1%" in told
    assert "warning  numbers 0, 1, 2, 3, 4, 5, 6 have a range assumed more than 4 times off; choose" in told
    assert inspect([f"arm:actions-measured={small}", "--out", str(tmp_path)]) == 0
    assert "warning" not in capsys.readouterr().out
    large = wild(tmp_path / "large.hdf5", scale=2)
    assert inspect([f"arm={large}", "--out", str(tmp_path)]) == 0
    assert "are beyond the assumed range; choose NAME:actions-clip" in capsys.readouterr().out
    assert (tmp_path / "arm-train.png").is_file()


def test_pictures_that_are_files_without_saying_so(tmp_path):
    path = write_demos(tmp_path / "d.hdf5", [6])
    with h5py.File(path, "r+") as file:
        obs = file["data/demo_0/obs"]
        pictures = obs["agentview_image"][()]
        del obs["agentview_image"]
        stored = obs.create_dataset("agentview_image", (6,), h5py.vlen_dtype(np.uint8))
        for i, picture in enumerate(pictures):
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "PNG")
            stored[i] = np.frombuffer(buffer.getvalue(), np.uint8)
    found = read_frames(path / "data/demo_0/obs/agentview_image", range(6))
    np.testing.assert_array_equal(found, pictures)


@pytest.mark.parametrize("kind", ["external storage", "external link", "virtual"])
@pytest.mark.parametrize("what", ["pictures", "actions", "mask"])
def test_what_lies_in_another_file_is_refused(tmp_path, kind, what):
    path = write_demos(tmp_path / "d.hdf5", [8] * 3, masks={"train": [0, 1, 2]})
    name = {
        "pictures": "data/demo_0/obs/agentview_image",
        "actions": "data/demo_0/actions",
        "mask": "mask/train",
    }[what]
    with h5py.File(path, "r+") as file:
        content = file[name][()]
        del file[name]
        with h5py.File(tmp_path / "other.hdf5", "w") as other:
            other["x"] = content
        if kind == "external storage":
            (tmp_path / "secret").write_bytes(content.tobytes())
            place = [(str(tmp_path / "secret"), 0, content.nbytes)]
            file.create_dataset(name, content.shape, content.dtype, external=place)
        elif kind == "external link":
            file[name] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "x")
        else:
            layout = h5py.VirtualLayout(content.shape, content.dtype)
            layout[...] = h5py.VirtualSource(str(tmp_path / "other.hdf5"), "x", content.shape)
            file.create_virtual_dataset(name, layout)
    with pytest.raises(UserError, match="lies in another file"):  # noqa: PT012, any of these may notice
        corpus = open_corpus("arm", path)
        read_frames(corpus.file("data/demo_0/obs/agentview_image"), [0])
        check_corpus_actions(corpus)


@pytest.mark.parametrize("rate", ["fast", -5, "nan", [20], 0])
def test_a_rate_that_is_none(tmp_path, rate):
    env = {"env_name": "Lift", "env_kwargs": {"control_freq": rate}}
    with pytest.raises(UserError, match=r"control_freq of env_args is .*, no rate above 0"):
        open_corpus("arm", write_demos(tmp_path / "d.hdf5", [5], env=env))


def test_claims_that_would_fill_the_memory(tmp_path):
    path = write_demos(tmp_path / "d.hdf5", [5], cameras=())
    with h5py.File(path, "r+") as file:
        obs = file["data/demo_0"].create_group("obs")
        chunks = (1, 64, 64, 3)
        obs.create_dataset("wide_image", (5, 90_000, 90_000, 3), "u1", chunks=chunks)
        obs.create_dataset("long_image", (10**10, 64, 64, 3), "u1", chunks=chunks)
        del file["data/demo_0/actions"]
        file["data/demo_0"].create_dataset("actions", (10**11, 7), "f4", chunks=(64, 7))
    for name, reason in (("wide", "million"), ("long", "claims 10000000000 pictures")):
        with pytest.raises(BadVideo, match=reason):
            read_frames(path / f"data/demo_0/obs/{name}_image", [0])
    with pytest.raises(UserError, match=r"not .N, A. numbers"):
        check_corpus_actions(open_corpus("arm", path / "long"))


@pytest.mark.parametrize(
    "change",
    [
        *("obs is no group", "mask is a group", "mask of numbers", "range is empty", "env_args is a list"),
        *("actions of no number", "frames of unknown steps", "mask is no group"),
        *("action_low alone", "action_high alone", "input_min alone", "input_max alone"),
    ],
)
def test_other_broken_files_are_one_line(tmp_path, change):
    path = write_demos(tmp_path / "d.hdf5", [8] * 3)
    with h5py.File(path, "r+") as file:
        if change == "obs is no group":
            del file["data/demo_0/obs"]
            file["data/demo_0/obs"] = 3
        elif change == "mask is a group":
            file.create_group("mask/train/x")
        elif change == "mask of numbers":
            file["mask/train"] = np.arange(3)
        elif change == "actions of no number":
            del file["data/demo_0/actions"]
            file["data/demo_0/actions"] = np.zeros((8, 0))
        elif change == "frames of unknown steps":
            kept = file["data/demo_0/actions"][()]
            del file["data/demo_0/actions"]
            file["data/demo_0/actions"] = np.concatenate([kept, kept])
        elif change == "range is empty":
            file["data"].attrs.update(action_low=2.0, action_high=1.0)
        elif change == "mask is no group":
            file["mask"] = np.array([b"demo_0"])
        elif change.startswith("action_"):
            file["data"].attrs[change.split()[0]] = 0.5 if "low" in change else 1.5
        elif change.startswith("input_"):
            kwargs = {"controller_configs": [{change.split()[0]: 0.5 if "min" in change else 1.5}]}
            file["data"].attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": kwargs})
        else:
            file["data"].attrs["env_args"] = json.dumps([1])
    with pytest.raises(UserError, match=r"d\.hdf5") as caught:  # noqa: PT012
        corpus = open_corpus("arm", path)
        check_corpus_actions(corpus)
    assert "\n" not in str(caught.value)


def test_a_broken_jpeg_is_named_alike_in_every_run(tmp_path: Path) -> None:
    """The list of skipped clips has the same bytes each time: no address of an object in memory."""
    reasons = set()
    for number in range(3):
        path = tmp_path / f"{number}.hdf5"
        with h5py.File(path, "w") as file:
            pictures = file.create_dataset(
                "data/demo_0/obs/agentview_image", (4,), dtype=h5py.vlen_dtype(np.uint8)
            )
            pictures.attrs["encoding"] = "jpeg"
            pictures[:] = [np.frombuffer(b"no picture", np.uint8)] * 4
        with pytest.raises(UserError) as caught:
            probe(f"{path}/data/demo_0/obs/agentview_image")
        reasons.add(str(caught.value).replace(str(path), ""))
    assert len(reasons) == 1
    assert "0x" not in reasons.pop()
