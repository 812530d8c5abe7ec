"""What is varied of the world model, one thing at a time (experiments/ablations.py). No torch in here.

A variation is the base recipe with some of its fields set, in the words of `--set`.
"""

from dataclasses import dataclass

from uwm.methods.spec import BLACK, BLUE, RED, Method, Style

# Topics.
RATE, LENGTH, PRESETS, PARTS = "rate", "length", "presets", "parts"
CODEBOOK, EXTRACTOR, DATA = "codebook", "extractor", "data"
AS_RELEASED = "released"  # the variation that the released model is
BASE = Method("base", "Base: 24 codes of 10 bits", ("ablations",))


@dataclass(frozen=True)
class Variation:
    """The base recipe with other values: `settings` are `field=value` of a `PretrainRecipe`.

    `preset`: the model's, which the settings change. `mae`: `field=value` of the `MAERecipe`.
    """

    name: str
    label: str
    topic: str
    settings: tuple[str, ...]
    preset: str | None = None
    mae: tuple[str, ...] = ()


def _rate(name: str, label: str, *tokens: str, codes: int = 1024) -> Variation:
    settings = [f"model.tokens.{setting}" for setting in tokens]
    return Variation(name, label, RATE, (*settings, f"model.quantizer.codes={codes}"))


def _preset(name: str, label: str, *settings: str) -> Variation:
    return Variation(name, label, PRESETS, ("picture_weight=0", *settings), preset=name.split("-")[0])


def _part(name: str, label: str, *settings: str) -> Variation:
    return Variation(name, label, PARTS, settings)


def _quantizer(name: str, label: str, *settings: str) -> Variation:
    return Variation(name, label, CODEBOOK, tuple(f"model.quantizer.{setting}" for setting in settings))


def _extractor(name: str, label: str, setting: str) -> Variation:
    return Variation(name, label, EXTRACTOR, (f"model.extractor.{setting}",))


def _data(name: str, label: str, *settings: str) -> Variation:
    return Variation(name, label, DATA, settings)


def _patch(pixels: int) -> Variation:
    """Another MAE, trained like the base's. All that it shows has other limits: compare ratios."""
    return Variation(
        f"patch-{pixels}", f"Patches of {pixels} pixels", DATA, (), mae=(f"model.patch_size={pixels}",)
    )


def _length(steps: int, *further: str) -> Variation:
    return Variation(
        f"steps-{steps}", f"{steps:,} steps of 16 pairs", LENGTH, (f"train.steps={steps}", *further)
    )


def _perceptual(steps: int, warmup: int, batch: int = 16, checkpoint: int = 250) -> tuple[str, ...]:
    """A perceptual loss in so many further steps."""
    further = (f"steps={steps}", f"batch_size={batch}", "learning_rate=5e-4", f"warmup_steps={warmup}")
    train = (*further, f"checkpoint_every={checkpoint}")
    return ("perceptual.weight=1", *(f"perceptual.train.{setting}" for setting in train))


MODULATION, REGIONS = "model.dynamics.conditioning=modulation", "model.tokens.action_source=regions"
START = "model.continuous_steps=100"  # the base's
# Four crops of each clip where more pairs are drawn than one crop of each has.
CROPS = "views=4"
WHOLE = (
    "train.warmup_steps=200",
    "train.checkpoint_every=250",
    "train.validate_every=300",
    "model.continuous_steps=200",
    CROPS,
)
LARGE_BATCHES = (
    "train.batch_size=128",
    "train.learning_rate=2e-3",
    "train.warmup_steps=200",
    "train.checkpoint_every=500",
    "train.validate_every=500",
    "model.continuous_steps=200",
    CROPS,
)
VARIATIONS: dict[str, Variation] = {
    variation.name: variation
    for variation in (
        _preset("paper", "Preset paper"),
        _preset("authors", "Preset authors"),
        _preset("paper-modulation", "Preset paper, actions as scale, shift and gate", MODULATION),
        _preset("paper-regions", "Preset paper, an action for each region", REGIONS),
        _preset("paper-regions-modulation", "Preset paper, regions and modulation", REGIONS, MODULATION),
        _preset("paper-start", "Preset paper, start without a codebook", START),
        _preset(
            "paper-regions-modulation-start",
            "Preset paper, regions, modulation and start",
            REGIONS,
            MODULATION,
            START,
        ),
        _rate("codes-4x8", "4 codes of 8, as LAPA", "num_action_tokens=4", codes=8),
        _rate("codes-8x128", "8 codes of 128, as Moto", "num_action_tokens=8", codes=128),
        _rate("codes-12", "12 codes of 1,024", "num_action_tokens=12"),
        _rate("codes-49", "49 codes of 1,024", "num_action_tokens=49"),
        _rate("codes-98", "98 codes of 1,024", "num_action_tokens=98", "codes_per_region=2"),
        _rate("codes-196", "196 codes of 1,024", "num_action_tokens=196", "codes_per_region=4"),
        _length(100, "train.warmup_steps=20", "model.continuous_steps=25"),
        _length(200, "train.warmup_steps=40", "model.continuous_steps=50"),
        _length(1200, CROPS),
        _length(4200, *WHOLE),
        _length(8400, *WHOLE),
        _length(16_800, *WHOLE),
        # The released model's training up to its perceptual loss; and with that.
        Variation("batch-128", "8,000 steps of 128 pairs", LENGTH, ("train.steps=8000", *LARGE_BATCHES)),
        Variation(
            AS_RELEASED,
            "8,000 steps of 128 pairs, then 3,000 with LPIPS in the loss",
            LENGTH,
            (
                "train.steps=8000",
                *LARGE_BATCHES,
                *_perceptual(3000, 100, batch=64, checkpoint=500),
                "perceptual.train.validate_every=500",
            ),
        ),
        _part("queries", "Actions from learned queries", "model.tokens.action_source=queries"),
        _part(
            "tokens",
            "Actions added to the state's tokens",
            "model.dynamics.conditioning=tokens",
            "model.dynamics.convolutions=0",
        ),
        _part("no-convolutions", "No convolutions", "model.dynamics.convolutions=0"),
        _part("no-residual", "State predicted, not its change", "model.dynamics.residual=false"),
        _part("no-picture", "No loss on the picture", "picture_weight=0"),
        _part("perceptual", "100 steps more, with LPIPS in the loss", *_perceptual(100, 20)),
        _part("depth-1", "One block of attention", "model.dynamics.depth=1"),
        _part("depth-4", "Four blocks of attention", "model.dynamics.depth=4"),
        _quantizer("codebook-256", "24 codes of 256", "codes=256"),
        _quantizer("codebook-4096", "24 codes of 4,096", "codes=4096"),
        *(
            Variation(
                f"width-{width}",
                f"Codes {width} wide, base: 64",
                CODEBOOK,
                (f"model.quantizer.width={width}", f"model.tokens.action_width={width}"),
            )
            for width in (16, 256)
        ),
        _quantizer("gradient", "Codebook by gradient", "codebook_update=gradient"),
        _quantizer("beta-0", "No commitment", "beta=0"),
        _quantizer("beta-0.25", "Commitment 0.25, base: 0.02", "beta=0.25"),
        Variation("no-start", "Codebook from the first step", CODEBOOK, ("model.continuous_steps=0",)),
        _quantizer("no-restart", "No restart of codes", "restart_threshold=0"),
        _quantizer(
            "restart-0.3", "Restart below 0.3 of the expected use, base: 0.1", "restart_threshold=0.3"
        ),
        _extractor("extractor-1", "Extractor of one block, base: four", "depth=1"),
        _extractor("extractor-2", "Extractor of two blocks", "depth=2"),
        _extractor("extractor-8", "Extractor of eight blocks", "depth=8"),
        _extractor("layout-tokens", "Both states side by side", "token_layout=tokens"),
        _extractor("standardize-layer", "Latents standardised over channels", "standardize=layer"),
        _extractor("standardize-none", "Latents not standardised", "standardize=none"),
        _data("fixed", "Trained on fixed cameras alone", "sources=sim-third-person"),
        _data("moving", "Trained on moving cameras alone", "sources=sim-ego"),
        _data("drawn", "Trained on procedural video alone", "sources=procedural"),
        _data(
            "with-drawn", "Trained on procedural video besides", "sources=sim-third-person,sim-ego,procedural"
        ),
        *(
            _data(f"gap-{gap:g}", f"Trained on pairs {gap:g} s apart", f"gap={gap:g}")
            for gap in (0.1, 0.5, 1.0)
        ),
        _patch(14),
        _patch(8),
    )
}
# What has further seeds: the base, and the parts that matter most where the paper has it otherwise.
REPEATED = (BASE.name, "queries", "tokens", "no-start", "gradient", "beta-0.25", "standardize-none")
# The lines of the figures.
LATENT = Method("latent-actions", "Latent actions", ("ablations",), Style(BLUE, "-", "o"), optional=True)
CODEC = Method("codec", "x264, one P-frame", ("ablations",), Style(BLACK, ":", "x"), optional=True)
RELEASED_MODEL = Method(
    "released-model", "Released model", ("ablations",), Style(RED, "", "D"), optional=True
)
# A video codec's P-frame of so many bits, the rival of a code of that rate. Nothing is trained for it.
CODECS = {f"codec-{bits}": bits for bits in (240, 490, 980, 1960)}
VARIATION_METHODS = (
    *(BASE, LATENT, CODEC, RELEASED_MODEL),
    *(
        Method(name, f"x264, up to {bits:,} bits", ("ablations",), optional=True)
        for name, bits in CODECS.items()
    ),
    *(Method(name, v.label, ("ablations",), optional=v.topic != PARTS) for name, v in VARIATIONS.items()),
)
