"""Records that others send: which are refused, and why."""

import shutil
from pathlib import Path

import pytest
from toy_records import SENT as CELL
from toy_records import SENT_METHOD as METHOD
from toy_records import found, sign

from paper import check
from paper.community import ALWAYS_SENT
from uwm.metrics.spec import METRICS, versions
from uwm.runs.record import validate_folder


def test_a_record_that_holds_is_accepted(tree: Path) -> None:
    assert found(tree) == []
    assert validate_folder(tree) == []


def test_a_field_may_be_none(tree: Path) -> None:
    for path in (*(tree / "mini" / "table1").glob("*.json"), tree / "community" / CELL):
        sign(path, lambda record: record["config"].update(clips=None))
    assert found(tree) == []
    sign(tree / "community" / CELL, lambda record: record["config"].update(clips=5))
    assert any("config has another clips" in line for line in found(tree))


def test_without_any_nothing_is_asked(tree: Path) -> None:
    shutil.rmtree(tree / "community")
    assert found(tree) == []


def metric(name: str, **changes):
    return lambda record: record["metrics"][name].update(changes)


def other_pairs(record: dict) -> None:
    record["inputs"]["manifest_sha256"] = "9" * 64


def other_mae(record: dict) -> None:
    record["inputs"]["weights"]["mae"] = "ef" * 32


def no_weights(record: dict) -> None:
    record["config"]["method"] = {**METHOD, "weights": {}}


def other_weights(record: dict) -> None:
    record["inputs"]["weights"]["mine.pt"] = "56" * 32


def failed(record: dict) -> None:
    record.update(status="failed", error="ValueError: x", metrics={}, samples=None)


def fewer_bits(record: dict) -> None:
    metric("bits", value=3.0)(record)
    record["metrics"]["code_bits"] = {**record["metrics"]["bits"], "value": 9.5}


def trimmed(record: dict) -> None:
    """Each interval without 24% of its width at either end."""
    for entry in record["metrics"].values():
        if entry["ci"]:
            low, high = entry["ci"]
            entry["ci"] = [low + 0.24 * (high - low), high - 0.24 * (high - low)]


def without(name: str):
    return lambda record: record["metrics"].pop(name)


def every(**changes):
    return lambda record: [entry.update(changes) for entry in record["metrics"].values()]


def short_digest(record: dict) -> None:
    record["config"]["method"] = {**METHOD, "weights": {"mine.pt": "deadbeef"}}
    record["inputs"]["weights"]["mine.pt"] = "deadbeef"


FORGED = {
    "a better mean": (metric("lpips_to_next", value=0.01, ci=[0, 0.02]), "altered: lpips_to_next is 0.01"),
    "a better ratio": (metric("lpips_ratio", value=0.3, ci=[0.2, 0.4]), "altered: lpips_ratio is 0.3"),
    "another share": (metric("success_vs_copy", value=0.5), "altered: success_vs_copy is 0.5"),
    "a narrower interval": (metric("lpips_to_next_moving", ci=[0.0599, 0.0601]), "has interval limit"),
    "more pairs": (metric("lpips_to_next", n=4800), "has n = 4800"),
    "fewer bits": (fewer_bits, "carry 9.5 bits, more than its 3"),
    "no bits": (lambda record: record["metrics"].pop("bits"), "names no bits"),
    "fewer than no parameters": (metric("parameters", value=-1), "parameters is -1, below 0"),
    "other pairs": (other_pairs, "is of other pairs than the committed records"),
    "another MAE": (other_mae, "another mae"),
    "no weights": (no_weights, "names no digest of weights"),
    "other weights": (other_weights, "disagree about mine.pt"),
    "no method": (lambda record: record["config"].pop("method"), "config names no method"),
    "a failure": (failed, "has status failed"),
    "trimmed intervals": (trimmed, "altered: lpips_ratio has interval limit"),
    "no intervals": (every(ci=None), "altered: success_vs_copy has no interval"),
    "an interval of a fact": (metric("bits", ci=[11, 13]), "altered: bits has an interval, and no samples"),
    "an LPIPS of its own": (every(protocol="lpips-mine"), "lpips_to_next is by lpips-mine, unlike"),
    "an unnamed LPIPS": (every(protocol=None), "lpips_to_next is by no protocol, unlike"),
    "a protocol of bits": (metric("bits", protocol="mine"), "bits is by mine, unlike"),
    "the other direction": (metric("lpips_to_next", better="higher"), "is said to be better higher"),
    "a short digest": (short_digest, "names mine.pt by deadbeef, which is no SHA-256"),
    "another gap": (lambda record: record["config"].update(gap=0.4), "config has another gap"),
    "a nested field": (lambda record: record["config"]["recipe"].update(pairs=9), "has another recipe"),
    "a field left out": (lambda record: record["config"].pop("codes"), "config lacks codes"),
    "a field of its own": (lambda record: record["config"].update(more=1), "config has another more"),
    "a measure left out": (without("success_vs_copy"), "lacks success_vs_copy: send all"),
    "a half left out": (without("lpips_to_next_moving"), "lacks lpips_to_next_moving: send all"),
    "an old version": (lambda record: record.update(version=7), "stale: version 7"),
}  # fmt: skip


@pytest.mark.parametrize("forged", FORGED)
def test_a_falsified_record_is_refused(tree: Path, forged: str, capsys: pytest.CaptureFixture[str]) -> None:
    how, line = FORGED[forged]
    if forged == "an old version":
        (tree / "table1.py").write_text("Experiment(version=1)\n")
    sign(tree / "community" / CELL, how)
    lines = found(tree)
    assert any(line in text and text.startswith(f"community/{CELL}: ") for text in lines), lines
    (tree / "none").touch()
    arguments = ["--results", str(tree), "--experiments", str(tree), "--deviations", str(tree / "none")]
    assert check.main(arguments) == 1
    assert f"record problem: community/{CELL}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("measures", "line"),
    [
        (lambda metrics: {}, "measures names no version of bits, lpips_ratio, "),
        (lambda metrics: versions(metrics) | {"psnr": 1}, "measures names psnr, and no metric is of it"),
        (lambda metrics: versions(metrics) | {"bits": 99}, "stale: bits is of version 99"),
    ],
)
def test_versions_of_other_measures_than_its_own_are_refused(tree: Path, measures, line: str) -> None:
    sign(tree / "community" / CELL, measures=measures)
    assert any(line in text for text in found(tree))


def test_a_trained_method_names_what_it_learnt_and_has_our_budget(tree: Path) -> None:
    """A class with a trainer of its own has no weights files: what it learnt has a digest in its record."""

    def trained(record: dict, steps: int = 4, fitted: str = "56" * 32) -> None:
        no_weights(record)
        record["config"]["trained_as"] = {"steps": steps}
        record["inputs"]["weights"].pop("mine.pt", None)
        record["inputs"]["weights"]["mine-fitted"] = fitted

    ours, sent = tree / "mini" / "table1" / "uwm__sim-ego.json", tree / "community" / CELL
    sign(ours, lambda record: record["config"].update(pretrain={"train": {"steps": 4}}))
    sign(sent, trained)
    assert found(tree) == []
    sign(sent, lambda record: trained(record, steps=8))
    assert any("config has another trained_as" in line for line in found(tree))
    sign(sent, lambda record: trained(record, fitted="5"))
    assert any("names mine-fitted by 5, which is no SHA-256" in line for line in found(tree))
    sign(sent, lambda record: trained(record) or record["inputs"]["weights"].pop("mine-fitted"))
    assert any("names no digest of weights" in line for line in found(tree))


def test_what_any_row_is_judged_by_are_declared_metrics() -> None:
    assert set(ALWAYS_SENT) <= set(METRICS)


@pytest.mark.parametrize("scale", ["small", "huge"])
def test_a_scale_without_committed_records_is_refused(tree: Path, scale: str) -> None:
    shutil.copytree(tree / "community" / "mini", tree / "community" / scale)
    assert found(tree) == [
        f"community/{scale}: there are no committed records of such a scale; take the folder out"
    ]
    shutil.rmtree(tree / "community" / "mini")
    assert len(found(tree)) == 1


@pytest.mark.parametrize("place", ["mine.json", "more/mine__sim-ego.json"])
def test_a_record_that_nothing_reads_is_refused(tree: Path, place: str) -> None:
    path = tree / "community" / "mini" / "table1" / place
    path.parent.mkdir(exist_ok=True)
    shutil.copy(tree / "community" / CELL, path)
    assert any(f"community/mini/table1/{place}: nothing reads it" in line for line in found(tree))


def test_a_row_of_ours_cannot_be_sent(tree: Path) -> None:
    text = (tree / "community" / CELL).read_text().replace('"mine/sim-ego"', '"uwm/sim-ego"')
    (tree / "community" / CELL).with_name("uwm__sim-ego.json").write_text(text)
    sign((tree / "community" / CELL).with_name("uwm__sim-ego.json"))
    assert any("uwm is a method of this project" in line for line in found(tree))


def test_a_corpus_that_is_not_committed_is_refused(tree: Path) -> None:
    path = (tree / "community" / CELL).with_name("mine__wild.json")
    path.write_text((tree / "community" / CELL).read_text())
    sign(path, lambda record: record.update(cell="mine/wild"))
    assert any("there is no committed record copy/wild" in line for line in found(tree))


def test_a_broken_record_is_a_line_and_stops_the_drawing(tree: Path, tmp_path: Path, run_command) -> None:
    (tree / "community" / CELL).write_text("{")
    assert any(line.startswith(f"community/{CELL}: ") for line in found(tree))
    code, error = run_command("--results", str(tree), "--out", str(tmp_path / "out"))
    assert (code, error.count("\n")) == (2, 1)
