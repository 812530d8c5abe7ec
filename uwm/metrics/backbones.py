"""Backbones of LPIPS: where their weights come from, and how they get into the `lpips` package's network."""

import contextlib
import functools
import io
import pickle
import re
import socket
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from lpips import pretrained_networks as networks
from torch import Tensor, nn
from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights, VGG16_Weights

from uwm.errors import UserError

FILES = {
    "alex": "alexnet_features.pth",
    "vgg": "vgg16_features.pth",
    "squeeze": "squeezenet1_1_features.pth",
}
MINIMUM_SIZE = {"alex": 31, "vgg": 16, "squeeze": 17}  # px; below, a pooling layer has nothing left
DOWNLOADS = {
    "alex": AlexNet_Weights.IMAGENET1K_V1,
    "vgg": VGG16_Weights.IMAGENET1K_V1,
    "squeeze": SqueezeNet1_1_Weights.IMAGENET1K_V1,
}
# `tensors_sha256` of torchvision's features. AlexNet's are those of the records: `weights.lpips`.
KNOWN_TENSORS = {
    "alex": "db0374d2e793623dea9ae4fd4d0a6bbc82475d6a287912d131dabae0b2ddd8fc",
    "squeeze": "e5fbd2d1098e6ab80c642df1140bbf592f7de44696556c1e9b867524f773c021",
}
DOWNLOAD_TIMEOUT = 10.0  # seconds without an answer, at connecting and at each read


class DownloadError(Exception):
    """torchvision's weights could not be downloaded; the message is one line."""


def build_network(backbone: str) -> nn.Module:
    """The library's feature network with its weights still to be filled in.

    Through `lpips.LPIPS` the library would download them itself, or draw random ones from torch's global
    generator for the classifier too, which takes seconds with VGG16.
    """
    network = {"alex": networks.alexnet, "vgg": networks.vgg16, "squeeze": networks.squeezenet}[backbone]
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # the library passes torchvision deprecated arguments
        return network(pretrained=False).to_empty(device="cpu")


def heads(backbone: str) -> list[Tensor]:
    """The v0.1 linear heads that ship with the library: one weight per channel (C,) for each layer."""
    path = Path(networks.__file__).parent / "weights" / "v0.1" / f"{backbone}.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{layer}.model.1.weight"].flatten() for layer in range(len(state))]  # (1,C,1,1) -> (C,)


def randomize(net: nn.Module, seed: int) -> None:
    """He-normal weights and zero biases from a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(net.named_parameters()):
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)


def places(backbone: str, folder: Path | None) -> list[Path]:
    """Where a backbone's weights are looked for before they are downloaded."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / DOWNLOADS[backbone].url.rpartition("/")[2]
    return [*([folder / FILES[backbone]] if folder else []), cached]


def folder_state(backbone: str, folder: Path) -> dict[str, Tensor] | None:
    """The backbone's state from a weights folder; None where it has no file for this backbone.

    Raises UserError for a missing folder and for a file that does not hold the backbone.
    """
    if not folder.is_dir():
        raise UserError(f"weights folder {folder} does not exist; correct or unset UWM_WEIGHTS")
    path = folder / FILES[backbone]
    if not path.exists():
        return None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not a readable torch file of tensors ({type(error).__name__}); "
            "save torchvision's state dict with torch.save"
        ) from error
    return library_state(backbone, loaded, str(path))


def torchvision_state(backbone: str) -> dict[str, Tensor]:
    """The backbone's state from torchvision's cache or download; DownloadError where neither is to be had."""
    fetched = _fetch(backbone)
    if isinstance(fetched, str):
        raise DownloadError(fetched)
    return fetched


@functools.cache
def _fetch(backbone: str) -> dict[str, Tensor] | str:
    """The state, or in one line why there is none. Cached: one attempt per process."""
    try:
        # torch.hub announces a download on stdout, which belongs to the command; its bar goes to stderr
        with short_timeouts(), contextlib.redirect_stdout(io.StringIO()):
            loaded = DOWNLOADS[backbone].get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:  # unreachable, wrong hash, broken file
        reason = str(error).splitlines() or [type(error).__name__]
        return f"torchvision's download failed: {reason[0]}"
    return library_state(backbone, loaded, f"torchvision's {backbone} checkpoint")


@contextlib.contextmanager
def short_timeouts() -> Iterator[None]:
    """torch.hub opens its connection without a timeout: give sockets one meanwhile."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)


def library_state(backbone: str, loaded: object, where: str) -> dict[str, Tensor]:
    """Rename torchvision's `features.N.*` tensors to the library's `sliceK.N.*`, dropping the classifier's.

    Raises UserError naming `where` and the first tensor that is missing or of another shape.
    """
    if not isinstance(loaded, Mapping):
        raise UserError(f"{where} holds a {type(loaded).__name__}, not torchvision's state dict of tensors")
    state = {}
    for name, empty in build_network(backbone).state_dict().items():
        key = re.sub(r"^slice\d+\.", "features.", name)
        tensor = loaded.get(key)
        if not isinstance(tensor, Tensor):
            raise UserError(f"{where} has no tensor {key!r}: these are not torchvision's {backbone} features")
        if tensor.shape != empty.shape:
            raise UserError(
                f"{where}: {key!r} has shape {tuple(tensor.shape)}, torchvision's {backbone} features "
                f"have {tuple(empty.shape)}"
            )
        state[name] = tensor
    return state
