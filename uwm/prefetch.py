"""Fetch the published weights on a machine with internet, for nodes that have none.

python -m uwm.prefetch --to DIR            # LPIPS (AlexNet) and the MAE of section 3, about 430 MB
export UWM_WEIGHTS=DIR
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from uwm.arguments import Parser, named_path
from uwm.env import weights_folder
from uwm.errors import UserError, run_cli
from uwm.metrics import backbones
from uwm.stages.mae import MAE, MAE_SOURCE


def fetch_lpips(backbone: str, target: Path) -> None:
    """Torchvision's weights of a backbone as the file that `uwm.metrics` looks for."""
    loaded = backbones.DOWNLOADS[backbone].get_state_dict(progress=True, check_hash=True, weights_only=True)
    torch.save(loaded, target)


def fetch_mae(file: str, target: Path) -> None:
    """A checkpoint of the MAE's authors."""
    torch.hub.download_url_to_file(f"{MAE_SOURCE}{file}", str(target), progress=True)


def fetch(name: str, folder: Path, download: Callable[[Path], None]) -> None:
    """`download` a file into `folder` unless it is there; half a file never bears its name.

    Raises:
        UserError: it cannot be had, or the folder cannot be written.
    """
    path = folder / name
    if path.exists():
        print(f"{path} is there already")
        return
    temporary = folder / f".{name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download(temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{name} cannot be fetched: {' '.join(str(error).split())}") from error
    finally:
        temporary.unlink(missing_ok=True)
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB")


def _main(argv: list[str]) -> int:
    parser = Parser(prog="python -m uwm.prefetch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=named_path, metavar="DIR", help="default: UWM_WEIGHTS, else here")
    parser.add_argument("--lpips", default="alex", choices=sorted(backbones.FILES), help="backbone of LPIPS")
    parser.add_argument(
        "--mae", default=MAE["paper"].file, metavar="FILE", help="its checkpoint; none: leave it out"
    )
    options = parser.parse_args(argv)
    folder = options.to or weights_folder() or Path(".")
    fetch(backbones.FILES[options.lpips], folder, lambda target: fetch_lpips(options.lpips, target))
    if options.mae != "none":
        fetch(options.mae, folder, lambda target: fetch_mae(options.mae, target))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: _main(sys.argv[1:])))
