"""The environment variables of this project, each read in one place, and the repository's folder.

| Variable | What it names | Without it |
| --- | --- | --- |
| `UWM_CACHE` | folder of trained stages and manifests | `.cache/uwm` in the repository, else of the user |
| `UWM_RUNS` | folder of runs: plans, logs, records of other settings | `runs` in the repository |
| `UWM_WEIGHTS` | folder of published weights: MAE, LPIPS backbones | the working folder, a download (LPIPS) |
| `UWM_SHARDS` | folder of shards that `python -m uwm.data.prepare` made | `shards` in the working folder |
| `UWM_MAX_BAD_SHARE` | share of a corpus's clips that may be unusable, 0 to 1 | 0.2 |
| `UWM_SITE` | site file of `--submit` | the cluster's own defaults |
| `UWM_GRAPHS` | 1: CUDA graphs for trainings of small models in `fp32`; records say so | eager |
"""

import os
from pathlib import Path

from uwm.errors import UserError
from uwm.files import home_path

REPOSITORY = Path(__file__).resolve().parents[1]
RELEASED = Path(__file__).resolve().parent / "assets" / "weights"  # stages that come with the code


def _value(name: str) -> str | None:
    return os.environ.get(name) or None


def cache_root() -> Path:
    """The folder of trained stages."""
    # Of an installation without a checkout, `REPOSITORY` is where packages are installed.
    home = REPOSITORY if (REPOSITORY / "pyproject.toml").is_file() else Path.home()
    return home_path(_value("UWM_CACHE") or home / ".cache" / "uwm").absolute()


def runs_root(repository: Path) -> Path:
    """The folder of runs; by default in the repository that holds the experiment."""
    return home_path(_value("UWM_RUNS") or repository / "runs").absolute()


def weights_folder() -> Path | None:
    """The folder of published weights, where one is named."""
    folder = _value("UWM_WEIGHTS")
    return home_path(folder) if folder else None


def shards_root() -> Path:
    """The folder of prepared shards."""
    return home_path(_value("UWM_SHARDS") or "shards")


def ranks_here() -> int:
    """LOCAL_WORLD_SIZE as torchrun sets it: how many processes of a training share this machine; else 1."""
    text = _value("LOCAL_WORLD_SIZE") or ""
    return max(1, int(text)) if text.isdecimal() else 1


def launched_rank() -> tuple[int, int]:
    """RANK and WORLD_SIZE as torchrun sets them; (0, 1) without a launcher.

    Raises:
        UserError: one without the other, or numbers that don't fit: left over in the shell.
    """
    rank, world_size = _value("RANK"), _value("WORLD_SIZE")
    try:
        index, size = int(rank or 0), int(world_size or 1)
    except ValueError:
        index, size = -1, 0
    if not 0 <= index < size or (rank is None and size > 1):
        raise UserError(
            f"RANK={rank or ''} and WORLD_SIZE={world_size or ''} are no place among processes: "
            "start with torchrun, or unset both"
        )
    return index, size


def site_file() -> str | None:
    """The site file of cluster runs, where one is named."""
    return _value("UWM_SITE")


def max_bad_share() -> str | None:
    """The share of a corpus's clips that may be unusable, as it was written."""
    return _value("UWM_MAX_BAD_SHARE")


def allow_bad_share(share: float) -> None:
    """Let this share of a corpus's clips be unusable, in this process and those that it starts."""
    os.environ["UWM_MAX_BAD_SHARE"] = f"{share:g}"


def records_graphs() -> bool:
    """Whether trainings record CUDA graphs."""
    return _value("UWM_GRAPHS") not in (None, "0")
