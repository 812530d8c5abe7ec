"""`make check` passes on sound records and fails on altered, removed, stale, failed or non-finite ones."""

import csv
import json

import pandas as pd
import pytest
from toy_records import METHODS, toy_experiment, toy_record

from paper.check import main
from uwm.runs.record import config_digest, file_sha256

RECORD = "mini/table1/uwm__sim-ego.json"


@pytest.fixture
def run(results, tmp_path, capsys):
    """run(*arguments) -> (exit code, parsed --json output)."""

    (tmp_path / "experiments").mkdir(exist_ok=True)
    (tmp_path / "deviations.md").touch()

    def call(*arguments: str) -> tuple[int, dict]:
        folders = ["--results", str(results), "--experiments", str(tmp_path / "experiments")]
        ledger = [] if "--deviations" in arguments else ["--deviations", str(tmp_path / "deviations.md")]
        code = main([*folders, *ledger, "--json", *arguments])
        return code, json.loads(capsys.readouterr().out)

    return call


def verdicts(report: dict) -> dict[str, str]:
    return {item["id"]: item["verdict"] for item in report["items"]}


def test_sound_records_pass(run):
    code, report = run()
    assert code == 0
    assert report["problems"] == []
    assert verdicts(report)["mini/table1/nearer-to-next/sim-ego/all"] == "agrees"
    assert verdicts(report)["mini/table1/target/lpips_ratio/sim-ego"] == "target reached"
    assert verdicts(report)["paper/table1/ssv2/ratio"] == "missing"


def test_release_fails_on_missing(run):
    code, report = run("--release")
    assert code == 1
    assert "paper/table1/ssv2/ratio" in report["failing"]


def scaled(metric):
    metric["value"] *= 0.9


ALTERATIONS = {
    "metric": lambda r: scaled(r["metrics"]["lpips_to_next"]),
    "ratio": lambda r: scaled(r["metrics"]["lpips_ratio_moving"]),
    "success": lambda r: scaled(r["metrics"]["success_vs_copy"]),
    "interval": lambda r: r["metrics"]["lpips_ratio"].update(ci=[0.1, 0.2]),
    "config": lambda r: r["config"].update(codes=7),
    "cell": lambda r: r.update(cell="uwm/elsewhere"),
    "samples digest": lambda r: r["samples"].update(sha256="1" * 64),
    "samples name": lambda r: r["samples"].update(path="samples/gone.csv"),
    "nan": lambda r: r["metrics"]["lpips_to_next"].update(value=float("nan")),
    "infinite": lambda r: r["metrics"]["lpips_to_next"].update(value=float("inf")),
    "no status": lambda r: r.pop("status"),
    "no metrics": lambda r: r["metrics"].clear(),
}


@pytest.mark.parametrize("how", ALTERATIONS)
def test_altered_record_fails(how, run, results, edit):
    edit(results / RECORD, ALTERATIONS[how])
    code, report = run()
    assert code == 1
    assert any("uwm__sim-ego" in problem for problem in report["problems"]), report["problems"]


TOLD = {
    "trimmed interval": (lambda e: e.update(ci=[0.99 * e["ci"][0], e["ci"][1]]), "has interval limit"),
    "no interval": (lambda e: e.update(ci=None), "has no interval"),
    "direction": (lambda e: e.update(better="higher"), "is said to be better higher"),
}


@pytest.mark.parametrize("how", TOLD)
def test_what_is_altered_is_told(how, run, results, edit):
    change, line = TOLD[how]
    edit(results / RECORD, lambda r: change(r["metrics"]["lpips_ratio"]))
    code, report = run()
    assert code == 1
    assert any(f"{RECORD}: altered: lpips_ratio {line}" in problem for problem in report["problems"])


@pytest.mark.parametrize("measures", [{}, {"psnr": 1}])
def test_measures_that_are_not_those_of_the_metrics_fail(measures, run, results, edit):
    def change(record):
        record["measures"] = measures
        names = "experiment", "version", "config", "cell", "measures"
        record["config_digest"] = config_digest(*(record[name] for name in names))

    edit(results / RECORD, change)
    problems = run()[1]["problems"]
    assert len(problems) == 1 + len(measures)
    assert "measures names no version of lpips_ratio, lpips_to_current" in problems[0]


def test_records_of_other_pairs_in_one_table_fail(run, results, edit):
    """As where half of a corpus had come when some of its cells were measured."""
    edit(results / RECORD, lambda r: r["inputs"].update(manifest_sha256="9" * 64))
    code, report = run()
    assert code == 1
    (problem,) = report["problems"]
    assert problem.startswith("mini/table1: uwm/sim-ego on other pairs of sim-ego than ")
    edit(results / RECORD, lambda r: r["inputs"].update(manifest_sha256=None))  # of no list
    assert run()[1]["problems"] == []


def test_altered_samples_fail(run, results):
    path = results / "mini/table1/samples/sim-ego.csv"
    path.write_text(path.read_text().replace("test-0000", "test-9999"))
    code, report = run()
    assert code == 1
    assert any("SHA-256" in problem for problem in report["problems"])


@pytest.mark.parametrize("cell", ["nan", "", "text", "inf"])
def test_broken_samples_fail(cell, run, results, edit):
    path = results / "mini/table1/samples/sim-ego.csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    rows[1][rows[0].index("uwm/lpips_to_next")] = cell
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    edit(results / RECORD, lambda r: r["samples"].update(sha256=file_sha256(path)))
    code, report = run()
    assert code == 1
    assert any("uwm__sim-ego" in problem for problem in report["problems"]), report["problems"]


def test_removed_record_fails(run, results):
    (results / RECORD).unlink()
    code, report = run()
    assert code == 1
    assert any("uwm on sim-ego was removed" in problem for problem in report["problems"])
    assert verdicts(report)["mini/table1/nearer-to-next/sim-ego/all"] == "missing"


def test_stale_record_fails(run, tmp_path):
    source = 'EXPERIMENT = Experiment(name="table1", version={}, cells=None)\n'
    (tmp_path / "experiments" / "table1.py").write_text(source.format(1))
    assert run()[0] == 0
    (tmp_path / "experiments" / "table1.py").write_text(source.format(2))
    code, report = run()
    assert code == 1
    assert all("stale: version 1" in problem for problem in report["problems"])


def test_failed_record_fails_and_shows(run, results):
    record = toy_record("mini", "table1", "uwm/sim-ego", None, status="failed", error="ValueError: no")
    record.write(results / "mini" / "table1")
    code, report = run()
    assert code == 1
    assert verdicts(report)["mini/table1/not-a-copy/sim-ego/all"] == "failed"


def test_differs_fails_unless_named(run, results, tmp_path):
    worse = METHODS | {"uwm": (0.05, 0.10)}  # nearer to O_t than to O_t+1
    toy_experiment(results, "mini", "table1", ["sim-ego"], worse)
    code, report = run()
    item = "mini/table1/nearer-to-next/sim-ego/all"
    assert code == 1
    assert item in report["failing"]
    ledger = tmp_path / "named.md"
    ledger.write_text("".join(f"| `{failing}` |\n" for failing in report["failing"]))
    code, report = run("--deviations", str(ledger))
    assert code == 0
    assert verdicts(report)[item] == "differs"


def test_numeric_items_compare_ratio_and_order(run, results):
    toy_experiment(results, "paper", "table1", ["ssv2"], METHODS | {"uwm": (0.36, 0.20)})
    toy_experiment(results, "paper", "table1", ["ego4d"], METHODS | {"uwm": (0.36, 0.05)})
    found = verdicts(run()[1])
    assert found["paper/table1/ssv2/ratio"] == "agrees"
    assert found["paper/table1/ego4d/ratio"] == "differs"
    assert found["paper/table1/ssv2/order"] == "agrees"


def test_untrained_lpips_is_never_compared(run, results, edit):
    for path in (results / "mini" / "table1").glob("uwm__*.json"):
        edit(path, lambda r: [entry.update(protocol="lpips-random") for entry in r["metrics"].values()])
    assert verdicts(run()[1])["mini/table1/target/lpips_ratio/sim-ego"] == "not compared"


def test_figures_4_and_5_are_taken_when_there(run, results):
    models = {"w_pre": (0.1, 0.08), "w_ft": (0.1, 0.046), "w_tfs": (0.1, 0.05), "copy": (0.0, 0.12)}
    toy_experiment(results, "mini", "figure4", ["lift"], models, seeds=3)
    toy_experiment(results, "mini", "figure5", ["lift"], {"r_la": (0.1, 0.05), "r_gt": (0.1, 0.07)})
    code, report = run()
    found = verdicts(report)
    assert report["problems"] == []
    assert found["mini/figure4/pretrained-is-worse/lift/all"] == "agrees"
    assert found["mini/figure4/finetuned-matches-scratch/lift/all"] == "agrees"
    assert found["mini/figure5/adapter-matches-latent/lift/all"] == "differs"
    assert found["mini/figure5/adapter-is-no-copy/lift/all"] == "missing"
    assert code == 1


def test_far_better_means_that_intervals_are_apart(run, results):
    """Both comparisons are significant pair by pair; only the larger one keeps the intervals apart."""
    models = {"w_pre": (0.1, 0.08), "w_ft": (0.1, 0.05), "scratch": (0.1, 0.059)}
    toy_experiment(results, "mini", "figure4", ["lift"], models)
    items = {item["id"]: item for item in run()[1]["items"]}
    far, near = (
        items[f"mini/figure4/{claim}/lift/moving"] for claim in ("pretrained-is-worse", "few-pairs-suffice")
    )
    assert far["verdict"] == "agrees"
    assert near["verdict"] == "differs"
    assert "are apart" in near["why"]


@pytest.mark.parametrize(("ours", "verdict"), [(14.0, "agrees"), (10.0, "differs")])
def test_more_decibels_are_nearer(run, results, edit, ours, verdict):
    toy_experiment(results, "mini", "figure5", ["lift"], {"copy": (0.0, 0.12), "r_gt": (0.1, 0.07)})
    folder = results / "mini" / "figure5"
    (path,) = (folder / "samples").glob("*.csv")
    samples = pd.read_csv(path).assign(**{"copy/psnr_region": 12.0, "r_gt/psnr_region": ours})
    samples.to_csv(path, index=False)
    for record in folder.glob("*.json"):
        edit(record, lambda r: r["samples"].update(sha256=file_sha256(path)))
    assert verdicts(run()[1])["mini/figure5/pixels-are-no-copy/lift/moving"] == verdict


def test_github_summary(run, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    run()
    assert "| mini/table1/target/lpips_ratio/sim-ego |" in (tmp_path / "summary.md").read_text()


def test_terminal_table(results, tmp_path, capsys):
    ledger = tmp_path / "none.md"
    ledger.touch()
    assert main(["--results", str(results), "--experiments", str(tmp_path), "--deviations", str(ledger)]) == 0
    out = capsys.readouterr().out
    assert "check ok" in out
    assert "0.560 ± 0.160" in out
