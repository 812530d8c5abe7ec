"""Scale `small` on the CPU: a few steps over shards of SSv2-like clips and a toy robot, and a published MAE's
file."""

import json
import math
import shlex
from pathlib import Path

import pytest

from tests.documents import BLOCK, commands, section
from tests.paper_world import TINY, write_lpips, write_published, write_ssv2
from tests.robot_toy import write_toy
from uwm.data import prepare
from uwm.errors import UserError
from uwm.runs.cli import main, run_experiment
from uwm.runs.experiment import load_experiment
from uwm.runs.record import read_record
from uwm.runs.settings import plain

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "paper-scale.md"
EXPERIMENTS = {
    name: load_experiment(ROOT / "experiments" / f"{name}.py") for name in ("table1", "figure4", "figure5")
}
SHOWN = [
    shlex.join(words)
    for language, text in BLOCK.findall(section(PAGE, "One GPU"))
    if language == "sh"
    for words in commands(text)
]
PLACES = {"ssv2": "SSV2", "robosuite": "ROBOSUITE.hdf5"}
CELLS = {"table1": "uwm,copy", "figure4": "w_pre,w_ft/*/s0", "figure5": "copy,r_la/*/s0,r_gt/*/s0"}
SIZES = [f"mae.model.{name}={value}" for name, value in plain(TINY).items() if name != "patch_size"]
FEW = ["train.steps=3", "train.batch_size=4", "train.warmup_steps=1", "pairs=16", "short_side=64"]
TRAINED = {  # recipes of an experiment
    "table1": ("pretrain", "no_action"),
    "figure4": ("pretrain", "finetune"),
    "figure5": ("pretrain", "finetune", "adapter", "decoder", "reader"),
}
MEASURED = {"table1": ["test_pairs=6"], "figure4": ["test_pairs=6"]}
MEASURED["figure5"] = ["test_pairs=6", "probe_pairs=12", "horizon=2", "rollouts=2", "panel_steps=1,2"]
SETTINGS = {
    name: [*SIZES, *(f"{recipe}.{setting}" for recipe in recipes for setting in FEW), *MEASURED[name]]
    for name, recipes in TRAINED.items()
}


def test_the_runbook_says_what_the_recipes_hold() -> None:
    page = PAGE.read_text(encoding="utf-8").replace("\n", " ")
    configs = {name: experiment.configs for name, experiment in EXPERIMENTS.items()}
    small, paper = configs["table1"]["small"], configs["table1"]["paper"]
    assert small.pretrain.model == paper.pretrain.model
    assert small.pretrain.train.batch_size == paper.pretrain.train.batch_size
    assert 2 * small.pretrain.train.steps == paper.pretrain.train.steps
    assert small.pretrain.pairs == 5 * small.pretrain.clips
    assert f"the first {small.pretrain.clips:,} training clips are used (five pairs of each)" in page
    clips = configs["figure4"]["small"].finetune.clips
    assert f"the first {clips} training clips of the in-domain data" in page
    assert f"of its recipe, {paper.pretrain.pairs:,} of each corpus" in page


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SSV2, ROBOSUITE.hdf5, the weights and SITE.toml of the page."""
    folder = tmp_path_factory.mktemp("small")
    write_ssv2(folder / "SSV2")
    write_toy(folder / "ROBOSUITE.hdf5", demos=16, hand=True)
    places = (f'{name} = "{folder / file}"\n' for name, file in PLACES.items())
    (folder / "SITE.toml").write_text("[data]\n" + "".join(places))
    write_published(folder / "weights" / "mae_visualize_vit_base.pth", TINY, seed=0)
    write_lpips(folder / "weights")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("line", SHOWN, ids=lambda line: line.split()[1])
def test_the_lines_of_the_page_in_few_steps(world: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other: the first one makes the shards, and the pre-training is of all three."""
    for name in ("CACHE", "RUNS", "SHARDS", "WEIGHTS"):
        monkeypatch.setenv(f"UWM_{name}", str(world / name.lower()))
    monkeypatch.setenv("TORCH_HOME", str(world / "torch"))
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", _no_internet)
    monkeypatch.chdir(world)
    script, *words = shlex.split(line)[1:]
    name = Path(script).stem
    out = world / "records" / name
    words += ["--out", str(out), "--only", CELLS[name], "--set", *SETTINGS[name]]
    if name == "table1":
        with pytest.raises(UserError, match="or make them: python -m uwm") as refused:
            run_experiment(EXPERIMENTS[name], words)
        command = shlex.split(str(refused.value).partition("make them: ")[2])
        assert prepare.main(command[3:]) == 0
    assert main(EXPERIMENTS[name], words) == 0
    records = [read_record(path) for path in out.glob("*.json")]
    assert {(record.status, record.scale) for record in records} == {("ok", "small")}
    read = [record.config["pretrain"]["shards"] for record in records if "pretrain" in record.config]
    assert {*read} == {90}
    assert {record.cell.split("/")[0] for record in records} == {
        cell.partition("/")[0] for cell in CELLS[name].split(",")
    }
    if name == "table1":
        assert read_record(out / "uwm__ssv2.json").value("bits") == 240
    assert len([*(world / "cache").glob("world-model-*")]) == 1


@pytest.mark.slow
def test_three_steps_of_the_networks_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU: a ViT-B at 224 px and the paper's world model, with two pairs a step, read live.

    In fp32, for without instructions of its own a CPU takes minutes for a step in bf16.
    """
    for name in ("CACHE", "RUNS", "WEIGHTS"):
        monkeypatch.setenv(f"UWM_{name}", str(tmp_path / name.lower()))
    write_ssv2(tmp_path / "SSV2", clips=4, frames=6)
    write_toy(tmp_path / "ROBOSUITE.hdf5", demos=16, hand=True)
    mae = EXPERIMENTS["figure4"].configs["small"].mae
    write_published(tmp_path / "weights" / str(mae.file), mae.model, seed=0)
    write_lpips(tmp_path / "weights")
    few = ["train.steps=3", "train.batch_size=2", "train.warmup_steps=1", "train.precision=fp32"]
    few += ["pairs=6", "shards=none"]
    data = [f"{name}={tmp_path / file}" for name, file in PLACES.items()]
    words = ["--scale", "small", "--only", "w_pre", "--data", *data, "--out", str(tmp_path / "records")]
    words += ["--set", *(f"pretrain.{setting}" for setting in few), "test_pairs=2"]
    assert main(EXPERIMENTS["figure4"], words) == 0
    assert read_record(tmp_path / "records" / "w_pre__robosuite.json").status == "ok"
    assert (mae.model.image_size, mae.model.encoder_width, mae.model.encoder_depth) == (224, 768, 12)
    (log,) = tmp_path.glob("cache/world-model-*/run/log.jsonl")
    losses = [row["loss"] for row in map(json.loads, log.read_text().splitlines()) if "loss" in row]
    assert len(losses) == 3
    assert all(map(math.isfinite, losses))


def _no_internet(*_: object, **__: object) -> None:
    raise OSError("no internet here")


def test_all_three_share_the_pretraining_and_their_pairs_are_there() -> None:
    configs = [experiment.configs["small"] for experiment in EXPERIMENTS.values()]
    assert len({config.pretrain for config in configs}) == 1
    assert {config.pretrain_on for config in configs} == {("ssv2",)}
    figure4, figure5 = configs[1:]
    pairs = 48 * figure4.finetune.clips  # of 50 frames, 0.1 s apart
    assert max(figure4.curve) <= pairs
    assert figure5.decoder.pairs <= pairs
    paper = EXPERIMENTS["table1"].configs["paper"].pretrain
    small = configs[0].pretrain
    epochs = [recipe.train.steps * recipe.train.batch_size / recipe.pairs for recipe in (small, paper)]
    assert epochs[0] == pytest.approx(epochs[1] / 2)  # scale paper has two corpora
