"""LPIPS (Zhang et al. 2018, v0.1 linear heads of the `lpips` package) under named protocols.

An LPIPS number means little without its protocol: the backbone, and what range its input has.

=============== ========== ===================================================================
protocol        backbone   input
=============== ========== ===================================================================
`lpips-alex`    AlexNet    [0,1] scaled to [-1,1], as the library demands
`lpips-vgg`     VGG16      the same
`lpips-squeeze` SqueezeNet the same
`authors`       VGG16      [0,1] as it is: what the authors' code does (no `normalize=True`)
`lpips-random`  AlexNet    as `lpips-alex`, but untrained from a fixed seed: only for runs without
                           weights, comparable with itself and with nothing else
=============== ========== ===================================================================

Features of an image are computed once (`LPIPS.features`) and compared as often as needed
(`LPIPS.distance`); the result is that of `lpips.LPIPS.forward`.
"""

import copy
import functools
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import lpips as lpips_package
import torch
from torch import Tensor, nn

from uwm.bounds import OneOf
from uwm.env import weights_folder
from uwm.errors import UserError
from uwm.metrics import backbones
from uwm.metrics.image import check_alike

Features = tuple[Tensor, ...]  # one (B,C,H,W) tensor per layer, unit length along C

RANDOM_SEED = 20180111  # of the untrained backbone of `lpips-random`; part of that protocol
RANGE_SLACK = 1e-3  # rounding beyond [0,1] that is let through
CHUNK_PIXELS = 64 * 224 * 224  # backbone input at a time: bounds the memory of `features`


@dataclass(frozen=True)
class Protocol:
    """What an LPIPS number stands for."""

    name: str
    backbone: str  # alex | vgg | squeeze
    normalize: bool  # scale [0,1] inputs to [-1,1]
    trained: bool = True


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("lpips-alex", "alex", normalize=True),
        Protocol("lpips-vgg", "vgg", normalize=True),
        Protocol("lpips-squeeze", "squeeze", normalize=True),
        Protocol("authors", "vgg", normalize=False),
        Protocol("lpips-random", "alex", normalize=True, trained=False),
    )
}
SHORT = tuple(name.removeprefix("lpips-") for name in PROTOCOLS if name.startswith("lpips-"))
ProtocolName = Annotated[str, OneOf((*SHORT, *PROTOCOLS))]  # of a config's field


class LPIPS(nn.Module):
    """A frozen LPIPS network: features per image, distances between features.

    `backbone` maps images (B,3,H,W) to one feature map per layer; `heads` hold one weight per channel (C,)
    for each layer. `features` and `distance` measure, without gradient; `loss` is the same for training.
    """

    def __init__(
        self,
        backbone: nn.Module,
        heads: Sequence[Tensor],
        protocol: Protocol,
        *,
        minimum_size: int = 1,
        weights_sha256: str = "",
    ) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.heads = nn.ParameterList([nn.Parameter(head, requires_grad=False) for head in heads])
        self.normalize = protocol.normalize
        self.protocol = protocol.name
        self.minimum_size = minimum_size
        self.weights_sha256 = weights_sha256

    @torch.no_grad()
    def features(self, images: Tensor) -> Features:
        """Per-layer features, of unit length along channels, of images (B,3,H,W) in [0,1].

        Index or concatenate each layer along its first axis to select or join images.
        Raises ValueError for another shape, dtype or range, and for images smaller than the backbone takes.
        """
        self._check(images)
        size = max(1, CHUNK_PIXELS // (images.shape[2] * images.shape[3]))
        chunks = [self._unit_features(chunk) for chunk in images.split(size)]
        return tuple(torch.cat(layer) for layer in zip(*chunks, strict=True))

    @torch.no_grad()
    def distance(self, a: Features, b: Features) -> Tensor:
        """LPIPS distances (B,) between the features of two batches.

        ValueError for images of two sizes and for two numbers of images, one against many included.
        """
        check_alike(a[0], b[0])
        layers = []
        for x, y, head in zip(a, b, self.heads, strict=True):
            squared = (x - y).square_().mean(dim=(2, 3))  # (B,C): the head is linear, so the mean goes first
            layers.append(squared @ head)
        return torch.stack(layers).sum(dim=0)

    def loss(self, a: Tensor, b: Tensor) -> Tensor:
        """LPIPS distances (B,) of images (B,3,H,W) in [0,1], with gradients."""
        check_alike(a, b)
        pairs = zip(self._unit_features(a), self._unit_features(b), self.heads, strict=True)
        return torch.stack([(x - y).square().mean(dim=(2, 3)) @ head for x, y, head in pairs]).sum(dim=0)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """LPIPS distances (B,) of images (B,3,H,W) in [0,1]; prefer `features` where an image recurs."""
        check_alike(a, b)
        return self.distance(self.features(a), self.features(b))

    def _unit_features(self, images: Tensor) -> Features:
        images = images.float()
        layers = self.backbone(2 * images - 1 if self.normalize else images)
        # eps outside the root, as in lpips.normalize_tensor
        return tuple(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for x in layers)

    def _check(self, images: Tensor) -> None:
        if not isinstance(images, Tensor):
            raise ValueError(f"LPIPS needs float images (B,3,H,W) with B > 0, got a {type(images).__name__}")
        if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0 or not images.is_floating_point():
            raise ValueError(
                f"LPIPS needs float images (B,3,H,W) with B > 0, got {images.dtype} {tuple(images.shape)}"
            )
        if min(images.shape[2:]) < self.minimum_size:
            size = f"{images.shape[2]}x{images.shape[3]}"
            raise ValueError(f"{self.protocol} needs images of at least {self.minimum_size} px, got {size}")
        low, high = (bound.item() for bound in torch.aminmax(images))
        if not (low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK):  # also false for NaN
            raise ValueError(f"LPIPS needs images in [0,1], got values from {low:g} to {high:g}")


def load_lpips(name: str = "alex", weights_dir: Path | None = None, *, allow_random: bool = True) -> LPIPS:
    """The LPIPS network of a protocol: its name, or `alex`, `vgg`, `squeeze`, `random` for short.

    The backbone's weights come from `weights_dir` (default: the environment variable UWM_WEIGHTS), else from
    torchvision's cache or download. With neither, `allow_random` gives `lpips-random` and says so in one line
    on stderr; read the `protocol` of the result for what was really loaded. Loaded once per process.
    Raises UserError for an unknown name, a missing folder, a wrong file, or (not `allow_random`) no weights.
    """
    protocol, folder = _protocol(name), weights_dir or weights_folder()
    try:
        return _load(protocol, Path(folder).resolve() if folder else None)
    except backbones.DownloadError as error:
        missing = f"no weights for {protocol.name} ({error})"
    file = backbones.FILES[protocol.backbone]
    remedy = f"run once with internet access, or set UWM_WEIGHTS=DIR with {file} in it"
    if not allow_random:
        raise UserError(f"{missing}: {remedy}")
    return _random_for(missing, remedy)


def published_lpips(name: str) -> LPIPS:
    """As `load_lpips`, for a loss: the training's identity names the network and not its weights.

    Raises:
        UserError: no weights, or others than torchvision's published ones; a backbone of which these are not
            known, so that nobody can tell.
    """
    network = load_lpips(name, allow_random=False)
    backbone = _protocol(name).backbone
    known = backbones.KNOWN_TENSORS.get(backbone)
    if known is None:
        there = ", ".join(sorted(backbones.KNOWN_TENSORS))
        raise UserError(
            f"no digest of torchvision's published {backbone} is known, so a loss cannot read it; "
            f"choose one of {there}"
        )
    if network.weights_sha256 != known:
        raise UserError(
            f"the weights of {network.protocol} are not torchvision's published ones, and a training is "
            f"named by these: replace {backbones.FILES[backbone]} in UWM_WEIGHTS "
            f"(python -m uwm.prefetch --lpips {backbone})"
        )
    return network


def _protocol(name: str) -> Protocol:
    protocol = PROTOCOLS.get(name) or PROTOCOLS.get(f"lpips-{name}")
    if protocol is None:
        raise UserError(f"unknown LPIPS protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    return protocol


def weights_at_hand(name: str, folder: Path | None) -> bool:
    """True where `load_lpips` needs no download: the protocol is untrained, or its file is here."""
    protocol = PROTOCOLS.get(name) or PROTOCOLS.get(f"lpips-{name}")
    if protocol is None or not protocol.trained:
        return True
    return any(path.is_file() for path in backbones.places(protocol.backbone, folder))


def lpips(a: Tensor, b: Tensor, protocol: str = "lpips-alex") -> Tensor:
    """LPIPS distances (B,) between images a and b (B,3,H,W) in [0,1] under a named protocol.

    Never swaps the protocol: UserError where its weights cannot be had (ask for `lpips-random` instead).
    """
    network = load_lpips(protocol, allow_random=False)
    if network.heads[0].device != a.device:
        network = _copied(network, a.device)
    distances: Tensor = network(a, b)
    return distances


@functools.lru_cache(maxsize=2)
def _copied(network: LPIPS, device: torch.device) -> LPIPS:
    """A copy on another device: the network is that of all who loaded it, and stays where they put it."""
    return copy.deepcopy(network).to(device)


@functools.cache
def _load(protocol: Protocol, folder: Path | None) -> LPIPS:
    """DownloadError where its weights cannot be had."""
    if not protocol.trained:
        return _assemble(protocol, None)
    state = backbones.folder_state(protocol.backbone, folder) if folder else None
    if state is None:
        state = backbones.torchvision_state(protocol.backbone)
    return _compared(_assemble(protocol, state), protocol.backbone)


@functools.cache
def _random_for(missing: str, remedy: str) -> LPIPS:
    """`lpips-random` in place of the network whose weights are missing; one line on stderr says so."""
    print(
        f"LPIPS: {missing}; measuring with lpips-random (untrained backbone), which must not be compared "
        f"with reported numbers. To get the real one, {remedy}.",
        file=sys.stderr,
    )
    return _load(PROTOCOLS["lpips-random"], None)


def _compared(network: LPIPS, backbone: str) -> LPIPS:
    """The network; one line on stderr where its weights are known not to be the published ones."""
    if network.weights_sha256 != backbones.KNOWN_TENSORS.get(backbone, network.weights_sha256):
        print(
            f"LPIPS: the weights of {network.protocol} hold other values than torchvision's; numbers must "
            "not be compared with reported ones",
            file=sys.stderr,
        )
    return network


def _assemble(protocol: Protocol, state: Mapping[str, Tensor] | None) -> LPIPS:
    """Join a backbone (untrained where `state` is None) and the library's v0.1 heads."""
    network = backbones.build_network(protocol.backbone)
    if state is None:
        backbones.randomize(network, RANDOM_SEED)
    else:
        network.load_state_dict(state)
    return LPIPS(
        nn.Sequential(lpips_package.ScalingLayer(), network),
        backbones.heads(protocol.backbone),
        protocol,
        minimum_size=backbones.MINIMUM_SIZE[protocol.backbone],
        weights_sha256=tensors_sha256(network.state_dict()),
    )


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values: of the tensors, whatever file they came in."""
    digest = hashlib.sha256()
    for name in sorted(state):
        values = state[name].detach().cpu().float().contiguous()
        digest.update(f"{name} {tuple(values.shape)}\n".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
