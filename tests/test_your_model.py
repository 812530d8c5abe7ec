"""docs/your-model.md works: its file is written and its commands run, up to the tables and the HTML page."""

import json
import re
from pathlib import Path

import pytest
import torch
from pandas import read_csv
from safetensors.torch import load_file

from paper.figures import main as figures
from tests.documents import MOST_LINES, ROOT, blocks, commands, run
from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment
from uwm.runs.record import file_sha256, record_problems, sample_files

PAGE = ROOT / "docs" / "your-model.md"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the page was followed: mine.py, its weights, and `runs/mine`."""
    folder = tmp_path_factory.mktemp("mine")
    for _, text in blocks(PAGE, "python"):
        name, _, code = text.partition("\n")
        assert len(code.splitlines()) <= MOST_LINES
        (folder / name.removeprefix("# ")).write_text(code)
    for _, shell in blocks(PAGE, "sh"):
        for words in commands(shell):
            places = [re.sub(r"^experiments/", f"{ROOT}/experiments/", word) for word in words]
            done = run(places, folder, folder / "cache", project=ROOT)
            assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    return folder


@pytest.mark.slow
def test_the_page_gives_records_that_name_file_and_weights(measured: Path) -> None:
    paths = sorted((measured / "runs" / "mine" / "smoke" / "table1").glob("*.json"))
    assert [path.stem for path in paths] == ["mine__sim-ego", "mine__sim-third-person"]
    assert [problem for path in paths for problem in record_problems(path)] == []
    record = json.loads(paths[0].read_text())
    weights = {"mine.safetensors": file_sha256(measured / "mine.safetensors")}
    given = {"file": "mine.py", "class": "Shift", "sha256": file_sha256(measured / "mine.py")}
    assert record["config"]["method"] == {**given, "weights": weights}
    named = {"mine.py": given["sha256"], **weights}
    assert named.items() <= record["inputs"]["weights"].items()
    assert {"mae", "lpips", "no-action"} < set(record["inputs"]["weights"])
    assert str(measured) not in paths[0].read_text()
    names = "lpips_to_next lpips_to_next_true psnr leak own_over_shuffled gain_over_no_action bits parameters"
    names += " lpips_over_codec delta_psnr"
    assert set(names.split()) <= set(record["metrics"])
    assert record["metrics"]["bits"]["value"] == 8
    assert record["metrics"]["parameters"]["value"] == pytest.approx(3e-6)


def test_on_a_robots_corpus_its_actions_are_probed_and_transferred(measured: Path) -> None:
    words = "python experiments/table1.py --scale smoke --set corpora=sim-panda --only mine --out runs/robot"
    words = [word.replace("experiments", f"{ROOT}/experiments") for word in words.split()]
    done = run([*words, "--method", "mine=mine.py:Shift"], measured, measured / "cache", project=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((measured / "runs" / "robot" / "mine__sim-panda.json").read_text())
    names = "probe_r2 probe_r2_mlp transfer transfer_mm transfer_px transfer_picture delta_psnr"
    assert set(names.split()) <= set(record["metrics"])
    assert record["config"]["reader"]
    assert "reader-hand-in-picture" in record["inputs"]["stages"]
    assert {path["path"].split("/")[1] for path in sample_files(record["samples"])} >= {"actions"}
    assert list(record_problems(measured / "runs" / "robot" / "mine__sim-panda.json")) == []


def test_a_model_with_a_trainer_is_trained_and_its_record_says_so(measured: Path) -> None:
    folder = measured / "runs" / "fade" / "smoke" / "table1"
    [path] = folder.glob("*.json")
    assert list(record_problems(path)) == []
    record = json.loads(path.read_text())
    learnt = record["inputs"]["weights"]["fade-fitted"]
    assert record["inputs"]["stages"]["fitted-fade"]["origin"] == "trained"
    [weights] = (measured / "cache").glob("fitted-fade-*/weights.safetensors")
    assert file_sha256(weights) == learnt
    assert not torch.equal(load_file(weights)["shares"], torch.linspace(0.5, 1.5, 8))
    assert record["config"]["trained_as"]["steps"] == 4  # as our own model at this scale


def test_nothing_went_among_the_committed_records(measured: Path) -> None:
    assert not list((ROOT / "results").rglob("mine__*"))


def test_tables_and_page_show_the_row(measured: Path, tmp_path: Path) -> None:
    results = measured / "runs" / "mine"
    arguments = ["--results", str(results), "--scale", "smoke", "--out", str(tmp_path / "out")]
    assert figures([*arguments, "--processes", "1"]) == 0
    table = (tmp_path / "out" / "smoke" / "table1_sim-ego.csv").read_text()
    assert re.search(r'^mine,"0\.\d{3} \[', table, flags=re.MULTILINE)
    board = read_csv(tmp_path / "out" / "smoke" / "leaderboard_smoke.csv").iloc[0]
    for column in ("Bits", "LPIPS / x264's at its bits", "Delta-PSNR, dB", "Leak, state (1 = none)"):
        assert re.fullmatch(r"-?[\d.]+", str(board[column])), column
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<td>mine</td>" in page
    assert 'src="data:image/png' in page  # Figure 3 of the method


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs an experiment's command line, expects exit code 2, and gives the one line on stderr."""
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UWM_RUNS", str(tmp_path / "runs"))

    def call(experiment: str, *arguments: str) -> str:
        loaded = load_experiment(ROOT / "experiments" / f"{experiment}.py")
        assert main(loaded, ["--scale", "smoke", "--dry-run", *arguments]) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return line

    return call


PERFECT = f"mine={ROOT}/tests/methods/models.py:Perfect"


@pytest.mark.parametrize(
    ("experiment", "arguments", "part"),
    [
        ("table1", ["--method", "mine"], "write --method NAME=VALUE"),
        ("table1", ["--method", "mine=nowhere.py:Mine"], "nowhere.py"),
        ("table1", ["--method", f"uwm={ROOT}/tests/methods/models.py:Perfect"], "uwm already"),
        ("table1", ["--method", PERFECT, PERFECT], "twice"),
        ("table1", ["--method", PERFECT, "--out", f"{ROOT}/results/smoke/table1"], "go elsewhere"),
        ("figure4", ["--method", PERFECT], "figure4 measures no methods of others"),
    ],
)
def test_a_wrong_method_is_one_line(refused, experiment: str, arguments: list[str], part: str) -> None:
    assert part in refused(experiment, *arguments)
