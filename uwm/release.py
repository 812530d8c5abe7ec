"""`python -m uwm.release FOLDER ...`: put trained stages among the released ones, in `uwm/assets/weights`.

A folder is a finished stage of the cache, `.cache/uwm/<name>-<digest>`. Weights, curve and `stage.json` (the
recipe and what it read) are copied, checkpoints and logs are not. A released stage of that name is replaced.
"""

import os
import shutil
import sys
from pathlib import Path

from uwm.errors import UserError, run_cli
from uwm.runs.artifacts import RELEASED
from uwm.stages.trained import WEIGHTS

FILES = (WEIGHTS, "curve.csv", "stage.json")
LARGEST = 12_000_000  # bytes of weights that a clone should have to carry


def release(folder: Path, target: Path = RELEASED) -> Path:
    """Copy one finished stage. UserError for an unfinished one and for weights that are too large."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: no finished training stage, {', '.join(missing)} missing; run it first")
    size = (folder / WEIGHTS).stat().st_size
    if size > LARGEST:
        raise UserError(f"{folder / WEIGHTS}: {size / 1e6:.1f} MB are too many to release, at most 12")
    partial = target / f".{folder.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(folder / name, partial / name)
    stage = folder.name.rpartition("-")[0]
    for old in [path for path in target.glob(f"{stage}-*") if path.name.rpartition("-")[0] == stage]:
        shutil.rmtree(old)
    os.replace(partial, target / folder.name)
    return target / folder.name


def main() -> int:
    """Release the folders of the command line, and say where they went."""
    if len(sys.argv) < 2:
        raise UserError("name the stage folders to release, e.g. .cache/uwm/mae-*")
    for folder in sys.argv[1:]:
        print(release(Path(folder)))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_cli(main))
