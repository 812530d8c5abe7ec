"""What is checked: the reported numbers and the claims, each as a question put to the records.

Ids, statements and sources stand in `results/reported/*.csv`; how a claim is measured stands here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from paper.control_targets import control_targets
from paper.items import AGREES, DIFFERS, NOT_COMPARED, Item, absent, interval_text
from paper.names import DASH, corpus_label
from paper.planning_targets import planning_targets
from paper.reported import Reported
from paper.store import Results
from paper.tables import corpora
from paper.targets import targets
from uwm.methods import (
    AHEAD,
    COPY,
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
    Method,
    Variant,
)
from uwm.metrics.spec import metric_text

# A model "matches" another when it is worse by less than this share of the other's mean, interval included.
MATCHING_MARGIN = 0.10
HAND = "hand_error_px"


@dataclass(frozen=True)
class Comparison:
    """Method `lower` has less of `metric` than `higher`, or with `margin` not that share of it more.

    With `apart`, the intervals of the two must not overlap either.
    """

    lower: str
    higher: str
    metric: str = "lpips_to_next"
    margin: float = 0.0
    apart: bool = False

    @classmethod
    def of(cls, lower: Method, higher: Method, *, variant: Variant | None = None, **how: Any) -> Self:
        """Of two methods, or of the same variant of both."""
        return cls(lower.variant(variant), higher.variant(variant), **how)


COMPARISONS = {
    # Against the sharp O_t+1: the oracle, which the decoder alone limits, has more than half of the distance.
    "table1/blur-from-decoder": Comparison.of(UWM, ORACLE, metric="lpips_to_next_true", margin=1.0),
    "table1/not-a-copy": Comparison.of(UWM, COPY),
    "table1/uses-the-action": Comparison.of(UWM, SHUFFLED_ACTION),
    "figure4/pretrained-is-worse": Comparison.of(W_FT, W_PRE, apart=True),
    "figure4/finetuned-matches-scratch": Comparison.of(W_FT, W_TFS, margin=MATCHING_MARGIN),
    "figure4/few-pairs-suffice": Comparison.of(W_FT, SCRATCH, apart=True),
    "figure4/pretrained-is-no-copy": Comparison.of(W_PRE, COPY),
    "figure5/state-is-no-copy": Comparison.of(R_GT, COPY, metric="state_mse", apart=True),
    "figure5/pixels-are-no-copy": Comparison.of(COPY, R_GT, metric="psnr_region", apart=True),
}
# Figure 5: R_GT against each of these, by the last words of the claim's id; in LPIPS and in the hand's place,
# since the purpose is planning (section 4.2); after one step (0.2 s) and after five, when less stands still.
BASELINES = {
    "matches-latent": R_LA,
    "is-no-copy": COPY,
    "uses-the-action": SHUFFLED,
    "beats-no-action": NO_ACTION,
    "reads-the-state": NO_STATE,
}
CLAIM_VIEWS: dict[str, tuple[str, Variant | None]] = {
    "adapter": ("lpips_to_next", None),
    "hand": (HAND, None),
    "ahead": ("lpips_to_next", AHEAD),
    "hand-ahead": (HAND, AHEAD),
}


def _against(baseline: Method, metric: str, variant: Variant | None) -> Comparison:
    match = baseline == R_LA
    margin = MATCHING_MARGIN if match else 0.0
    return Comparison.of(R_GT, baseline, variant=variant, metric=metric, margin=margin, apart=not match)


COMPARISONS |= {
    f"figure5/{view}-{claim}": _against(baseline, *how)
    for view, how in CLAIM_VIEWS.items()
    for claim, baseline in BASELINES.items()
}
RATIO_CLAIM = "table1/nearer-to-next"
HALF_NAMES = {"": "all", "_moving": "moving"}


def all_items(results: Results, reported: Reported) -> list[Item]:
    """Every item in a fixed order: reported numbers, targets, claims of each scale."""
    items = list(numeric_items(results, reported)) if "paper" in results.scales else []
    if "mini" in results.scales:
        items += [*targets(results), *control_targets(results), *planning_targets(results)]
    for scale in results.scales:
        items += claims(results, reported, scale)
    return items


def numeric_items(results: Results, reported: Reported) -> Iterator[Item]:
    """Scale `paper` against the reported numbers, with each item's stated tolerance."""
    for row in reported.items.itertuples():
        corpus, metric, tolerance = str(row.corpus), str(row.metric), float(str(row.tolerance))
        ratio = row.statistic == "ratio_of_means"
        expected = reported.ratio(corpus) if ratio else reported.share_nearer_to_next(corpus)
        measured = results.measure("paper", str(row.experiment), UWM.name, corpus, metric)
        text = f"{metric_text(metric, expected)} ± {metric_text(metric, tolerance)}"
        what = "ratio of mean LPIPS to O_t+1 and to O_t" if ratio else "pairs nearer to O_t+1, %"
        name = f"{corpus_label(corpus)}: {what}"
        if measured is None:
            verdict = absent(results, "paper", str(row.experiment), corpus, UWM.name)
            yield Item(f"paper/{row.id}", name, text, DASH, verdict, str(row.why))
            continue
        near = abs(measured.value - expected) <= tolerance
        verdict = AGREES if near else DIFFERS
        if "lpips-random" in measured.protocol:
            verdict = NOT_COMPARED
        yield Item(f"paper/{row.id}", name, text, interval_text(measured, metric), verdict, str(row.why))


def claims(results: Results, reported: Reported, scale: str) -> Iterator[Item]:
    """Every claim of the paper on every corpus of the scale, over all pairs and over the moving half."""
    for row in reported.claims.itertuples():
        claim, experiment, statement = str(row.id), str(row.experiment), str(row.statement)
        if claim != RATIO_CLAIM and claim not in COMPARISONS:
            yield Item(
                f"{scale}/{claim}",
                statement,
                "claim",
                DASH,
                NOT_COMPARED,
                "No measurement is defined for it.",
            )
            continue
        for corpus in corpora(results, scale, experiment) or [""]:
            for suffix, half in HALF_NAMES.items():
                item_id = "/".join(filter(None, (scale, claim, corpus, half if corpus else "")))
                name = f"{statement} ({corpus_label(corpus)}, {half} pairs)" if corpus else statement
                text, verdict, why = _judge(results, scale, experiment, claim, corpus, suffix)
                yield Item(item_id, name, "claim", text, verdict, why)
                if not corpus:
                    break


def _judge(
    results: Results, scale: str, experiment: str, claim: str, corpus: str, suffix: str
) -> tuple[str, str, str]:
    """(measured text, verdict, why) of one claim on one corpus."""
    if claim == RATIO_CLAIM:
        return _judge_ratio(results, scale, experiment, corpus, suffix)
    rule = COMPARISONS[claim]
    a, b = (results.find(scale, experiment, method, corpus) for method in (rule.lower, rule.higher))
    ok = [[cell for cell in cells if cell.status == "ok"] for cells in (a, b)]
    difference = results.difference(ok[0], ok[1], rule.metric + suffix)
    if difference is None:
        return DASH, absent(results, scale, experiment, corpus, rule.lower, rule.higher), ""
    lower, higher = (results.interval(cells, rule.metric + suffix) for cells in ok)
    assert lower is not None  # or there were no difference
    assert higher is not None
    limit = rule.margin * higher.estimate
    pair = f"{rule.metric}, {rule.lower} minus {rule.higher}, paired over clips"
    why = f"{pair}; agrees when all of the interval is below {metric_text(rule.metric, limit)}"
    agrees = difference.high < limit
    if rule.apart:
        agrees &= lower.high < higher.low
        limits = f"{metric_text(rule.metric, lower.high)} against {metric_text(rule.metric, higher.low)}"
        why += f" and their own intervals are apart ({limits})"
    return interval_text(difference, rule.metric), AGREES if agrees else DIFFERS, why


def _judge_ratio(
    results: Results, scale: str, experiment: str, corpus: str, suffix: str
) -> tuple[str, str, str]:
    metric = f"lpips_ratio{suffix}"
    measured = results.measure(scale, experiment, UWM.name, corpus, metric)
    if measured is None:
        return DASH, absent(results, scale, experiment, corpus, UWM.name), ""
    why = "Ratio of mean LPIPS to O_t+1 and to O_t; agrees when all of the interval is below 1"
    return interval_text(measured, metric), AGREES if measured.high < 1 else DIFFERS, why
