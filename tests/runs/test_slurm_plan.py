"""The plan of a submission and the batch scripts, without Slurm."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from uwm.runs.artifacts import Artifacts
from uwm.runs.experiment import Cell, Context, Experiment, StageJob, load_experiment
from uwm.runs.plan import make_plan
from uwm.runs.slurm.describe import describe
from uwm.runs.slurm.plan import dependency, plan_jobs
from uwm.runs.slurm.queue import _accounting_entries, _indices
from uwm.runs.slurm.resources import OWN_OPTIONS, Resources, gpu_count
from uwm.runs.slurm.script import sbatch_text
from uwm.runs.slurm.site import load_site
from uwm.runs.snapshot import code_digest, snapshot_digest, take_snapshot

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("golden")

SITE = """
partition = "gpu"
account = "physics"
exclude = "n[3-4]"
gpus_per_node = 8
cpus_per_task = 12
mem_gb = 500
hours = 24
modules = ["cuda/12.4"]
setup = ["source /env/bin/activate"]
python = "/env/bin/python"
max_parallel = 16

[stages]
nodes = 2

[cells]
gpus_per_node = 1
hours = 0.5

[data]
ssv2 = "/data/ssv2"
"""


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 3


def nothing(*_):
    raise AssertionError("a plan computes nothing")


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    return load_site(path)


def context(tmp_path, seeds=3):
    experiment = Experiment(
        name="toy",
        version=1,
        configs={"mini": Config(seeds)},
        cells=lambda config, data: [Cell("uwm", "ours", seed) for seed in range(config.seeds)],
        run_cell=nothing,
        stages=lambda config, data: [
            StageJob("train", nothing),
            StageJob("evaluate", nothing, needs=("train",), trains=False),
        ],
    )
    return Context(
        experiment,
        Config(seeds),
        "mini",
        {},
        Artifacts(tmp_path),
        tmp_path / "out",
        tmp_path,
        "python toy.py",
        {},
    )


def plan(tmp_path, site, seeds=3, live=(), done=()):
    made = context(tmp_path, seeds)
    return plan_jobs(made, made.cells, site, dict(live), set(done))


def test_site_tables_override_the_common_keys(site):
    assert site.stages == Resources("gpu", "physics", "", "", "n[3-4]", 2, 8, 0, 12, 500, 24)
    assert site.cells == Resources("gpu", "physics", "", "", "n[3-4]", 1, 1, 0, 12, 500, 0.5)
    assert (site.stages.processes_per_node, site.stages.gpu_hours) == (8, 384)
    assert site.data == {"ssv2": "/data/ssv2"}


def test_all_that_a_script_asks_by_a_key_is_refused_as_an_option(tmp_path):
    """What the launcher writes into a script itself, however a site sets its keys."""
    path = tmp_path / "site.toml"
    texts = "".join(
        f'{key} = "a"\n' for key in ("partition", "account", "qos", "constraint", "exclude", "wckey")
    )
    path.write_text(f"{texts}gpus_per_node = 2\nmem_gb = 3\n")
    *_, cells = plan(tmp_path, load_site(path)).jobs
    text = sbatch_text(cells, load_site(path), tmp_path, tmp_path)
    written = set(re.findall(r"^#SBATCH --([a-z-]+)", text, re.M))
    assert {"time", "nodes", "array", "mem", "wckey"} < written
    assert written <= OWN_OPTIONS.keys()


def test_stages_come_first_and_cells_wait_for_them(tmp_path, site):
    train, evaluate, cells = plan(tmp_path, site).jobs
    assert (train.items, train.after_ok, train.resources) == (("stage:train",), (), site.stages)
    assert (evaluate.after_ok, evaluate.resources) == (("toy-train",), site.cells)
    assert cells.items == ("uwm/ours/s0", "uwm/ours/s1", "uwm/ours/s2")
    assert cells.after_ok == ("toy-train", "toy-evaluate")
    assert dependency(cells, {"toy-train": "7", "toy-evaluate": "8"}) == "afterok:7:8"


def test_what_is_done_or_queued_gets_no_job(tmp_path, site):
    live = {"stage:train": "5", "uwm/ours/s1": "6_1"}
    made = plan(tmp_path, site, live=live.items(), done=["uwm/ours/s0"])
    evaluate, cells = made.jobs
    assert (evaluate.after_ok, dependency(evaluate, {})) == (("5",), "afterok:5")
    assert cells.items == ("uwm/ours/s2",)
    assert made.skipped == {
        "uwm/ours/s0": "done", "stage:train": "already job 5", "uwm/ours/s1": "already job 6_1",
    }  # fmt: skip
    everything = [f"uwm/ours/s{seed}" for seed in range(3)]
    assert plan(tmp_path, site, done=everything).jobs == ()


def test_long_arrays_are_split_and_stay_below_the_limit_together(tmp_path, site):
    site = dataclasses.replace(site, max_array=4, max_parallel=2)
    *_, a, b, c = plan(tmp_path, site, seeds=10).jobs
    assert [len(job.items) for job in (a, b, c)] == [4, 4, 2]
    assert [job.parallel for job in (a, b, c)] == [1, 1, 1]
    assert (a.after_any, b.after_any, c.after_any) == ((), (), ("toy-cells-part-0",))


@pytest.mark.parametrize("name", ["toy-train", "toy-cells"])
def test_batch_script(tmp_path, site, name):
    """The scripts in `golden` are what is meant to be sent."""
    job = next(job for job in plan(tmp_path, site).jobs if job.name == name)
    text = sbatch_text(job, site, Path("/runs/my run/code"), Path("/runs/my run"))
    assert text.rstrip() == (GOLDEN / f"{name}.sbatch").read_text().rstrip()


def test_the_plan_counts_gpu_hours(tmp_path, site):
    lines = list(describe(plan(tmp_path, site), site))
    assert lines[0] == "toy-train: stage:train; 2 x 8 processes, 8 GPUs per node, 12 CPUs each, 24 h"
    assert lines[-1] == "site site: 3 jobs, at most 386 GPU hours per attempt"  # 2*8*24 + 0.5 + 3*0.5


def test_dry_run_needs_no_slurm(project, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    code, out, _ = project.run("--dry-run", "--site", str(path))
    assert code == 0
    assert "# ---- toy-cells: sbatch --dependency=afterok:<toy-weights> --kill-on-invalid-dep=yes" in out
    content = json.loads(project.run("--dry-run", "--json", "--site", str(path))[1])
    assert [job["name"] for job in content["jobs"]] == ["toy-weights", "toy-cells"]
    code, _, error = project.run("--submit", "--site", str(path))
    assert (code, error.count("\n")) == (2, 1)
    assert "no sbatch on this machine" in error


def test_the_graph_counts_gpu_hours_at_the_rate_of_the_site(project, tmp_path):
    path = tmp_path / "site.toml"
    path.write_text("gpus_per_node = 2\nhours = 3\n[cells]\nhours = 0.5\n")
    stage, cells, how = project.run("--dry-run", "--graph", "--site", str(path))[1].splitlines()
    assert stage.endswith("3 h; 0.00714 GPU hours counted, at most 6 GPU hours")
    assert how.startswith("counted at 280 TFLOP/s a GPU, as an H200 reaches at scale paper; ")
    assert how.endswith(" set tflops in the site file")
    assert cells.startswith("    toy-cells: ")
    assert cells.endswith("; at most 3 GPU hours")  # the toy counts no measuring
    path.write_text(f"tflops = 0.5\n{path.read_text()}")
    stage, again, how = project.run("--dry-run", "--graph", "--site", str(path))[1].splitlines()
    assert stage.endswith("3 h; 4 GPU hours counted, at most 6 GPU hours")
    assert (again, how) == (cells, "counted at 0.5 TFLOP/s a GPU, as site says; measuring at 30, in fp32")
    path.write_text("gpus_per_node = 2\n[stages]\ngpus_per_node = 0\n")
    *_, how = project.run("--dry-run", "--graph", "--site", str(path))[1].splitlines()
    assert how.startswith("no job with a GPU")
    path.write_text("hours = 3\n")
    *_, how = project.run("--dry-run", "--graph", "--site", str(path))[1].splitlines()
    assert how == "no job asks for a GPU: no GPU hours are counted"


def test_answers_of_slurm_are_understood():
    assert _indices("0-2,5%4") == [0, 1, 2, 5]
    text = "12|COMPLETED|n1\n13_3|FAILED|n2\n13_[4-5%2]|CANCELLED by 0|None assigned\n"
    found = {job: (entry.state, entry.nodes) for job, entry in _accounting_entries(text)}
    cancelled = ("CANCELLED", "")
    expected = {"12": ("COMPLETED", "n1"), "13_3": ("FAILED", "n2"), "13_4": cancelled, "13_5": cancelled}
    assert found == expected


def test_a_snapshot_holds_the_code_and_links_the_assets(tmp_path):
    tree = tmp_path / "tree"
    for name in ("uwm/a.py", "uwm/__pycache__/a.pyc", "uwm/assets/big.bin", "experiments/e.py", "notes.md"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    folder, digest = take_snapshot(tree, tree, tmp_path / "work")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["experiments/e.py", "uwm/a.py"]
    assert (folder / "uwm/assets/big.bin").read_text() == "uwm/assets/big.bin"
    assert code_digest(folder) == digest == code_digest(tree)
    assert take_snapshot(tree, tree, tmp_path / "work") == (folder, digest)
    assert snapshot_digest(tree, tree) == digest
    (tree / "uwm/a.py").write_text("changed")
    assert take_snapshot(tree, tree, tmp_path / "work")[1] != digest


@pytest.fixture(scope="module")
def figure5(tmp_path_factory):
    """The context of Figure 5 at scale smoke, with nothing finished."""
    folder = tmp_path_factory.mktemp("figure5")
    experiment = load_experiment(ROOT / "experiments" / "figure5.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UWM_CACHE", str(folder / "cache"))
        patch.setenv("UWM_RUNS", str(folder / "runs"))
        made = make_plan(experiment, [], scale="smoke", settings=(), data={}, out=None, recompute=False)
        return made.context(experiment)


@pytest.mark.parametrize("name", ["gpu-8", "a100-apptainer", "h100-pyxis", "preemptible", "offline"])
def test_a_small_training_takes_one_gpu(figure5, name):
    """Of Figure 5 the pre-training alone takes a node: the others would each hold every state in 8 processes,
    and run one after the other."""
    site = load_site(ROOT / "slurm" / f"{name}.toml")
    jobs = plan_jobs(figure5, figure5.cells, site, {}, set()).jobs
    texts = {job.name: sbatch_text(job, site, figure5.work, figure5.work) for job in jobs}
    asked = {name: re.findall(r"--(?:gpus-per-node|gres)=(\S+)", text) for name, text in texts.items()}
    several = {name for name, (gpus,) in asked.items() if gpu_count(gpus.removeprefix("gpu:")) > 1}
    assert several == {"figure5-pretrain"}
    kinds = ("decoder", "reader", "finetune", "adapter", "direct", "no-action", "ficc", "adapter-ficc")
    for kind in kinds:
        job = next(name for name in texts if name.startswith(f"figure5-{kind}-"))
        assert "#SBATCH --ntasks-per-node=1\n" in texts[job]


def test_a_table_changes_the_small_trainings(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text("gpus_per_node = 8\n[cells]\ngpus_per_node = 1\nhours = 3\n[small]\nhours = 5\n")
    site = load_site(path)
    one, small = StageJob("pretrain", nothing), StageJob("adapter", nothing, small=True)
    evaluated = StageJob("evaluate", nothing, trains=False)
    found = [(wanted.gpus, wanted.hours) for wanted in map(site.for_stage, (one, small, evaluated))]
    assert found == [(8, 1), (1, 5), (1, 3)]
