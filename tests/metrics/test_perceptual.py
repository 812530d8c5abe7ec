"""LPIPS: against the library's own forward, by hand, and what happens without or with wrong weights."""

import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import lpips as lpips_package
import pytest
import torch
import torchvision
from torch import Tensor, nn

import uwm.metrics.perceptual  # loading the submodule must not shadow the function of the contract
from uwm.errors import UserError
from uwm.metrics import LPIPS, backbones, load_lpips, lpips, perceptual

TORCHVISION: dict[str, Callable[..., Any]] = {
    "alex": torchvision.models.alexnet,
    "vgg": torchvision.models.vgg16,
    "squeeze": torchvision.models.squeezenet1_1,
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A weights folder with random features under torchvision's names, and the library's own networks."""
    folder, libraries = tmp_path_factory.mktemp("weights"), {}
    for name, file in backbones.FILES.items():
        with (
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
            pytest.MonkeyPatch.context() as patch,
        ):
            warnings.simplefilter("ignore")  # the library's deprecated arguments
            # the classifier is not used, and VGG16's takes seconds to draw
            patch.setattr(nn.Linear, "reset_parameters", lambda _layer: None)
            patch.setattr(nn.init, "normal_", lambda tensor, *_args, **_options: tensor)
            torch.manual_seed(1)
            features = TORCHVISION[name](weights=None).features
            libraries[name] = lpips_package.LPIPS(net=name, pnet_rand=True, verbose=False)
        for part in libraries[name].net.children():
            for index, module in part.named_children():
                module.load_state_dict(features[int(index)].state_dict())
        torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, folder / file)
    return folder, libraries


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """No weights folder, an empty download cache, no name service; the list holds the attempted hosts."""
    attempts: list[str] = []

    def refuse(host: str, *_args: object, **_kwargs: object) -> NoReturn:
        attempts.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.delenv("UWM_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    caches = (backbones._fetch, perceptual._load, perceptual._random_for)
    for cached in caches:
        cached.cache_clear()
    yield attempts
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("name", ["lpips-alex", "lpips-vgg", "lpips-squeeze", "authors"])
def test_agreement_with_the_library(name: str, weights: tuple[Path, dict[str, Any]]) -> None:
    network = load_lpips(name, weights[0])
    protocol = perceptual.PROTOCOLS[name]
    a, b = noise(3, 3, 48, 64), noise(3, 3, 48, 64, seed=1)
    b[1] = a[1]
    with torch.no_grad():
        expected = weights[1][protocol.backbone](a, b, normalize=name != "authors").flatten()
    distances = network.distance(network.features(a), network.features(b))
    assert network.protocol == name
    assert torch.allclose(distances, expected, atol=1e-6, rtol=1e-5)
    assert distances[1] == 0
    assert torch.equal(network(a, b), distances)


def waves(phase: int) -> Tensor:
    """An image (1,3,64,64) of 8-bit saw teeth, each channel in a direction of its own."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    teeth = [((x * (c + 1) + y * (3 - c) + phase) % 64) * 4 for c in range(3)]
    return torch.stack(teeth)[None] / 255


@pytest.mark.parametrize(
    ("name", "expected"), [("lpips-alex", [0.037096, 0.260943]), ("lpips-squeeze", [0.063277, 0.275211])]
)
def test_reference_pair(name: str, expected: list[float]) -> None:
    """ImageNet backbones, of UWM_WEIGHTS or downloaded: what the library's own network gives with them."""
    a, b = waves(0), torch.cat([waves(5), waves(0).flip(-1)])
    try:
        distances = lpips(a.expand(2, -1, -1, -1), b, name)
    except UserError as error:
        pytest.skip(str(error))
    assert distances.tolist() == pytest.approx(expected, abs=1e-6)


class Layers(nn.Module):
    """A backbone of two layers: the image itself, and its mean over all pixels."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images.mean(dim=(2, 3), keepdim=True)


def test_distance_by_hand() -> None:
    protocol = perceptual.Protocol("by-hand", "none", normalize=False)
    network = LPIPS(Layers(), [torch.tensor([1.0, 2.0, 4.0]), torch.tensor([8.0, 0.0, 1.0])], protocol)
    a = torch.zeros(1, 3, 1, 2)
    a[0, 0] = 0.5  # both pixels red: unit features (1,0,0) twice, mean (1,0,0)
    b = torch.zeros(1, 3, 1, 2)
    b[0, 0, 0, 0], b[0, 1, 0, 1] = 0.6, 0.8  # red, green: (1,0,0), (0,1,0), mean (0.3,0.4,0) -> (0.6,0.8,0)
    # layer 1: pixel 1 agrees, pixel 2 differs by (1,-1,0): (0 + 1 + 2) / 2; layer 2: 8 * 0.4^2 + 0 * 0.8^2
    assert network(a, b).item() == pytest.approx(1.5 + 1.28, abs=1e-6)


def test_authors_protocol_differs_by_the_input_scaling_alone(weights: tuple[Path, dict[str, Any]]) -> None:
    authors, vgg = load_lpips("authors", weights[0]), load_lpips("vgg", weights[0])
    a, b = noise(1, 3, 32, 32), noise(1, 3, 32, 32, seed=1)
    assert torch.allclose(authors(a, b), vgg((a + 1) / 2, (b + 1) / 2), atol=1e-6)  # 2 (x+1)/2 - 1 = x
    assert not torch.allclose(authors(a, b), vgg(a, b), atol=1e-3)
    assert authors.weights_sha256 == vgg.weights_sha256


def test_features_are_unit_vectors_and_chunks_do_not_matter(
    weights: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_lpips("alex", weights[0])
    images = noise(5, 3, 40, 40)
    whole = network.features(images)
    monkeypatch.setattr(perceptual, "CHUNK_PIXELS", 2 * 40 * 40)
    for layer, chunked in zip(whole, network.features(images), strict=True):
        length = layer.square().sum(dim=1).sqrt()
        assert torch.allclose(length[length > 0], torch.ones(()), atol=1e-5)
        assert torch.allclose(layer, chunked, atol=1e-6)


def test_without_weights_the_run_goes_on_with_a_labelled_random_backbone(
    offline: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    state = torch.get_rng_state()
    network = load_lpips("alex")
    output = capfd.readouterr()
    assert network.protocol == "lpips-random"
    assert (output.out, len(output.err.splitlines())) == ("", 1)
    assert "lpips-random" in output.err
    assert "UWM_WEIGHTS=DIR with alexnet_features.pth" in output.err
    assert torch.equal(torch.get_rng_state(), state)
    for cached in (perceptual._load, perceptual._random_for):  # the download is not tried again
        cached.cache_clear()
    again = load_lpips("alex")
    a, b = noise(2, 3, 32, 32), noise(2, 3, 32, 32, seed=1)
    assert len(offline) == 1
    assert again is not network
    assert again.weights_sha256 == network.weights_sha256
    assert torch.equal(again(a, b), network(a, b))
    assert (network(a, b) > 0).all()


def test_random_protocol_is_the_same_in_every_process() -> None:
    code = (
        "import torch; from uwm.metrics import lpips\n"
        "torch.manual_seed(5); a = torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)\n"
        "print(lpips(a, 1 - a, 'lpips-random').item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    a = torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)
    assert float(done.stdout) == pytest.approx(lpips(a, 1 - a, "lpips-random").item(), abs=1e-6)
    assert done.stderr == ""


def test_a_network_is_held_once_and_stays_where_it_is(weights: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(RuntimeError, match="meta"):
        lpips(*noise(2, 1, 3, 32, 32).to("meta"), "lpips-random")
    assert load_lpips("random").heads[0].device.type == "cpu"
    assert load_lpips("alex", weights[0], allow_random=False) is load_lpips("alex", weights[0])


def test_a_named_protocol_is_never_swapped(offline: list[str]) -> None:
    image = noise(1, 3, 32, 32)
    for protocol in ("lpips-squeeze", "squeeze"):
        with pytest.raises(UserError, match=r"no weights for lpips-squeeze .*squeezenet1_1_features.pth"):
            lpips(image, image, protocol)
    assert len(offline) == 1


def test_torchvision_checkpoint_from_its_cache(
    offline: list[str],
    weights: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The real loading code of torchvision, with a checkpoint that also holds the classifier."""
    checkpoint = TORCHVISION["squeeze"](weights=None).state_dict()
    checkpoint.update(torch.load(weights[0] / backbones.FILES["squeeze"], weights_only=True))
    cache = tmp_path / "cache" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(checkpoint, cache / Path(backbones.DOWNLOADS["squeeze"].url).name)
    monkeypatch.delitem(backbones.KNOWN_TENSORS, "squeeze")
    network = load_lpips("squeeze")
    assert (network.protocol, offline, capfd.readouterr()) == ("lpips-squeeze", [], ("", ""))
    assert network.weights_sha256 == load_lpips("squeeze", weights[0]).weights_sha256


def test_other_weights_than_the_published_ones_are_said_and_no_loss_reads_them(
    offline: list[str],
    weights: tuple[Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("UWM_WEIGHTS", str(weights[0]))
    for name in ("alex", "squeeze"):
        found = load_lpips(name)
        assert f"lpips-{name} hold other values than torchvision's" in capfd.readouterr().err
        with pytest.raises(UserError, match=f"lpips-{name} are not torchvision's published ones"):
            perceptual.published_lpips(name)
        perceptual._load.cache_clear()
        capfd.readouterr()
        monkeypatch.setitem(backbones.KNOWN_TENSORS, name, found.weights_sha256)
        assert perceptual.published_lpips(name).weights_sha256 == found.weights_sha256
        assert capfd.readouterr().err == ""
    for name in ("vgg", "authors"):
        with pytest.raises(UserError, match="no digest of torchvision's published vgg is known"):
            perceptual.published_lpips(name)


def test_environment_variable_names_the_folder(
    offline: list[str], weights: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UWM_WEIGHTS", str(weights[0]))
    assert load_lpips("alex").protocol == "lpips-alex"
    assert offline == []


def test_wrong_weights_are_refused_in_one_line(
    weights: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / backbones.FILES["squeeze"]

    def message() -> str:
        perceptual._load.cache_clear()
        with pytest.raises(UserError) as caught:
            load_lpips("squeeze", tmp_path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    path.write_bytes(b"not a checkpoint")
    assert f"{path} is not a readable torch file" in message()
    torch.save(nn.Linear(2, 2), path)  # pickled code is not run
    assert f"{path} is not a readable torch file" in message()
    torch.save([1, 2], path)
    assert "holds a list" in message()
    state = torch.load(weights[0] / path.name, weights_only=True)
    torch.save({key: value for key, value in state.items() if key != "features.3.squeeze.bias"}, path)
    assert "has no tensor 'features.3.squeeze.bias'" in message()
    torch.save(state | {"features.0.weight": torch.zeros(64, 3, 5, 5)}, path)
    assert "'features.0.weight' has shape (64, 3, 5, 5)" in message()
    with pytest.raises(UserError, match="does not exist"):
        load_lpips("squeeze", tmp_path / "nowhere")
    with pytest.raises(UserError, match="unknown LPIPS protocol 'resnet'"):
        load_lpips("resnet")


@pytest.mark.parametrize("name", ["alex", "vgg", "squeeze"])
def test_minimum_size_is_the_backbone_s_own(name: str, weights: tuple[Path, dict[str, Any]]) -> None:
    network, size = load_lpips(name, weights[0]), backbones.MINIMUM_SIZE[name]
    network.features(noise(1, 3, size, size))
    with pytest.raises(ValueError, match=f"at least {size} px, got {size}x{size - 1}"):
        network.features(noise(1, 3, size, size - 1))
    with pytest.raises(RuntimeError):
        weights[1][name].net(noise(1, 3, size, size - 1))


def test_wrong_images_are_refused() -> None:
    network = load_lpips("random")
    image = noise(1, 3, 32, 32)
    for wrong in (image[0], image[:, :1], (255 * image).byte(), image[:0]):
        with pytest.raises(ValueError, match="float images"):
            network.features(wrong)
    for wrong in (2 * image - 1, 255 * image, image / 0 * 0):
        with pytest.raises(ValueError, match=r"images in \[0,1\]"):
            network.features(wrong)


def test_the_contract_s_name_is_a_function() -> None:
    assert callable(lpips)
    assert uwm.metrics.lpips is lpips
