"""`python -m uwm.release FOLDER ...`: put trained stages among the released ones, in `uwm/assets/weights`.

A folder is a finished stage of the cache, `.cache/uwm/<name>-<digest>`. Weights, curve and `stage.json` (the
recipe and what it read) are copied, checkpoints and logs are not. Released stages of that name make way
for those named together, of which several may have one name: `finetune` of W_ft and of W_tfs.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from uwm.arguments import Parser, named_path
from uwm.env import RELEASED
from uwm.errors import UserError, run_cli
from uwm.files import remove_listed
from uwm.runs.stage_folder import NAMED, STAGE_FILE, DamagedStage, verify_stage, write_stage
from uwm.stages.trained import WEIGHTS

RELEASED_FILES = (WEIGHTS, "curve.csv", STAGE_FILE)
DESCRIPTION = ("name", "version", "fields", "inputs", "digest", "code")  # of `stage.json`
LARGEST_RELEASE = 12_000_000  # bytes of weights that a clone should have to carry


def release(*folders: Path, target: Path = RELEASED) -> list[Path]:
    """Copy finished stages; those released under their names go once the new ones are complete beside them.

    Raises:
        UserError: no finished stage, damaged or too large weights, a folder inside the released ones (or
            round them), or a released one that holds files of others.
    """
    stages, target = list(dict.fromkeys(folder.resolve() for folder in folders)), target.resolve()
    for folder in stages:
        if folder.is_relative_to(target) or target.is_relative_to(folder):
            raise UserError(f"{folder} and the released stages lie in each other; name a stage of the cache")
    contents = {folder: _finished_stage(folder) for folder in stages}
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".release-", dir=target) as temporary:
        for folder, content in contents.items():
            made = Path(temporary) / folder.name
            made.mkdir()
            for name in RELEASED_FILES:
                shutil.copyfile(folder / name, made / name)
            about: dict[str, Any] = {key: content[key] for key in DESCRIPTION if key in content}
            write_stage(made, about, content["finished"])
        replaced = [old for name in {c["name"] for c in contents.values()} for old in _released(target, name)]
        for old in replaced:
            remove_listed(old, RELEASED_FILES)
        for folder in stages:
            os.replace(Path(temporary) / folder.name, target / folder.name)
    return [target / folder.name for folder in stages]


def _finished_stage(folder: Path) -> dict[str, Any]:
    """The `stage.json` of a finished training that can be released."""
    missing = [name for name in RELEASED_FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: no finished training stage, {', '.join(missing)} missing; run it first")
    size = (folder / WEIGHTS).stat().st_size
    if size > LARGEST_RELEASE:
        raise UserError(f"{folder / WEIGHTS}: {size / 1e6:.1f} MB are too many to release, at most 12")
    try:
        return verify_stage(folder)
    except DamagedStage as reason:
        raise UserError(f"{reason}; run the stage again with --recompute") from reason


def _released(target: Path, stage: str) -> list[Path]:
    """The released folders of a stage. UserError where one holds more than a release."""
    named = ((path, NAMED.fullmatch(path.name)) for path in sorted(target.iterdir()))
    released = [path for path, match in named if path.is_dir() and match and match["name"] == stage]
    for path in released:
        others = (
            [] if path.is_symlink() else sorted({file.name for file in path.iterdir()} - set(RELEASED_FILES))
        )
        if others or path.is_symlink():
            raise UserError(f"{path} is more than a release ({', '.join(others) or 'a link'}); move it away")
    return released


def main(argv: list[str]) -> int:
    """Release the folders of the command line, and say where they went."""
    parser = Parser(prog="python -m uwm.release", description="put trained stages among the released ones")
    parser.add_argument("folder", nargs="+", type=named_path, help="a finished stage: .cache/uwm/mae-*")
    print(*release(*parser.parse_args(argv).folder), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
