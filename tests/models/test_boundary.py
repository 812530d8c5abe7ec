"""Wrong tensors and damaged files: one clear line, never a finite wrong state; and saving leaves no rests."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from uwm.baselines.ficc import FICC, FICCConfig
from uwm.errors import UserError
from uwm.metrics.image import psnr
from uwm.metrics.perceptual import load_lpips
from uwm.models import MAE_PRESETS, ActionAdapter, MaskedAutoencoder, WorldModel, WorldModelConfig
from uwm.models.adapter import ActionAdapterConfig, ControllerConfig
from uwm.models.boundary import shapes_alone
from uwm.models.storage import METADATA_KEY, read_metadata

SIZE = MAE_PRESETS["tiny"].image_size
CONFIG = WorldModelConfig().fitted(MAE_PRESETS["tiny"])
MAE = MaskedAutoencoder(MAE_PRESETS["tiny"]).eval()
WORLD = WorldModel(CONFIG).eval()
ADAPTER = ActionAdapter(
    ActionAdapterConfig().fitted(CONFIG, ControllerConfig((-1.0,) * 7, (1.0,) * 7, 4))
).eval()
IMAGES = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    STATES = MAE.encode(IMAGES)
    QUANTIZED = WORLD.infer_actions(STATES, STATES.flip(0)).quantized
CONTROLS, MASK = torch.zeros(2, 4, 7), torch.ones(2, 4, dtype=torch.bool)


def spoilt(tensor: Tensor, value: float) -> Tensor:
    """One wrong number among right ones."""
    tensor = tensor.clone()
    tensor.view(-1)[-1] = value
    return tensor


NAN, INF = float("nan"), float("inf")
BAD_IMAGES = {
    "uint8": (255 * IMAGES).byte(), "0 to 255": 255 * IMAGES, "-1 to 1": 2 * IMAGES - 1,
    "ints": IMAGES.long(),
    "bool": IMAGES > 0.5, "NaN": spoilt(IMAGES, NAN), "infinite": spoilt(IMAGES, INF),
    "one above": spoilt(IMAGES, 1.1), "one below": spoilt(IMAGES, -0.1), "no batch": IMAGES[0],
    "channels last": IMAGES.permute(0, 2, 3, 1), "grey": IMAGES[:, :1], "smaller": IMAGES[..., :32, :32],
    "not square": IMAGES[..., :32], "five axes": IMAGES[None], "sparse": IMAGES.to_sparse(),
    "without values": IMAGES.to("meta"), "an array": IMAGES.numpy(), "nothing": None,
}  # fmt: skip
BAD_STATES = {
    "NaN": spoilt(STATES, NAN), "infinite": spoilt(STATES, -INF), "ints": STATES.long(),
    "no batch": STATES[0],
    "no CLS": STATES[:, 1:], "wider": torch.cat([STATES, STATES], 2), "transposed": STATES.transpose(1, 2),
    "images": IMAGES, "double": STATES.double(), "half": STATES.half(), "sparse": STATES.to_sparse(),
}  # fmt: skip
BAD_ACTIONS = {
    "half": QUANTIZED[:, :12], "twice": torch.cat([QUANTIZED, QUANTIZED], 1), "narrow": QUANTIZED[..., :32],
    "one of two": QUANTIZED[:1], "NaN": spoilt(QUANTIZED, NAN),
    "codes": torch.zeros(2, 24, dtype=torch.int64),
    "flat": QUANTIZED.flatten(1), "double": QUANTIZED.double(),
}  # fmt: skip


def adapted(states: Tensor, controls: Tensor, mask: Tensor) -> Any:
    return ADAPTER.infer_actions(states, controls, mask, WORLD.quantizer)


CALLS: dict[str, Callable[[], Any]] = {}
for name, bad in BAD_IMAGES.items():
    CALLS[f"encode {name}"] = lambda bad=bad: MAE.encode(bad)
for name, bad in BAD_STATES.items():
    CALLS[f"decode {name}"] = lambda bad=bad: MAE.decode(bad)
    CALLS[f"infer from {name}"] = lambda bad=bad: WORLD.infer_actions(bad, STATES)
    CALLS[f"infer to {name}"] = lambda bad=bad: WORLD.infer_actions(STATES, bad)
    CALLS[f"predict from {name}"] = lambda bad=bad: WORLD.predict(bad, QUANTIZED)
    CALLS[f"roll out from {name}"] = lambda bad=bad: WORLD.rollout(bad, QUANTIZED[:, None])
    CALLS[f"adapter from {name}"] = lambda bad=bad: ADAPTER.infer_actions(
        bad, CONTROLS, MASK, WORLD.quantizer
    )
for name, bad in BAD_ACTIONS.items():
    CALLS[f"predict by {name}"] = lambda bad=bad: WORLD.predict(STATES, bad)
    CALLS[f"roll out by {name}"] = lambda bad=bad: WORLD.rollout(STATES, bad[:, None])
CALLS |= {
    "infer batch 2 against 1": lambda: WORLD.infer_actions(STATES, STATES[:1]),
    "infer batch 1 against 2": lambda: WORLD.infer_actions(STATES[:1], STATES),
    "roll out without steps": lambda: WORLD.rollout(STATES, QUANTIZED),
    "roll out by no step": lambda: WORLD.rollout(STATES, QUANTIZED[:, None][:, :0]),
    "quantise nothing": lambda: WORLD.quantizer(None),
    "quantise another width": lambda: WORLD.quantizer(QUANTIZED[..., :5]),
    "quantise one sample": lambda: WORLD.quantizer(QUANTIZED[0]),
    "adapter without mask": lambda: ADAPTER.infer_actions(STATES, CONTROLS, None, WORLD.quantizer),
    "adapter of arrays": lambda: ADAPTER.infer_actions(STATES, CONTROLS.numpy(), MASK, WORLD.quantizer),
    "quantise ints": lambda: WORLD.quantizer(QUANTIZED.long()),
    "quantise NaN": lambda: WORLD.quantizer(spoilt(QUANTIZED, NAN)),
    "compare with nothing": lambda: load_lpips("random")(IMAGES, None),
    "compare arrays": lambda: psnr(IMAGES.numpy(), IMAGES.numpy()),
    "adapter NaN": lambda: ADAPTER.infer_actions(STATES, spoilt(CONTROLS, NAN), MASK, WORLD.quantizer),
    "adapter too many": lambda: ADAPTER.infer_actions(
        STATES, CONTROLS.repeat(1, 2, 1), MASK.repeat(1, 2), WORLD.quantizer
    ),
    "adapter other mask": lambda: ADAPTER.infer_actions(STATES, CONTROLS, MASK[:, :2], WORLD.quantizer),
    "adapter float mask": lambda: ADAPTER.infer_actions(STATES, CONTROLS, MASK.float(), WORLD.quantizer),
    "adapter six numbers": lambda: ADAPTER.infer_actions(STATES, CONTROLS[..., :6], MASK, WORLD.quantizer),
    "adapter one of two": lambda: ADAPTER.infer_actions(STATES, CONTROLS[:1], MASK[:1], WORLD.quantizer),
}

BAD_LATENTS = {
    "NaN": spoilt(QUANTIZED, NAN), "infinite": spoilt(QUANTIZED, INF), "ints": QUANTIZED.long(),
    "narrow": QUANTIZED[..., :5], "an array": QUANTIZED.numpy(), "nothing": None,
    "sparse": QUANTIZED.to_sparse(),
}  # fmt: skip
for name, bad in BAD_LATENTS.items():
    CALLS[f"codes of {name}"] = lambda bad=bad: WORLD.quantizer.encode(bad)
    CALLS[f"actions of {name}"] = lambda bad=bad: WORLD.quantizer.infer(bad)

for bad in (torch.tensor([-1]), torch.tensor([10**9]), torch.tensor([0.0]), None, torch.tensor([True])):
    CALLS[f"look up {bad}"] = lambda bad=bad: WORLD.quantizer.lookup(bad)


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_tensor_is_a_value_error_of_one_line(call: str) -> None:
    with pytest.raises(ValueError) as caught, torch.no_grad():
        CALLS[call]()
    assert "\n" not in str(caught.value)


def test_right_tensors_pass_and_what_the_mask_hides_is_not_read() -> None:
    with torch.no_grad():
        MAE.decode(MAE.encode(IMAGES.half().float()))
        assert torch.equal(MAE.encode(IMAGES.double()), MAE.encode(IMAGES))
        MAE.encode(IMAGES + 1e-4)  # rounding
        assert len(WORLD.rollout(STATES, torch.stack([QUANTIZED, QUANTIZED], 1))[0]) == 2
        hidden, mask = spoilt(CONTROLS, NAN), MASK.clone()
        mask[-1, -1] = False
        assert torch.isfinite(ADAPTER.infer_actions(STATES, hidden, mask, WORLD.quantizer).quantized).all()
        with shapes_alone():
            MAE.encode(255 * IMAGES)


@pytest.mark.parametrize("shape", [(2, 3, 64, 48), (2, 3, 32, 32), (3, 3, 64, 64), (1, 3, 64, 64)])
def test_lpips_of_different_sizes_is_an_error(shape: tuple[int, ...]) -> None:
    network, other = load_lpips("random"), torch.rand(shape)
    for compare in (
        network,
        network.loss,
        lambda a, b: network.distance(network.features(a), network.features(b)),
    ):
        with pytest.raises(ValueError, match="of one shape"):
            compare(IMAGES, other)
    assert network(IMAGES, IMAGES).shape == (2,)
    assert psnr(IMAGES, IMAGES).shape == (2,)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    models = {"mae": MAE, "world": WORLD, "adapter": ADAPTER}
    for name, model in models.items():
        model.save(folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in models}


LOADERS: dict[str, Any] = {"mae": MaskedAutoencoder, "world": WorldModel, "adapter": ActionAdapter}


def rewritten(path: Path, change: Callable[[dict[str, Tensor], dict[str, Any]], Any]) -> None:
    tensors, about = load_file(path), read_metadata(path)
    change(tensors, about)
    save_file(tensors, path, metadata={METADATA_KEY: json.dumps(about)})


def first(tensors: dict[str, Tensor]) -> str:
    return next(key for key in sorted(tensors) if tensors[key].ndim == 2)


def huge(tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """A configuration of petabytes."""
    for config in (about["config"], *(v for v in about["config"].values() if isinstance(v, dict))):
        for key in config:
            if key in ("encoder_width", "codes", "num_action_tokens"):
                config[key] = 4_000_000_000


def deep(tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    for config in (about["config"], *(v for v in about["config"].values() if isinstance(v, dict))):
        for key in config:
            if key.endswith("depth"):
                config[key] = 1_000_000_000


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda p: p.write_bytes(b""),
    "cut": lambda p: p.write_bytes(p.read_bytes()[:-100]),
    "cut header": lambda p: p.write_bytes(p.read_bytes()[:20]),
    "text": lambda p: p.write_text("version https://git-lfs.github.com/spec/v1"),
    "zeros": lambda p: p.write_bytes(bytes(1000)),
    "huge header": lambda p: p.write_bytes(b"\xff" * 8 + p.read_bytes()[8:]),
    "no metadata": lambda p: save_file(load_file(p), p),
    "metadata no object": lambda p: save_file(load_file(p), p, metadata={METADATA_KEY: "[1]"}),
    "no config": lambda p: rewritten(p, lambda t, a: a.pop("config")),
    "config null": lambda p: rewritten(p, lambda t, a: a.update(config=None)),
    "config of text": lambda p: rewritten(p, lambda t, a: a.update(config="large")),
    "unknown field": lambda p: rewritten(p, lambda t, a: a["config"].update(colour="red")),
    "huge config": lambda p: rewritten(p, huge),
    "deep config": lambda p: rewritten(p, deep),
    "NaN": lambda p: rewritten(p, lambda t, a: t[first(t)].fill_(NAN)),
    "infinite": lambda p: rewritten(p, lambda t, a: t[first(t)].fill_(INF)),
    "a tensor less": lambda p: rewritten(p, lambda t, a: t.pop(first(t))),
    "a tensor more": lambda p: rewritten(p, lambda t, a: t.update(more=torch.zeros(1))),
    "another shape": lambda p: rewritten(p, lambda t, a: t.update({first(t): torch.zeros(3, 3)})),
    "another class": lambda p: rewritten(p, lambda t, a: a.update({"class": "Painter"})),
    "gone": lambda p: p.unlink(),
    "a folder": lambda p: (p.unlink(), p.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", LOADERS)
def test_a_damaged_file_is_one_line_that_names_it(
    name: str, damage: str, files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(files[name].read_bytes())
    DAMAGES[damage](path)
    with pytest.raises(UserError) as caught:
        LOADERS[name].load(path)
    assert "weights.safetensors" in str(caught.value) or str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LOADERS)
def test_a_whole_file_gives_the_same_model(name: str, files: dict[str, Path]) -> None:
    loaded, model = LOADERS[name].load(files[name]), {"mae": MAE, "world": WORLD, "adapter": ADAPTER}[name]
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())


def test_saving_obeys_the_umask_and_leaves_nothing_on_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o002)
    try:
        WORLD.save(tmp_path / "w.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "w.safetensors").stat().st_mode & 0o777 == 0o664
    whole = (tmp_path / "w.safetensors").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("uwm.models.storage.save_file", full)
    with pytest.raises(OSError, match="No space"):
        WORLD.save(tmp_path / "w.safetensors")
    assert [(path.name, path.read_bytes() == whole) for path in tmp_path.iterdir()] == [
        ("w.safetensors", True)
    ]


STORED = (MAE, WORLD, ADAPTER, FICC(FICCConfig(image_size=64)))


@pytest.mark.parametrize("model", STORED, ids=lambda model: type(model).__name__)
def test_saving_replaces_weights_of_ours_alone(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(2)}, tmp_path / "of others.safetensors", metadata={"format": "pt"})
    for content in (b"of mine\n", b"", (tmp_path / "of others.safetensors").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"w\.safetensors is there already") as caught:
            model.save(path)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == content
    for place in (tmp_path, Path(os.devnull), None, 3, "a\0b"):
        with pytest.raises(UserError) as caught:
            model.save(place)
        assert "\n" not in str(caught.value)
    path.unlink()
    model.save(path)
    whole = path.read_bytes()
    model.save(path)
    assert path.read_bytes() == whole
