"""The released weights: they are the current recipe's, small, documented, and they work."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.stages.mae_and_world import obtain_mae_and_world
from uwm.data.corpora import BUNDLED, bundled
from uwm.data.crops import center_crop
from uwm.data.manifest import build_manifest
from uwm.data.pairs import load_pairs
from uwm.env import RELEASED
from uwm.errors import UserError
from uwm.models.storage import read_metadata
from uwm.models.world import World
from uwm.release import LARGEST_RELEASE, RELEASED_FILES, release
from uwm.runs.artifacts import Artifacts
from uwm.runs.cli import choose, plan_of
from uwm.runs.experiment import load_experiment
from uwm.runs.options import build_parser
from uwm.runs.plan import planned_stage
from uwm.runs.stage_folder import verify_stage, write_stage
from uwm.stages.mae import reconstruction_psnr
from uwm.stages.trained import WEIGHTS
from uwm.training.objectives import action_gap

ROOT = Path(__file__).resolve().parents[1]
MINI = load_experiment(ROOT / "experiments" / "table1.py").configs["mini"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world of scale mini; an empty cache, so that only released weights can be found at once."""
    artifacts = Artifacts(tmp_path_factory.mktemp("cache"))
    corpora = {name: bundled(name) for name in MINI.pretrain_on}

    def stop() -> bool:
        raise AssertionError("a released stage was not found: its recipe or what it reads has changed")

    world = obtain_mae_and_world(MINI.mae, MINI.pretrain, corpora, artifacts, stop)
    assert {artifact.origin for artifact in artifacts.obtained.values()} == {"released"}
    return world


def test_the_page_names_each_stage_and_its_recipe() -> None:
    """Steps, batches and seeds of the table are those of the stages, and of no others."""
    lines = (RELEASED / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| `")]
    table = {name: row[-2] for row in rows for name in re.findall(r"`([\w-]+)`", row[1])}
    stages: dict[str, list[dict]] = {}
    for path in RELEASED.glob("*/stage.json"):
        stage = json.loads(path.read_text())
        stages.setdefault(stage["name"], []).append(stage["fields"])
    assert set(table) == set(stages)
    for name, fields in stages.items():
        trains = [field["train"] for field in fields]
        also = [field["perceptual"] for field in fields if field.get("perceptual")]
        further = [recipe["train"] for recipe in also if recipe["weight"]]
        said = {text.replace(",", "") for text in re.findall(r"\d[\d,]*", table[name])}
        wanted = {str(train[key]) for train in trains for key in ("steps", "batch_size", "seed")}
        wanted |= {str(train[key]) for train in further for key in ("steps", "batch_size")}
        assert said == wanted, name


def test_each_has_its_weights_curve_and_recipe() -> None:
    folders = [path for path in RELEASED.iterdir() if path.is_dir()]
    names = {"mae", "world-model", "world-model-1960", "no-action"}
    names |= {"finetune", "adapter", "decoder", "reader-hand", "reader-hand-in-picture"}
    assert {folder.name.rpartition("-")[0] for folder in folders} == names
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == set(RELEASED_FILES)
        assert (folder / WEIGHTS).stat().st_size <= LARGEST_RELEASE
        assert json.loads((folder / "stage.json").read_text())["digest"] in folder.name
        assert read_metadata(folder / WEIGHTS)["card"]["recipe"]
        assert pd.read_csv(folder / "curve.csv").filter(like="val/").notna().any().all()


REPRODUCED = [("figure4", "w_pre,w_ft/*/s0,w_tfs/*/s0"), ("figure5", "copy,r_la/*/s0,r_gt/*/s0")]


@pytest.mark.parametrize(("name", "pattern"), [*REPRODUCED, ("planning", "r_gt/reach")])
def test_make_reproduce_trains_nothing(
    name: str, pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name == "planning" or f"--only {pattern} " in (ROOT / "Makefile").read_text()
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
    options = build_parser(experiment.name).parse_args(["--scale", "mini", "--out", str(tmp_path / "out")])
    context = plan_of(experiment, options, [], None).context(experiment)
    chosen = {cell.name for cell in choose(context.cells, [pattern])}
    jobs = [job for job in experiment.stages(context.config, context.data) if chosen & set(job.cells)]
    assert jobs
    for job in jobs:
        stage = planned_stage(context, job)
        assert stage is not None, job.name
        assert context.artifacts.find(stage) is not None, job.name


def test_the_mae_shows_pictures_that_it_has_not_seen(world: World) -> None:
    frames = {}
    for name in BUNDLED:
        manifest = build_manifest(bundled(name), "test", pairs=40)
        images = load_pairs(bundled(name), manifest, MINI.pretrain.short_side)
        frames[name] = center_crop(images[:, 0], world.image_size, world.image_size)
    assert all(value > 28 for value in reconstruction_psnr(world.mae, frames).values())  # dB


def test_the_dynamics_use_the_actions(world: World) -> None:
    for name in BUNDLED:
        manifest = build_manifest(bundled(name), "test", pairs=60)
        images = load_pairs(bundled(name), manifest, MINI.pretrain.short_side)
        states = world.encode(center_crop(images, world.image_size, world.image_size))
        gaps = action_gap(world.world_model, [states], torch.Generator().manual_seed(0))
        assert gaps["state_mse"] < 0.6 * gaps["state_mse_copy"]
        assert gaps["state_mse_shuffled"] > 1.5 * gaps["state_mse"]
        assert gaps["perplexity"] > 100


def finished(cache: Path, digest: str, name: str = "world-model") -> Path:
    """A finished stage of the cache, as a training leaves it."""
    folder = cache / f"{name}-{digest}"
    (folder / "run").mkdir(parents=True)
    for file in (WEIGHTS, "curve.csv", "run/log.jsonl"):
        (folder / file).write_text(digest)
    about = {"name": name, "version": 1, "fields": {}, "inputs": {}, "digest": digest}
    write_stage(folder, {**about, "code": {"commit": digest}})
    return folder


OLD, NEW = "1" * 16, "2" * 16


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_release_replaces_the_one_before(tmp_path: Path) -> None:
    for digest in (OLD, NEW):
        release(finished(tmp_path / "cache", digest), target=tmp_path / "released")
    (other,) = release(finished(tmp_path / "cache", OLD, "world-model-2"), target=tmp_path / "released")
    assert {path.name for path in (tmp_path / "released").iterdir()} == {f"world-model-{NEW}", other.name}
    folder = tmp_path / "released" / f"world-model-{NEW}"
    assert sorted(path.name for path in folder.iterdir()) == sorted(RELEASED_FILES)
    assert sorted(verify_stage(folder)["files"]) == ["curve.csv", WEIGHTS]
    assert verify_stage(folder)["code"] == {"commit": NEW}


def test_stages_of_one_name_are_released_together(tmp_path: Path) -> None:
    old, *new = (finished(tmp_path / "cache", digit * 16, "finetune") for digit in "123")
    release(old, target=tmp_path / "released")
    release(*new, target=tmp_path / "released")
    assert {path.name for path in (tmp_path / "released").iterdir()} == {path.name for path in new}


def inside(tmp_path: Path, stage: Path) -> Path:
    return release(finished(tmp_path / "released", NEW), target=tmp_path / "released")[0]


def round_about(tmp_path: Path, stage: Path) -> Path:
    return release(stage, target=stage / "released")[0]


def unfinished(tmp_path: Path, stage: Path) -> Path:
    (stage / WEIGHTS).unlink()
    return release(stage, target=tmp_path / "released")[0]


def altered(tmp_path: Path, stage: Path) -> Path:
    (stage / WEIGHTS).write_text("x" * len(NEW))
    return release(stage, target=tmp_path / "released")[0]


def without_a_name(tmp_path: Path, stage: Path) -> Path:
    return release(stage.rename(tmp_path / "weights"), target=tmp_path / "released")[0]


def too_large(tmp_path: Path, stage: Path) -> Path:
    with open(stage / WEIGHTS, "wb") as file:
        file.truncate(LARGEST_RELEASE + 1)
    return release(stage, target=tmp_path / "released")[0]


def over_other_files(tmp_path: Path, stage: Path) -> Path:
    (tmp_path / "released" / f"world-model-{OLD}" / "thesis.tex").write_text("years of work")
    return release(stage, target=tmp_path / "released")[0]


@pytest.mark.parametrize(
    "fault", [inside, round_about, unfinished, altered, without_a_name, too_large, over_other_files]
)
def test_a_refused_release_leaves_the_one_before(fault: Any, tmp_path: Path) -> None:
    before = files(release(finished(tmp_path / "cache", OLD), target=tmp_path / "released")[0])
    stage = finished(tmp_path / "cache", NEW)
    with pytest.raises(UserError) as caught:
        fault(tmp_path, stage)
    assert "\n" not in str(caught.value)
    after = files(tmp_path / "released" / f"world-model-{OLD}")
    assert {name: after[name] for name in before} == before
    assert not [path for path in (tmp_path / "released").iterdir() if path.name.startswith(".")]


def test_released_files_are_what_their_stage_says() -> None:
    for folder in (path for path in RELEASED.iterdir() if path.is_dir()):
        assert set(verify_stage(folder)["files"]) == set(RELEASED_FILES) - {"stage.json"}
