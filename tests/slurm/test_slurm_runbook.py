"""The commands of docs/paper-scale.md, section Run, on the cluster: sent, asked, collected."""

import json
import shlex

import pytest

from tests.test_runbook import lines_of, run, tree  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slurm


@pytest.mark.slow
def test_table1_is_sent_watched_and_collected(cluster, tree):  # noqa: F811
    site = tree / "SITE.toml"
    text = site.read_text(encoding="utf-8")
    site.write_text(
        text.replace("gpus_per_node = 8", 'partition = "low"'), encoding="utf-8"
    )  # no such nodes here
    sent, asked, collected = (shlex.split(line)[1:] for line in lines_of("Run") if "table1" in line)
    assert [words[-1] for words in (sent, asked, collected)] == ["--submit", "--status", "--collect"]
    done = run(sent, tree)
    assert done.returncode == 0, done.stderr[-2000:]
    cluster.wait_until_empty(600)
    state = run([*asked, "--json"], tree)
    assert state.returncode == 0, state.stderr[-2000:]
    assert {row["state"] for row in json.loads(state.stdout)} == {"done"}
    gathered = run(collected, tree)
    assert gathered.returncode == 0, gathered.stderr[-2000:]
    records = [
        json.loads(path.read_text()) for path in (tree / "results" / "paper" / "table1").glob("*.json")
    ]
    assert {record["cell"].split("/")[1] for record in records} == {"ssv2", "ego4d"}
    assert {record["status"] for record in records} == {"ok"}
