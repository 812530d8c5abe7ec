"""Corpora that a user adds by --data or a site file: whose records go where."""

from pathlib import Path

import pytest

from uwm.runs.experiment import load_experiment
from uwm.runs.plan import make_plan


def test_added_data_gives_cells_of_its_own_beside_the_committed_results(project, tmp_path):
    (tmp_path / "clips").mkdir()
    code, out, _ = project.run("--data", f"wild={tmp_path / 'clips'}")
    assert code == 0
    assert "uwm/wild/s1 ok" in out
    (folder,) = project.root.glob("runs/mini/toy-*/results")
    assert (
        project.record("copy__wild", folder)["run"]["command"]
        == "python experiments/toy.py --data wild=clips"
    )
    assert not project.results.exists()


def pretrain_on_wild(project):
    text = project.file.read_text()
    project.file.write_text(
        text.replace('pretrain_on: tuple[str, ...] = ("ours",)', 'pretrain_on: tuple[str, ...] = ("wild",)')
    )


@pytest.mark.parametrize(
    ("given", "is_usual"), [(["wild"], True), (["ours"], False), (["wild", "ours"], False)]
)
def test_data_of_corpora_that_do_not_come_with_the_project_give_results(project, given, is_usual):
    """As ssv2, ego4d and robosuite at scale paper, which no repository can bring along."""
    pretrain_on_wild(project)
    places = {name: f"/there/{name}" for name in given}
    experiment = load_experiment(project.file)
    plan = make_plan(experiment, [], scale="mini", settings=(), data=places, out=None, recompute=False)
    assert (Path(plan.out) == project.results) == is_usual


def test_a_site_file_tells_where_corpora_lie_and_adds_none(project, tmp_path):
    """One file serves all experiments: Table 1 does not measure the place of Figure 4's robot."""
    site = tmp_path / "site.toml"
    pretrain_on_wild(project)
    site.write_text('[data]\nwild = "/there/wild"\nrobots = "/there/robots"\n')
    code, out, _ = project.run("--site", str(site))
    assert code == 0
    assert "robots" not in out
    assert project.record("copy__ours")["status"] == "ok"  # in results/


def test_pretrain_on_sets_the_field(project):
    project.run("--pretrain-on", "ours,wild", "--only", "copy")
    (folder,) = project.root.glob("runs/mini/toy-*/results")
    assert project.record("copy__ours", folder)["config"]["pretrain_on"] == ["ours", "wild"]
