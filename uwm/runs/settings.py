"""`--set FIELD=VALUE` on frozen, nested config dataclasses, checked against the declared types."""

import dataclasses
import json
import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from uwm.bounds import identity_fields
from uwm.errors import UserError, near, nearest

Settable = TypeVar("Settable")


def plain(config: Any) -> dict[str, Any]:
    """A config dataclass as nested JSON values (tuples become lists)."""
    return plain_value(dataclasses.asdict(config))


def plain_value(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping of JSON values and dataclasses as nested JSON values, as in records."""

    def unpacked(value: Any) -> Any:
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            raise TypeError(f"{value!r} is neither JSON nor a dataclass")
        return identity_fields(value)

    return dict(json.loads(json.dumps(dict(fields), default=unpacked, allow_nan=False)))


def split_assignment(text: str, flag: str) -> tuple[str, str]:
    """`NAME=VALUE` -> (NAME, VALUE)."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UserError(f"{flag} {text}: write {flag} NAME=VALUE")
    return name, value


def with_settings(config: Settable, assignments: Iterable[str]) -> Settable:
    """A copy of `config` with each `field=value` or `outer.inner=value` applied.

    Raises:
        UserError: unknown field (the nearest one is named), a value of the wrong type, or two for a field.
    """
    changes: Changes = {}
    for text in assignments:
        name, value = split_assignment(text, "--set")
        _note(config, name.split("."), value, text, changes)
    return _changed(config, changes) if changes else config


# By field: the new value and the assignment that gives it, or the changes of a group.
Changes = dict[str, Any]


class _New(NamedTuple):
    value: Any
    text: str


def _note(config: Any, names: list[str], value: str, text: str, changes: Changes) -> None:
    """Add one assignment to the changes."""
    known = field_types(config)
    head, *rest = names
    if head not in known:
        raise UserError(f"--set {text}: {type(config).__name__} has no field {head!r}{nearest(head, known)}")
    current = getattr(config, head)
    group = dataclasses.is_dataclass(current)
    if rest and not group:
        raise UserError(f"--set {text}: {head!r} has no fields of its own")
    before = changes.get(head)
    if rest:
        if isinstance(before, _New):
            raise UserError(f"--set {text}: {head!r} is set as a whole too ({before.text}): give one of them")
        _note(current, rest, value, text, changes.setdefault(head, {}))
        return
    if isinstance(before, dict):
        raise UserError(f"--set {text}: fields of {head!r} are set too ({_texts(before)}): give one of them")
    new = _preset(current, value, head, text) if group else _parsed_field(known[head], value, text)
    if isinstance(before, _New) and before.value != new:
        raise UserError(f"--set {text}: {head!r} is set twice (before: {before.text}): give one of them")
    changes[head] = _New(new, text)


def _preset(current: Any, value: str, head: str, text: str) -> Any:
    """A group's value by the name of a preset."""
    presets: Mapping[str, Any] = getattr(type(current), "presets", {})
    if value in presets:
        return presets[value]
    known = [f"{head}.{name}" for name in field_types(current)]
    hint = nearest(value, presets) if presets else nearest("", known)
    raise UserError(f"--set {text}: {head!r} is a group{hint}")


def _changed(config: Settable, changes: Changes) -> Settable:
    """The config with all changes at once, so that fields which must agree can be set together."""
    new = {
        name: change.value if isinstance(change, _New) else _changed(getattr(config, name), change)
        for name, change in changes.items()
    }
    try:
        return dataclasses.replace(config, **new)  # type: ignore[type-var]
    except (ValueError, AssertionError) as error:  # the dataclass's own check in __post_init__
        raise UserError(f"--set {_texts(changes)}: {error}") from error


def _texts(changes: Changes) -> str:
    """The assignments behind some changes."""
    parts = (change.text if isinstance(change, _New) else _texts(change) for change in changes.values())
    return " ".join(parts)


def field_types(config: Any) -> Mapping[str, Any]:
    """Declared type of each field that `__init__` takes."""
    kind: Any = type(config)
    return _field_types(kind)


@cache
def _field_types(kind: Any) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind) if f.init}


def _parsed_field(kind: Any, value: str, text: str) -> Any:
    try:
        return parse_value(kind, value)
    except ValueError as error:
        raise UserError(f"--set {text}: {error}") from error


def parse_value(kind: Any, text: str) -> Any:
    """`text` as a value of the type `kind`.

    Knows int, float, bool, str, Literal, `X | None` (`none`) and tuples of these (separated by commas).

    Raises:
        ValueError: `text` is no such value.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _parse_union(arguments, text)
    if origin is Literal:
        matches = [choice for choice in arguments if str(choice) == text]
        if not matches:
            known = [str(choice) for choice in arguments]
            raise ValueError(f"{text!r} is not one of {', '.join(known)}{near(text, known)}")
        return matches[0]
    if origin is tuple:
        return _parse_tuple(arguments, text)
    return _parse_scalar(kind, text)


def _parse_union(kinds: tuple[Any, ...], text: str) -> Any:
    if type(None) in kinds and text.lower() == "none":
        return None
    problem = ""
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return parse_value(kind, text)
        except ValueError as error:
            problem = str(error)
    raise ValueError(problem)


def _parse_tuple(kinds: tuple[Any, ...], text: str) -> tuple[Any, ...]:
    items = [item.strip() for item in text.split(",")] if text else []
    if kinds[-1] is Ellipsis:
        return tuple(parse_value(kinds[0], item) for item in items)
    if len(items) != len(kinds):
        raise ValueError(f"{len(kinds)} values separated by commas are needed, not {len(items)}")
    return tuple(parse_value(kind, item) for kind, item in zip(kinds, items, strict=True))


def _parse_scalar(kind: Any, text: str) -> Any:
    if kind is bool:
        choices = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.lower() not in choices:
            raise ValueError(f"{text!r} is not true or false")
        return choices[text.lower()]
    if kind is int:
        return _number(int, text.replace("_", ""), "a whole number")
    if kind is float:
        number = _number(float, text, "a number")
        if number != number or number in (float("inf"), float("-inf")):
            raise ValueError(f"{text!r} is not a finite number")
        return number
    if kind is str:
        return text
    raise ValueError(f"fields of type {kind} cannot be set on the command line")


def _number(kind: Any, text: str, expected: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not {expected}") from None
