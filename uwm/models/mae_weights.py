"""Reading MAE checkpoints: FAIR `.pth`, Hugging Face ViTMAE and this project's safetensors.

Every reader ends in the parameter names of `uwm.models.mae` (which are FAIR's) and a dict of config fields.
"""

import argparse
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from uwm.errors import UserError
from uwm.models.storage import parse_metadata

OWN_CLASS = "MaskedAutoencoder"  # "class" in the metadata of our own files, see `uwm.models.storage`
HF_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# A FAIR file doesn't say its heads: ViT-T/S/B/L/H have 64 channels a head (H: 80), the decoder 16 heads.
ENCODER_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}
DECODER_HEADS = {384: 6, 512: 16}  # 384: the ViT-S of the paper's authors
WANTED = (
    "load mae_visualize_vit_*.pth, mae_pretrain_vit_*_full.pth, a HF ViTMAE folder or a file of this project"
)

# HF layer names -> FAIR's; the first of each pair of alternatives is transformers < 5, also used on the hub.
_HF_BLOCK = re.compile(
    r"(?P<part>vit\.encoder\.layer|vit\.layers|decoder\.decoder_layers|decoder\.decoder_encoder\.layer)"
    r"\.(?P<index>\d+)\.(?P<rest>.+)\.(?P<kind>weight|bias)"
)
_HF_LAYERS = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "mlp.fc1": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.fc2": "mlp.fc2",
}
_HF_QKV = {
    f"attention.{name}": letter
    for letter, names in {
        "q": ("attention.query", "q_proj"),
        "k": ("attention.key", "k_proj"),
        "v": ("attention.value", "v_proj"),
    }.items()
    for name in names
}
_HF_OTHER = {
    "vit.embeddings.cls_token": "cls_token",
    "vit.embeddings.position_embeddings": "pos_embed",
    "vit.embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "vit.embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "vit.layernorm.weight": "norm.weight",
    "vit.layernorm.bias": "norm.bias",
    "decoder.mask_token": "mask_token",
    "decoder.decoder_pos_embed": "decoder_pos_embed",
    **{
        f"decoder.decoder_{layer}.{kind}": f"decoder_{layer}.{kind}"
        for layer in ("embed", "norm", "pred")
        for kind in ("weight", "bias")
    },
}


def read_checkpoint(
    path: Path, norm_pix_loss: bool | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config fields of `MAEConfig` and float32 tensors under its parameter names, from any known file.

    Raises `UserError` for what holds no MAE with a decoder.
    """
    file = _weights_file(path)
    tensors, metadata, arguments = _read_file(file)
    fields: Any
    if metadata.get("class") == OWN_CLASS:
        fields = metadata.get("config")
        if not isinstance(fields, dict):
            raise UserError(f"{path}: its metadata hold no MAE configuration: {WANTED}")
    elif any(name.startswith(("vit.", "embeddings.")) for name in tensors):
        _refuse_encoder_only(path, any(name.startswith("decoder.") for name in tensors))
        config = _read_json(file.with_name("config.json"))
        tensors = _from_hf(tensors)
        fields = _hf_fields(path, config, tensors)
    elif "patch_embed.proj.weight" in tensors:
        _refuse_encoder_only(path, any(name.startswith("decoder_") for name in tensors))
        fields = _fair_fields(path, tensors)
        if norm_pix_loss is None:
            norm_pix_loss = _fair_norm_pix_loss(path, arguments)
    else:
        raise UserError(f"{path}: no MAE checkpoint (no patch embedding in it): {WANTED}")
    if norm_pix_loss is not None:
        fields["norm_pix_loss"] = norm_pix_loss
    return fields, {name: tensor.float() for name, tensor in tensors.items()}


def check_tensors(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise `UserError` naming missing and unknown keys and wrong shapes."""
    if missing := expected.keys() - tensors.keys():
        raise UserError(f"{path}: the MAE checkpoint lacks {_some(missing)}: {WANTED}")
    if unknown := tensors.keys() - expected.keys():
        raise UserError(f"{path}: the MAE checkpoint holds unknown {_some(unknown)}: {WANTED}")
    wrong = [name for name, tensor in expected.items() if tensors[name].shape != tensor.shape]
    if wrong:
        name = wrong[0]
        raise UserError(
            f"{path}: {name} has shape {tuple(tensors[name].shape)} where its configuration asks for "
            f"{tuple(expected[name].shape)} ({len(wrong)} such tensors): {WANTED}"
        )


def _weights_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: no such MAE checkpoint: {WANTED}")
    for name in HF_WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise UserError(f"{path}: the folder holds neither {HF_WEIGHTS[0]} nor {HF_WEIGHTS[1]}: {WANTED}")


def _read_file(file: Path) -> tuple[dict[str, Tensor], dict[str, Any], argparse.Namespace | None]:
    """Tensors, what our own files say of themselves, and the training arguments that FAIR keeps."""
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="pt") as opened:
                names = opened.keys()  # no dict: the handle itself can't be iterated
                tensors = dict(zip(names, map(opened.get_tensor, names), strict=True))
                return tensors, parse_metadata(file, opened.metadata()), None
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: not a readable safetensors file ({_one_line(error)})") from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no common base for what a foreign file can cause
        raise UserError(
            f"{file}: not a checkpoint that can be read safely ({_one_line(error)}): {WANTED}"
        ) from error
    arguments = content.get("args") if isinstance(content, dict) else None
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{file}: holds no state dict of tensors: {WANTED}")
    return dict(state), {}, arguments if isinstance(arguments, argparse.Namespace) else None


def _refuse_encoder_only(path: Path, has_decoder: bool) -> None:
    if not has_decoder:
        raise UserError(f"{path}: holds only the MAE's encoder, no decoder to show states with: {WANTED}")


def _fair_fields(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    fields = _shape_fields(path, tensors)
    for part, known in (("encoder", ENCODER_HEADS), ("decoder", DECODER_HEADS)):
        width = fields[f"{part}_width"]
        if width not in known:
            raise UserError(f"{path}: unknown number of heads for a {part} {width} wide: {WANTED}")
        fields[f"{part}_heads"] = known[width]
    return fields


def _fair_norm_pix_loss(path: Path, arguments: argparse.Namespace | None) -> bool:
    """Released names first (mae_visualize_*: plain pixels; *_full: normalised), then the file's arguments."""
    if "visualize" in path.name:
        return False
    if path.stem.endswith("_full"):
        return True
    if isinstance(known := getattr(arguments, "norm_pix_loss", None), bool):
        return known
    raise UserError(
        f"{path}: neither name nor content says whether it was trained on normalised pixels: "
        "pass norm_pix_loss=True or False, or keep the released name"
    )


def _shape_fields(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Sizes that the tensors' shapes tell."""
    try:
        width, _, patch, _ = tensors["patch_embed.proj.weight"].shape
        patches = tensors["pos_embed"].shape[1] - 1
        hidden = tensors["blocks.0.mlp.fc1.weight"].shape[0]
        decoder_width = tensors["decoder_embed.weight"].shape[0]
    except KeyError as error:
        raise UserError(f"{path}: the MAE checkpoint lacks {error.args[0]}: {WANTED}") from error
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: tensors of wrong rank for an MAE ({_one_line(error)}): {WANTED}") from error
    return {
        "image_size": math.isqrt(patches) * patch,
        "patch_size": patch,
        "encoder_width": width,
        "encoder_depth": _depth(tensors, "blocks"),
        "decoder_width": decoder_width,
        "decoder_depth": _depth(tensors, "decoder_blocks"),
        "mlp_ratio": hidden / width,
    }


def _depth(tensors: Iterable[str], part: str) -> int:
    indices = [int(name.split(".")[1]) for name in tensors if re.match(rf"{part}\.\d+\.", name)]
    return max(indices, default=-1) + 1


def _hf_fields(path: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    if config.get("model_type") != "vit_mae" or config.get("hidden_act", "gelu") != "gelu":
        raise UserError(f"{path}: its config.json describes no ViTMAE with GELU: {WANTED}")
    try:
        return _shape_fields(path, tensors) | {
            "encoder_heads": config["num_attention_heads"],
            "decoder_heads": config["decoder_num_attention_heads"],
            "layer_norm_eps": config["layer_norm_eps"],
            "norm_pix_loss": config.get("norm_pix_loss", False),  # False: default of ViTMAEConfig
        }
    except KeyError as error:
        raise UserError(f"{path}: its config.json lacks {error.args[0]}: {WANTED}") from error


def _from_hf(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """HF names -> ours, with query, key and value joined; unknown names stay, to be refused by name."""
    renamed: dict[str, Tensor] = {}
    joined: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if not (match := _HF_BLOCK.fullmatch(name)):
            renamed[_HF_OTHER.get(name, name)] = tensor
            continue
        part = "decoder_blocks" if match["part"].startswith("decoder") else "blocks"
        block, rest, kind = f"{part}.{match['index']}", match["rest"], match["kind"]
        if rest in _HF_QKV:
            joined.setdefault(f"{block}.attn.qkv.{kind}", {})[_HF_QKV[rest]] = tensor
        else:
            renamed[f"{block}.{_HF_LAYERS[rest]}.{kind}" if rest in _HF_LAYERS else name] = tensor
    for name, parts in joined.items():
        renamed[name] = torch.cat([parts[letter] for letter in "qkv" if letter in parts])
    return renamed


def _read_json(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: HF weights need config.json beside them ({_one_line(error)})") from error
    return _json_object(text, file, "content")


def _json_object(text: str, file: Path, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{file}: its {what} is no JSON ({_one_line(error)}): fetch the file again"
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: its {what} is no JSON object: fetch the file again")
    return value


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more keys" if len(names) > 3 else "")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
