"""Numbers that are no means over a record's pairs follow from further files of samples, or are named."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paper.integrity import LATE, SAMPLED_SINCE, UNSAMPLED, record_faults
from paper.store import Results
from uwm.metrics.spec import METRICS, metric_of, versions
from uwm.metrics.statistics import bootstrap_mean, bootstrap_ratio, gain, perplexity
from uwm.runs.record import config_digest, sample_entries

NAME = "mini/table1/uwm__sim-ego.json"
MEANS = ("rollout_lpips_1", "control_up_mm", "control_success", "transfer_mm", "distance_mm_3")
# Of a model, a training or a machine: no samples can tell them.
FACTS = ("bits", "parameters", "gflop", "last_gain", "seconds_per_decision", "fvd", "fvd_true")


@pytest.fixture
def record(results: Path) -> Path:
    """A record with metrics of every kind beyond its pairs, and the samples behind them."""
    path, draw, clips = results / NAME, np.random.default_rng(0), [f"clip-{k // 3}" for k in range(30)]
    columns = {name: draw.uniform(1, 2, 30) for name in (*MEANS, "probe_r2_residual", "probe_r2_total")}
    rows = pd.DataFrame({"video": clips, "t0": range(30), "t1": range(1, 31), "moving": 1})
    rows = rows.assign(**{f"uwm/{name}": values for name, values in columns.items()})
    found = {name: bootstrap_mean(columns[name], clips) for name in MEANS}
    found["probe_r2"] = gain(bootstrap_ratio(columns["probe_r2_residual"], columns["probe_r2_total"], clips))
    metrics = {name: entry(i.estimate, i.n, i.ci) for name, i in found.items()}
    content = json.loads(path.read_text())
    pairs = len(pd.read_csv(path.parent / content["samples"]["path"]))
    counts = np.array([5, 3, 2 * pairs - 8])  # two codes a pair
    metrics["perplexity"] = entry(perplexity(counts), pairs)
    metrics["code_bits"] = entry(2 * math.log2(perplexity(counts)), pairs)
    paths = [path.parent / "samples" / kind / f"{path.stem}.csv" for kind in ("actions", "codes")]
    codes = pd.DataFrame({"code": range(3), "uwm/count": counts})
    for file, table in zip(paths, (rows, codes), strict=True):
        file.parent.mkdir()
        table.to_csv(file, index=False)
    content["metrics"] |= {name: e | {"better": metric_of(name).better} for name, e in metrics.items()}
    content["samples"] = sample_entries([path.parent / content["samples"]["path"], *paths], path.parent)
    return write(path, content)


def entry(value: float, n: int, ci: list[float] | None = None) -> dict:
    return {"value": value, "n": n, "better": "lower", "ci": ci, "protocol": None}


def write(path: Path, content: dict) -> Path:
    content["measures"] = versions(content["metrics"])
    names = "experiment", "version", "config", "cell", "measures"
    content["config_digest"] = config_digest(*(content[name] for name in names))
    path.write_text(json.dumps(content))
    return path


def found(results: Path) -> str:
    return "\n".join(record_faults(Results(results), results / "no experiments"))


def test_every_metric_is_computed_again(results: Path, record: Path) -> None:
    assert found(results) == ""
    assert all(METRICS[name].sampled for name in METRICS if name not in FACTS)


@pytest.mark.parametrize("name", [*MEANS, "probe_r2", "perplexity", "code_bits"])
def test_an_altered_number_is_noticed(name: str, results: Path, record: Path) -> None:
    assert LATE.fullmatch(name)
    content = json.loads(record.read_text())
    content["metrics"][name]["value"] *= 1.01
    write(record, content)
    assert f"altered: {name} is" in found(results)


def test_an_altered_or_lost_file_is_noticed(results: Path, record: Path) -> None:
    codes = record.parent / "samples" / "codes" / f"{record.stem}.csv"
    codes.write_text(codes.read_text().replace("0,5", "0,6"))
    assert "samples/codes/uwm__sim-ego.csv has another SHA-256" in found(results)
    codes.unlink()
    assert "samples/codes/uwm__sim-ego.csv is missing" in found(results)


def test_samples_whose_record_is_gone_are_noticed(results: Path, record: Path) -> None:
    record.unlink()
    assert "samples/actions/uwm__sim-ego.csv: the record of uwm on" in found(results)


def test_a_number_without_samples_is_refused_unless_it_is_named_and_old(results: Path, record: Path) -> None:
    content = json.loads(record.read_text())
    del content["samples"]["further"]
    write(record, content)
    assert "no samples for " in found(results)
    (results / UNSAMPLED).write_text(f"# old\n{NAME}\n")
    assert "no samples for " not in found(results)
    content["run"]["started_utc"] = f"{SAMPLED_SINCE}T00:00:00Z"
    write(record, content)
    assert "no samples for " in found(results)


@pytest.mark.parametrize("name", [NAME, "mini/table1/gone__sim-ego.json"])
def test_a_name_that_excuses_nothing_is_refused(name: str, results: Path, record: Path) -> None:
    (results / UNSAMPLED).write_text(f"{name}\n")
    assert f"{name} is no record that lacks samples; take the line out" in found(results)
