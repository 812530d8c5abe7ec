"""Records that others sent of methods of their own: `results/community/<scale>/<experiment>/`.

    python -m paper.community    # what doesn't hold of them; also a part of `make check`

They are checked like ours (`paper.integrity`): every mean and interval is computed again from the samples.
Besides, each must name its weights, and have been measured on the committed pairs, beside the committed
references. What can't be told from a record is whether its samples were measured at all: that, only its
author's file and weights can show.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paper import integrity
from paper.options import add_results, chosen_results
from paper.store import ROOT, RecordedCell, Results
from uwm.arguments import Parser
from uwm.errors import UserError, run_cli
from uwm.methods import COPY, UWM, parse
from uwm.metrics.spec import MOVING, metric_of
from uwm.runs.record import COMMUNITY

REFERENCE = COPY.name  # whose committed record says which pairs, and what they are compared with
REFERENCES = ("mae", "lpips")  # the weights that numbers are only comparable with
SHARED = ("motion", "lpips_of_copy")  # columns of samples that no method changes
# Likewise the method's own columns of this name: of the pairs, the MAE, or a reference of ours alone.
UNCHANGED = (
    *("state_mse_copy", "state_mse_no_action", "still_px", "transfer_still_mm", "transfer_still_px"),
    *("stitched_mse_copy", "stitched_mse_colour", "stitched_lpips_copy"),
    *("probe_r2_total", "probe_r2_mlp_total", "probe_r2_movement_residual", "probe_r2_movement_total"),
)
METHOD, TRAINED = "method", "trained_as"  # fields of the config that no record of ours has
# What every latent action is judged by, where the committed `uwm` is, too.
ALWAYS_SENT = (
    *("lpips_to_current", "lpips_to_next", "lpips_to_current_true", "lpips_to_next_true", "psnr", "ssim"),
    *("success_vs_current", "success_vs_copy", "state_mse"),
    *("state_ratio", "own_over_shuffled", "gain_over_no_action", "leak", "leak_lpips", "cycle"),
    *("probe_r2", "probe_r2_mlp", "transfer", "transfer_picture"),
)
MEAN_TOLERANCE = 1e-4
SHA256 = re.compile(r"[0-9a-f]{64}")


def community(results: Results) -> Results:
    """The records that others sent, of the same scales; none where there is no such folder."""
    return Results(results.root / COMMUNITY, results.scales)


def community_faults(results: Results, experiments: Path = ROOT / "experiments") -> list[str]:
    """One line per record by others that doesn't hold, as `file: what`."""
    sent = community(results)
    faults = [*integrity.unknown_scales(sent, results)]
    if sent.cells or sent.unreadable:
        faults += integrity.record_faults(sent, experiments, excuse=False)
    for (scale, experiment), cells in sent.cells.items():
        for cell in cells:
            try:
                lines = list(_problems(results, sent, scale, experiment, cell))
            except integrity.FAULTS as error:
                lines = [f"{type(error).__name__}: {error}"]
            faults += [f"{cell.path.relative_to(sent.root).as_posix()}: {line}" for line in lines]
    return [f"{COMMUNITY}/{line}" for line in faults]


def _problems(
    results: Results, sent: Results, scale: str, experiment: str, cell: RecordedCell
) -> Iterator[str]:
    if cell.status != "ok":
        yield f"has status {cell.status}: send measured records alone"
        return
    if _is_ours(cell.method):
        yield f"{cell.method} is a method of this project: choose another name"
    yield from _weights_problems(cell.record, cell.method)
    yield from _bits_problems(cell.record["metrics"])
    references = [c for c in results.find(scale, experiment, REFERENCE, cell.corpus) if c.status == "ok"]
    if not references:
        yield f"there is no committed record {REFERENCE}/{cell.corpus} of that scale to compare it with"
        return
    yield from _reference_problems(cell.record, references[0].record)
    beside = [c for c in results.cells[scale, experiment] if c.corpus == cell.corpus and c.status == "ok"]
    yield from _config_problems(cell.record["config"], references[0], beside)
    yield from _metrics_problems(cell.record["metrics"], beside)
    yield from _pairs_problems(results, sent, cell, references[0])


def _is_ours(name: str) -> bool:
    """Whether one of our experiments has a method of that name."""
    try:
        return bool(parse(name).method.experiments)
    except UserError:
        return False


def _weights_problems(record: dict[str, Any], name: str) -> Iterator[str]:
    """The method's file and weights are named by their digests; what it learnt here by `<name>-fitted`."""
    method = record["config"].get(METHOD)
    if not isinstance(method, dict) or not all(method.get(name) for name in ("file", "class", "sha256")):
        yield "config names no method: its file, class and sha256"
        return
    weights, parameters = method.get("weights") or {}, record["metrics"].get("parameters")
    used = record["inputs"].get("weights", {})
    trained = TRAINED in record["config"]
    named = f"{name}-fitted" in used if trained else weights or (parameters and parameters["value"] == 0)
    if not named:
        yield "names no digest of weights"
    for file, digest in used.items():
        if not SHA256.fullmatch(digest):
            yield f"names {file} by {digest}, which is no SHA-256 of 64 hex digits"
    for file, digest in {method["file"]: method["sha256"], **weights}.items():
        if used.get(file) != digest:
            yield f"inputs and config disagree about {file}"


def _bits_problems(metrics: dict[str, Any]) -> Iterator[str]:
    """What the samples don't tell, and still can't be."""
    bits, carried = (metrics.get(name, {}).get("value", 0) for name in ("bits", "code_bits"))
    if "bits" not in metrics:
        yield "names no bits"
    if carried > bits + MEAN_TOLERANCE:
        yield f"its codes carry {carried:g} bits, more than its {bits:g}"
    for name, entry in metrics.items():
        if not metric_of(name).sampled and metric_of(name).unit in ("bits", "count") and entry["value"] < 0:
            yield f"{name} is {entry['value']:g}, below 0"
        if metric_of(name).gain and entry["value"] > 1:
            yield f"{name} is {entry['value']:g}, above 1"


def _reference_problems(record: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    """It is of the committed pairs, by the committed MAE and LPIPS."""
    if record["inputs"].get("manifest_sha256") != ours["inputs"].get("manifest_sha256"):
        yield "is of other pairs than the committed records: their lists' digests differ"
    for name in REFERENCES:
        if record["inputs"]["weights"].get(name) != ours["inputs"]["weights"].get(name):
            yield f"was measured with another {name} than the committed records: measure it again"
    known = {
        entry["protocol"] for name, entry in ours["metrics"].items() if metric_of(name).protocol == "lpips"
    }
    for name, entry in record["metrics"].items():
        if entry["protocol"] not in (known if metric_of(name).protocol == "lpips" else {None}):
            yield f"{name} is by {entry['protocol'] or 'no protocol'}, unlike the committed records"


def _config_problems(
    config: dict[str, Any], reference: RecordedCell, beside: Sequence[RecordedCell]
) -> Iterator[str]:
    """It was measured as the committed records were: pairs of probes, budget of a training, and all else."""
    lacking = sorted(reference.record["config"].keys() - config.keys())
    if lacking:
        yield f"config lacks {', '.join(lacking)}"
    complete = any(cell.method == UWM.name for cell in beside)  # else a field may be of a row not measured
    for field, value in config.items():
        known = [other for cell in beside for other in _field(cell.record["config"], field)]
        if field != METHOD and value not in known and (known or complete):
            yield f"config has another {field} than the committed records: measure it by the scale's settings"


def _field(config: dict[str, Any], name: str) -> list[Any]:
    """A committed config's value of a field, if it has that; of a budget, what ours was trained by."""
    if name == TRAINED:
        config, name = config.get("pretrain", {}), "train"
    return [config[name]] if name in config else []


def _metrics_problems(metrics: dict[str, Any], beside: Sequence[RecordedCell]) -> Iterator[str]:
    """Nothing was left out of what the committed `uwm` is judged by."""
    ours = {name for cell in beside if cell.method == UWM.name for name in cell.record["metrics"]}
    lacking = sorted({name for name in ours if name.removesuffix(MOVING) in ALWAYS_SENT} - metrics.keys())
    if lacking:
        yield f"lacks {', '.join(lacking)}: send all that was measured"


def _pairs_problems(results: Results, sent: Results, cell: RecordedCell, ours: RecordedCell) -> Iterator[str]:
    """Its samples are of the committed pairs, and agree with ours in what no method changes."""
    paths = cell.samples_path, ours.samples_path
    if not (paths[0] and paths[1] and paths[0].exists() and paths[1].exists()):
        return
    theirs, committed = sent.samples(paths[0]), results.samples(paths[1])
    if not np.array_equal(theirs.pairs, committed.pairs):
        yield "its samples are of other pairs than the committed ones"
        return
    if not np.array_equal(theirs.moving, committed.moving):
        yield "its samples have another moving half than the committed ones"
    for name in SHARED:
        if not _agree(theirs.columns.get(name), committed.columns.get(name)):
            yield f"altered: its samples have another {name} than the committed ones"
    yield from _column_problems(results, sent, cell)


def _column_problems(results: Results, sent: Results, cell: RecordedCell) -> Iterator[str]:
    """Each column of its own has the rows of a committed record's, and what no method changes its numbers."""
    key = cell.record["scale"], cell.record["experiment"]
    beside = [c for c in results.cells.get(key, []) if c.corpus == cell.corpus and c.status == "ok"]
    for name in sent.measured(cell):
        theirs = sent.pairs([cell], name)
        assert theirs is not None
        committed = [values for c in beside if (values := results.pairs([c], name))]
        same = [values for values in committed if np.array_equal(values.pairs, theirs.pairs)]
        if committed and not same:
            yield f"its samples of {name} are of other rows than the committed ones"
        elif name in UNCHANGED and same and not _agree(theirs.table(), same[0].table()):
            yield f"altered: its samples have another {name} than the committed ones"


def _agree(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether two columns of samples are there and are the same."""
    if a is None or b is None:
        return False
    return np.allclose(a, b, rtol=MEAN_TOLERANCE, atol=MEAN_TOLERANCE)


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m paper.community", description=(__doc__ or "").splitlines()[0])
    add_results(parser)
    results = chosen_results(parser.parse_args(argv))
    faults = community_faults(results)
    count = sum(map(len, community(results).cells.values()))
    print(*faults, f"{count} records by others, {len(faults)} problems", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
