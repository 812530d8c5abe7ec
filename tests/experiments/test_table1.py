"""Table 1: what is measured, by hand; and the command from end to end on real video files."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tests.paper_world import write_lpips
from tests.recomputed import assert_recomputed
from tests.warm import run_python
from uwm.data.corpora import BUNDLED, bundled
from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "experiments" / "table1.py"
EXPERIMENT = load_experiment(FILE)
table1 = sys.modules[EXPERIMENT.run_cell.__module__]


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve good clips, two that are cut short and one that is no video."""
    folder = tmp_path_factory.mktemp("wild")
    corpus = bundled(BUNDLED[0])
    files = [corpus.file(clip).read_bytes() for clip in corpus.of("test")[:12]]
    for i, content in enumerate(files):
        (folder / f"clip{i}.mp4").write_bytes(content)
    for i, content in enumerate(files[:2]):
        (folder / f"cut{i}.mp4").write_bytes(content[: len(content) // 3])
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def finished(wild: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of a smoke run over one corpus of ours and the folder; run twice."""
    out = tmp_path_factory.mktemp("out")
    environment = {**os.environ, "UWM_CACHE": str(out / "cache"), "OMP_NUM_THREADS": "1"}
    command = [str(FILE), "--scale", "smoke", "--set", "corpora=sim-ego", "--data", f"wild={wild}"]
    for arguments in (["--out", str(out / "first")], ["--out", str(out / "second"), "--recompute"]):
        result = run_python([*command, *arguments], ROOT, environment)
        assert result.returncode == 0, result.stderr
        assert "Table 1, wild" in result.stdout
    return out


def test_the_table_has_every_method_and_metric(finished: Path) -> None:
    records = {p.stem: json.loads(p.read_text()) for p in (finished / "first").glob("*.json")}
    assert_recomputed(finished / "first")
    assert set(records) == {
        f"{m}__{c}" for m in table1.methods(EXPERIMENT.configs["smoke"]) for c in ("sim-ego", "wild")
    }
    names = "lpips_to_current lpips_to_next success_vs_current success_vs_copy psnr ssim state_mse"
    metrics = set(names.split())
    for record in records.values():
        assert record["status"] == "ok"
        assert metrics | {f"{m}_moving" for m in metrics} <= set(record["metrics"])
        assert record["inputs"]["stages"]["world-model"]["origin"] == "trained"
    assert {"perplexity", "cycle", "reversal", "parameters"} <= set(records["uwm__wild"]["metrics"])
    oracle, copy = records["oracle__wild"]["metrics"], records["copy__wild"]["metrics"]
    assert oracle["lpips_to_next"]["value"] == 0 == copy["lpips_to_current"]["value"]
    assert oracle["success_vs_current"]["value"] == 1
    assert copy["success_vs_copy"]["value"] == 0
    assert oracle["lpips_to_current"]["value"] == pytest.approx(copy["lpips_to_next"]["value"])


def test_the_same_command_gives_the_same_records_and_pictures(finished: Path) -> None:
    def comparable(folder: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix == ".json":
                record = json.loads(path.read_text())
                found[path.name] = {k: v for k, v in record.items() if k not in ("run", "code")}
            elif path.is_file():
                found[str(path.relative_to(folder))] = path.read_bytes()
        return found

    assert comparable(finished / "first") == comparable(finished / "second")


def test_panels_are_pictures(finished: Path) -> None:
    folder = finished / "first" / "panels" / "wild"
    numbers = pd.read_csv(folder / "panels.csv")
    assert 1 <= len(numbers) <= 5
    for k in numbers["k"]:
        for tile in table1.FIGURE3_TILES:
            assert Image.open(folder / f"{k}_{tile}.png").size == (64, 64)
    assert Image.open(folder / "all.png").size == (5 * 64, len(numbers) * 64)


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs the command line in this process, expects exit code 2, and gives the one line on stderr."""
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))

    def call(*arguments: str) -> str:
        assert main(EXPERIMENT, [*arguments, "--out", str(tmp_path / "out")]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, lines
        return lines[0]

    return call


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--data", "wild=/no/such/folder"], ["/no/such/folder"]),
        (["--only", "uvm"], ["uvm", "uwm"]),
        (["--set", "pretrain.train.stepps=3"], ["stepps", "steps"]),
        (["--set", "test_pears=3"], ["test_pairs"]),
        (["--set", "test_pairs=many"], ["many"]),
        (["--scale", "huge"], ["huge"]),
        (["--pretrain-on", "nowhere"], ["nowhere", "--data"]),
    ],
)
def test_bad_input_is_one_line(refused: Callable[..., str], arguments: list[str], parts: list[str]) -> None:
    line = refused(*([] if "--scale" in arguments else ["--scale", "smoke"]), *arguments)
    assert all(part in line for part in parts), line


def test_a_folder_without_video_is_one_line(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no video")
    line = refused("--scale", "smoke", "--data", f"wild={tmp_path / 'empty'}", "--only", "uwm/wild")
    assert "wild" in line
    assert "no video" in line


def test_a_wrong_checkpoint_is_one_line(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mae_visualize_vit_base.pth").write_text("no checkpoint")
    write_lpips(tmp_path)
    monkeypatch.setenv("UWM_WEIGHTS", str(tmp_path))
    settings = ["corpora=sim-ego", "pretrain_on=sim-ego", "pretrain.pairs=10"]
    assert "mae_visualize_vit_base.pth" in refused("--scale", "paper", "--set", *settings, "--only", "uwm")
