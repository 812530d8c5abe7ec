"""Which committed records are of another recipe than the experiment's file declares now.

    python -m uwm.runs.stale results

A record holds the config that its cell read. It is stale once the cell reads something else: a field was
changed, in the experiment's file or in a recipe or model that it takes up. Loading the files takes torch.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from uwm.arguments import Parser, named_path
from uwm.env import REPOSITORY
from uwm.errors import run_cli
from uwm.runs.experiment import Experiment, load_experiment
from uwm.runs.record import Record, config_digest, stale_measures, strict_json
from uwm.runs.settings import plain_value

FIELDS_A_LINE = 3  # of those that differ, in a line


def stale_records(results: Path, experiments: Path) -> Iterator[str]:
    """A line `<scale>/<experiment>/<cell>.json: what` for each stale record of a folder's experiments."""
    for file in sorted(experiments.glob("[!_]*.py")):
        experiment = load_experiment(file)
        for path in sorted(results.glob(f"*/{experiment.name}/*.json")):
            if reason := staleness(experiment, path):
                yield f"{path.relative_to(results).as_posix()}: {reason}"


def staleness(experiment: Experiment, path: Path) -> str | None:
    """Why a record is stale; None for one that is current. `uwm.runs.record` holds it against the schema."""
    try:
        record = Record(**strict_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        return f"cannot be read: {error}"
    if record.scale not in experiment.configs:
        return f"stale: {experiment.name} has no scale {record.scale}"
    config = experiment.configs[record.scale]
    cell = next((cell for cell in experiment.cells(config, {}) if cell.name == record.cell), None)
    if cell is None:
        return f"stale: {experiment.name} declares no cell {record.cell}"
    declared = plain_value(experiment.reads(config, cell))
    if differing := list(changed_fields(record.config, declared)):
        more = f" and {len(differing) - FIELDS_A_LINE} more" if len(differing) > FIELDS_A_LINE else ""
        return f"stale: {'; '.join(differing[:FIELDS_A_LINE])}{more}; run it again"
    digest = config_digest(experiment.name, experiment.version, declared, cell.name, record.measures)
    if record.config_digest != digest or stale_measures(record.measures):
        return "stale: of another version of the experiment or of a measure; run it again"
    return None


def changed_fields(recorded: Any, declared: Any, name: str = "") -> Iterator[str]:
    """`field is A in the record and B in the recipe`, for each field that differs."""
    if isinstance(recorded, Mapping) and isinstance(declared, Mapping):
        for key in dict.fromkeys([*recorded, *declared]):
            there = [key in side for side in (recorded, declared)]
            inner = f"{name}.{key}" if name else str(key)
            if all(there):
                yield from changed_fields(recorded[key], declared[key], inner)
            else:
                yield f"{inner} is in the {'record' if there[0] else 'recipe'} alone"
    elif recorded != declared:
        yield f"{name} is {recorded} in the record and {declared} in the recipe"


def _main(argv: list[str]) -> int:
    parser = Parser(prog="python -m uwm.runs.stale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=named_path, metavar="FOLDER", help="of results")
    lines = list(stale_records(parser.parse_args(argv).folder, REPOSITORY / "experiments"))
    print(*lines, sep="\n", end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: _main(sys.argv[1:])))
