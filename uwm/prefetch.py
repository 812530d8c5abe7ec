"""Fetch the published weights on a machine with internet, for nodes that have none.

python -m uwm.prefetch --to DIR            # LPIPS (AlexNet) and the MAE of section 3, about 690 MB
export UWM_WEIGHTS=DIR

`--fvd r3d18` adds the network of a Frechet video distance. Beside each file stands
its SHA-256, as `sha256sum -c` reads it. A file that is there already is compared
with it.
"""

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from uwm.arguments import Parser, named_path
from uwm.env import weights_folder
from uwm.errors import UserError, run_cli
from uwm.files import replacing, write_atomically
from uwm.metrics import backbones, fvd
from uwm.metrics.perceptual import tensors_sha256
from uwm.stages.mae import MAE, MAE_SOURCE
from uwm.verified import sha256_of

FETCHED_FVD = ("r3d18", "mc3-18", "r2plus1d-18")  # torchvision's networks
FETCH_AGAIN = "remove both and run this again"


def fetch_lpips(backbone: str, target: Path) -> None:
    """Torchvision's weights of a backbone as the file that `uwm.metrics` looks for."""
    loaded = backbones.DOWNLOADS[backbone].get_state_dict(progress=True, check_hash=True, weights_only=True)
    torch.save(loaded, target)


def fetch_mae(file: str, target: Path) -> None:
    """A checkpoint of the MAE's authors."""
    torch.hub.download_url_to_file(f"{MAE_SOURCE}{file}", str(target), progress=True)


def fetch_fvd(protocol: str, target: Path) -> None:
    """Torchvision's file of a network of FVD, as it is."""
    torch.hub.download_url_to_file(fvd_url(protocol), str(target), hash_prefix=fvd_digest(protocol))


def fvd_url(protocol: str) -> str:
    """Where torchvision has a protocol's network."""
    return str(fvd.FVD_DOWNLOADS[fvd.FVD_PROTOCOLS[f"fvd-{protocol}"].network].url)


def fvd_digest(protocol: str) -> str:
    """What the file's SHA-256 begins with."""
    return fvd_url(protocol).rpartition("-")[2].removesuffix(".pth")


def lpips_is_known(backbone: str, folder: Path) -> bool:
    """Whether the backbone's file holds the tensors that the records were measured with.

    False where they are not known. UserError for others, and for a file that holds no such backbone.
    """
    state = backbones.folder_state(backbone, folder)
    if state is None or backbone not in backbones.KNOWN_TENSORS:
        return False
    if tensors_sha256(state) != backbones.KNOWN_TENSORS[backbone]:
        raise UserError(
            f"{folder / backbones.FILES[backbone]} holds other values than torchvision's; "
            "remove it and run this again"
        )
    return True


def fvd_is_known(protocol: str, path: Path) -> bool:
    """True where a file is torchvision's, by its SHA-256. UserError for another one."""
    if not sha256_of(path).startswith(fvd_digest(protocol)):
        raise UserError(f"{path} is not torchvision's file; remove it and run this again")
    return True


def check(path: Path, known: Callable[[], bool]) -> str:
    """How a file that is there was checked: by the digest beside it, else by `known`.

    Raises:
        UserError: it is no file, or not what was fetched.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file; move it away and run this again")
    beside = digest_file(path)
    if not beside.exists():
        return "its values are the known ones" if known() else "not checked, since no digest of it is known"
    try:
        (digest,) = re.findall(r"^([0-9a-f]{64})\b", beside.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{beside} holds no SHA-256 of {path.name}; {FETCH_AGAIN}") from None
    if sha256_of(path) != digest:
        raise UserError(
            f"{path} is not what was fetched: its SHA-256 is not that of {beside.name}; {FETCH_AGAIN}"
        )
    return "its SHA-256 is right"


def digest_file(path: Path) -> Path:
    """Where a file's SHA-256 stands."""
    return path.with_name(f"{path.name}.sha256")


def fetch(
    name: str, folder: Path, download: Callable[[Path], None], known: Callable[[], bool] = lambda: False
) -> None:
    """`download` a file into `folder` unless it is there; half a file never bears its name.

    One that is there is checked by the digest beside it, else by `known`.

    Raises:
        UserError: it cannot be had, the folder cannot be written, or what is there is another file.
    """
    path = folder / name
    if path.exists():
        print(f"{path} is there already: {check(path, known)}")
        return
    try:
        with replacing(path) as temporary:
            download(temporary)
            write_atomically(digest_file(path), f"{sha256_of(temporary)}  {name}\n")
    except (OSError, RuntimeError) as error:
        raise UserError(f"{name} cannot be fetched: {' '.join(str(error).split())}") from error
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB")


def _main(argv: list[str]) -> int:
    parser = Parser(prog="python -m uwm.prefetch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=named_path, metavar="DIR", help="default: UWM_WEIGHTS, else here")
    parser.add_argument("--lpips", default="alex", choices=sorted(backbones.FILES), help="backbone of LPIPS")
    parser.add_argument(
        "--mae", default=MAE["paper"].file, metavar="FILE", help="its checkpoint; none: leave it out"
    )
    parser.add_argument("--fvd", choices=FETCHED_FVD, help="network of FVD, for figure5's field fvd")
    options = parser.parse_args(argv)
    folder = options.to or weights_folder() or Path(".")
    fetch(
        backbones.FILES[options.lpips],
        folder,
        lambda target: fetch_lpips(options.lpips, target),
        lambda: lpips_is_known(options.lpips, folder),
    )
    if options.mae != "none":
        fetch(options.mae, folder, lambda target: fetch_mae(options.mae, target))
    if options.fvd:
        name = fvd_url(options.fvd).rpartition("/")[2]
        known = partial(fvd_is_known, options.fvd, folder / name)
        fetch(name, folder, partial(fetch_fvd, options.fvd), known)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: _main(sys.argv[1:])))
