"""What `make bench` measured on one machine, as tables of the pages; from `results/bench/tables`."""

from functools import partial

from paper.reading import read_json
from paper.store import Results
from paper.table import Table
from uwm.errors import UserError

BENCH_NAMES = (
    *("login", "cells", "packed", "manifests", "long", "compile"),
    *("ways-ssv2-like", "ways-ego4d-like", "visits-ssv2-like", "visits-ego4d-like"),
)


def bench_table(name: str, results: Results) -> Table:
    """The table that a bench wrote. UserError where it isn't there, or is none."""
    path = results.root / "bench" / "tables" / f"{name}.json"
    try:
        record = read_json(path)
        columns, rows, env = record["columns"], record["rows"], record["env"]
        machine = f"{env['device']}, {env['cores']} cores, Python {env['python']}, torch {env['torch']}. "
        return Table(name, record["title"], columns, rows, f"`make bench` on one machine: {machine}")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: no table of make bench ({error!r}); copy it from runs/bench/tables"
        ) from error


BENCHES = {f"bench-{name}": partial(bench_table, name) for name in BENCH_NAMES}
