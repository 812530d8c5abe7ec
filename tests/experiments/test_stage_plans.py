"""What is said before the stages of an experiment are computed, and which of them get a job."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.experiments.stage_plans import ROOT, SITE, context_of, counted, planned
from tests.robot_toy import write_toy
from tests.runs.fake_slurm import fake_slurm  # noqa: F401 (a fixture)
from uwm.data.corpora import ASSETS, BUNDLED, INCLUDED, open_corpus
from uwm.errors import UserError
from uwm.runs.cli import choose, main, run_experiment, stages_behind
from uwm.runs.experiment import SkipCell, load_experiment
from uwm.runs.plan import planned_stage
from uwm.runs.slurm.plan import plan_jobs
from uwm.stages.pretrained import corpus_of

pytestmark = pytest.mark.usefixtures("folders")


@pytest.mark.parametrize("name", ["table1", "figure4", "figure5", "planning"])
def test_records_of_a_scales_own_corpora_go_to_the_results(name, tmp_path):
    own = ["ssv2", "ego4d"] if name == "table1" else ["ssv2", "ego4d", "robosuite"]  # it measures no robot
    words = ["--scale", "paper", "--data", *(f"{corpus}={tmp_path}" for corpus in own)]
    assert context_of(name, *words).out == ROOT / "results" / "paper" / name
    added = context_of(name, *words, f"wild={tmp_path}")
    assert added.out == added.work / "results"


@pytest.mark.parametrize("name", ["table1", "figure4", "figure5", "planning", "families", "ablations"])
@pytest.mark.parametrize("corpus", INCLUDED)
def test_other_data_in_an_included_corpus_place_leaves_the_results_alone(name, corpus, tmp_path):
    context = context_of(name, "--scale", "mini", "--data", f"{corpus}={tmp_path}")
    assert context.out == context.work / "results"


@pytest.mark.parametrize("name", ["table1", "figure4", "figure5", "planning"])
def test_a_missing_mae_file_is_said_before_anything_is_computed(name, tmp_path, monkeypatch):
    monkeypatch.setenv("UWM_WEIGHTS", str(tmp_path))
    own = [f"{corpus}={ASSETS / BUNDLED[0]}" for corpus in ("ssv2:folder", "ego4d:folder")]
    context = context_of(name, "--scale", "paper", "--data", *own)
    with pytest.raises(UserError, match=f"{tmp_path}/mae_visualize_vit_base.pth: no such MAE checkpoint"):
        list(context.experiment.checks(context))


@pytest.mark.parametrize("name", ["table1", "figure4", "figure5", "families", "ablations"])
def test_missing_weights_of_lpips_are_said_before_anything_is_computed(name, tmp_path, monkeypatch):
    for variable in ("UWM_WEIGHTS", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    context = context_of(name)
    (warning,) = context.experiment.checks(context)
    assert "no weights of LPIPS (alex)" in warning
    assert "runs measure with lpips-random; fetch them here: python -m uwm.prefetch" in warning
    with pytest.raises(UserError, match="no weights of LPIPS"):
        list(context.experiment.checks(replace(context, scale="paper")))


def test_figure4_trains_each_cell_in_a_job_of_its_own(tmp_path):
    context = context_of("figure4", "--out", str(tmp_path / "out"))
    jobs = {job.name: job for job in planned(context, "w_ft/*")}
    assert list(jobs) == ["figure4-pretrain", "figure4-train-w_ft__sim-panda__s0", "figure4-cells"]
    assert jobs["figure4-train-w_ft__sim-panda__s0"].after_ok == ("figure4-pretrain",)
    assert [job.name for job in planned(context, "copy")] == ["figure4-pretrain", "figure4-cells"]


def test_a_cell_that_will_be_skipped_waits_for_no_training(tmp_path):
    """It still has a job, which writes the record that says so."""
    context = context_of("figure4", "--out", str(tmp_path / "out"), "--set", "curve=100000")
    (job,) = planned(context, "w_ft-100k/*")
    assert job.items == ("w_ft-100k/sim-panda/s0",)
    assert job.after_ok == ()
    names = [job.name for job in planned(context, "w_ft-100k/*,w_ft/*")]
    assert "figure4-train-w_ft__sim-panda__s0" in names
    assert not any("100k" in name for name in names)


def test_a_plan_without_a_site_shows_the_stages_of_the_chosen_cells(tmp_path, capsys):
    experiment = load_experiment(ROOT / "experiments" / "figure5.py")
    line = ["--scale", "smoke", "--dry-run", "--out", str(tmp_path / "out"), "--only"]
    assert run_experiment(experiment, [*line, "r_la/*"]) == 0
    shown = capsys.readouterr().out
    assert "stage pretrain: " in shown
    assert "adapter-" not in shown
    assert run_experiment(experiment, [*line, "r_gt/*"]) == 0
    assert "stage adapter-r_gt-sim-panda-s0: to be computed" in capsys.readouterr().out


def test_a_stage_that_is_not_needed_gets_no_job_and_cells_do_without(tmp_path, capsys):
    """A robot whose gripper no picture shows: no reader, and nobody waits for one that would fail."""
    place = write_toy(tmp_path / "toy.hdf5", demos=24)
    words = ("--scale", "smoke", "--data", f"toy={place}", "--out", str(tmp_path / "out"))
    context = context_of("figure5", *words)
    submission = plan_jobs(context, choose(context.cells, ["copy/toy"]), SITE, {}, set())
    assert [job.name for job in submission.jobs] == [
        "figure5-pretrain",
        "figure5-manifests-toy",
        "figure5-decoder-toy",
        "figure5-cells",
    ]
    told = "not needed, toy does not tell where in the picture the gripper is"
    assert submission.skipped["stage:reader-toy"] == told
    assert run_experiment(context.experiment, ["--dry-run", "--only", "copy/toy", *words]) == 0
    assert f"stage reader-toy: {told}" in capsys.readouterr().out
    (reader,) = (job for job in stages_behind(context, context.cells) if job.name == "reader-toy")
    with pytest.raises(SkipCell):
        reader.run(context)


def test_a_cell_that_will_be_skipped_takes_no_stage_from_the_others(tmp_path):
    words = ("--out", str(tmp_path / "out"), "--set", "curve=100000")
    names = [job.name for job in planned(context_of("figure5", *words), "*")]
    assert {"figure5-finetune-sim-panda-s0", "figure5-adapter-r_gt-sim-panda-s0"} <= set(names)
    assert not any("100k" in name for name in names)


def test_a_plan_opens_a_corpus_once_and_asks_for_each_file_once(wild, tmp_path, monkeypatch):
    opened = counted(monkeypatch, "uwm.stages.pretrained.open_corpus")
    stamped = counted(monkeypatch, "uwm.data.manifest_cache._stamp")
    words = ["--data", f"wild={wild}", "--pretrain-on", "wild", "--out", str(tmp_path / "out")]
    line = ["--scale", "smoke", *words, "--site", str(ROOT / "slurm" / "cpu.toml"), "--dry-run"]
    experiment = load_experiment(ROOT / "experiments" / "table1.py")
    for _ in range(2):  # a second command in this process looks anew
        assert run_experiment(experiment, line) == 0
        assert sorted(name for name, _ in opened) == sorted([*BUNDLED, "wild"])
        files = [Path(path).name for (path,) in stamped]
        assert files
        assert len(set(files)) == len(files)
        opened.clear()
        stamped.clear()


def test_what_changed_between_two_commands_is_seen(wild, tmp_path):
    words = ("--data", f"wild={wild}", "--pretrain-on", "wild", "--out", str(tmp_path / "out"))
    context = context_of("table1", *words)
    (lists,) = (job for job in context.experiment.stages(context.config, {}) if job.name == "manifests")
    first = planned_stage(context, lists)
    clip = open_corpus("wild", wild).of("train")[0]
    os.utime(wild / clip.path, (1, 1))
    assert planned_stage(context, lists) == first  # one command, one answer
    assert planned_stage(context_of("table1", *words), lists) != first
    assert planned_stage(context.afresh(), lists) != first  # a command that has waited
    (wild / clip.path).unlink()
    names = [[c.path for c in corpus_of(made, "wild").clips] for made in (context, context.afresh())]
    assert clip.path in names[0]
    assert clip.path not in names[1]


def test_figure5_shares_jobs_between_cells():
    context = context_of("figure5")
    jobs = {job.name: job for job in context.experiment.stages(context.config, context.data)}
    adapter = jobs["adapter-r_gt-sim-panda-s0"]
    assert {"r_gt/sim-panda/s0", "shuffled/sim-panda/s0", "r_gt-5-steps/sim-panda/s0"} <= set(adapter.cells)
    assert adapter.needs == ("finetune-sim-panda-s0",)
    assert planned_stage(context, jobs["decoder-sim-panda"]) is None  # its MAE is not trained yet
    assert planned_stage(context, adapter) is not None


def test_a_broken_corpus_keeps_no_other_from_being_submitted(tmp_path, fake_slurm, capsys):  # noqa: F811
    (tmp_path / "wild").mkdir()
    (tmp_path / "wild" / "a.mp4").write_bytes(b"no video")
    words = [
        "--scale",
        "smoke",
        "--data",
        f"wild={tmp_path}/wild",
        "--out",
        str(tmp_path / "out"),
        "--submit",
    ]
    assert main(load_experiment(ROOT / "experiments" / "table1.py"), words) == 2
    error = capsys.readouterr().err
    assert "without wild: corpus 'wild'" in error
    assert len(fake_slurm.scripts) == 7  # three trainings, two evaluations, two packs of cells
    (jobs,) = tmp_path.glob("runs/smoke/table1-*/jobs.jsonl")
    assert "wild" not in jobs.read_text()
