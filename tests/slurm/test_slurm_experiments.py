"""A cell of each experiment at scale smoke by several processes: the numbers of one.

By slurm/job.sbatch, two processes of torchrun train everything anew; without Slurm's daemons bash runs that
file. By `--submit`, 2 nodes x 2 train what `ANEW` names, and take the rest from the first run (Table 1 trains
everything so in test_slurm_table1.py).
"""

import json
import shutil
from pathlib import Path

import pytest

from uwm.data.corpora import IN_DOMAIN
from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment

ROOT = Path(__file__).resolve().parents[2]
# Sums in another order; with a model of a few steps LPIPS to O_t is next to zero, and the ratio to it shakes.
TOLERANCE = 5e-3
TIMES = {"seconds_per_decision"}
CELLS = {
    "table1": f"uwm/{IN_DOMAIN}",  # a robot's, and nothing is trained on it
    "figure4": f"w_ft-no-codebook/{IN_DOMAIN}/s0",
    "figure5": f"r_gt/{IN_DOMAIN}/s0",
    "families": f"ours/{IN_DOMAIN}/s0",
    "ablations": f"base/{IN_DOMAIN}",
    "planning": "r_gt-8/reach/s0",
}
MORE = {"table1": ["--set", f"corpora={IN_DOMAIN}"]}
ANEW = {
    "figure4": ("finetune",),
    "figure5": ("adapter",),
    "families": ("family", "reader-hand-in-picture", "adapter"),
    "ablations": ("ablation", "world-model"),
    "planning": ("adapter",),
}
SENT = {
    "figure4": ["train-w_ft-no-codebook__sim-panda__s0", "cells"],
    "figure5": ["adapter-r_gt-sim-panda-s0", "cells"],
    "families": ["cells"],
    "ablations": ["pretrain-base", "cells"],
    "planning": ["r_gt-8-s0", "cells"],
}
FOUR = "nodes = 2\ntasks_per_node = 2\n"
SITE = f'partition = "low"\n[stages]\n{FOUR}[cells."ours/*"]\n{FOUR}'  # its cell trains, too


def words(name: str, folder: Path) -> list[str]:
    return ["--scale", "smoke", "--only", CELLS[name], *MORE.get(name, []), "--out", f"{folder}/out"]


def places(folder: Path) -> dict[str, str]:
    """Runs and cache of its own: nothing that another run has measured or played is taken."""
    return {"UWM_RUNS": f"{folder}/runs", "UWM_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}


def run(name: str, folder: Path, *arguments: str) -> int:
    """The command line in this process, which is one of no others."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("UWM_WEIGHTS", "UWM_SITE", "RANK", "WORLD_SIZE"):
            patch.delenv(variable, raising=False)
        for variable, value in places(folder).items():
            patch.setenv(variable, value)
        experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
        return main(experiment, [*arguments, *words(name, folder)])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of an experiment's run by one process; all share a cache, as experiments do."""
    folder, done = tmp_path_factory.mktemp("alone"), set()

    def measured(name: str) -> Path:
        if name not in done:
            assert run(name, folder) == 0
            done.add(name)
        return folder

    return measured


def record(folder: Path, name: str) -> dict:
    return json.loads((folder / "out" / f"{CELLS[name].replace('/', '__')}.json").read_text())


def assert_same_numbers(name: str, one: Path, several: Path) -> None:
    alone, together = record(one, name), record(several, name)
    assert together["config_digest"] == alone["config_digest"]
    assert together["metrics"].keys() == alone["metrics"].keys()
    for metric in alone["metrics"].keys() - TIMES:
        found, wanted = together["metrics"][metric], alone["metrics"][metric]
        assert found["value"] == pytest.approx(wanted["value"], rel=TOLERANCE, abs=1e-4), metric
        assert found["n"] == wanted["n"]


@pytest.mark.parametrize("name", CELLS)
def test_two_processes_of_torchrun_by_the_batch_file(name, alone, batch_file, tmp_path):
    one = alone(name)
    batch_file([f"experiments/{name}.py", *words(name, tmp_path)], places(tmp_path), tmp_path / "log.txt")
    assert (tmp_path / "out").is_dir(), (tmp_path / "log.txt").read_text()[-3000:]
    assert_same_numbers(name, one, tmp_path)


@pytest.mark.slurm
@pytest.mark.parametrize("name", ANEW)
def test_two_nodes_of_two_processes(name, alone, cluster, tmp_path, capsys):
    one = alone(name)
    anew = [f"{stage}-*" for stage in ANEW[name]]
    shutil.copytree(one / "cache", tmp_path / "cache", ignore=shutil.ignore_patterns(*anew))
    site = tmp_path / "site.toml"
    site.write_text(SITE)
    capsys.readouterr()
    assert run(name, tmp_path, "--submit", "--site", str(site)) == 0
    sent = [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines() if " items)" in line]
    assert sent == [f"{name}-{job} (1 items)" for job in SENT[name]]
    cluster.wait_until_empty(500)
    logs = "".join(path.read_text()[-2000:] for path in tmp_path.rglob("*_log.out"))
    assert run(name, tmp_path, "--collect") == 0, (capsys.readouterr(), logs)
    for stage in ANEW[name]:
        assert [*tmp_path.glob(f"cache/{stage}-*")]
    assert_same_numbers(name, one, tmp_path)
