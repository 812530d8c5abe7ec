"""Experiments on the cluster by several processes: the numbers of one.

By `--submit` two nodes train what `ANEW` names, and take the rest of the first run. The batch file is run by
each experiment in tests/experiments/test_two_ranks.py, and on this cluster in test_slurm_ranks.py. Table 1 is
submitted in test_slurm_table1.py; here is what differs in kind: adapters, trainings within a cell, simulators
beside ranks.
"""

import json
import shutil

import pytest

from tests.experiments.test_two_ranks import CELLS, assert_same_numbers, run

pytestmark = pytest.mark.slurm
ANEW = {
    "figure4": ("finetune",),
    "figure5": ("adapter",),
    "families": ("family", "reader-hand-in-picture", "adapter"),
    "ablations": ("world-model", "ablation-codes-12"),
    "planning": ("adapter",),
}
SENT = {
    "figure4": ["train-w_ft-no-codebook__sim-panda__s0"],
    "figure5": ["adapter-r_gt-sim-panda-s0"],
    "families": ["reader-sim-panda", "adapter-8-ours-sim-panda-s0", "adapter-ours-sim-panda-s0"],
    "ablations": ["pretrain-codes-12"],
    "planning": ["r_gt-8-s0"],
}
# By their memory, two such jobs at a time: this machine is one.
SITE = """
partition = "low"
mem_gb = 6
[stages]
nodes = 2
tasks_per_node = 2
[small]
nodes = 2
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of the runs by one process; all share a cache, as experiments do."""
    folder = tmp_path_factory.mktemp("alone")
    assert [name for name in ANEW if run(name, folder) != 0] == []
    return folder


@pytest.fixture(scope="module")
def submitted(alone, cluster, tmp_path_factory):
    """A folder for each experiment, submitted without what `ANEW` names. All before any has ended."""
    folders = {name: tmp_path_factory.mktemp(f"submit-{name}") for name in ANEW}
    for name, folder in folders.items():
        anew = [f"{stage}-*" for stage in ANEW[name]]
        shutil.copytree(alone / "cache", folder / "cache", ignore=shutil.ignore_patterns(*anew))
        (folder / "site.toml").write_text(SITE)
        assert run(name, folder, "--submit", "--site", f"{folder}/site.toml") == 0
    cluster.wait_until_empty(600)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("name", ANEW)
def test_two_nodes(name, alone, submitted, capsys):
    folder = submitted[name]
    logs = "".join(path.read_text()[-2000:] for path in folder.rglob("*_log.out"))
    assert run(name, folder, "--collect") == 0, (capsys.readouterr(), logs)
    (jobs,) = folder.rglob("jobs.jsonl")
    sent = [json.loads(line)["item"] for line in jobs.read_text().splitlines()]
    assert sent == [*(f"stage:{job}" for job in SENT[name]), CELLS[name]]
    for stage in ANEW[name]:
        assert [*folder.glob(f"cache/{stage}-*")]
    assert_same_numbers(name, alone, folder)
