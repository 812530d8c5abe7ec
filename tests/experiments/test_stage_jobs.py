"""The stage jobs of the experiments are the trainings that their cells look for."""

from dataclasses import replace

import pytest

from tests.experiments.stage_plans import context_of, counted, planned
from tests.robot_toy import write_toy
from uwm.data.corpora import BUNDLED, bundled
from uwm.data.manifest import build_manifest
from uwm.data.selection import frozen_pairs
from uwm.runs.artifacts import NotThere
from uwm.runs.cli import choose, run_experiment, stages_behind
from uwm.runs.plan import planned_stage
from uwm.runs.slurm.plan import plan_jobs
from uwm.runs.slurm.resources import Resources
from uwm.runs.slurm.site import Site
from uwm.stages.comparison_pairs import test_manifest as frozen_test_pairs

pytestmark = pytest.mark.usefixtures("folders")


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_no_plan_lists_test_pairs(wild, tmp_path, monkeypatch):
    monkeypatch.setattr("uwm.data.selection.MANY_CLIPS", 3)
    context = context_of("table1", "--data", f"wild={wild}", "--out", str(tmp_path / "out"))
    plan = replace(context, artifacts=replace(context.artifacts, find_only=True))
    with pytest.raises(NotThere, match="test pairs of wild"):
        frozen_test_pairs(plan, "wild")
    assert list(tmp_path.glob("cache/manifests/wild-*")) == []
    made = frozen_test_pairs(context, "wild")
    assert frozen_test_pairs(plan, "wild").sha256 == made.sha256
