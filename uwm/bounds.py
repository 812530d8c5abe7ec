"""What a field of a config may hold, declared in its type, next to its default:

    @dataclass(frozen=True)
    class Recipe(Bounded):
        steps: Count
        clips: Count | None = None
        mask_ratios: tuple[Annotated[float, Range(0, below=1)], ...] = (0.75,)

Checked whenever one is built, in Python as by `--set`; so are fields of type `Literal`, and what stands in
tuples and in `X | None`.
"""

import dataclasses
import math
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from uwm.errors import BadInput, near, nearest

LARGEST = 2**63 - 1  # what NumPy and torch hold


class OutOfBounds(BadInput):
    """A field holds what it may not. The message is one line with the field's name."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included, or `above` and `below`, which are not."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def problem(self, value: Any) -> str | None:
        """What a number must be and isn't; None when all is well."""
        if self.low is not None and not value >= self.low:
            return f"must be at least {self.low:g}"
        if self.above is not None and not value > self.above:
            return f"must be above {self.above:g}"
        if self.high is not None and not value <= self.high:
            return f"must be at most {self.high:g}"
        if self.below is not None and not value < self.below:
            return f"must be below {self.below:g}"
        return None


@dataclass(frozen=True)
class OneOf:
    """One of some words."""

    words: tuple[str, ...]

    def problem(self, value: Any) -> str | None:
        """As `Range.problem`."""
        return None if value in self.words else f"is none that is known{nearest(str(value), self.words)}"


@dataclass(frozen=True)
class Distinct:
    """A tuple of different things, at least so many."""

    least: int = 0

    def problem(self, value: Any) -> str | None:
        """As `Range.problem`."""
        if not isinstance(value, tuple):
            return "must be a tuple"
        if len(set(value)) < len(value):
            return "must not name a thing twice"
        return None if len(value) >= self.least else "must not be empty"


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
# Sizes of a network, far above any of today: what lies beyond is a slip, and would end for want of memory.
Depth = Annotated[int, Range(0, 1000)]  # layers
Width = Annotated[int, Range(1, 65_536)]  # channels or heads
Tokens = Annotated[int, Range(1, 100_000)]
Pixels = Annotated[int, Range(1, 4096)]  # of a side
ControlSteps = Annotated[int, Range(1, 100_000)]  # between two frames
Codes = Annotated[int, Range(1, 1_000_000)]  # of a codebook
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, below=1)]  # of a running mean; also a share that is never all
JpegQuality = Annotated[int, Range(0, 100)]  # of JPEGs
Names = Annotated[tuple[str, ...], Distinct()]
SomeNames = Annotated[tuple[str, ...], Distinct(1)]
Counts = Annotated[tuple[Count, ...], Distinct()]
SomeCounts = Annotated[tuple[Count, ...], Distinct(1)]
Seeds = Annotated[tuple[Natural, ...], Distinct(1)]


class Bounded:
    """Base of config dataclasses whose fields are checked when they are built.

    One with a `__post_init__` of its own calls `check_bounds(self)` there first.
    """

    def __post_init__(self) -> None:
        check_bounds(self)


def later(default: Any) -> Any:
    """The default of a field that came after records and weights were committed.

    They were computed as this default says. So it stays out of digests at this value, and they stay valid.
    """
    return dataclasses.field(default=default, metadata={"later": True})


def identity_fields(config: Any) -> dict[str, Any]:
    """A config dataclass as records and the digests of stages name it.

    A field that was added `later` stands there only where it is not at its default.
    """
    return {
        field.name: _identity(value)
        for field in dataclasses.fields(config)
        for value in [getattr(config, field.name)]
        if not (field.metadata.get("later") and value == field.default)
    }


def _identity(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return identity_fields(value)
    return [_identity(item) for item in value] if isinstance(value, list | tuple) else value


def check_bounds(config: Any) -> None:
    """Raises OutOfBounds for the first field that holds what its type does not allow."""
    config_type: Any = type(config)
    for name, kind in _bounded(config_type):
        value = getattr(config, name)
        problem = next(_problems(kind, value), None)
        if problem:
            raise OutOfBounds(f"{name} {problem}, not {_shown(value)}")


@cache
def _bounded(config: Any) -> list[tuple[str, Any]]:
    """Name and type of the fields of a dataclass whose type bounds what they hold."""
    hints = get_type_hints(config, include_extras=True)
    kinds = [(field.name, hints[field.name]) for field in dataclasses.fields(config)]
    return [(name, kind) for name, kind in kinds if kind in (int, float) or get_origin(kind) is not None]


@cache
def _taken_apart(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(kind), get_args(kind)


def _problems(kind: Any, value: Any) -> Iterator[str]:
    origin, arguments = _taken_apart(kind)
    if origin is Annotated:
        yield from _problems(arguments[0], value)
        yield from (text for bound in arguments[1:] if (text := _bound_problem(bound, value)))
    elif origin in (Union, types.UnionType):
        inner = [part for part in arguments if part is not type(None)]
        if value is not None and all(any(_problems(part, value)) for part in inner):
            yield from _problems(inner[0], value)
    elif origin is Literal:
        if value not in arguments:
            yield f"must be one of {', '.join(map(str, arguments))}{near(str(value), map(str, arguments))}"
    elif origin is tuple and isinstance(value, tuple):
        kinds = arguments[:1] * len(value) if arguments[1:] == (Ellipsis,) else arguments
        for part, item in zip(kinds, value, strict=False):
            yield from _problems(part, item)
    elif kind is int or kind is float:
        yield from _number_problems(kind, value)


def _bound_problem(bound: Any, value: Any) -> str | None:
    return bound.problem(value) if isinstance(bound, Range | OneOf | Distinct) else None


def _number_problems(kind: type, value: Any) -> Iterator[str]:
    number_type: Any = Integral if kind is int else Real
    if isinstance(value, bool) or not isinstance(value, number_type):
        yield "must be a whole number" if kind is int else "must be a number"
    elif kind is int and abs(value) > LARGEST:
        yield f"must be at most {LARGEST:.3g}"
    elif math.isnan(value):
        yield "must be a number"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)[:100]
