"""Checkpoints: FAIR's layout, Hugging Face's, our own; each against HF's own forward; the refusals."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from uwm.errors import UserError
from uwm.models.mae import MAEConfig, MaskedAutoencoder
from uwm.models.storage import read_metadata

pytestmark = pytest.mark.filterwarnings("ignore:.* are assumed")

# Widths whose heads are assumed (192: 3, 384: 6), since a FAIR file does not tell its heads.
CONFIG = MAEConfig(
    image_size=24,
    patch_size=8,
    encoder_width=192,
    encoder_depth=2,
    encoder_heads=3,
    decoder_width=384,
    decoder_depth=1,
    decoder_heads=6,
    mlp_ratio=2.0,
)
LAYERS = {  # FAIR's name of a layer -> HF's, as the hub's ViTMAE files have it
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
TOP = {
    "cls_token": "vit.embeddings.cls_token",
    "pos_embed": "vit.embeddings.position_embeddings",
    "patch_embed.proj.weight": "vit.embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "vit.embeddings.patch_embeddings.projection.bias",
    "norm.weight": "vit.layernorm.weight",
    "norm.bias": "vit.layernorm.bias",
    "mask_token": "decoder.mask_token",
    "decoder_pos_embed": "decoder.decoder_pos_embed",
    "decoder_embed.weight": "decoder.decoder_embed.weight",
    "decoder_embed.bias": "decoder.decoder_embed.bias",
    "decoder_norm.weight": "decoder.decoder_norm.weight",
    "decoder_norm.bias": "decoder.decoder_norm.bias",
    "decoder_pred.weight": "decoder.decoder_pred.weight",
    "decoder_pred.bias": "decoder.decoder_pred.bias",
}


def to_hub_names(fair: dict[str, Tensor]) -> dict[str, Tensor]:
    """FAIR's names -> those of the ViTMAE files on the hub, written out independently of the reader."""
    hub = {TOP[name]: tensor for name, tensor in fair.items() if name in TOP}
    for fair_part, hub_part in (
        ("blocks", "vit.encoder.layer"),
        ("decoder_blocks", "decoder.decoder_layers"),
    ):
        for name, tensor in fair.items():
            if not name.startswith(f"{fair_part}."):
                continue
            _, index, layer, kind = (
                name.split(".", 2)[0],
                name.split(".")[1],
                *name.split(".", 2)[2].rsplit(".", 1),
            )
            if layer == "attn.qkv":
                for which, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    hub[f"{hub_part}.{index}.attention.attention.{which}.{kind}"] = part.clone()
            else:
                hub[f"{hub_part}.{index}.{LAYERS[layer]}.{kind}"] = tensor
    return hub


def random_fair() -> dict[str, Tensor]:
    """Random tensors under the key names of FAIR's files; nothing is zero or one, positions included."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 192),
        "pos_embed": (1, 10, 192),
        "patch_embed.proj.weight": (192, 3, 8, 8),
        "patch_embed.proj.bias": (192,),
        "mask_token": (1, 1, 384),
        "decoder_pos_embed": (1, 10, 384),
        "decoder_embed.weight": (384, 192),
        "decoder_embed.bias": (384,),
        "decoder_pred.weight": (192, 384),
        "decoder_pred.bias": (192,),
    }
    for blocks, norm, depth, width in (
        ("blocks", "norm", 2, 192),
        ("decoder_blocks", "decoder_norm", 1, 384),
    ):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
        for i in range(depth):
            for layer, shape in {
                "norm1": (width,),
                "attn.qkv": (3 * width, width),
                "attn.proj": (width, width),
                "norm2": (width,),
                "mlp.fc1": (2 * width, width),
                "mlp.fc2": (width, 2 * width),
            }.items():
                shapes[f"{blocks}.{i}.{layer}.weight"] = shape
                shapes[f"{blocks}.{i}.{layer}.bias"] = shape[:1]
    generator = torch.Generator().manual_seed(0)
    tensors = {name: 0.05 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {n: t + 1 if "norm" in n and n.endswith("weight") else t for n, t in tensors.items()}


@pytest.fixture(scope="module")
def fair() -> dict[str, Tensor]:
    return random_fair()


def write_hub(
    folder: Path, tensors: dict[str, Tensor], *, norm_pix_loss: bool = False, **changes: object
) -> Path:
    """A ViTMAE folder as the hub has it (before transformers 5)."""
    folder.mkdir(exist_ok=True)
    config = {
        "architectures": ["ViTMAEForPreTraining"],
        "model_type": "vit_mae",
        "hidden_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 384,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "image_size": 24,
        "patch_size": 8,
        "num_channels": 3,
        "qkv_bias": True,
        "decoder_hidden_size": 384,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 6,
        "decoder_intermediate_size": 768,
        "mask_ratio": 0.75,
        "norm_pix_loss": norm_pix_loss,
    }
    (folder / "config.json").write_text(json.dumps(config | changes))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


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


def refused(path: Path, *parts: str, norm_pix_loss: bool | None = None) -> None:
    with pytest.raises(UserError) as caught:
        MaskedAutoencoder.load(path, norm_pix_loss=norm_pix_loss)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert all(part in message for part in parts), message


def save_fair(path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save({"model": tensors}, path)
    return path


def test_encoder_only_files_are_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    encoder = {n: t for n, t in fair.items() if not n.startswith(("decoder", "mask"))}
    refused(save_fair(tmp_path / "mae_pretrain_vit_base.pth", encoder), "encoder", "mae_visualize")
    hub = {n: t for n, t in to_hub_names(fair).items() if n.startswith("vit.")}
    refused(write_hub(tmp_path / "hub", hub), "encoder")
    bare = {n.removeprefix("vit."): t for n, t in hub.items()}  # ViTMAEModel.save_pretrained
    refused(write_hub(tmp_path / "bare", bare), "encoder")


def test_missing_unknown_and_misshapen_tensors_are_named(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    file = tmp_path / "mae_visualize_vit_base.pth"
    lacking = {n: t for n, t in fair.items() if n != "blocks.1.norm2.bias"}
    refused(save_fair(file, lacking), "lacks blocks.1.norm2.bias")
    refused(save_fair(file, {n: t for n, t in fair.items() if n != "pos_embed"}), "lacks pos_embed")
    refused(save_fair(file, fair | {"head.weight": torch.zeros(2)}), "unknown head.weight")
    wrong = fair | {"blocks.1.attn.qkv.weight": torch.zeros(7, 192)}
    refused(save_fair(file, wrong), "blocks.1.attn.qkv.weight", "(7, 192)", "(576, 192)")
    refused(save_fair(file, fair | {"patch_embed.proj.weight": torch.zeros(192)}), "rank")
    refused(save_fair(file, fair | {"pos_embed": torch.zeros(1, 12, 192)}), "pos_embed", "(1, 12, 192)")


def test_unknown_hf_tensors_are_named(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    hub = to_hub_names(fair)
    refused(write_hub(tmp_path / "a", hub | {"vit.pooler.bias": torch.zeros(2)}), "unknown vit.pooler.bias")
    name = "vit.encoder.layer.0.attention.attention.key.bias"
    hub.pop(name)
    refused(write_hub(tmp_path / "b", hub), "blocks.0.attn.qkv.bias", "(384,)")


def test_unknown_widths_are_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    wide = fair | {"patch_embed.proj.weight": torch.zeros(200, 3, 8, 8)}
    refused(save_fair(tmp_path / "mae_visualize_x.pth", wide), "heads", "200")


def test_fair_file_of_unknown_loss_is_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    refused(save_fair(tmp_path / "checkpoint-799.pth", fair), "norm_pix_loss=True or False")


def test_hf_without_a_usable_config_is_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    folder = write_hub(tmp_path / "hub", to_hub_names(fair), model_type="vit")
    refused(folder, "ViTMAE")
    for text in ("{", "[]"):
        (folder / "config.json").write_text(text)
        with pytest.raises(UserError, match=r"config\.json.*JSON"):
            MaskedAutoencoder.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"need config\.json"):
        MaskedAutoencoder.load(folder)
    write_hub(folder, to_hub_names(fair), num_attention_heads=5)
    refused(folder, "configuration", "encoder_heads 5")


class Payload:
    """A pickle that would run code were it loaded carelessly."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


def test_files_that_are_no_checkpoints_are_refused(
    tmp_path: Path, fair: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    refused(tmp_path / "absent.pth", "no such")
    refused(tmp_path, "model.safetensors")
    for name, content in (
        ("text.pth", b"hello\nworld"),
        ("empty.pth", b""),
        ("text.safetensors", b"hello\nyou"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name)
    torch.save({"model": Payload()}, tmp_path / "evil.pth")
    refused(tmp_path / "evil.pth", "safely")
    assert "executed" not in capsys.readouterr().out
    torch.save([1, 2], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "state dict")
    refused(save_fair(tmp_path / "other.pth", {"fc.weight": torch.zeros(2)}), "no MAE checkpoint")


def test_truncated_files_are_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    whole = save_fair(tmp_path / "mae_visualize_whole.pth", fair).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.pth")
    MaskedAutoencoder(CONFIG).save(tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-100])
    refused(tmp_path / "cut.safetensors")


def test_own_file_of_another_version_is_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    file = tmp_path / "mae.safetensors"
    for config in ({"image_sizes": 3}, {"image_size": 20}):
        about = {"class": "MaskedAutoencoder", "config": config}
        save_file(fair, file, {"uwm": json.dumps(about)})
        refused(file, "config")
    for text in ("{", "[]"):
        save_file(fair, file, {"uwm": text})
        refused(file, "metadata")


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


def test_a_refusal_names_the_keys_that_it_saw(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    torch.save({"weights": fair, "epoch": 3}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "keys epoch, weights")
    torch.save({"model": {"backbone.fc.weight": torch.zeros(2)}}, tmp_path / "b.pth")
    refused(tmp_path / "b.pth", "backbone.fc.weight")


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


def test_heads_by_argument_or_with_a_warning(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    file = save_fair(tmp_path / "mae_visualize.pth", fair)
    with pytest.warns(UserWarning, match=r"heads of its (encoder|decoder), \d+ wide: \d are assumed"):
        assert MaskedAutoencoder.load(file).config.encoder_heads == 3
    told = MaskedAutoencoder.load(file, encoder_heads=12, decoder_heads=16).config
    assert (told.encoder_heads, told.decoder_heads) == (12, 16)
    wide = fair | {"decoder_embed.weight": torch.zeros(400, 192)}
    refused(save_fair(tmp_path / "mae_visualize_x.pth", wide), "decoder_heads=N")


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


def test_what_no_config_of_ours_can_say_is_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    narrow = {n: t[:384] if n.endswith("mlp.fc1.weight") and "decoder" in n else t for n, t in fair.items()}
    refused(save_fair(tmp_path / "mae_visualize_a.pth", narrow), "1 times as wide", "2 times")
    grey = fair | {"patch_embed.proj.weight": torch.zeros(192, 1, 8, 8)}
    refused(save_fair(tmp_path / "mae_visualize_b.pth", grey), "1 channels")
    broken = fair | {"norm.bias": torch.full((192,), float("nan"))}
    refused(save_fair(tmp_path / "mae_visualize_c.pth", broken), "norm.bias", "NaN or infinite")
