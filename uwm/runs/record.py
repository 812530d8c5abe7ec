"""One result = one record: a JSON file with the number, what it was computed from, and what computed it.

The schema is `results/schema.json`. A failure is a status, never a number. The same command gives the same
record twice, apart from its `run` field. This module imports no torch, so that tables and figures are
drawn without it. `python -m uwm.runs.record validate results` checks a folder of records.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from uwm.arguments import Parser, named_path
from uwm.env import REPOSITORY
from uwm.errors import UserError, run_cli
from uwm.files import check_ours, inside, write_atomically
from uwm.metrics.spec import known_metric, metric_of

SCHEMA_VERSION = 2
BEGINNING = '{\n "schema": '  # of a record's file
SCHEMA_PATH = REPOSITORY / "results" / "schema.json"
COMMUNITY = "community"  # in `results`: records that others sent, in folders like ours
EXAMPLES = "examples"  # likewise: of data that lie elsewhere
BENCH = "bench"  # likewise: tables of what `make bench` measured, no records of cells
STATUSES = ("ok", "failed", "timeout", "skipped")


def canonical_json(value: Any) -> str:
    """The one spelling of `value` that digests are taken of: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def config_digest(
    experiment: str, version: int, config: Mapping[str, Any], cell: str, measures: Mapping[str, int]
) -> str:
    """Identity of a cell's numbers: everything that changes them, nothing about where it runs.

    `config` holds the fields that the cell reads, `measures` the versions of the metrics that it has, so that
    a further method or metric leaves other records as they are.
    """
    identity = {"experiment": experiment, "version": version, "config": config, "cell": cell}
    return digest_of({**identity, "measures": measures})


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def round_floats(value: Any) -> Any:
    """`value` with each float at 6 significant digits, the last ones being noise of the summation order."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {str(key): round_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [round_floats(item) for item in value]
    return value


@dataclass(frozen=True)
class Record:
    """The content of one record file, field for field (see `results/schema.json` for each one's meaning)."""

    experiment: str
    version: int
    cell: str
    scale: str
    config: dict[str, Any]
    config_digest: str
    status: str
    error: str | None
    measures: dict[str, int]
    metrics: dict[str, dict[str, Any]]
    samples: dict[str, Any] | None
    inputs: dict[str, Any]
    code: dict[str, Any]
    env: dict[str, Any]
    run: dict[str, Any]
    schema: int = field(default=SCHEMA_VERSION)

    def value(self, metric: str) -> float:
        """Value of a metric; KeyError names the metrics that there are."""
        if metric not in self.metrics:
            raise KeyError(f"record {self.cell} has no metric {metric!r}; it has {', '.join(self.metrics)}")
        return float(self.metrics[metric]["value"])

    def to_json(self) -> dict[str, Any]:
        """Plain dict in the fixed key order."""
        return {"schema": self.schema, **{f.name: getattr(self, f.name) for f in fields(self)}}

    def write(self, folder: Path) -> Path:
        """Validate, then write `folder/<cell with __>.json` atomically.

        Raises:
            ValueError: the record breaks the schema or holds a NaN or an infinity.
            UserError: a file that is no record bears its name.
        """
        content = self.to_json()
        content["metrics"] = round_floats(content["metrics"])
        content["run"] = round_floats(content["run"])
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
        problem = next(schema_problems(json.loads(text)), None)
        if problem:
            raise ValueError(f"record of {self.cell}: {problem}")
        path = folder / f"{file_stem(self.cell)}.json"
        check_ours(path, is_record)
        write_atomically(path, text)
        return path


def is_record(path: Path) -> bool:
    """Whether a record stands in a file: whole, or at least begun as we begin one."""
    text = path.read_text(encoding="utf-8")
    return text.startswith(BEGINNING) or {"schema", "cell", "config_digest"} <= set(json.loads(text))


def stale_measures(measures: Mapping[str, int]) -> list[str]:
    """The metrics of a record that are declared with another version now."""
    known = {name: metric.version for name in measures if (metric := known_metric(name))}
    return [name for name, version in known.items() if measures[name] != version]


def file_stem(cell: str) -> str:
    """File name of a cell, `uwm/sim-ego/s0` -> `uwm__sim-ego__s0`."""
    return cell.replace("/", "__")


def strict_json(text: str) -> Any:
    """JSON without NaN, infinities and names that come twice, which Python's reader would let pass.

    Raises ValueError.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON number")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            twice = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
            raise ValueError(f"{twice!r} stands there twice")
        return values

    return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)


def read_record(path: Path) -> Record:
    """Read and validate one record.

    Raises:
        UserError: the file is missing, is not JSON or breaks the schema.
    """
    try:
        content = strict_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"record {path} cannot be read ({error}); compute it again") from error
    problem = next(schema_problems(content), None)
    if problem:
        raise UserError(f"record {path}: {problem}; compute it again")
    return Record(**content)


@cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(SCHEMA_PATH.read_text()))


def schema_problems(content: Any) -> Iterator[str]:
    """Each way in which `content` breaks `results/schema.json`, as `where: what`."""
    for error in _validator().iter_errors(content):
        where = "/".join(str(part) for part in error.absolute_path) or "record"
        yield f"{where}: {error.message[:200]}"


def sample_entries(paths: Sequence[Path], folder: Path) -> dict[str, Any]:
    """The `samples` field for files below the record's `folder`: that of the pairs, then further ones.

    Raises:
        ValueError: a file lies elsewhere.
    """
    first, *further = (
        {"path": path.resolve().relative_to(folder.resolve()).as_posix(), "sha256": file_sha256(path)}
        for path in paths
    )
    return {**first, "further": further} if further else first


def sample_files(samples: Mapping[str, Any] | None) -> list[Mapping[str, str]]:
    """Path and sha256 of each file that a record's `samples` field names."""
    return [samples, *samples.get("further", ())] if samples else []


def record_problems(path: Path) -> Iterator[str]:
    """What is wrong with a record file: schema, file name, digest, samples."""
    try:
        content = strict_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        yield f"not JSON: {error}"
        return
    broken = list(schema_problems(content))
    yield from broken
    if broken:
        return
    record = Record(**content)
    if path.stem != file_stem(record.cell):
        yield f"holds cell {record.cell}, which belongs in {file_stem(record.cell)}.json"
    parts = record.experiment, record.version, record.config, record.cell, record.measures
    if record.config_digest != config_digest(*parts):
        yield "config_digest is not the digest of its config, measures, version and cell"
    for entry in sample_files(record.samples):
        try:
            samples = inside(path.parent, entry["path"])
        except UserError as error:
            yield str(error)
            continue
        if not samples.is_file():
            yield f"samples file {entry['path']} is missing"
        elif file_sha256(samples) != entry["sha256"]:
            yield f"samples file {entry['path']} has another SHA-256"


def validate_folder(folder: Path) -> list[str]:
    """Problems of every record `folder/<scale>/<experiment>/<cell>.json`, as `file: problem`, and of those
    that others sent and of examples, in `folder/community/` and `folder/examples/`. What `make bench`
    measured, in `folder/bench/`, is no record of a cell."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; give the folder that holds <scale>/<experiment>/<cell>.json")
    prefixes = ("", f"{COMMUNITY}/", f"{EXAMPLES}/")
    all_paths = (path for prefix in prefixes for path in folder.glob(f"{prefix}*/*/*.json"))
    paths = sorted(path for path in all_paths if path.relative_to(folder).parts[0] != BENCH)
    if not paths:
        raise UserError(f"{folder} holds no record <scale>/<experiment>/<cell>.json; name another folder")
    problems = [f"{path}: {problem}" for path in paths for problem in record_problems(path)]
    print(f"{len(paths)} records, {len(problems)} problems")
    return problems


def _main(argv: list[str]) -> int:
    parser = Parser(prog="python -m uwm.runs.record", description="Check records against their schema.")
    commands = parser.add_subparsers(dest="command", required=True)
    validate = commands.add_parser("validate", help="every record of a folder of results")
    validate.add_argument("folder", type=named_path, metavar="FOLDER")
    problems = validate_folder(parser.parse_args(argv).folder)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def metric_entry(name: str, estimate: Any) -> dict[str, Any]:
    """The record's form of an `uwm.runs.experiment.Estimate`. UserError for a metric that is not declared."""
    values = asdict(estimate)
    return {
        "value": values["value"],
        "n": values["n"],
        "better": metric_of(name).better,
        "ci": values["ci"],
        "protocol": values["protocol"],
    }


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: _main(sys.argv[1:])))
