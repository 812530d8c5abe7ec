"""The stage jobs of the experiments are the trainings that their cells look for; what is said before them."""

import os
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from tests.robot_toy import write_toy
from tests.runs.fake_slurm import fake_slurm  # noqa: F401 (a fixture)
from uwm.data.corpora import ASSETS, BUNDLED, INCLUDED, bundled, open_corpus
from uwm.data.manifest import build_manifest
from uwm.data.selection import frozen_pairs
from uwm.errors import UserError
from uwm.runs.artifacts import NotThere
from uwm.runs.cli import choose, main, plan_of, run_experiment, stages_behind
from uwm.runs.experiment import SkipCell, load_experiment
from uwm.runs.options import build_parser
from uwm.runs.plan import planned_stage
from uwm.runs.slurm.plan import plan_jobs
from uwm.runs.slurm.resources import Resources
from uwm.runs.slurm.site import Site
from uwm.stages.comparison_pairs import test_manifest as frozen_test_pairs
from uwm.stages.pretrained import corpus_of

ROOT = Path(__file__).resolve().parents[2]
SITE = Site("site", Resources(), Resources())


def context_of(name, *words):
    experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
    options = build_parser(experiment.name).parse_args(["--scale", "smoke", *words])
    return plan_of(experiment, options, [], None).context(experiment)


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


def planned(context, pattern):
    return plan_jobs(context, choose(context.cells, [pattern]), SITE, {}, set()).jobs


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """The lists of the bundled corpora's pairs: each is made by the first test that needs it."""
    return tmp_path_factory.mktemp("lists")


@pytest.fixture(autouse=True)
def folders(lists, tmp_path, monkeypatch):
    monkeypatch.setenv("UWM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    kept = shutil.copytree(lists, tmp_path / "cache" / "manifests")
    yield
    for path in kept.glob("sim-*"):
        shutil.copyfile(path, lists / path.name)


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


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("table1", "uwm/sim-ego"),
        ("figure4", "w_ft/*"),
        ("figure5", "r_gt/*,direct/*,ficc-la/*"),
        ("families", "ours/sim-third-person,pixels/sim-third-person"),
        ("ablations", "base/*"),
        ("planning", "r_gt-8/*"),
    ],
)
def test_what_the_cells_have_trained_needs_no_job(name, pattern, tmp_path):
    words = ("--out", str(tmp_path / "out"))
    context = context_of(name, *words)
    before = [job.name for job in planned(context, pattern)]
    assert len(before) > 1
    experiment = context.experiment
    assert run_experiment(experiment, ["--scale", "smoke", "--only", pattern, *words]) == 0
    (cells,) = planned(context_of(name, *words), pattern)
    assert cells.name == f"{name}-cells"


@pytest.mark.parametrize(
    ("name", "pattern", "more"),
    [
        ("table1", "uwm/*", ("--set", "corpora=sim-panda")),
        ("figure4", "w_ft/*", ()),
        ("figure5", "r_gt/*,direct/*,ficc/*,r_gt-lpips-decoder/*", ()),
        ("families", "ours/sim-panda,pixels/sim-panda,adaworld/sim-third-person", ()),
        ("ablations", "base/*", ()),
        ("planning", "r_gt-8/reach", ()),
    ],
)
def test_what_the_jobs_have_trained_the_cells_only_read(name, pattern, more, tmp_path):
    words = ("--scale", "smoke", "--out", str(tmp_path / "out"), *more)
    context = context_of(name, *words)
    jobs = stages_behind(context, choose(context.cells, [pattern]))
    assert len(jobs) > 1 or name == "ablations"
    for job in jobs:
        job.run(context)

    def trained():
        return {path.parent.name for path in tmp_path.glob("cache/*/weights.safetensors")}

    before = trained()
    assert before
    assert run_experiment(context.experiment, ["--only", pattern, *words]) == 0
    assert trained() - before == set()


@pytest.fixture
def wild(tmp_path, monkeypatch):
    """A dozen clips, which count as many."""
    folder = tmp_path / "wild"
    folder.mkdir()
    corpus = bundled(BUNDLED[0])
    for clip in corpus.of("test")[:12]:
        shutil.copy(corpus.file(clip), folder)
    monkeypatch.setattr("uwm.stages.pretrained.MANY_CLIPS", 3)
    return folder


@pytest.mark.parametrize("name", ["table1", "figure4", "figure5", "planning", "families", "ablations"])
def test_lists_of_pairs_are_a_job_without_a_gpu_and_no_plan_makes_them(name, wild, tmp_path):
    words = ("--data", f"wild={wild}", "--pretrain-on", "wild", "--out", str(tmp_path / "out"))
    context = context_of(name, *words)
    stages = {job.name: job for job in context.experiment.stages(context.config, context.data)}
    site = Site("gpus", Resources(gpus_per_node=8), Resources(gpus_per_node=1), Resources(cpus_per_task=32))
    jobs = {job.name: job for job in plan_jobs(context, context.cells, site, {}, set()).jobs}
    lists = jobs[f"{name}-manifests"]
    assert (lists.resources.gpus_per_node, lists.resources.cpus_per_task) == (0, 32)
    first = [
        job for job in stages if "pretrain" not in stages[job].needs
    ]  # others wait for it, and so for these
    trainings = [job for job in first if job == "mae" or job.startswith("pretrain")]
    after = [job for job in jobs if lists.name in jobs[job].after_ok]
    assert [job for job in after if "-reader-" not in job] == [f"{name}-{job}" for job in trainings]
    assert planned_stage(context, stages[trainings[0]]) is None
    assert list(tmp_path.glob("cache/manifests/wild-*.csv")) == []
    stages["manifests"].run(context)
    assert len(list(tmp_path.glob("cache/manifests/wild-train-*.digests.json"))) == 1
    assert planned_stage(context, stages[trainings[0]]) is not None
    assert f"{name}-manifests" not in [job.name for job in planned(context, "*")]


@pytest.mark.parametrize(
    ("name", "pattern"), [("table1", "uwm/*"), ("families", "ours/*"), ("ablations", "base/*")]
)
def test_lists_of_test_pairs_are_a_job_without_a_gpu_and_no_evaluation_makes_them(
    name, pattern, wild, tmp_path, monkeypatch
):
    """Of a corpus that nothing is trained on: every clip is opened."""
    monkeypatch.setattr("uwm.data.selection.MANY_CLIPS", 3)
    words = ("--scale", "smoke", "--data", f"wild={wild}", "--out", str(tmp_path / "out"))
    context = context_of(name, *words)
    site = Site("gpus", Resources(gpus_per_node=8), Resources(gpus_per_node=1), Resources(cpus_per_task=32))
    cells = choose(context.cells, [pattern])
    jobs = {job.name: job for job in plan_jobs(context, cells, site, {}, set()).jobs}
    lists = jobs[f"{name}-manifests-wild"]
    assert (lists.resources.gpus_per_node, lists.resources.cpus_per_task) == (0, 32)
    assert lists.after_ok == ()
    (after,) = (job for job in jobs.values() if lists.name in job.after_ok)
    assert after.items in (("stage:evaluate-wild",), ("ours/wild/s0",), ("base/wild",))
    assert not any(part.partition("manifests-")[2] for part in jobs if part != lists.name)  # ours are listed
    assert list(tmp_path.glob("cache/manifests/wild-*")) == []
    opened = counted(monkeypatch, "uwm.data.manifest_cache.build_manifest")
    for job in stages_behind(context, cells):
        if job.name == "manifests-wild":
            job.run(context)
    assert [corpus.name for corpus, _ in opened] == ["wild"]
    assert lists.name not in [job.name for job in planned(context_of(name, *words), "*")]
    assert (
        run_experiment(
            context.experiment, ["--only", next(cell.name for cell in cells if cell.corpus == "wild"), *words]
        )
        == 0
    )
    assert [corpus.name for corpus, _ in opened].count("wild") == 1


@pytest.mark.parametrize(
    ("name", "pattern", "more"),
    [
        ("figure4", "w_ft/toy", ("--data", "toy={}")),
        ("figure5", "r_gt/toy", ("--data", "toy={}")),
        ("planning", "r_gt-8/reach", ("--data", "toy={}", "--set", "corpus=toy")),
    ],
)
def test_lists_of_a_robots_pairs_are_a_job_without_a_gpu_and_no_other_makes_them(
    name, pattern, more, tmp_path, monkeypatch
):
    monkeypatch.setattr("uwm.data.selection.MANY_CLIPS", 3)
    place = write_toy(tmp_path / "toy.hdf5", demos=24)
    words = ("--scale", "smoke", "--out", str(tmp_path / "out"), *(word.format(place) for word in more))
    context = context_of(name, *words)
    site = Site("gpus", Resources(gpus_per_node=8), Resources(gpus_per_node=1), Resources(cpus_per_task=32))
    cells = choose(context.cells, [pattern])
    jobs = {job.name: job for job in plan_jobs(context, cells, site, {}, set()).jobs}
    lists = jobs.pop(f"{name}-manifests-toy")
    assert (lists.resources.gpus_per_node, lists.resources.cpus_per_task) == (0, 32)
    assert lists.after_ok == jobs.pop(f"{name}-pretrain").after_ok == ()
    assert len(jobs) > 1
    assert all(lists.name in job.after_ok for job in jobs.values())
    assert list(tmp_path.glob("cache/manifests/toy-*")) == []
    stages = {job.name: job for job in stages_behind(context, cells)}
    stages["manifests-toy"].run(context)
    assert lists.name not in [job.name for job in planned(context_of(name, *words), pattern)]
    if name != "planning":  # of another robot than the toy
        opened = counted(monkeypatch, "uwm.data.manifest_cache.build_manifest")
        assert run_experiment(context.experiment, ["--only", pattern, *words]) == 0
        assert [read for corpus, *read in opened if corpus.name == "toy"] == []


def test_the_lists_of_every_seed_are_made_by_their_job(wild, tmp_path, monkeypatch):
    words = ("--data", f"wild={wild}", "--pretrain-on", "wild", "--out", str(tmp_path / "out"),
             "--set", "pretrain.pairs=9", "pretrain.views=0", "seeds=0,1", "families=ours")  # fmt: skip
    context = context_of("families", *words)
    stages = {job.name: job for job in context.experiment.stages(context.config, context.data)}
    for name in ("mae", "pretrain-ours-s0", "pretrain-ours-s1"):
        assert planned_stage(context, stages[name]) is None
    assert planned_stage(context, stages["manifests"]) is not None
    opened = counted(monkeypatch, "uwm.data.manifest_cache.build_manifest")
    stages["manifests"].run(context)
    assert sorted(split for _, split in opened) == ["train"] * 2 + ["validation"] * 2
    folders = {planned_stage(context, stages[f"pretrain-ours-s{seed}"]).folder_name for seed in (0, 1)}
    assert (len(folders), len(opened)) == (2, 4)


def test_all_pairs_are_listed_once_whatever_the_seed(monkeypatch):
    opened = counted(monkeypatch, "uwm.data.manifest_cache.build_manifest")
    corpus = bundled(BUNDLED[0])
    every = [frozen_pairs(corpus, "test", 0.4, None, seed, visits) for seed in (0, 1) for visits in (1, 8)]
    assert len(opened) == 1
    assert {made.sha256 for made in every} == {build_manifest(corpus, "test", gap=0.4, seed=5).sha256}
    some = {frozen_pairs(corpus, "test", 0.4, 9, seed).sha256 for seed in (0, 1)}
    assert len(some) == 2


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


def counted(monkeypatch, name):
    """The arguments of each call of a function, which does what it did before."""
    module, _, attribute = name.rpartition(".")
    calls, real = [], getattr(import_module(module), attribute)
    monkeypatch.setattr(name, lambda *words, **options: (calls.append(words), real(*words, **options))[1])
    return calls


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


def test_no_plan_lists_test_pairs(wild, tmp_path, monkeypatch):
    monkeypatch.setattr("uwm.data.selection.MANY_CLIPS", 3)
    context = context_of("table1", "--data", f"wild={wild}", "--out", str(tmp_path / "out"))
    plan = replace(context, artifacts=replace(context.artifacts, find_only=True))
    with pytest.raises(NotThere, match="test pairs of wild"):
        frozen_test_pairs(plan, "wild")
    assert list(tmp_path.glob("cache/manifests/wild-*")) == []
    made = frozen_test_pairs(context, "wild")
    assert frozen_test_pairs(plan, "wild").sha256 == made.sha256


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
