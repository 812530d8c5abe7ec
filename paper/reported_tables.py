"""Table 1 beside the paper's: as the paper reports it, in its layout, and next to our numbers."""

from paper.counted import pairs_and_clips, told_by_corpus
from paper.grids import read_panels
from paper.layout import MAIN
from paper.names import DASH, corpus_label
from paper.reported import Reported
from paper.store import Results
from paper.table import Table, measured_text
from paper.tables import corpora, protocol
from uwm.methods import COPY, UWM, UWM_1960, method_label
from uwm.metrics.spec import metric_label, metric_text

# The reported corpus and what stands in for it at each scale that has it.
STAND_INS = {
    "ssv2": {"paper": "ssv2", "small": "ssv2", "mini": "sim-third-person", "smoke": "sim-third-person"},
    "ego4d": {"paper": "ego4d", "mini": "sim-ego", "smoke": "sim-ego"},
}
PAPER_BITS = 240.0  # 24 codes (authors' code) out of 1024 (section 5.1)
LABELS = {UWM.name: "Prediction"}  # what needs no name of its own here
ROWS = [
    *((UWM.name, metric) for metric in ["bits", *MAIN]),
    (COPY.name, "lpips_to_next"),
    *((UWM.name, metric) for metric in ("own_over_shuffled", "gain_over_no_action", "leak")),
    *((UWM_1960.name, metric) for metric in ("lpips_ratio", "leak")),
]
REPORTED = ("lpips_to_current", "lpips_to_next")  # of which the paper prints numbers


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
    """Reported numbers next to our own, over the moving half; scales without a record have no column."""
    scales = [s for s in ("paper", "small", "mini", "smoke") if (s, "table1") in results.cells]
    columns: dict[str, tuple[str, str] | str] = {}  # what a column shows: a record's place, or the paper's
    for corpus, stand_in in STAND_INS.items():
        columns[f"{corpus_label(corpus)}: paper"] = corpus
        for scale, where in ((scale, stand_in[scale]) for scale in scales if scale in stand_in):
            columns[f"{corpus_label(where)}: ours, {scale}"] = (scale, where)
    rows = [
        [
            f"{LABELS.get(method, method_label(method))}: {metric_label(metric)}",
            *(
                _printed(reported, source, method, metric)
                if isinstance(source, str)
                else _measured(results, source, method, metric)
                for source in columns.values()
            ),
        ]
        for method, metric in ROWS
    ]
    missing = " and ".join(scale for scale in results.scales if scale not in scales)
    note = (
        "Paper: the five pairs that it shows of each corpus. Ours: test pairs of the moving half, of one "
        "training, with 95% intervals over clips. Leak: an action is inferred from O_t to a frame of another "
        "clip and used on O_t; its state error to that frame, over a copy's. Scale mini runs on "
        "simulated corpora that stand in for SSv2 and EGO4D: compare it with the paper by claim, never by "
        f"value. The paper's bits are those of its authors' code. {_protocols(results)}"
    ) + (f" Scale {missing} has not been measured." if missing else "")
    sentences = [
        _training_pairs(results, source) for source in columns.values() if not isinstance(source, str)
    ]
    note += "".join(dict.fromkeys(sentences))
    ours = [source for source in columns.values() if not isinstance(source, str)]
    note += told_by_corpus(
        (corpus, pairs_and_clips(results, (scale, "table1", corpus), [UWM.name])) for scale, corpus in ours
    )
    return Table("reproduced", "Table 1, reported and reproduced", ["", *columns], rows, note)


def _printed(reported: Reported, corpus: str, method: str, metric: str) -> str:
    """What the paper says, or what follows from its five pairs."""
    if method != UWM.name:
        return DASH
    if metric == "success_vs_current":
        return f"{100 * reported.share_nearer_to_next(corpus):.0f}"
    if metric == "bits":
        return metric_text(metric, PAPER_BITS)
    if metric == "lpips_ratio":
        return metric_text(metric, reported.ratio(corpus))
    return metric_text(metric, reported.mean(corpus, metric)) if metric in REPORTED else DASH


def _measured(results: Results, source: tuple[str, str], method: str, metric: str) -> str:
    scale, corpus = source
    key = (scale, "table1", method, corpus)
    measured = results.measure(*key, metric + "_moving") or results.measure(*key, metric)
    return measured_text(measured, results.status(scale, "table1", method, corpus), metric)


def _training_pairs(results: Results, source: tuple[str, str]) -> str:
    """What the model and the predictor without actions were trained on, since the gain compares the two."""
    scale, corpus = source
    cells = [cell for cell in results.find(scale, "table1", UWM.name, corpus) if cell.status == "ok"]
    if not cells or not cells[0].record["config"].get("no_action"):
        return ""
    config = cells[0].record["config"]
    last = config["pretrain"].get("perceptual") or {}
    ours = [config["pretrain"]["train"], *([last["train"]] if last.get("weight") else [])]
    pairs_seen = [
        sum(t["steps"] * t["batch_size"] for t in trainings)
        for trainings in (ours, [config["no_action"]["train"]])
    ]
    with_actions, without = (f"{pairs:,}" for pairs in pairs_seen)
    note = f" At scale {scale} the model saw {with_actions} training pairs, the one without actions {without}"
    return note + (": part of the gain may be longer training." if pairs_seen[0] > pairs_seen[1] else ".")


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
