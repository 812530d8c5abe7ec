"""Checkpoints: FAIR's layout, Hugging Face's, our own; each against HF's own forward."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models.mae_files import CONFIG, to_hub_names, write_hub
from uwm.errors import UserError
from uwm.models.mae import MaskedAutoencoder
from uwm.models.storage import read_metadata

pytestmark = pytest.mark.filterwarnings("ignore:.* are assumed")


class Reference:
    """HF's own ViTMAE with the same weights, fed with ImageNet-normalised pixels."""

    def __init__(self, folder: Path) -> None:
        transformers = pytest.importorskip("transformers")
        self.model = transformers.ViTMAEForPreTraining.from_pretrained(folder).eval()
        self.mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        self.std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

    @torch.no_grad()
    def __call__(self, images: Tensor, noise: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor, Tensor]:
        """States (B, 1 + M, D), predictions (B, N, P*P*3), loss."""
        self.model.config.mask_ratio = self.model.vit.embeddings.config.mask_ratio = mask_ratio
        pixels = (images - self.mean) / self.std
        out = self.model(pixels, noise=noise)
        return self.model.vit(pixels, noise=noise).last_hidden_state, out.logits, out.loss

    def show(self, prediction: Tensor) -> Tensor:
        return (self.model.unpatchify(prediction) * self.std + self.mean).clamp(0, 1)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(5))


RASTER = torch.linspace(0, 1, 9).expand(2, 9)  # ascending noise: HF then shuffles nothing


def close(a: Tensor, b: Tensor) -> None:
    assert torch.allclose(a, b, atol=1e-5, rtol=0), (a - b).abs().max()


@torch.no_grad()
def agree(mae: MaskedAutoencoder, reference: Reference, images: Tensor) -> None:
    states, prediction, _ = reference(images, RASTER, 0.0)
    close(mae.encode(images), states)
    close(mae.decode(mae.encode(images)), reference.show(prediction))


def test_hub_folder_agrees_with_hf(tmp_path: Path, fair: dict[str, Tensor], images: Tensor) -> None:
    folder = write_hub(tmp_path / "hub", to_hub_names(fair))
    mae = MaskedAutoencoder.load(folder)
    assert mae.config == replace(CONFIG, layer_norm_eps=1e-12)
    assert not mae.training
    agree(mae, Reference(folder), images)


def test_fair_file_agrees_with_hf(tmp_path: Path, fair: dict[str, Tensor], images: Tensor) -> None:
    file = tmp_path / "mae_visualize_vit_base.pth"
    torch.save({"model": fair, "args": argparse.Namespace(norm_pix_loss=False, lr=0.1), "epoch": 3}, file)
    mae = MaskedAutoencoder.load(str(file))
    assert mae.config == CONFIG
    hub = write_hub(tmp_path / "hub", to_hub_names(fair), layer_norm_eps=1e-6)  # FAIR's
    agree(mae, Reference(hub), images)


def test_folder_of_the_installed_transformers_agrees(
    tmp_path: Path, fair: dict[str, Tensor], images: Tensor
) -> None:
    """`save_pretrained` of transformers 5 renames the decoder's layers."""
    reference = Reference(write_hub(tmp_path / "hub", to_hub_names(fair)))
    reference.model.save_pretrained(tmp_path / "saved")
    agree(MaskedAutoencoder.load(tmp_path / "saved"), reference, images)
    agree(MaskedAutoencoder.load(tmp_path / "saved" / "model.safetensors"), reference, images)


def test_names_inside_transformers_5_are_read(
    tmp_path: Path, fair: dict[str, Tensor], images: Tensor
) -> None:
    reference = Reference(write_hub(tmp_path / "hub", to_hub_names(fair)))
    state = {name: tensor.clone() for name, tensor in reference.model.state_dict().items()}
    agree(MaskedAutoencoder.load(write_hub(tmp_path / "inside", state)), reference, images)


def test_hf_pickle_is_read(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    folder = write_hub(tmp_path / "hub", to_hub_names(fair))
    expected = MaskedAutoencoder.load(folder).state_dict()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    read = MaskedAutoencoder.load(folder).state_dict()
    assert all(torch.equal(read[name], expected[name]) for name in expected)


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_masked_loss_agrees_with_hf(
    tmp_path: Path, fair: dict[str, Tensor], images: Tensor, norm_pix_loss: bool
) -> None:
    folder = write_hub(tmp_path / "hub", to_hub_names(fair), norm_pix_loss=norm_pix_loss)
    noise = torch.rand(2, 9, generator=torch.Generator().manual_seed(1))
    _, prediction, loss = Reference(folder)(images, noise, 0.75)
    mae = MaskedAutoencoder.load(folder)
    assert mae.config.norm_pix_loss is norm_pix_loss
    with torch.no_grad():
        out = mae(images, 0.75, noise=noise)
    close(out.prediction, prediction)
    assert out.loss.item() == pytest.approx(loss.item(), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments", "argument", "expected"),
    [
        ("mae_visualize_vit_large_ganloss.pth", None, None, False),
        ("mae_pretrain_vit_base_full.pth", None, None, True),
        ("mae_pretrain_vit_base_full.pth", None, False, False),
        ("checkpoint-799.pth", argparse.Namespace(norm_pix_loss=True), None, True),
        ("pretrain_full.pth", argparse.Namespace(norm_pix_loss=False), None, False),  # content before name
        ("sthv2_visualize.pth", argparse.Namespace(norm_pix_loss=True), None, True),
        ("mae_visualize_vit_base.pth", argparse.Namespace(lr=0.1), None, False),
        ("checkpoint-799.pth", None, True, True),
    ],
)
def test_norm_pix_loss_of_fair_files(
    tmp_path: Path,
    fair: dict[str, Tensor],
    name: str,
    arguments: argparse.Namespace | None,
    argument: bool | None,
    expected: bool,
) -> None:
    torch.save({"model": fair} | ({"args": arguments} if arguments else {}), tmp_path / name)
    mae = MaskedAutoencoder.load(tmp_path / name, norm_pix_loss=argument)
    assert mae.config.norm_pix_loss is expected


def test_own_file_round_trip(tmp_path: Path) -> None:
    mae = MaskedAutoencoder(replace(CONFIG, norm_pix_loss=True), seed=4)
    mae.save(tmp_path / "new" / "mae.safetensors", card={"steps": 3})
    read = MaskedAutoencoder.load(tmp_path / "new" / "mae.safetensors")
    assert read.config == mae.config
    assert all(
        torch.equal(a, b) for a, b in zip(read.state_dict().values(), mae.state_dict().values(), strict=True)
    )
    assert read_metadata(tmp_path / "new" / "mae.safetensors")["card"] == {"steps": 3}
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["mae.safetensors"]


def test_float16_storage_is_read_as_float32(tmp_path: Path, images: Tensor) -> None:
    mae = MaskedAutoencoder(CONFIG, seed=4).eval()
    mae.save(tmp_path / "full.safetensors")
    mae.save(tmp_path / "half.safetensors", torch.float16)
    read = MaskedAutoencoder.load(tmp_path / "half.safetensors")
    assert {p.dtype for p in read.state_dict().values()} == {torch.float32}
    with torch.no_grad():
        assert torch.allclose(read.encode(images), mae.encode(images), atol=0.02)
    sizes = [(tmp_path / f"{kind}.safetensors").stat().st_size for kind in ("half", "full")]
    assert sizes[0] < 0.52 * sizes[1]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "mae.safetensors"
    MaskedAutoencoder(CONFIG).save(file)
    old = file.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        MaskedAutoencoder(CONFIG).save(file, card={"loss": float("nan")})
    assert file.read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1


WRAPPED = {
    "state_dict": lambda fair: {"state_dict": fair, "epoch": 3},
    "model_state_dict": lambda fair: {"model_state_dict": fair, "step": torch.tensor(3)},
    "ema": lambda fair: {"model_ema": fair},
    "nested": lambda fair: {"model": {"state_dict": fair}},
    "ddp": lambda fair: {"model": {f"module.{name}": t for name, t in fair.items()}},
    "compiled": lambda fair: {"model": {f"_orig_mod.{name}": t for name, t in fair.items()}},
    "compiled ddp": lambda fair: {"model": {f"module._orig_mod.{name}": t for name, t in fair.items()}},
    "lightning": lambda fair: {
        "state_dict": {f"model.{name}": t for name, t in fair.items()} | {"loss.scale": torch.zeros(1)},
        "hyper_parameters": {"norm_pix_loss": False},
    },
    "bare": lambda fair: {**fair, "epoch": 3},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_of_trainers_are_undone(tmp_path: Path, fair: dict[str, Tensor], kind: str) -> None:
    torch.save(WRAPPED[kind](fair), tmp_path / "checkpoint.ckpt")
    told = None if kind == "lightning" else False
    read = MaskedAutoencoder.load(tmp_path / "checkpoint.ckpt", norm_pix_loss=told).state_dict()
    assert all(torch.equal(read[name], tensor) for name, tensor in fair.items())


def test_wrapped_safetensors_are_read(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    save_file({f"module.{name}": t for name, t in fair.items()}, tmp_path / "mae_visualize.safetensors")
    read = MaskedAutoencoder.load(tmp_path / "mae_visualize.safetensors").state_dict()
    assert all(torch.equal(read[name], tensor) for name, tensor in fair.items())


@pytest.mark.parametrize("safe", [True, False])
def test_sharded_folder_of_the_hub(tmp_path: Path, fair: dict[str, Tensor], safe: bool) -> None:
    folder = write_hub(tmp_path / "hub", to_hub_names(fair))
    expected = MaskedAutoencoder.load(folder).state_dict()
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    kind = "model-{}-of-2.safetensors" if safe else "pytorch_model-{}-of-2.bin"
    where = {name: kind.format(1 + place % 2) for place, name in enumerate(sorted(tensors))}
    for shard in sorted(set(where.values())):
        part = {name: tensors[name] for name in where if where[name] == shard}
        save_file(part, folder / shard) if safe else torch.save(part, folder / shard)
    index = folder / ("model.safetensors.index.json" if safe else "pytorch_model.bin.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    read = MaskedAutoencoder.load(folder).state_dict()
    assert all(torch.equal(read[name], expected[name]) for name in expected)
    (folder / kind.format(2)).unlink()
    with pytest.raises(UserError, match=f"the shard {kind.format(2)} is not beside it"):
        MaskedAutoencoder.load(folder)
    index.write_text(json.dumps({"weight_map": {"x": "../../etc/passwd"}}))
    with pytest.raises(UserError, match="is not beside it"):
        MaskedAutoencoder.load(folder)


def test_hf_without_biases_of_query_key_and_value(
    tmp_path: Path, fair: dict[str, Tensor], images: Tensor
) -> None:
    hub = {
        n: t
        for n, t in to_hub_names(fair).items()
        if not n.endswith(("query.bias", "key.bias", "value.bias"))
    }
    folder = write_hub(tmp_path / "hub", hub, qkv_bias=False)
    agree(MaskedAutoencoder.load(folder), Reference(folder), images)


def test_hf_config_without_the_norms_epsilon(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    folder = write_hub(tmp_path / "hub", to_hub_names(fair))
    config = json.loads((folder / "config.json").read_text())
    del config["layer_norm_eps"]
    (folder / "config.json").write_text(json.dumps(config))
    assert MaskedAutoencoder.load(folder).config.layer_norm_eps == 1e-12
