"""Scale `small` on the CPU: three steps over shards of SSv2-like clips, and a published MAE's file."""

import shlex
from pathlib import Path

import pytest

from tests.paper_world import TINY, write_lpips, write_published, write_ssv2
from uwm.data import prepare
from uwm.errors import UserError
from uwm.runs.cli import main, run_experiment
from uwm.runs.experiment import load_experiment
from uwm.runs.record import read_record
from uwm.runs.settings import plain

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = {
    name: load_experiment(ROOT / "experiments" / f"{name}.py") for name in ("table1", "figure4", "figure5")
}
SIZES = [f"mae.model.{name}={value}" for name, value in plain(TINY).items() if name != "patch_size"]
FEW = ["train.steps=3", "train.batch_size=4", "train.warmup_steps=1", "pairs=16", "short_side=64"]
SETTINGS = [
    *SIZES,
    *(f"{recipe}.{setting}" for recipe in ("pretrain", "no_action") for setting in FEW),
    "test_pairs=6",
]


def test_the_runbook_says_what_the_recipes_hold() -> None:
    page = (ROOT / "docs" / "paper-scale.md").read_text(encoding="utf-8").replace("\n", " ")
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


def test_table1_in_three_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ssv2(tmp_path / "SSV2")
    write_published(tmp_path / "weights" / "mae_visualize_vit_base.pth", TINY, seed=0)
    write_lpips(tmp_path / "weights")
    for name in ("CACHE", "RUNS", "SHARDS"):
        monkeypatch.setenv(f"UWM_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("UWM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", _no_internet)
    out = tmp_path / "records"
    words = ["--scale", "small", "--data", f"ssv2={tmp_path / 'SSV2'}", "--out", str(out)]
    words += ["--only", "uwm,copy", "--set", *SETTINGS]
    with pytest.raises(UserError, match="or make them: python -m uwm") as refused:
        run_experiment(EXPERIMENTS["table1"], words)
    command = shlex.split(str(refused.value).partition("make them: ")[2])
    assert prepare.main(command[3:]) == 0
    assert main(EXPERIMENTS["table1"], words) == 0
    record = read_record(out / "uwm__ssv2.json")
    assert record.status == "ok"
    assert record.scale == "small"
    assert record.value("bits") == 240
    assert record.config["pretrain"]["shards"] == 90


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
