"""Ways to a latent action, each with the bottleneck of the work that it is after (experiments/families.py).

All else is the same for all: the frozen states, extractor and dynamics of the base recipe, the pairs, their
order and the number of steps. No torch in here. A family is the base recipe with some of its fields set, in
the words of `--set`.
"""

from dataclasses import dataclass

from uwm.methods.spec import BLACK, BLUE, GREEN, LONG, ORANGE, PINK, RED, SKY, Method, Style

ONE = "model.tokens.num_action_tokens=1"  # for the whole picture
NO_CODEBOOK_STEPS = "model.continuous_steps=0"  # there is no codebook to wait for


@dataclass(frozen=True)
class Family:
    """The base recipe with other values: `settings` are `field=value` of a `PretrainRecipe`.

    `panel`: its name in pictures. `preset`: the model's, which the settings change.
    `pixels`: it reads patches of pixels, not states.
    """

    name: str
    label: str
    panel: str
    style: Style
    settings: tuple[str, ...] = ()
    preset: str | None = None
    pixels: bool = False


def _codes(tokens: int, codes: int) -> tuple[str, ...]:
    return f"model.tokens.num_action_tokens={tokens}", f"model.quantizer.codes={codes}"


def _noise(tokens: int, width: int) -> tuple[str, ...]:
    sizes = f"model.tokens.num_action_tokens={tokens}", f"model.tokens.action_width={width}"
    return *sizes, "model.bottleneck.kind=noise", NO_CODEBOOK_STEPS


_FAMILIES = (
    Family("ours", "Ours: 24 codes of 1,024", "ours", Style(BLUE, "-", "o")),
    Family("laq", "As LAPA: 4 codes of 8", "LAPA", Style(GREEN, "--", "s"), _codes(4, 8)),
    Family("moto", "As Moto: 8 codes of 128", "Moto", Style(RED, "-.", "^"), _codes(8, 128)),
    Family(
        "adaworld",
        "As AdaWorld: 32 Gaussian numbers",
        "AdaWorld",
        Style(PINK, LONG, "D"),
        (
            ONE,
            "model.tokens.action_width=32",
            "model.bottleneck.kind=gaussian",
            "model.extractor.standardize=none",
            NO_CODEBOOK_STEPS,
        ),
    ),
    Family("noise", "Noisy numbers: 128 in one", "noise", Style(SKY, "-", "P"), _noise(1, 128)),
    # As many bits as `ours`, at the same places.
    Family("noise-placed", "Noisy numbers: 24 times 20", "placed", Style(SKY, "--", "X"), _noise(24, 20)),
    # Genie (Bruce et al. 2024) has 8 codes, one a frame; LAPO (Schmidt & Jiang 2024) as few.
    Family("genie", "As Genie, LAPO: 1 code of 8", "Genie", Style(ORANGE, ":", "v"), _codes(1, 8)),
    Family("preset-paper", "Preset paper", "paper", Style(BLACK, "-", "<"), ("picture_weight=0",), "paper"),
    Family(
        "preset-authors",
        "Preset authors",
        "authors",
        Style(PINK, "--", ">"),
        ("picture_weight=0",),
        "authors",
    ),
    # As `ours`, with pixels in place of states. The networks are as wide as those over states.
    Family(
        "pixels",
        "Ours over pixels",
        "pixels",
        Style(RED, ":", "p"),
        ("model.extractor.width=128", "model.dynamics.width=128"),
        pixels=True,
    ),
)
FAMILIES: dict[str, Family] = {family.name: family for family in _FAMILIES}
FAMILY_METHODS = tuple(
    Method(name, family.label, ("families",), family.style) for name, family in FAMILIES.items()
)
# Of `experiments/planning.py`: each plans by an adapter from real actions to its own latent ones. A model of
# pixels is left out: what measures distances reads states.
PLANNERS = {f"r_gt-{name}": family for name, family in FAMILIES.items() if not family.pixels}
PLANNER_METHODS = tuple(
    Method(name, f"R_GT, {family.label}", ("planning",), family.style, optional=True)
    for name, family in PLANNERS.items()
)
