"""FVD: the distance against closed forms and SciPy's root of a matrix; the networks under their protocols."""

import hashlib
import socket
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torchvision.models import video
from torchvision.transforms._presets import VideoClassification

from uwm import prefetch
from uwm.errors import UserError
from uwm.metrics import fvd
from uwm.metrics.fvd import FVD_PROTOCOLS, ClipNetwork, frechet_distance, fvd_at_hand, load_fvd


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clips(count: int = 3, length: int = 4, size: int = 112) -> Tensor:
    return torch.rand((count, length, 3, size, size), generator=torch.Generator().manual_seed(1))


# The distance


def with_moments(x: Tensor, mean: Tensor, root: Tensor) -> Tensor:
    """Features with exactly this mean and the covariance `root root^T`."""
    centred = x - x.mean(0)
    white = centred @ torch.linalg.inv(torch.linalg.cholesky(centred.T.cov(correction=1))).T
    return white @ root.T + mean


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_of_diagonal_gaussians_it_is_the_closed_form(shift: float) -> None:
    """Of commuting covariances: the sum of squared differences of means and of standard deviations."""
    s_a, s_b = torch.tensor([1.0, 2, 5, 0.1]).double(), torch.tensor([2.0, 2, 1, 0.3]).double()
    a = with_moments(normal(400, 4), torch.zeros(4).double(), s_a.diag())
    b = with_moments(normal(300, 4, seed=1), torch.full((4,), shift).double(), s_b.diag())
    expected = 4 * shift**2 + float((s_a - s_b).square().sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("n", "m", "width"), [(200, 150, 6), (60, 40, 30)])
def test_it_is_what_the_root_of_a_matrix_gives(n: int, m: int, width: int) -> None:
    a, b = normal(n, width) @ normal(width, width, seed=2), 0.5 + normal(m, width, seed=3)
    c_a, c_b = (np.cov(x.numpy(), rowvar=False) for x in (a, b))
    root = scipy.linalg.sqrtm(c_a @ c_b)
    apart = float((a.mean(0) - b.mean(0)).square().sum())
    expected = apart + np.trace(c_a) + np.trace(c_b) - 2 * np.trace(root).real
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


def test_fewer_clips_than_features_lose_no_digits() -> None:
    """Both sets lie in the first 3 of 512 dimensions, turned: the distance is that in 3."""
    a, b = normal(10, 3), 2 * normal(12, 3, seed=1) + 1
    turn = torch.linalg.qr(normal(512, 512, seed=2))[0]
    wide = [torch.cat([x, torch.zeros(len(x), 509).double()], dim=1) @ turn for x in (a, b)]
    assert frechet_distance(*wide) == pytest.approx(frechet_distance(a, b), rel=1e-10)


def test_of_a_set_to_itself_it_is_zero_and_it_has_no_direction() -> None:
    a, b = normal(20, 50), normal(30, 50, seed=1)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a.flip(0)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)


@pytest.mark.slow
def test_of_few_clips_it_is_biased_upwards() -> None:
    """Two draws of one Gaussian: what the documentation says of few clips."""
    few, many = (frechet_distance(normal(n, 20), normal(n, 20, seed=1)) for n in (30, 3000))
    assert few > 20 * many > 0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (normal(1, 4), normal(5, 4)),
        (normal(5, 4), normal(5, 3)),
        (normal(5), normal(5)),
        (normal(5, 4), torch.full((5, 4), torch.nan)),
    ],
)
def test_other_features_are_refused(a: Tensor, b: Tensor) -> None:
    with pytest.raises(ValueError, match="features"):
        frechet_distance(a, b)


# The networks


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No weights folder, an empty download cache, no name service."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.delenv("UWM_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    fvd._load.cache_clear()


def test_without_weights_it_is_labelled_random(offline: None, capsys: pytest.CaptureFixture[str]) -> None:
    found = load_fvd("i3d")
    assert found.protocol.name == "fvd-random"
    [line] = capsys.readouterr().err.splitlines()
    assert "no weights for fvd-i3d" in line
    assert "must not be compared" in line
    assert load_fvd("r3d18") is load_fvd("random") is found
    assert "python -m uwm.prefetch --fvd r3d18" in capsys.readouterr().err
    for name in ("i3d", "mc3-18", "fvd-r2plus1d-18"):
        with pytest.raises(UserError, match="no weights for fvd-"):
            load_fvd(name, allow_random=False)
    assert not fvd_at_hand("i3d", None)
    assert fvd_at_hand("random", None)
    with pytest.raises(UserError, match="unknown FVD protocol 'c3d'"):
        load_fvd("c3d")


def test_the_untrained_network_is_always_the_same(offline: None) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = load_fvd("random")
    assert torch.equal(torch.rand(1), expected)  # nothing was drawn of the global generator
    fvd._load.cache_clear()
    assert load_fvd("random").weights_sha256 == first.weights_sha256
    assert len(first.weights_sha256) == 64


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18"])
def test_torchvisions_networks_are_read_from_a_folder(
    name: str, tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its features are those of torchvision's own network before its classes, of frames as it wants them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = getattr(video, name)(weights=None).eval()
    protocol = next(p for p in FVD_PROTOCOLS.values() if p.network == name)
    path = tmp_path / fvd._file(protocol)
    torch.save(network.state_dict(), path)
    with pytest.raises(UserError, match="is not the published file"):
        load_fvd(protocol.name, tmp_path)
    begins = path.stem.rpartition("-")[2]
    monkeypatch.setattr(fvd, "sha256_of", lambda path: begins + "0" * 56)
    fvd._load.cache_clear()
    loaded = load_fvd(protocol.name, tmp_path)
    assert loaded.protocol is protocol
    seen = clips()
    network.fc = nn.Identity()
    prepared = VideoClassification(crop_size=(112, 112), resize_size=(112, 112))(seen)
    torch.testing.assert_close(loaded.features(seen), network(prepared).double(), rtol=1e-4, atol=1e-5)


class I3D(nn.Module):
    """Takes what the TorchScript file takes; its 400 features are values of the frames."""

    def forward(
        self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> Tensor:
        assert not rescale
        assert not resize
        assert return_features
        assert x.shape[1:] == (3, 10, 224, 224)
        return x[:, 0, 0].flatten(1)[:, :400]


def test_i3d_is_a_torchscript_file(tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / fvd.I3D_FILE
    torch.jit.script(I3D()).save(str(path))
    with pytest.raises(UserError, match=r"begins with .*, not bec6519f"):
        load_fvd("i3d", tmp_path)
    monkeypatch.setattr(fvd, "I3D_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    loaded, seen = load_fvd("i3d", tmp_path), clips(2, 10, 224)
    expected = (2 * seen[:, 0, 0] - 1).flatten(1)[:, :400].double()
    torch.testing.assert_close(loaded.features(seen), expected)
    assert loaded.weights_sha256 == fvd.I3D_SHA256


@pytest.mark.parametrize(
    "wrong",
    [clips()[0], clips() * 255, clips() * torch.nan, clips()[:0], (clips() * 255).byte(), clips()[:, :, :1]],
)
def test_other_clips_are_refused(wrong: Tensor) -> None:
    network = ClipNetwork(nn.Flatten(), FVD_PROTOCOLS["fvd-random"], "")
    with pytest.raises(ValueError, match="clips"):
        network.features(wrong)


def test_torchvisions_file_is_fetched_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def download(url: str, target: str, hash_prefix: str) -> None:
        asked.update(url=url, prefix=hash_prefix)
        Path(target).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(prefetch, "fetch_lpips", lambda backbone, target: target.write_bytes(b"x"))
    assert prefetch._main(["--to", str(tmp_path), "--mae", "none", "--fvd", "mc3-18"]) == 0
    assert asked == {"url": "https://download.pytorch.org/models/mc3_18-a90a0ba3.pth", "prefix": "a90a0ba3"}
    assert (tmp_path / "mc3_18-a90a0ba3.pth").read_bytes() == b"weights"
    (tmp_path / "mc3_18-a90a0ba3.pth.sha256").unlink()
    with pytest.raises(UserError, match="is not torchvision's file"):
        prefetch._main(["--to", str(tmp_path), "--mae", "none", "--fvd", "mc3-18"])
