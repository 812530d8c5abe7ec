"""What real actions should reach at scale `mini` (Figure 5): two claims of the paper, and what is missing."""

from collections.abc import Iterator

from paper.items import NOT_COMPARED, NOT_REACHED, REACHED, Item, absent, interval_text
from paper.names import DASH, corpus_label
from paper.store import Measured, Results
from paper.targets import PANDA_CORPUS
from uwm.methods import AHEAD, COPY, R_GT, R_LA, Variant, method_label
from uwm.metrics.spec import MOVING, metric_text

METRIC = "lpips_to_next"
HORIZONS: tuple[tuple[Variant | None, str, str], ...] = (
    (None, "0.2 s", "figure5/adapter-is-no-copy"),
    (AHEAD, "1 s", "figure5/ahead-is-no-copy"),
)
FEWER_PAIRS = (100, 500, 2000)


def control_targets(results: Results) -> Iterator[Item]:
    """R_GT is to be nearer to the true frame than a copy, over the moving half, with all of the interval."""
    for variant, seconds, claim in HORIZONS:
        ours, still = (
            results.find("mini", "figure5", method.variant(variant), PANDA_CORPUS) for method in (R_GT, COPY)
        )
        difference = results.difference(ours, still, METRIC + MOVING)
        measured, copied = (_measure(results, method.variant(variant)) for method in (R_GT, COPY))
        wanted, text = DASH, DASH
        verdict = absent(results, "mini", "figure5", PANDA_CORPUS, R_GT.variant(variant))
        why = f"The claim {claim}, for the simulated stand-in."
        if measured and copied and difference:
            wanted, text = f"≤ {metric_text(METRIC, copied.value)}", interval_text(measured, METRIC)
            verdict = REACHED if difference.high <= 0 else NOT_REACHED
            verdict = NOT_COMPARED if "lpips-random" in measured.protocol else verdict
            if verdict == NOT_REACHED:
                why += "".join(_reasons(results, variant))
        name = (
            f"{corpus_label(PANDA_CORPUS)}: LPIPS of {method_label(R_GT.name)} after {seconds}, moving half"
        )
        item_id = f"mini/figure5/target/{R_GT.variant(variant)}/{PANDA_CORPUS}"
        yield Item(item_id, f"{name}, against a copy", wanted, text, verdict, why)


def _measure(results: Results, method: str) -> Measured | None:
    return results.measure("mini", "figure5", method, PANDA_CORPUS, METRIC + MOVING)


def _reasons(results: Results, variant: Variant | None) -> Iterator[str]:
    """What the model reaches without the adapter, and the adapter with fewer pairs."""
    if latent := _measure(results, R_LA.variant(variant)):
        yield f" By latent actions, which need no adapter: {metric_text(METRIC, latent.value)}."
    if variant is None:
        by_pairs = {pairs: _measure(results, R_GT.with_pairs(pairs)) for pairs in FEWER_PAIRS}
        found = [f"{metric_text(METRIC, m.value)} by {pairs:,}" for pairs, m in by_pairs.items() if m]
        if found:
            yield f" By fewer labelled pairs: {', '.join(found)}."
