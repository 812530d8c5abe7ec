"""Tables from records: which methods, which numbers, in which order.

A missing cell is a dash, a failed one an F. Reported numbers stand in columns of their own.
"""

from collections.abc import Sequence

from paper.grids import read_panels
from paper.names import DASH, FAILED, corpus_label, experiment_label
from paper.store import Measured, Reported, Results
from paper.table import Table
from uwm.methods import (
    AHEAD,
    COPY,
    DIRECT,
    FICC,
    LPIPS_DECODER,
    MAE_DECODER,
    METHODS,
    NO_ACTION,
    NO_STATE,
    ORACLE,
    R_GT,
    R_LA,
    SCRATCH,
    SHUFFLED,
    SHUFFLED_ACTION,
    UWM,
    W_FT,
    W_PRE,
    W_TFS,
    method_label,
)
from uwm.metrics.spec import METRICS, metric_label, metric_text

EXPERIMENTS = ("table1", "figure4", "figure5")
PAIRS = {W_FT: (100, 500, 10_000), R_GT: (100, 500, 2000), DIRECT: (100, 500, 2000)}  # besides all, or 2k
COMPARED_AHEAD = (R_LA, R_GT, NO_STATE, SHUFFLED, DIRECT, NO_ACTION, COPY)
# Further rows of Figure 5, in the tables only where they have a record.
DECODERS = [m.variant(way) for way in (MAE_DECODER, LPIPS_DECODER) for m in (R_LA, R_GT, COPY, ORACLE)]
OPTIONAL = {
    "figure5": [
        *(method.with_pairs(pairs) for method in (R_GT, DIRECT) for pairs in PAIRS[method]),
        *(method.name for method in METHODS.values() if method.optional),
        *DECODERS,
        *(method.variant(AHEAD) for method in (*COMPARED_AHEAD, ORACLE)),
    ]
}
CORPORA = {
    ("table1", "mini"): ["sim-third-person", "sim-ego"],
    ("table1", "paper"): ["ssv2", "ego4d"],
    ("figure4", "mini"): ["sim-panda"],
    ("figure4", "paper"): ["robosuite"],
}
# The reported corpus and what stands in for it at each scale.
STAND_INS = {
    "ssv2": {"paper": "ssv2", "mini": "sim-third-person"},
    "ego4d": {"paper": "ego4d", "mini": "sim-ego"},
}
MAIN = ["lpips_to_current", "lpips_to_next", "lpips_ratio", "success_vs_current", "success_vs_copy"]
MORE = ["lpips_to_next_true", "psnr", "ssim", "state_mse", "perplexity"]
# Where they were measured too: over the moving region alone, and in pixels to the blurred O_t+1.
REGION = ["lpips_region", "lpips_region_true", "psnr_region", "psnr_blurred", "ssim_blurred"]
ACTED = ["lpips_to_next", "lpips_region", "lpips_hand", "psnr_hand"]  # how right the frames are,
ACTED += ["code_accuracy", "latent_mse", "hand_error_mm"]  # the actions, and the movement
# An experiment's tables by the end of their names.
USUAL = {"": MAIN, "_more": MORE, "_region": REGION}
TABLES = {"figure5": {"": ACTED, "_frames": MAIN, "_more": [*MORE[:-1], "psnr_region"]}}
# What is no mean over pairs: the gripper under commands, and with actions of another clip.
CONTROL = [name for name in METRICS if name.startswith(("control_", "transfer_", "probe_"))]
# What is compared pair by pair: the first minus each of the others.
DIFFERENCES = {
    "figure4": [(str(W_FT), str(other)) for other in (W_PRE, W_TFS, SCRATCH)] + [(str(W_PRE), str(COPY))],
    "figure5": [
        *((str(R_GT), str(m)) for m in (R_LA, COPY, SHUFFLED, NO_STATE, DIRECT, NO_ACTION, FICC)),
        *((R_GT.variant(AHEAD), m.variant(AHEAD)) for m in COMPARED_AHEAD if m != R_GT),
    ],
}
COMPARED = {
    "figure4": ["lpips_to_next", "lpips_region", "psnr_region", "state_mse"],
    "figure5": ["lpips_to_next", "lpips_region", "lpips_hand", "hand_error_mm"],
}
TITLES = {"": "", "_more": ", other measures", "_region": ", moving region", "_frames": ", frames"}
FRAMES = "95% intervals over clips (and seeds) in brackets. "
SHARP = "Against O_t+1 itself, not blurred. "
NOTES = {
    "": FRAMES,
    "_frames": FRAMES,
    "_more": SHARP,
    "_region": "The region is where the two frames differ (uwm/metrics/region.py); PSNR over it is to the "
    "sharp O_t+1. ",
    "figure5": "Region: where the two frames differ. Gripper: a crop around it, PSNR to the sharp O_t+1. "
    "Right codes and latent action MSE: the adapter's against those inferred from both frames. Hand error: "
    "between the gripper's predicted and true displacement, by a linear probe. 5 steps ahead: O_t+5 in "
    "O_t+1's place. ",
}


def shown(measured: Measured | None, status: str, metric: str) -> str:
    """`0.193 [0.180, 0.206]`, a dash or an F."""
    if measured is None:
        return FAILED if status == "failed" else DASH
    value = metric_text(metric, measured.value)
    if measured.low != measured.low:
        return value
    return f"{value} [{metric_text(metric, measured.low)}, {metric_text(metric, measured.high)}]"


def expected(experiment: str) -> list[str]:
    """The methods that an experiment's main table has a row for, measured or not."""
    found: list[str] = []
    for method in METHODS.values():
        if experiment in method.experiments and not method.optional:
            found.append(method.name)
            if experiment == "figure4":
                found += [method.with_pairs(pairs) for pairs in PAIRS.get(method, ())]
    return found


def methods(results: Results, scale: str, experiment: str, corpus: str) -> list[str]:
    """The expected methods in their order, then others that have a record."""
    known, variants = expected(experiment), OPTIONAL.get(experiment, [])
    found = {c.method for c in results.cells.get((scale, experiment), []) if c.corpus == corpus}
    return known + [m for m in variants if m in found] + sorted(found - {*known, *variants})


def corpora(results: Results, scale: str, experiment: str) -> list[str]:
    """The expected corpora in their order, then others that have a record."""
    known = CORPORA.get((experiment, scale), [])
    return known + [corpus for corpus in results.corpora(scale, experiment) if corpus not in known]


def protocol(results: Results, scale: str, experiment: str, corpus: str) -> str:
    """The LPIPS protocols of the shown records, comma-separated."""
    cells = [c for c in results.cells.get((scale, experiment), []) if c.corpus == corpus]
    entries = [
        entry for c in cells for name, entry in c.record["metrics"].items() if name.startswith("lpips")
    ]
    return ", ".join(sorted({str(entry.get("protocol")) for entry in entries}))


def method_table(
    results: Results, scale: str, experiment: str, corpus: str, metrics: list[str], suffix: str = ""
) -> Table:
    """Methods by metrics, over all pairs and over the moving half."""
    rows: list[list[str]] = []
    for moving, label in (("", "All pairs"), ("_moving", "Moving half")):
        block, counts = [], set()
        for method in methods(results, scale, experiment, corpus):
            status = results.status(scale, experiment, method, corpus)
            place = (scale, experiment, method, corpus)
            found = {m: results.measure(*place, m + moving, interval=metrics is MAIN) for m in metrics}
            counts |= {entry.n for entry in found.values() if entry}
            block.append([method_label(method), *(shown(entry, status, m) for m, entry in found.items())])
        rows += [[f"{label} (n = {', '.join(str(n) for n in sorted(counts))})" if counts else label], *block]
    used = protocol(results, scale, experiment, corpus)
    title = f"{experiment_label(experiment)}, scale {scale}, {corpus_label(corpus)}{TITLES[suffix]}"
    note = NOTES.get(experiment, NOTES[suffix]) if not suffix else NOTES[suffix]
    note += f"LPIPS: {used}." if used else "No record yet."
    if "lpips-random" in used:
        note += " Untrained backbone: not to be compared with reported numbers."
    columns = ["", *(metric_label(m) for m in metrics)]
    return Table(
        f"{experiment}_{corpus}{suffix}",
        title,
        columns,
        rows,
        note,
        origins(results, scale, experiment, corpus),
    )


def origins(results: Results, scale: str, experiment: str, corpus: str) -> dict[str, str]:
    """Per method's label: status, commit, seed and command of its records."""
    found: dict[str, str] = {}
    for cell in results.cells.get((scale, experiment), []):
        if cell.corpus == corpus:
            code, run = cell.record["code"], cell.record["run"]
            commit = f"commit {(code['commit'] or 'unknown')[:12]}{' (modified)' if code['dirty'] else ''}"
            seed = cell.seed or f"seed {cell.record['config'].get('seed', '–')}"
            text = f"{cell.status}; {commit}; {seed}; {run['command']}"
            label = method_label(cell.method)
            found[label] = "; ".join(filter(None, (found.get(label), text)))
    return found


def difference_table(results: Results, scale: str, experiment: str, corpus: str) -> Table:
    """Paired differences between methods, with intervals over clips and seeds."""
    metrics = COMPARED[experiment]
    rows: list[list[str]] = []
    for half, label in (("", "All pairs"), ("_moving", "Moving half")):
        rows.append([label])
        for a, b in DIFFERENCES[experiment]:
            first, second = (results.find(scale, experiment, method, corpus) for method in (a, b))
            found = [results.difference(first, second, metric + half) for metric in metrics]
            texts = [shown(entry, "missing", metric) for entry, metric in zip(found, metrics, strict=True)]
            rows.append([f"{method_label(a)} minus {method_label(b)}", *texts])
    title = f"{experiment_label(experiment)}, scale {scale}, {corpus_label(corpus)}, paired differences"
    note = "Mean over pairs and seeds, 95% intervals over clips and seeds in brackets. Below 0, the first is "
    note += "nearer to O_t+1 (PSNR: above 0)."
    columns = ["", *(metric_label(metric) for metric in metrics)]
    return Table(f"{experiment}_{corpus}_differences", title, columns, rows, note)


def control_table(results: Results, scale: str, experiment: str, corpus: str) -> Table | None:
    """What the gripper does when it is told to, a method a column. None where nothing was measured."""
    found = {
        method: [results.measure(scale, experiment, method, corpus, metric) for metric in CONTROL]
        for method in methods(results, scale, experiment, corpus)
    }
    found = {method: entries for method, entries in found.items() if any(entries)}
    rows = [
        [metric_label(metric), *(shown(entries[row], "missing", metric) for entries in found.values())]
        for row, metric in enumerate(CONTROL)
    ]
    title = f"{experiment_label(experiment)}, scale {scale}, {corpus_label(corpus)}, commands and transfer"
    note = "As a linear probe reads it off the predicted state; 95% intervals over clips in brackets, of "
    note += "several seeds from the lowest to the highest limit."
    columns = ["", *(method_label(method) for method in found)]
    return Table(f"{experiment}_{corpus}_control", title, columns, rows, note) if found else None


def has_metric(results: Results, scale: str, experiment: str, metric: str) -> bool:
    """Does any record of an experiment hold this metric?"""
    return any(metric in cell.record["metrics"] for cell in results.cells.get((scale, experiment), []))


def paper_layout(results: Results, scale: str) -> Table:
    """Table 1 in the paper's own layout: five panels per corpus, rows O_t and O_t+1."""
    rows: list[list[str]] = []
    first = 1
    for corpus in corpora(results, scale, "table1"):
        folder = results.root / scale / "table1" / "panels" / corpus
        panels = read_panels(folder) if (folder / "panels.csv").exists() else None
        rows.append([corpus_label(corpus), *(f"({k})" for k in range(first, first + 5))])
        for name, column in (("O_t", "lpips_to_current"), ("O_t+1", "lpips_to_next")):
            values = [] if panels is None else [metric_text(column, value) for value in panels[column]][:5]
            rows.append([name, *values, *[DASH] * (5 - len(values))])
        first += 5
    title = f"Table 1 in the paper's layout, scale {scale}: LPIPS of the predicted frame to two observations"
    note = "The five pairs of a corpus are chosen by the rule stated in experiments/table1.py."
    return Table("table1_panels", title, rows[0], rows[1:], note)


def reported_layout(reported: Reported) -> Table:
    """The paper's own Table 1."""
    rows: list[list[str]] = []
    for corpus in STAND_INS:
        columns = reported.row(corpus, "lpips_to_current")["column"]
        rows.append([corpus_label(corpus), *(f"({k})" for k in columns)])
        for name, metric in (("O_t", "lpips_to_current"), ("O_t+1", "lpips_to_next")):
            rows.append([name, *(f"{value:.3f}" for value in reported.row(corpus, metric)["value"])])
    return Table("table1_reported", "Table 1 as the paper reports it", rows[0], rows[1:])


def reproduced(results: Results, reported: Reported) -> Table:
    """Reported numbers next to our own at scales paper and mini, over the moving half."""
    scales = [scale for scale in ("paper", "mini", "smoke") if scale in results.scales]
    rows: list[list[str]] = []
    for corpus, stand_in in STAND_INS.items():
        places = [(scale, stand_in.get(scale, stand_in["mini"])) for scale in scales]
        names = dict.fromkeys(corpus_label(name) for name in (corpus, *(place[1] for place in places)))
        rows.append([" / ".join(names)])
        printed = {m: f"{reported.mean(corpus, m):.3f}" for m in ("lpips_to_current", "lpips_to_next")}
        printed["lpips_ratio"] = f"{reported.ratio(corpus):.3f}"
        printed["success_vs_current"] = f"{100 * reported.share_nearer_to_next(corpus):.0f}"
        for metric in MAIN:
            rows.append(
                [
                    f"Prediction: {metric_label(metric)}",
                    printed.get(metric, DASH),
                    *_across(results, places, UWM.name, metric),
                ]
            )
        for method in (COPY.name, SHUFFLED_ACTION.name):
            label = f"{method_label(method)}: {metric_label('lpips_to_next')}"
            rows.append([label, DASH, *_across(results, places, method, "lpips_to_next")])
    columns = ["", "Paper (5 pairs)", *(f"Ours, scale {scale}" for scale in scales)]
    note = (
        "Ours: test pairs of the moving half, 95% intervals over clips. Scale mini runs on simulated corpora "
        "that stand in for SSv2 and EGO4D: compare it by claim, never by value, with the paper's column. "
        f"– is not measured yet, F failed. {_protocols(results)}"
    )
    return Table("reproduced", "Table 1, reported and reproduced", columns, rows, note)


def _across(results: Results, places: Sequence[tuple[str, str]], method: str, metric: str) -> list[str]:
    found = [
        (results.measure(s, "table1", method, c, metric + "_moving"), results.status(s, "table1", method, c))
        for s, c in places
    ]
    return [shown(measured, status, metric) for measured, status in found]


def _protocols(results: Results) -> str:
    parts = []
    for scale in results.scales:
        used = {
            protocol(results, scale, "table1", corpus) for corpus in corpora(results, scale, "table1")
        } - {""}
        parts += [f"{', '.join(sorted(used))} at scale {scale}"] if used else []
    untrained = (
        " (lpips-random is an untrained backbone)" if any("lpips-random" in part for part in parts) else ""
    )
    return f"LPIPS: {'; '.join(parts)}{untrained}." if parts else ""


def experiment_tables(results: Results, scale: str) -> list[Table]:
    """The paper's layout, then per experiment and corpus the main metrics and the others."""
    tables: list[Table | None] = [paper_layout(results, scale)]
    names = dict.fromkeys([*EXPERIMENTS, *(name for s, name in results.cells if s == scale)])
    for experiment in names:
        for corpus in corpora(results, scale, experiment):
            for suffix, metrics in TABLES.get(experiment, USUAL).items():
                if metrics is not REGION or has_metric(results, scale, experiment, REGION[0]):
                    tables.append(method_table(results, scale, experiment, corpus, metrics, suffix))
            if experiment in DIFFERENCES:
                tables.append(difference_table(results, scale, experiment, corpus))
            tables.append(control_table(results, scale, experiment, corpus))
    return [table for table in tables if table]
