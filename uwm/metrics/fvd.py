"""Fréchet video distance (Unterthiner et al. 2018) of two sets of clips, under named protocols.

The features of each set are taken for a Gaussian; the distance is |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a
C_b)^1/2) of their means and covariances. Such a number means little without the network behind it:

==================== =================== ============================================================
protocol             network             input, and features
==================== =================== ============================================================
`fvd-i3d`            I3D, Kinetics-400   224 px in [-1,1], at least 10 frames; its 400 logits, as in
                                         StyleGAN-V's TorchScript file, which most papers use
`fvd-r3d18`          torchvision's       112 px, by its mean and deviation; the 512 numbers before
                     r3d_18              its classes
`fvd-mc3-18`         mc3_18              the same
`fvd-r2plus1d-18`    r2plus1d_18         the same
`fvd-random`         r3d_18              as `fvd-r3d18`, but untrained from a fixed seed: only for runs
                                         without weights, comparable with itself and with nothing else
==================== =================== ============================================================

Clips are resized whole and their frames are taken as they are, whatever their rate. The distance of few clips
is biased upwards, the more so the more features there are: papers have 2,048 clips and more. Numbers of other
numbers of clips, or of clips of another length, are not comparable.
"""

import functools
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import video

from uwm.bounds import OneOf
from uwm.env import weights_folder
from uwm.errors import UserError
from uwm.metrics import backbones
from uwm.metrics.perceptual import RANGE_SLACK, tensors_sha256
from uwm.verified import sha256_of

UNTRAINED_SEED = 20180806  # of the untrained network of `fvd-random`; part of that protocol
MEAN, DEVIATION = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)  # of torchvision's networks
I3D_FILE = "i3d_torchscript.pt"
I3D_SHA256 = "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2"
CLIPS_AT_ONCE = 8  # bounds the memory of `features`


@dataclass(frozen=True)
class FVDProtocol:
    """What an FVD number stands for."""

    name: str
    network: str  # i3d, or torchvision's
    size: int = 112  # px
    fewest_frames: int = 1
    trained: bool = True


FVD_PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        FVDProtocol("fvd-i3d", "i3d", 224, 10),
        FVDProtocol("fvd-r3d18", "r3d_18"),
        FVDProtocol("fvd-mc3-18", "mc3_18"),
        FVDProtocol("fvd-r2plus1d-18", "r2plus1d_18"),
        FVDProtocol("fvd-random", "r3d_18", trained=False),
    )
}
NO_FVD = "none"
FVDName = Annotated[str, OneOf((NO_FVD, *(name.removeprefix("fvd-") for name in FVD_PROTOCOLS)))]
FVD_DOWNLOADS = {
    "r3d_18": video.R3D_18_Weights.KINETICS400_V1,
    "mc3_18": video.MC3_18_Weights.KINETICS400_V1,
    "r2plus1d_18": video.R2Plus1D_18_Weights.KINETICS400_V1,
}


class ClipNetwork(nn.Module):
    """A frozen network that gives features of clips. `network` maps (B, 3, T, S, S) to (B, F)."""

    def __init__(self, network: nn.Module, protocol: FVDProtocol, weights_sha256: str) -> None:
        super().__init__()
        self.network = network.eval()
        self.protocol, self.weights_sha256 = protocol, weights_sha256
        self.register_buffer("device_of", torch.zeros(0))  # TorchScript programs need not have parameters

    @torch.no_grad()
    def features(self, clips: Tensor) -> Tensor:
        """Features (n, F), float64 on the CPU, of clips (n, T, 3, H, W) in [0, 1].

        Raises ValueError for other shapes or values.
        """
        _check_clips(clips)
        device = self.get_buffer("device_of").device
        parts = [self._features(part.to(device)).double().cpu() for part in clips.split(CLIPS_AT_ONCE)]
        return torch.cat(parts)

    def _features(self, clips: Tensor) -> Tensor:
        size, length = self.protocol.size, clips.shape[1]
        frames = interpolate(
            clips.flatten(0, 1).float(), (size, size), mode="bilinear", antialias=True, align_corners=False
        )
        if self.protocol.network == "i3d":
            frames = 2 * frames - 1
        else:
            mean, deviation = (frames.new_tensor(x)[:, None, None] for x in (MEAN, DEVIATION))
            frames = (frames - mean) / deviation
        inputs = frames.unflatten(0, (-1, length)).transpose(1, 2)  # (B, 3, T, S, S)
        if self.protocol.network == "i3d":
            features: Tensor = self.network(inputs, rescale=False, resize=False, return_features=True)
        else:
            features = self.network(inputs)
        return features.flatten(1)


def load_fvd(name: str, weights_dir: Path | None = None, *, allow_random: bool = True) -> ClipNetwork:
    """The network of a protocol: its name, or `i3d`, `r3d18`, ... for short.

    Weights come from `weights_dir` (default: UWM_WEIGHTS), under torchvision's own file names, or from
    torch's cache; torchvision's are downloaded else. With none, `allow_random` gives `fvd-random` and says so
    in one line on stderr: read the `protocol` of the result. Loaded once per process.

    Raises:
        UserError: an unknown name, a wrong file, or (not `allow_random`) no weights.
    """
    protocol = _protocol(name)
    folder = weights_dir or weights_folder()
    return _load(protocol, Path(folder).resolve() if folder else None, allow_random)


def fvd_at_hand(name: str, folder: Path | None) -> bool:
    """True where `load_fvd` needs no download."""
    protocol = _protocol(name)
    return not protocol.trained or any(path.is_file() for path in _places(protocol, folder))


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The Fréchet distance of the Gaussians of two sets of features, (n, F) and (m, F).

    The trace of the root of C_a C_b is the sum of the singular values of A B^T, where A and B are the centred
    features over the root of n - 1 and m - 1: so no root of a matrix is taken, which loses digits where there
    are fewer clips than features. Raises ValueError for other shapes, fewer than two rows, or values that are
    not finite.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"features (n, F) and (m, F) of at least 2 clips each are needed, got {tuple(a.shape)} "
            f"and {tuple(b.shape)}"
        )
    a, b = a.double(), b.double()
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("features are NaN or infinite")
    centred = [(x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b)]
    apart = (a.mean(0) - b.mean(0)).square().sum()
    spread = sum(x.square().sum() for x in centred)
    shared = torch.linalg.svdvals(centred[0] @ centred[1].T).sum()
    return max(0.0, float(apart + spread - 2 * shared))


def _protocol(name: str) -> FVDProtocol:
    protocol = FVD_PROTOCOLS.get(name) or FVD_PROTOCOLS.get(f"fvd-{name}")
    if protocol is None:
        raise UserError(f"unknown FVD protocol {name!r}; known: {', '.join(FVD_PROTOCOLS)}")
    return protocol


@functools.cache
def _load(protocol: FVDProtocol, folder: Path | None, allow_random: bool) -> ClipNetwork:
    if not protocol.trained:
        network = _torchvision(protocol.network)
        _randomize(network)
        return ClipNetwork(network, protocol, tensors_sha256(network.state_dict()))
    path = next((path for path in _places(protocol, folder) if path.is_file()), None)
    if path is None and protocol.network != "i3d":
        path = _downloaded(protocol.network)
    if path is not None:
        return _from_file(protocol, path)
    missing = f"no weights for {protocol.name}: set UWM_WEIGHTS=DIR with {_file(protocol)} in it"
    if protocol.network != "i3d":
        missing += f" (python -m uwm.prefetch --fvd {protocol.name.removeprefix('fvd-')})"
    if not allow_random:
        raise UserError(missing)
    print(
        f"FVD: {missing}. Measuring with fvd-random (untrained), which must not be compared with reported "
        "numbers.",
        file=sys.stderr,
    )
    return _load(FVD_PROTOCOLS["fvd-random"], None, True)


def _file(protocol: FVDProtocol) -> str:
    if protocol.network == "i3d":
        return I3D_FILE
    return str(FVD_DOWNLOADS[protocol.network].url.rpartition("/")[2])


def _places(protocol: FVDProtocol, folder: Path | None) -> list[Path]:
    """Where a network's weights are looked for before they are downloaded."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / _file(protocol)
    return [*([folder / _file(protocol)] if folder else []), cached]


def _downloaded(network: str) -> Path | None:
    """Torchvision's file, in torch's cache; None where it can't be had."""
    try:
        with backbones.short_timeouts():
            FVD_DOWNLOADS[network].get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError):
        return None
    return next((path for path in _places(FVDProtocol("", network), None) if path.is_file()), None)


def _from_file(protocol: FVDProtocol, path: Path) -> ClipNetwork:
    """UserError where the file is not the published one, by its SHA-256: torchvision's names end in it."""
    digest = sha256_of(path)
    match = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    expected = match[1] if match else I3D_SHA256
    if not digest.startswith(expected):
        raise UserError(
            f"{path} is not the published file of {protocol.name}: its SHA-256 begins with {digest[:8]}, not "
            f"{expected[:8]}; fetch it again"
        )
    if protocol.network == "i3d":
        return ClipNetwork(torch.jit.load(path, map_location="cpu"), protocol, digest)
    network = _torchvision(protocol.network)
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith("fc.")})
    return ClipNetwork(network, protocol, digest)


def _torchvision(name: str) -> nn.Module:
    """Torchvision's network without its classes; the global generator is left as it is."""
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = getattr(video, name)(weights=None)
    network.fc = nn.Identity()
    return network


def _randomize(network: nn.Module) -> None:
    """He-normal weights from a generator of their own; normalisations stay as they begin."""
    generator = torch.Generator().manual_seed(UNTRAINED_SEED)
    for _, parameter in sorted(network.named_parameters()):
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)


def _check_clips(clips: Tensor) -> None:
    if clips.ndim != 5 or clips.shape[2] != 3 or not len(clips) or not clips.is_floating_point():
        raise ValueError(f"float clips (n, T, 3, H, W) are needed, got {clips.dtype} {tuple(clips.shape)}")
    low, high = (float(bound) for bound in torch.aminmax(clips))
    if not (low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK):  # also false for NaN
        raise ValueError(f"clips in [0,1] are needed, got values from {low:g} to {high:g}")
