"""The committed records: they match the schema, are current, and tell nothing of the machine they ran on.

The generated files are checked where they are cheap to make: README's table and `paper/out`'s texts.
"""

import re
import socket
from fnmatch import fnmatch
from pathlib import Path

import pytest

from paper.integrity import CLIPS_OF_INTERVAL, record_faults
from paper.store import ROOT, Results, read_json, scales_at
from uwm.runs.record import record_problems

RECORDS = sorted(
    path for scale in scales_at(ROOT / "results") for path in (ROOT / "results" / scale).glob("*/*.json")
)
NAMES = [path.relative_to(ROOT / "results").as_posix() for path in RECORDS]
PRIVATE = re.compile(r"/home/|/root/|/Users/|/tmp/|/opt/|/srv/|[A-Za-z]:\\\\")
each_record = pytest.mark.parametrize("path", RECORDS, ids=NAMES)


@each_record
def test_record_matches_the_schema(path):
    assert list(record_problems(path)) == []


@each_record
def test_record_is_private(path):
    text = path.read_text(encoding="utf-8")
    assert PRIVATE.findall(text) == []
    host = socket.gethostname()
    assert len(host) < 4 or host == "localhost" or host not in text


@each_record
def test_record_is_of_the_current_cell(path):
    """The digest of the experiment's present version and config, not of those that the record holds."""
    pytest.importorskip("torch")
    from uwm.runs.experiment import load_experiment
    from uwm.runs.stale import staleness

    experiment = load_experiment(ROOT / "experiments" / f"{read_json(path)['experiment']}.py")
    assert staleness(experiment, path) is None


def test_committed_records_follow_from_their_samples():
    assert record_faults(Results()) == []


# Cells of scale mini that are declared and not measured yet, and why. A line with nothing missing goes.
UNMEASURED = {
    "ablations/patch-*/*": "another MAE, with more tokens, takes hours on two cores",
    "families/pixels/*/s2": "its training takes 20 GB of memory, more than the machine of the third seed had",
    "figure5/*/s[12]": "further seeds came after the figure",
    "planning/r_gt-*/push/*": "rows by the number of pairs were first asked to reach",
    "planning/direct-*/push/*": "likewise",
    "planning/cloning-500/push/*": "likewise",
    "planning/shuffled-plans/[lp]*": "the row was first asked to reach",
    "planning/simulator-*/[lp]*": "likewise",
    "planning/simulator/lift": "the row was first asked to reach and to push",
    "planning/cloning/lift*": "likewise",
    "planning/copy/lift": "likewise",
    "planning/*-changed-cost/*": "further costs came after the figure",
    "planning/*-state-cost/*": "likewise",
    "planning/no-action/*": "the row came after the figure",
}


def test_every_declared_cell_of_scale_mini_is_measured():
    pytest.importorskip("torch")
    from uwm.runs.experiment import load_experiment

    missing = set()
    for path in (ROOT / "experiments").glob("[!_]*.py"):
        experiment = load_experiment(path)
        declared = {cell.name for cell in experiment.cells(experiment.configs["mini"], {})}
        records = Results().cells.get(("mini", experiment.name), [])
        measured = {record.record["cell"] for record in records if record.status == "ok"}
        missing |= {f"{experiment.name}/{name}" for name in declared - measured}
    assert [name for name in sorted(missing) if not any(fnmatch(name, known) for known in UNMEASURED)] == []
    assert [known for known in UNMEASURED if not any(fnmatch(name, known) for name in missing)] == []


def test_few_clips_are_as_many_where_records_are_checked_as_where_they_are_made():
    pytest.importorskip("torch")
    from uwm.evaluation.records import FEWEST_CLIPS

    assert CLIPS_OF_INTERVAL == FEWEST_CLIPS


GENERATED = ["README.md", "experiments/README.md", "slurm/README.md", "uwm/data/README.md",
             "paper/deviations.md", "paper/deviations-details.md", "paper/out",
             "results/examples/README.md"]  # fmt: skip


@pytest.mark.parametrize("workflow", [".ci/run", ".github/workflows/ci.yml"])
def test_what_is_generated_is_compared_with_what_is_committed(workflow):
    text = (ROOT / workflow).read_text(encoding="utf-8")
    lists = re.findall(r"git (?:diff|status) .*-- ([\w./ -]+?)(?= #|\n|\))", text)
    assert lists
    assert all(names.split() == GENERATED for names in lists)


def test_private_names_are_found():
    for text in ("/home/someone/x", '"/root/x"', "C:\\\\Users"):
        assert PRIVATE.search(text)
    assert not PRIVATE.search(Path("results/mini/table1/uwm__sim-ego.json").as_posix())


def test_what_the_readme_says_in_words_is_what_the_records_say():
    """Its sentences below the table; all over the moving half."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    results = Results()

    def value(method, corpus, metric, experiment="table1"):
        return results.measure("mini", experiment, method, corpus, f"{metric}_moving", interval=False).value

    for corpus in ("sim-third-person", "sim-ego"):
        assert "more than doubles the state's error" in page
        assert 1 / value("uwm", corpus, "own_over_shuffled") > 2.1
        assert "nearer to O_t+1 than to O_t, as in the paper" in page
        assert value("uwm", corpus, "lpips_ratio") < 1
        assert (
            "nearer to O_t+1 than a copy of O_t, which is as sharp as O_t+1: in the mean, and for most"
            in page
        )
        assert value("uwm", corpus, "lpips_to_next") < value("copy", corpus, "lpips_to_next")
        assert value("uwm", corpus, "success_vs_copy") > 0.55
        assert "At 1,960 bits the prediction is nearer to O_t+1" in page
        assert value("uwm-1960", corpus, "lpips_to_next") < 0.9 * value("uwm", corpus, "lpips_to_next")
        assert value("uwm-1960", corpus, "leak") < 0.7 * value("uwm", corpus, "leak")
    assert "follows the true one, with about half the error of standing still" in page
    hand = {m: value(m, "sim-panda", "hand_error_px", "figure5") for m in ("r_gt", "r_la", "copy", "direct")}
    assert hand["r_la"] < hand["r_gt"]
    assert 0.4 < hand["r_gt"] / hand["copy"] < 0.6
    assert "Dynamics trained on the robot's actions alone" in page
    assert hand["direct"] < 1.1 * hand["r_gt"]
    assert "From 100 pairs R_GT reaches the goal more often than\ndynamics that learn from these" in page
    assert "From all pairs both do alike" in page
    reached = {
        m: results.measure("mini", "planning", m, "reach", "success")
        for m in ("r_gt-100", "direct-100", "r_gt", "direct")
    }
    assert reached["r_gt-100"].value > reached["direct-100"].high
    assert reached["direct"].low < reached["r_gt"].value < reached["direct"].high
    assert "In LPIPS R_GT is further from O_t+1 than a copy" in page
    for name, experiment in (("r_gt", "figure5"), ("uwm", "table1")):
        far, copy = (value(m, "sim-panda", "lpips_to_next", experiment) for m in (name, "copy"))
        assert far > copy
    assert "W_tfs, trained from scratch on ten times the pairs, is better than W_ft" in page
    tuned, scratch = (value(m, "sim-panda", "lpips_to_next", "figure4") for m in ("w_ft", "w_tfs"))
    assert scratch < tuned < 1.1 * scratch
    assert "No planner here ever lifts the block. Random actions sometimes do." in page
    lifted = [results.measure("mini", "planning", m, "lift", "success") for m in ("r_gt", "direct")]
    assert max(found.value for found in lifted) == 0
    assert results.measure("mini", "planning", "random", "lift", "success").low > 0
    assert "brings the hand to most places" in page
    assert results.measure("mini", "planning", "r_gt", "reach", "success").low > 0.5
