"""What the methods of the tables are called, and which variants they have. No torch in here.

A cell's method is `NAME` or `NAME-VARIANT`: `r_gt`, `r_gt-500` (500 pairs), `copy-mae-decoder`. A new method
is one line here, or `declare_method(Method(...))` in the experiment's own file.
"""

import re
from dataclasses import dataclass

from uwm.errors import UserError
from uwm.methods.families import FAMILY_METHODS, PLANNER_METHODS
from uwm.methods.spec import (
    BLACK,
    BLUE,
    DASH_DOT_DOT,
    GREEN,
    LONG,
    ORANGE,
    PINK,
    RED,
    SKY,
    Method,
    Style,
    Variant,
)
from uwm.methods.variations import VARIATION_METHODS

STEPS_AHEAD = 5  # of 0.2 s, of the variant that predicts a second ahead

MAE_DECODER = Variant("mae-decoder", "MAE's own decoder")
LPIPS_DECODER = Variant("lpips-decoder", "decoder tuned with LPIPS")
AHEAD = Variant(f"{STEPS_AHEAD}-steps", f"{STEPS_AHEAD} steps ahead")
STATE_COST = Variant("state-cost", "distance of states")
CHANGED_COST = Variant("changed-cost", "distance of changed tokens")
PLAIN_READER = Variant("plain-reader", "places read by networks of true states alone")
TRUE_COST = Variant("true-cost", "the simulator's own distance")
TRUE_GOAL = Variant("true-goal", "the goal's place told by the simulator")
FEW_SAMPLES = Variant("few-samples", "the simulator rows' solver")
MORE_SAMPLES = Variant("more-samples", "the other rows' solver")
VARIANTS = (
    *(MAE_DECODER, LPIPS_DECODER, AHEAD, STATE_COST, CHANGED_COST, TRUE_COST),
    *(TRUE_GOAL, FEW_SAMPLES, MORE_SAMPLES, PLAIN_READER),
)
OTHER_DECODERS = (MAE_DECODER, LPIPS_DECODER)
STATE_COSTS = (STATE_COST, CHANGED_COST)

T1, F4, F5, P = ("table1",), ("figure4",), ("figure5",), ("planning",)
UWM = Method("uwm", "Universal world model", T1)
UWM_1960 = Method("uwm-1960", "A code of the frame: 1,960 bits", T1, Style(RED, "--", "s"), optional=True)
ZERO_ACTION = Method("zero-action", "Zero action", T1)
RANDOM_ACTION = Method("random-action", "Random action", T1)
SHUFFLED_ACTION = Method("shuffled-action", "Shuffled action", T1)
CONTINUOUS = Method("continuous", "Continuous action (no VQ)", T1)
W_PRE = Method("w_pre", "W_pre", F4, Style(GREEN, "-."))
W_FT = Method("w_ft", "W_ft", F4, Style(BLUE, "-", "o"), by_pairs=True)
W_TFS = Method("w_tfs", "W_tfs", F4, Style(SKY, LONG))
SCRATCH = Method("scratch", "From scratch, same pairs", F4, Style(PINK, ":"))
W_FT_DYNAMICS = Method("w_ft-dynamics", "W_ft, dynamics alone", F4)
W_FT_NO_CODEBOOK = Method("w_ft-no-codebook", "W_ft, codebook frozen", F4)
R_LA = Method("r_la", "R_LA", F5, Style(GREEN, "--", "s"), variants=(*OTHER_DECODERS, AHEAD))
R_GT = Method(
    "r_gt",
    "R_GT",
    F5,
    Style(BLUE, "-", "o"),
    variants=(*OTHER_DECODERS, AHEAD, *STATE_COSTS, PLAIN_READER, TRUE_GOAL, FEW_SAMPLES),
    by_pairs=True,
)
NO_STATE = Method("no-state", "R_GT, adapter without state", F5, Style(SKY, LONG, "D"), variants=(AHEAD,))
SHUFFLED = Method("shuffled", "R_GT, another pair's action", F5, variants=(AHEAD,))
DIRECT = Method(
    "direct",
    "Direct dynamics, no adapter",
    F5,
    Style(RED, "-.", "^"),
    variants=(AHEAD, *STATE_COSTS, PLAIN_READER),
    by_pairs=True,
)
NO_ACTION = Method("no-action", "No action", (*T1, *F5), Style(PINK, DASH_DOT_DOT, "v"), variants=(AHEAD,))
FICC_REAL = Method("ficc", "FICC, real actions", F5)
FICC_LATENT = Method("ficc-la", "FICC, latent actions", F5)
R_GT_TARGETS = {
    target: Method(f"r_gt-{target}", f"R_GT, fitted to {what}", F5, optional=True)
    for target, what in {
        "continuous": "continuous actions",
        "quantized": "quantized actions",
        "codes": "codes",
        "prediction": "the prediction",
    }.items()
}
R_GT_LIKELIEST = Method("r_gt-likeliest", "R_GT, the likeliest codes", F5, optional=True)
SIMULATOR = Method(
    "simulator",
    "The simulator as the model",
    P,
    Style(GREEN, "-", "o"),
    True,
    variants=(*STATE_COSTS, TRUE_COST, MORE_SAMPLES),
)
SHUFFLED_PLANS = Method("shuffled-plans", "R_GT, another plan's consequences", P, optional=True)
CLONING = Method("cloning", "Behaviour cloning", P, Style(ORANGE, LONG, "v"), True, by_pairs=True)
RANDOM = Method("random", "Random actions", P, Style(PINK, ":", "x"), True)
COPY = Method("copy", "Copy of O_t", (*T1, *F4, *F5), Style(BLACK, ":"), variants=(*OTHER_DECODERS, AHEAD))
ORACLE = Method(
    "oracle", "Oracle: MAE of O_t+1", (*T1, *F4, *F5), Style(BLACK), variants=(*OTHER_DECODERS, AHEAD)
)
# In the order of the tables' rows.
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *(UWM, UWM_1960, ZERO_ACTION, RANDOM_ACTION, SHUFFLED_ACTION, CONTINUOUS),
        *(W_PRE, W_FT, W_TFS, SCRATCH, W_FT_DYNAMICS, W_FT_NO_CODEBOOK),
        *(R_LA, R_GT, NO_STATE, SHUFFLED, DIRECT, NO_ACTION, FICC_REAL, FICC_LATENT),
        *(R_GT_LIKELIEST, *R_GT_TARGETS.values()),
        *(SHUFFLED_PLANS, SIMULATOR, CLONING, RANDOM),
        *(COPY, ORACLE),
        *(*VARIATION_METHODS, *FAMILY_METHODS, *PLANNER_METHODS),
    )
}
_PAIRS = re.compile(r"(.+)-(\d+k?)")


@dataclass(frozen=True)
class Parsed:
    """A cell's method: `short_pairs` is what its name says of the number of pairs, "500" or "2k"."""

    method: Method
    short_pairs: str | None = None
    variant: Variant | None = None

    @property
    def base(self) -> str:
        """The name without the variant: of `r_gt-500-5-steps`, `r_gt-500`."""
        return f"{self.method}-{self.short_pairs}" if self.short_pairs else self.method.name

    @property
    def label(self) -> str:
        """As tables show it."""
        pairs = f"{self.short_pairs} pairs" if self.short_pairs else ""
        said = self.variant.label if self.variant else ""
        return ", ".join(part for part in (self.method.label, pairs, said) if part)


def parse(name: str) -> Parsed:
    """What a cell's method is.

    Raises:
        UserError: no such method is declared.
    """
    base, variant = name, None
    for candidate in VARIANTS:
        if name.endswith(f"-{candidate.suffix}"):
            base, variant = name.removesuffix(f"-{candidate.suffix}"), candidate
    match = _PAIRS.fullmatch(base)
    if base in METHODS:
        parsed = Parsed(METHODS[base], None, variant)
    elif match and match[1] in METHODS and METHODS[match[1]].by_pairs:
        parsed = Parsed(METHODS[match[1]], match[2], variant)
    else:
        raise UserError(
            f"method {name!r} is not declared: add it to uwm/methods/__init__.py, or "
            "declare_method(Method(...))"
        )
    if variant and variant not in parsed.method.variants:
        raise UserError(f"method {name!r}: {parsed.method} declares no variant {variant.suffix}")
    return parsed


def declare_method(method: Method) -> Method:
    """Add a method of an experiment's own. ValueError where the name means something else."""
    if METHODS.setdefault(method.name, method) != method:
        raise ValueError(f"method {method.name!r} is declared already, as {METHODS[method.name]}")
    return method


def method_label(name: str) -> str:
    """As tables show it; the name itself of a method that only the experiment's own file declares."""
    try:
        return parse(name).label
    except UserError:
        return name
