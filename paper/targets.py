"""What a model of 240 bits should reach at scale `mini`: targets of ours, no claims of the paper."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from paper.extrapolation import lengths, pairs_until
from paper.items import NOT_COMPARED, NOT_REACHED, REACHED, Item, absent, interval_text
from paper.names import DASH, corpus_label
from paper.reported_tables import STAND_INS
from paper.store import Measured, Results
from uwm.methods import UWM, UWM_1960
from uwm.metrics.spec import METRICS, MOVING, metric_label, metric_text


def _how_far(pairs: float | None) -> str:
    """Where a power law through the longest trainings leads to a target."""
    if pairs is None:
        return " A power law through the longest trainings doesn't lead there."
    rounded = float(f"{pairs:.1g}")  # it is far outside what was measured
    return f" If a power law through the longest trainings held, it would take some {rounded:,.0f} pairs."


@dataclass(frozen=True)
class TargetValue:
    """A bound for a number of Table 1, by corpus."""

    metric: str
    bounds: Mapping[str, float]  # by corpus
    words: str
    apart: bool = False  # the whole interval must be on the right side, not only the estimate
    half: str = MOVING  # the pairs that it is of; else nothing, for all
    beside: str = ""  # another metric of the same record, said where the target is not reached

    def reached(self, measured: Measured, bound: float) -> bool:
        """At the bits that the paper has: no target may be bought with more."""
        ends = (measured.low, measured.high) if self.apart else (measured.value,)
        lower = METRICS[self.metric].better == "lower"
        return max(ends) <= bound if lower else min(ends) >= bound


PANDA_CORPUS = "sim-panda"
FIXED, MOVING_CAMERA = STAND_INS["ssv2"]["mini"], STAND_INS["ego4d"]["mini"]
TARGETS = (
    TargetValue("own_over_shuffled", {FIXED: 0.7, MOVING_CAMERA: 0.7}, "state error over another action's"),
    TargetValue(
        "gain_over_no_action", {FIXED: 0.3, MOVING_CAMERA: 0.2}, "gain over a predictor without actions"
    ),
    TargetValue(
        "lpips_ratio", {FIXED: 1.0, MOVING_CAMERA: 1.0}, "ratio of LPIPS to O_t+1 and to O_t", apart=True
    ),
    TargetValue("success_vs_copy", {FIXED: 0.5, MOVING_CAMERA: 0.5}, "nearer to O_t+1 than a copy, %"),
    TargetValue(
        "probe_r2",
        {PANDA_CORPUS: 0.3},
        "R2 of real from latent actions, zero-shot, linear",
        half="",
        beside="probe_r2_movement",
    ),
    TargetValue(
        "probe_r2_mlp",
        {PANDA_CORPUS: 0.4},
        "R2 of real from latent actions, zero-shot, MLP",
        half="",
    ),
    TargetValue(
        "transfer_picture",
        {PANDA_CORPUS: 1.0},
        "hand error of a transferred action over standing still, in the picture",
        apart=True,
        half="",
    ),
)


def targets(results: Results) -> Iterator[Item]:
    """Scale `mini`: what a latent action is for, at the paper's bits."""
    for target in TARGETS:
        for corpus, bound in target.bounds.items():
            metric = target.metric
            named = f"{metric}{target.half}"
            measured = results.measure("mini", "table1", UWM.name, corpus, named)
            bits = results.measure("mini", "table1", UWM.name, corpus, "bits")
            text, verdict = DASH, absent(results, "mini", "table1", corpus, UWM.name)
            if measured is not None:
                text = interval_text(measured, metric)
                text += f" at {metric_text('bits', bits.value)} bits" if bits else ""
                verdict = REACHED if target.reached(measured, bound) else NOT_REACHED
                verdict = NOT_COMPARED if "lpips-random" in measured.protocol else verdict
            sign = "≤" if METRICS[metric].better == "lower" else "≥"
            why = "Ours, for the simulated stand-in; no claim of the paper."
            if verdict == NOT_REACHED:
                why += _how_far(pairs_until(lengths(results, "mini", corpus, named), bound))
                if other := results.measure("mini", "table1", UWM.name, corpus, target.beside):
                    why += f" {metric_label(target.beside)}: {metric_text(target.beside, other.value)}."
            if high := results.measure("mini", "table1", UWM_1960.name, corpus, named):
                why += f" The model of 1,960 bits: {metric_text(metric, high.value)}."
            half = ", moving half" if target.half else ""
            name = f"{corpus_label(corpus)}: {target.words}{half}"
            item_id = f"mini/table1/target/{metric}/{corpus}"
            yield Item(item_id, name, f"{sign} {metric_text(metric, bound)}", text, verdict, why)
