"""Site files, the plan of a submission and the batch scripts, without Slurm."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from tests.runs.fake_slurm import fake_slurm  # noqa: F401 (a fixture)
from uwm.errors import UserError
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


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "slurm").glob("*.toml")))
def test_the_example_sites_can_be_read(name):
    assert load_site(ROOT / "slurm" / f"{name}.toml").name == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('partion = "gpu"', "unknown key 'partion'; did you mean 'partition'?"),
        ("[cells]\nhour = 3", "unknown key 'cells.hour'; did you mean 'hours'?"),
        ("nodes = 1.5", "nodes must be a int, not 1.5"),
        ("nodes = true", "nodes must be a int, not True"),
        ("hours = -1", "hours must not be negative, not -1"),
        ('setup = "module load cuda"', "setup must be a list of text"),
        ("data = 3", "data must be a table of folders by corpus name"),
        ('data = {ssv2 = ""}', "data.ssv2 is empty; write its folder"),
        ("cells = 3", "cells must be a table"),
        ("nodes = ", "Invalid value"),
        ("hours = nan", "hours must be a number, not nan"),
        ("hours = inf", "hours must be a number, not inf"),
        *((f"{key} = 0", f"{key} must be at least 1, not 0") for key in
          ("nodes", "cpus_per_task", "max_parallel", "cells_per_job")),
        *((f"{key} = 0", f"{key} must be more than 0; leave it out for its default") for key in
          ("hours", "tasks_per_node")),
        ("[cells]\nnodes = 0", "cells.nodes must be at least 1, not 0"),
        ('[stages."a/*"]\nhours = 0', "stages.a/*.hours must be more than 0"),
        ('[small."adapter*"]\nhours = 9', '[small."adapter*"]: patterns stand in [stages] and [cells]'),
        ('[reading."x"]\nhours = 9', '[reading."x"]: patterns stand in [stages] and [cells]'),
        ("time = 3", "unknown key 'time'; did you mean 'hours'?"),
        ("[cells]\nsignal = 3", "unknown key 'cells.signal'; signal_delay_s holds for all jobs, at the top"),
        ("requeue = true", "unknown key 'requeue'; the launcher sets this itself"),
        ('gpus_per_node = 8\n[sbatch]\ngres = "gpu:4"', "gpus_per_node and gres of [sbatch] both ask"),
        ('gpus_per_node = 8\n[cells.sbatch]\ngres = "gpu"', "gpus_per_node and gres of [sbatch] both"),
        ('[sbatch]\ngres = "gpu:many:of"', "sbatch.gres: 'many:of' is no number of GPUs"),
    ],
)  # fmt: skip
def test_a_wrong_site_file_is_one_line(tmp_path, text, message):
    path = tmp_path / "site.toml"
    path.write_text(text + "\n")
    with pytest.raises(UserError) as caught:
        load_site(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("table", ["sbatch", "cells.sbatch", 'stages."a-*".sbatch'])
@pytest.mark.parametrize("option", [*OWN_OPTIONS, "tim", "gpu"])
def test_the_launchers_own_options_are_no_options_of_a_site(tmp_path, option, table):
    """An option with a key of its own is named with it; sbatch takes shortened names as well."""
    path = tmp_path / "site.toml"
    key = {"tim": "hours", "gpu": "gpus_per_node"}.get(option, OWN_OPTIONS.get(option))
    for spelling in {option, option.replace("-", "_"), f"--{option}"}:
        path.write_text(f'[{table}]\n"{spelling}" = 3\n')
        with pytest.raises(UserError) as caught:
            load_site(path)
        assert "this option is the launcher's own" in str(caught.value)
        assert str(caught.value).endswith(
            f"; write {key} = ... outside of [sbatch]" if key else "; leave it out"
        )


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


def test_options_without_a_key_are_passed_on(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text('[sbatch]\ngres = "gpu:h100:4,disk:1"\nreservation = "a"\nnodelist = "n1"\n'
                    'exclusive = true\nmail_type = "END"\nmem_per_gpu = "9G"\nnice = 1\n')  # fmt: skip
    site = load_site(path)
    assert (site.cells.gpus, len(site.cells.sbatch)) == (4, 7)


def test_a_table_that_nothing_matches_is_said(project, fake_slurm, tmp_path):  # noqa: F811
    path = tmp_path / "mine.toml"
    path.write_text('[stages.weights]\nhours = 2\n[stages.nosuch]\nhours = 2\n[cells.copy]\nhours = 2\n'
                    '[cells."x/*"]\nhours = 2\n')  # fmt: skip
    for mode in ("--dry-run", "--submit"):
        code, _, error = project.run(mode, "--only", "uwm", "--site", str(path))
        assert code == 0
        assert [line for line in error.splitlines() if "warning" in line] == [
            'warning: mine: [stages."nosuch"] matches none of the stages of this run',
            'warning: mine: [cells."x/*"] matches none of the cells of this run',
        ]


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


@pytest.mark.parametrize(("scale", "gpus", "warned"), [("paper", 0, 1), ("paper", 1, 0), ("mini", 0, 0)])
def test_a_site_without_gpus_is_said_at_a_scale_that_wants_them(project, tmp_path, scale, gpus, warned):
    path = tmp_path / "mine.toml"
    path.write_text(f"gpus_per_node = {gpus}\n")
    code, _, err = project.run("--dry-run", "--scale", scale, "--site", str(path))
    assert (code, err.count("warning: mine asks for no GPU for trainings")) == (0, warned)


@pytest.mark.parametrize(("text", "warned"), [("", 1), ("[small]\ngpus_per_node = 1\n", 0)])
def test_a_site_whose_small_trainings_get_no_gpu_is_said(project, tmp_path, text, warned):
    path = tmp_path / "mine.toml"
    path.write_text(f"[stages]\ngpus_per_node = 8\n{text}")
    code, _, err = project.run("--dry-run", "--site", str(path))
    assert (code, err.count("warning: mine asks for no GPU for small trainings")) == (0, warned)


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
