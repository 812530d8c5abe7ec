"""Started by torchrun with two processes: `two_ranks.py CASE FOLDER`; `rank-N.txt` is what each got."""

import functools
import sys
from pathlib import Path

from uwm.runs import ranks
from uwm.runs.artifacts import Artifacts, Stage
from uwm.training import distributed

CASE, FOLDER = sys.argv[1], Path(sys.argv[2])
ME = distributed.environment_ranks()
distributed.join(ME, distributed.default_device(ME))
ARTIFACTS = Artifacts(FOLDER / "cache", FOLDER / "none")


def note(name, folder):
    with open(folder / f"{name}.txt", "a") as file:
        file.write(f"{ME.rank}")


def train(name="training"):
    return ARTIFACTS.obtain(Stage(name, 1, {}), lambda folder: note(f"by-{ME.rank}", folder)).path


def evaluate(folder):
    if CASE in ("alone-needs-training", "trained-first"):
        train("another")
    if CASE == "fails":
        raise ValueError("a broken video")
    inner = ARTIFACTS.obtain(Stage("inner", 1, {}), lambda f: note("inner", f), together=False)
    (folder / "read.txt").write_text(train().name + inner.path.name)
    note("evaluation", folder)


def case():
    train("another" if CASE == "differ" and ME.rank == 1 else "training")
    first = functools.partial(train, "another") if CASE == "trained-first" else lambda: None
    return ARTIFACTS.obtain(Stage("evaluation", 1, {}), evaluate, together=False, first=first).path.name


try:
    said = case()
except (RuntimeError, ValueError) as error:
    said = f"{type(error).__name__}: {error}"
    ranks.meet("end", failed=True)
(FOLDER / f"rank-{ME.rank}.txt").write_text(said)
