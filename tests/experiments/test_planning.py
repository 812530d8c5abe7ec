"""The planning experiment at scale smoke: the command from end to end, resumed, and on bad input."""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.data.robot_simulator import needs_robosuite
from tests.recomputed import assert_recomputed
from uwm.data.corpora import INCLUDED
from uwm.errors import run_cli
from uwm.methods.families import PLANNERS
from uwm.metrics.statistics import wilson
from uwm.runs.cli import main, plan_of
from uwm.runs.experiment import Cell, load_experiment
from uwm.runs.options import build_parser
from uwm.runs.plan import planned_stage

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = load_experiment(ROOT / "experiments" / "planning.py")
SOME = "random,simulator/reach,r_gt/reach/s0,r_gt-laq,cloning-8"
METHODS = {"random/reach", "simulator/reach", "r_gt/reach/s0", "r_gt-laq/reach/s0", "cloning-8/reach/s0"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Records of a smoke run."""
    out = tmp_path_factory.mktemp("planning")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UWM_RUNS", str(out / "runs"))
        patch.setenv("UWM_CACHE", str(out / "cache"))
        assert main(EXPERIMENT, command(out / "first", SOME)) == 0
        yield out


def command(out: Path, only: str, *more: str) -> list[str]:
    return ["--scale", "smoke", "--only", only, "--out", str(out), *more]


@pytest.mark.slow
@needs_robosuite
@pytest.mark.robosuite
def test_every_cell_has_its_numbers(finished: Path) -> None:
    found = [json.loads(path.read_text()) for path in (finished / "first").glob("*.json")]
    assert {record["cell"] for record in found} == METHODS
    assert_recomputed(finished / "first")
    for record in found:
        assert record["status"] == "ok"
        metrics, column = record["metrics"], record["cell"].replace("/reach", "")
        samples = pd.read_csv(finished / "first" / record["samples"]["path"])
        assert samples["video"].tolist() == ["episode-0", "episode-1"]
        successes = samples[f"{column}/success"]
        interval = wilson(int(successes.sum()), 2)
        assert metrics["success"]["value"] == successes.mean()
        assert metrics["success"]["ci"] == pytest.approx([interval.low, interval.high], rel=1e-4)
        ends = samples[f"{column}/final_distance_mm"]
        assert metrics["final_distance_mm"]["value"] == pytest.approx(ends.mean(), rel=1e-4)
        assert metrics["distance_mm_2"] == metrics["final_distance_mm"]
        assert ("calls_per_decision" in metrics) == (column != "random")
        starts = samples[f"{column}/start_distance_mm"]
        assert starts.between(100, 200).all()
        read = {"mae", "finetune", "reader-hand"}
        stages = set(record["inputs"]["stages"])
        planned = column in ("simulator", "r_gt/s0", "r_gt-laq/s0")
        assert read <= stages if planned else "reader-hand" not in stages
    planned = next(record for record in found if record["cell"] == "r_gt/reach/s0")["metrics"]
    assert planned["calls_per_decision"]["value"] == 2 * 4 + 1
    assert planned["seconds_per_decision"]["value"] > 0
    kinds = {path.name.partition("_")[2] for path in (finished / "first" / "panels").glob("*/*.png")}
    assert kinds == {"seen.png", "imagined.png", "goal.png"}


@pytest.mark.slow
@needs_robosuite
@pytest.mark.robosuite
def test_a_killed_run_goes_on_with_the_episode_that_is_missing(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kept one is not run again; the other becomes the same, byte for byte, in another process, where no
    episode came before it."""
    kept, lost = (next((finished / "runs").rglob(f"r_gt__reach__s0/{seed}.npz")) for seed in (0, 1))
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    monkeypatch.setenv("UWM_RUNS", str(finished / "runs"))
    monkeypatch.setenv("UWM_CACHE", str(finished / "cache"))
    assert main(EXPERIMENT, command(finished / "second", "r_gt/reach/s0", "--jobs", "2")) == 0
    assert kept.stat().st_mtime_ns == stamp
    assert lost.is_file()
    tables = [finished / run / "samples" / "r_gt__reach__s0.csv" for run in ("first", "second")]
    assert tables[0].read_bytes() == tables[1].read_bytes()


@needs_robosuite
@pytest.mark.robosuite
def test_more_episodes_are_added_to_those_that_are_there(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = next((finished / "runs").rglob("random__reach/0.npz"))
    stamp = kept.stat().st_mtime_ns
    monkeypatch.setenv("UWM_RUNS", str(finished / "runs"))
    monkeypatch.setenv("UWM_CACHE", str(finished / "cache"))
    assert main(EXPERIMENT, command(finished / "more", "random/reach", "--set", "episodes=3")) == 0
    assert kept.stat().st_mtime_ns == stamp
    record = json.loads((finished / "more" / "random__reach.json").read_text())
    assert record["metrics"]["success"]["n"] == 3
    assert record["config"]["episodes"] == 3


@pytest.mark.slow
@needs_robosuite
@pytest.mark.robosuite
def test_a_block_is_lifted(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a planner that reads hand and block, and searches the gripper too."""
    monkeypatch.setenv("UWM_RUNS", str(finished / "runs"))
    monkeypatch.setenv("UWM_CACHE", str(finished / "cache"))
    settings = ("--set", "tasks=lift", "episodes=1", "reader.clips=20", "reader.pairs=200")
    assert main(EXPERIMENT, command(finished / "lift", "simulator/lift,direct/lift/s0", *settings)) == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tasks=reech", "no task 'reech' to plan for; did you mean 'reach'?"),
        ("camera=workspac", "no camera 'workspac' to plan for; did you mean 'workspace'?"),
        ("controller=OSC_POS", "no controller 'OSC_POS' to plan for"),
        (
            "controller=OSC_POSITION",
            "takes actions of 4 numbers, and what is trained on sim-panda those of 7",
        ),
        ("chosen=0,7", "an action of OSC_POSE has the numbers 0 to 6"),
        ("solver.elites=99", "elites must be at most samples"),
        ("families=pixels", "families: 'pixels' is none of ours, laq"),
    ],
)
def test_bad_input_is_one_line_before_the_simulator_starts(
    setting: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("uwm.data.simulation.robot_scene.import_robosuite", lambda: pytest.fail("started"))
    monkeypatch.setenv("UWM_RUNS", str(tmp_path / "runs"))
    arguments = command(tmp_path / "out", "random,r_gt", "--set", setting)
    assert run_cli(lambda: main(EXPERIMENT, arguments)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("cell", "setting", "field"),
    [
        ("r_gt", "adapter.pairs=100000", "adapter.pairs"),
        ("direct", "dynamics.pairs=100000", "dynamics.pairs"),
        ("r_gt-100k", "curve=100000", "curve"),
        ("cloning-100k", "cloned=100000", "cloned"),
        ("r_gt-laq", "family_adapter.pairs=100000", "family_adapter.pairs"),
    ],
)
def test_too_few_labelled_pairs_are_said_by_a_dry_run(
    cell: str, setting: str, field: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = command(tmp_path / "out", cell, "--set", setting, "--dry-run")
    assert run_cli(lambda: main(EXPERIMENT, arguments)) == 0
    assert f"fewer than 100000: lower {field}: {cell}/reach/s0" in capsys.readouterr().err


@needs_robosuite
def test_a_machine_without_the_simulator_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    arguments = command(tmp_path / "out", "r_gt", "--dry-run")
    assert run_cli(lambda: main(EXPERIMENT, arguments)) == 0
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "robosuite" else find(name))

    def absent() -> None:
        raise ImportError("No module named 'robosuite'")

    monkeypatch.setattr("uwm.data.simulation.corpora.import_robosuite", absent)
    assert run_cli(lambda: main(EXPERIMENT, arguments)) == 2
    assert "No module named 'robosuite'" in capsys.readouterr().err


def test_few_pairs_are_drawn_by_each_seed_and_on_reach_alone() -> None:
    config = replace(EXPERIMENT.configs["mini"], curve=(100,), curve_seeds=(0, 2))
    names = {cell.name for cell in EXPERIMENT.cells(config, {})}
    further = {"r_gt-100/reach/s2", "direct-100/reach/s2"}
    assert {name for name in names if name.endswith("/s2") and "100" in name} == further
    recipe = EXPERIMENT.reads(config, Cell("direct-100", "reach", 2))["dynamics"]
    assert (recipe.pairs, recipe.train.seed) == (100, 2)


def test_a_cell_reads_what_its_numbers_depend_on() -> None:
    config = EXPERIMENT.configs["mini"]

    def read(name: str) -> set[str]:
        method, corpus, *seed = name.split("/")
        return set(EXPERIMENT.reads(config, Cell(method, corpus, int(seed[0][1:]) if seed else None)))

    assert {"reader", "solver", "adapter", "finetune"} <= read("r_gt-500/reach/s0")
    assert "reader" not in read("r_gt-state-cost/reach/s0") | read("simulator-true-cost/push")
    assert "reader" in read("r_gt-500/push/s0") & read("r_gt-true-goal/reach/s0")
    assert not read("random/reach") & {"mae", "solver", "reader", "pretrain"}
    assert {"reader", "reader_finetune", "pretrain"} <= read("direct/reach/s0") & read("simulator/push")
    assert "reader_finetune" not in read("cloning/reach/s0") | read("direct-state-cost/reach/s0")
    assert read("cloning-500/reach/s0") >= {"cloning"}
    plain = Cell("r_gt-plain-reader", "reach", 0)
    found, usual = EXPERIMENT.reads(config, plain), EXPERIMENT.reads(config, Cell("r_gt", "reach", 0))
    assert found["reader"] == replace(usual["reader"], predicted_share=0.0) != usual["reader"]
    assert usual.keys() - found.keys() == {"reader_finetune"}
    jobs = {job.name: job for job in EXPERIMENT.stages(config, {})}
    assert jobs["reader-hand-plain-reader"].cells == (plain.name, "direct-plain-reader/reach/s0")
    assert plain.name not in jobs["reader-hand"].cells
    assert "adapter" not in read("direct/reach/s0")


@pytest.mark.parametrize("scale", EXPERIMENT.configs)
def test_the_cost_is_read_alike_in_all_rows_after_the_world_model_that_it_is_trained_on(scale: str) -> None:
    config = replace(EXPERIMENT.configs[scale], tasks=("reach", "push"), seeds=(0, 1))
    jobs = {job.name: job for job in EXPERIMENT.stages(config, {})}
    lists = () if config.corpus in INCLUDED else (f"manifests-{config.corpus}",)  # of a user's robot data
    for reads in ("hand", "block"):
        assert jobs[f"reader-{reads}"].needs == ("finetune-s0", *lists)
    assert jobs["finetune-s0"].needs == ("pretrain", *lists)
    rows = {"simulator/reach", "copy/push", "direct/reach/s0", "direct/push/s1", "r_gt/reach/s1"}
    assert rows <= set(jobs["reader-hand"].cells) & set(jobs["finetune-s0"].cells)
    assert "cloning/reach/s0" not in {*jobs["reader-hand"].cells, *jobs["finetune-s0"].cells}
    alone = EXPERIMENT.stages(replace(config, reader=replace(config.reader, predicted_share=0.0)), {})
    by_name = {job.name: job for job in alone}
    assert by_name["reader-hand"].needs == ("pretrain", *lists)
    assert "direct/reach/s0" not in by_name["finetune-s0"].cells


@pytest.mark.slow
def test_readers_of_all_seeds_are_one_and_no_two_jobs_train_the_same() -> None:
    """The cost is the same for a world model of any seed."""

    def reader(seeds: str) -> str:
        options = build_parser("planning").parse_args(["--scale", "mini", "--set", f"seeds={seeds}"])
        context = plan_of(EXPERIMENT, options, [], None).context(EXPERIMENT)
        jobs = EXPERIMENT.stages(context.config, context.data)
        stages = {job.name: planned_stage(context, job) for job in jobs}
        digests = {name: stage.digest for name, stage in stages.items() if stage}
        assert len(set(digests.values())) == len(digests) == len(jobs)
        return digests["reader-hand"]

    assert reader("0") == reader("1")


def test_other_families_plan_by_the_very_models_that_are_compared() -> None:
    """Their pre-trainings and adapters are those of experiments/families.py at scale mini."""
    compared = load_experiment(ROOT / "experiments" / "families.py")
    config, judged = EXPERIMENT.configs["mini"], compared.configs["mini"]
    cells = [cell for cell in EXPERIMENT.cells(config, {}) if cell.method in PLANNERS]
    assert {(cell.corpus, cell.seed) for cell in cells} == {("reach", 2)}
    assert set(config.family_seeds) <= set(judged.seeds)
    assert [PLANNERS[cell.method].name for cell in cells] == [n for n in judged.families if n != "pixels"]
    for cell in cells:
        read = EXPERIMENT.reads(config, cell)
        theirs = compared.reads(judged, Cell(PLANNERS[cell.method].name, config.corpus, 2))
        assert read["family_pretrain"] == theirs["pretrain"]
        assert read["adapter"] == theirs["adapter"]
        assert read["mae"] == theirs["mae"]
        assert "finetune" not in read
    jobs = {job.name: job for job in EXPERIMENT.stages(config, {})}
    assert jobs["r_gt-laq-s2"].needs == ("pretrain-r_gt-laq-s2",)
    assert jobs["r_gt-laq-s2"].cells == jobs["pretrain-r_gt-laq-s2"].cells == ("r_gt-laq/reach/s2",)
