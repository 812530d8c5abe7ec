"""What a method is: its name, label, variants, and how its line looks. No torch in here."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Variant:
    """One thing that is changed of a method; its suffix ends the method's name, after a dash."""

    suffix: str
    label: str


@dataclass(frozen=True)
class Style:
    """How a method's line looks in all figures: matplotlib's colour, dashes and marker."""

    colour: str
    dashes: Any = "-"
    marker: str = ""


# Okabe and Ito's palette: told apart by colour-blind readers and, in this order, in grey.
PALETTE = BLUE, RED, GREEN, PINK, SKY, ORANGE, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
)
LONG, DASH_DOT_DOT = (0, (5, 1)), (0, (3, 1, 1, 1))


@dataclass(frozen=True)
class Method:
    """A way to predict. `experiments` have it in their tables."""

    name: str
    label: str
    experiments: tuple[str, ...] = ()
    style: Style = Style(ORANGE, "--", "x")
    optional: bool = False  # a row only where it was measured
    variants: tuple[Variant, ...] = ()  # that its name may end with
    by_pairs: bool = False  # whether its name may say on how few pairs it was trained: `r_gt-500`

    def __str__(self) -> str:
        return self.name

    def with_pairs(self, pairs: int) -> str:
        """The name of the variant trained on so many pairs. ValueError where there is none."""
        if not self.by_pairs:
            raise ValueError(f"{self.name} has no variants by the number of pairs")
        return f"{self.name}-{short(pairs)}"

    def variant(self, variant: Variant | None) -> str:
        """The name of a variant; the method's own for None. ValueError for one that it does not have."""
        if variant and variant not in self.variants:
            raise ValueError(f"{self.name} has no variant {variant.suffix}")
        return f"{self.name}-{variant.suffix}" if variant else self.name


def short(pairs: int) -> str:
    """A number of pairs in a method's name: 10000 -> `10k`."""
    return f"{pairs // 1000}k" if pairs % 1000 == 0 else str(pairs)
