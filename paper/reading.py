"""Files below `results/` as they come: whatever is wrong with one is a line that names it, never a traceback.

Names that end up in file names, LaTeX or HTML hold letters, digits and `_.+-` only. No torch, no jsonschema.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from uwm.errors import UserError
from uwm.runs.record import SCHEMA_VERSION, STATUSES, strict_json

SAFE_NAME = re.compile(r"[A-Za-z0-9_.+-]+")
CELL = re.compile(rf"{SAFE_NAME.pattern}/{SAFE_NAME.pattern}(/s[0-9]+)?")
OBJECTS = ("config", "measures", "metrics", "inputs", "code", "env", "run")


def read_json(path: Path) -> Any:
    """JSON as of a record, `strict_json`; what is nested too deeply raises `ValueError` too."""
    try:
        return strict_json(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_table(path: Path, rows: int | None = None) -> pd.DataFrame:
    """A CSV. UserError where it is none."""
    try:
        return pd.read_csv(path, nrows=rows)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: no table ({' '.join(str(error).split())[:120]}); run its cell again"
        ) from error


def check_name(path: Path, name: str) -> str:
    """`name`, read from `path`, if it may be part of a file's name. UserError otherwise."""
    if not SAFE_NAME.fullmatch(name):
        raise UserError(f"{path}: the name {name!r} may hold letters, digits, '_', '.', '+' and '-' only")
    return name


def record_of(content: Any) -> dict[str, Any]:
    """A record's content, once it has the parts that tables and checks rely on. ValueError names the first
    that is missing or of another kind; `uwm.runs.record` checks the whole schema."""
    problem = next(_shape_problems(content), None) if isinstance(content, dict) else "it is no JSON object"
    if problem:
        raise ValueError(problem)
    return dict(content)


def _shape_problems(record: dict[str, Any]) -> Iterator[str]:
    cell = record.get("cell")
    if not isinstance(cell, str) or not CELL.fullmatch(cell):
        yield f"cell {str(cell)[:80]!r} is not METHOD/CORPUS[/sSEED]"
    if record.get("schema") != SCHEMA_VERSION:
        yield f"schema {str(record.get('schema'))[:80]} is not {SCHEMA_VERSION}"
    if record.get("status") not in STATUSES:
        yield f"status {str(record.get('status'))[:80]!r} is none of {', '.join(STATUSES)}"
    for name in ("experiment", "scale", "config_digest"):
        if not isinstance(record.get(name), str):
            yield f"{name} is missing or no text"
    for name in OBJECTS:
        if not isinstance(record.get(name), dict):
            yield f"{name} is missing or no object"
            return
    yield from _metric_problems(record["metrics"])
    yield from _run_problems(record)
    samples = record.get("samples", 0)
    further = samples.get("further", []) if isinstance(samples, dict) else []
    files = [samples, *further] if isinstance(further, list) else [None]
    if samples is not None and not all(_texts(file, ("path", "sha256")) for file in files):
        yield "samples is missing or lacks path and sha256"


def _metric_problems(metrics: dict[str, Any]) -> Iterator[str]:
    for name, entry in metrics.items():
        limits = entry.get("ci", 0) if isinstance(entry, dict) else 0
        fine = limits is None or (isinstance(limits, list) and len(limits) == 2 and all(map(_number, limits)))
        if not (fine and _number(entry.get("value")) and _number(entry.get("n"))):
            yield f"metric {name[:80]!r} is not a finite value with n and interval"


def _run_problems(record: dict[str, Any]) -> Iterator[str]:
    if not _texts(record["run"], ("command", "started_utc")):
        yield "run lacks command and started_utc"
    if not (_number(record["run"].get("seconds")) and _number(record["run"].get("peak_gb"))):
        yield "run lacks seconds and peak_gb"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _texts(value: Any, names: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in names)
