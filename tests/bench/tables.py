"""What a bench measured, as a table that `make figures` puts into a page from `results/bench/tables`."""

import json
import os
from collections.abc import Sequence

from uwm.env import REPOSITORY, runs_root
from uwm.files import write_atomically
from uwm.runs.provenance import environment


def write_table(name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the table, and write it to `runs/bench/tables/<name>.json`."""
    widths = [max(len(row[k]) for row in (columns, *rows)) for k in range(len(columns))]
    lines = [
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)) for row in (columns, *rows)
    ]
    print(f"\n{title}", *lines, sep="\n", flush=True)
    path = runs_root(REPOSITORY) / "bench" / "tables" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    env = {**environment(REPOSITORY), "cores": os.cpu_count()}
    record = {"title": title, "columns": list(columns), "rows": [list(row) for row in rows], "env": env}
    write_atomically(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"written to {os.path.relpath(path)}")
