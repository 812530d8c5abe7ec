"""The argument of `--data`: NAME=PLACE, or NAME:OPTIONS=PLACE.

OPTIONS, separated by commas, are a layout (`uwm.data.layouts`) and what a file of demonstrations leaves open:
`camera-NAME`, `upside-down` for pictures stored so, and for the range of its actions
(`uwm.data.robomimic.limits`) `actions-clip`, `actions-rescale`, `actions-measured`, `actions-controller` or
`actions-file`.
"""

from dataclasses import dataclass
from pathlib import Path

from uwm.arguments import check_corpus_name
from uwm.errors import UserError
from uwm.files import home_path

LAYOUT_NAMES = ("ssv2", "ego4d", "epic", "lerobot", "hdf5", "folder")
UPSIDE_DOWN_WORD = "upside-down"
ACTION_RANGES = ("clip", "rescale", "measured", "controller", "file")
CAMERA = "camera-"
OPTIONS = (*LAYOUT_NAMES, UPSIDE_DOWN_WORD, *(f"actions-{choice}" for choice in ACTION_RANGES))


@dataclass(frozen=True)
class Choices:
    """What the options of a corpus say."""

    layout: str | None = None
    upside_down: bool = False
    actions: str | None = None
    camera: str | None = None


@dataclass(frozen=True)
class Assignment:
    """A corpus by name; `place` is None for a bundled one."""

    name: str
    choices: Choices
    place: Path | None


def parse_assignment(text: str) -> Assignment:
    """NAME, NAME=PLACE or NAME:OPTIONS=PLACE. `~` means the home folder."""
    head, equals, place = text.partition("=")
    name, colon, options = head.partition(":")
    if not name or (equals and not place) or (colon and not equals):
        raise UserError(f"{text!r}: write NAME=DIR, NAME:LAYOUT=DIR, or the name of a bundled corpus")
    if equals:
        check_corpus_name(name, text)
    return Assignment(
        name, parse_options(options if colon else None, text), home_path(place) if place else None
    )


def split_place(place: Path | str) -> tuple[str | None, Path]:
    """OPTIONS:/absolute/place, as a run's plan keeps a corpus, -> (OPTIONS, place), whether they are known or
    not."""
    options, colon, rest = str(place).partition(":/")
    if colon and options and "/" not in options and not Path(place).exists():
        return options, Path("/" + rest)
    return None, Path(place)


def _is_option(word: str) -> bool:
    return word in OPTIONS or (word.startswith(CAMERA) and word != CAMERA)


def parse_options(text: str | None, where: str) -> Choices:
    """`UserError` for an unknown option, or two of a kind."""
    if text is None:
        return Choices()
    words = [word.strip() for word in text.split(",")]
    if unknown := [word for word in words if not _is_option(word)]:
        known = ", ".join((*OPTIONS, f"{CAMERA}NAME"))
        raise UserError(f"{where}: unknown {unknown[0]!r} after the name; it may be {known}")
    layouts = [word for word in words if word in LAYOUT_NAMES]
    ranges = [word.removeprefix("actions-") for word in words if word.startswith("actions-")]
    cameras = [word.removeprefix(CAMERA) for word in words if word.startswith(CAMERA)]
    if max(len(layouts), len(ranges), len(cameras)) > 1:
        raise UserError(f"{where}: one layout, one camera and one range of actions at most")
    first = [next(iter(chosen), None) for chosen in (layouts, ranges, cameras)]
    return Choices(first[0], UPSIDE_DOWN_WORD in words, first[1], first[2])
