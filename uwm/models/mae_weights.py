"""Reading MAE checkpoints: FAIR `.pth`, Hugging Face ViTMAE and this project's safetensors.

Every reader ends in the parameter names of `uwm.models.mae` (which are FAIR's) and a dict of config fields.
"""

import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from uwm.errors import UserError
from uwm.models.mae_files import WANTED, read_config_json, read_stored, short_reason, some, weights_file
from uwm.models.storage import ConfigT, check_finite, shapes_of

Heads: TypeAlias = Mapping[str, int | None]  # of the "encoder" and the "decoder", for files that do not tell
Contents: TypeAlias = tuple[Any, dict[str, Tensor]]  # a configuration, and the tensors by name

OWN_CLASS = "MaskedAutoencoder"  # "class" in the metadata of our own files, see `uwm.models.storage`
# A FAIR file doesn't say its heads. Those of the published models: ViT-B/L/H, and the decoder of 512.
ENCODER_HEADS = {768: 12, 1024: 16, 1280: 16}
DECODER_HEADS = {512: 16}
# Of other widths they are assumed, with a warning: 64 channels a head, as ViT-T and ViT-S have (the decoder
# of 384 is that of the ViT-S of the paper's authors).
ASSUMED_HEADS = {"encoder": {192: 3, 384: 6}, "decoder": {384: 6}}
HF_LAYER_NORM_EPS = 1e-12  # ViTMAEConfig's own, where a config.json tells none

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


def read_published(
    path: Path, norm_pix_loss: bool | None = None, heads: Heads | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config fields of `MAEConfig` and float32 tensors under its parameter names, from any known file.

    `heads` gives those of the "encoder" and the "decoder" for files that do not. Raises `UserError` for what
    holds no MAE with a decoder.
    """
    stored = read_stored(path)
    tensors = stored.tensors
    fields: Any
    if stored.metadata.get("class") == OWN_CLASS:
        fields = stored.metadata.get("config")
        if not isinstance(fields, dict):
            raise UserError(f"{path}: its metadata hold no MAE configuration: {WANTED}")
    elif any(name.startswith(("vit.", "embeddings.")) for name in tensors):
        _refuse_encoder_only(path, any(name.startswith("decoder.") for name in tensors))
        config = read_config_json(weights_file(path).with_name("config.json"))
        tensors = _from_hf(tensors)
        fields = _hf_fields(path, config, tensors)
        tensors = _with_biases(tensors) if config.get("qkv_bias") is False else tensors
    elif "patch_embed.proj.weight" in tensors:
        _refuse_encoder_only(path, any(name.startswith("decoder_") for name in tensors))
        fields = _fair_fields(path, tensors, heads or {})
        if norm_pix_loss is None:
            norm_pix_loss = _fair_norm_pix_loss(path, stored.arguments)
    else:
        raise UserError(
            f"{path}: no MAE checkpoint (no patch embedding in it, but {some(tensors)}): {WANTED}"
        )
    if norm_pix_loss is not None:
        fields["norm_pix_loss"] = norm_pix_loss
    _check_decoder_ratio(path, tensors, fields)
    return fields, {name: tensor.float() for name, tensor in tensors.items()}


def read_checked(
    path: Path,
    norm_pix_loss: bool | None,
    heads: Heads,
    config_type: Callable[..., ConfigT],
    kind: Callable[[ConfigT], nn.Module],
) -> tuple[ConfigT, dict[str, Tensor]]:
    """As `read_published`, with the configuration itself, once the tensors are known to be those of a model
    of that `kind`; none is filled.

    Raises `UserError` also for no usable configuration, missing and unknown keys, wrong shapes, and what is
    not finite.
    """
    fields, tensors = read_published(path, norm_pix_loss, heads)
    try:
        config = config_type(**fields)
        expected = shapes_of(lambda: kind(config), tensors)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{path}: no usable MAE configuration ({error})") from error
    _compare(path, tensors, expected)
    check_finite(path, tensors)
    return config, tensors


def _compare(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    if missing := expected.keys() - tensors.keys():
        raise UserError(f"{path}: the MAE checkpoint lacks {some(missing)}: {WANTED}")
    if unknown := tensors.keys() - expected.keys():
        raise UserError(f"{path}: the MAE checkpoint holds unknown {some(unknown)}: {WANTED}")
    wrong = [name for name, tensor in expected.items() if tensors[name].shape != tensor.shape]
    if wrong:
        name = wrong[0]
        raise UserError(
            f"{path}: {name} has shape {tuple(tensors[name].shape)} where its configuration asks for "
            f"{tuple(expected[name].shape)} ({len(wrong)} such tensors): {WANTED}"
        )


def _refuse_encoder_only(path: Path, has_decoder: bool) -> None:
    if not has_decoder:
        raise UserError(f"{path}: holds only the MAE's encoder, no decoder to show states with: {WANTED}")


def _fair_fields(path: Path, tensors: Mapping[str, Tensor], heads: Heads) -> dict[str, Any]:
    fields = _shape_fields(path, tensors)
    for part in ("encoder", "decoder"):
        fields[f"{part}_heads"] = heads.get(part) or _fair_heads(path, part, fields[f"{part}_width"])
    return fields


def _fair_heads(path: Path, part: str, width: int) -> int:
    """The heads of a published width; those of others are assumed with a warning, or refused."""
    published = ENCODER_HEADS if part == "encoder" else DECODER_HEADS
    if width in published:
        return published[width]
    if width not in ASSUMED_HEADS[part]:
        raise UserError(
            f"{path}: unknown number of heads for a {part} {width} wide, which the file does not tell: "
            f"pass {part}_heads=N"
        )
    assumed = ASSUMED_HEADS[part][width]
    warnings.warn(
        f"{path}: the file does not tell the heads of its {part}, {width} wide: {assumed} are assumed; "
        f"pass {part}_heads=N if it was trained with others",
        stacklevel=2,
    )
    return assumed


def _fair_norm_pix_loss(path: Path, arguments: Mapping[str, Any]) -> bool:
    """The file's own arguments; else released names (mae_visualize_*: plain pixels; *_full: normalised)."""
    if isinstance(known := arguments.get("norm_pix_loss"), bool):
        return known
    if "visualize" in path.name:
        return False
    if path.stem.endswith("_full"):
        return True
    raise UserError(
        f"{path}: neither name nor content says whether it was trained on normalised pixels: "
        "pass norm_pix_loss=True or False, or keep the released name"
    )


def _shape_fields(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Sizes that the tensors' shapes tell."""
    try:
        width, channels, patch, _ = tensors["patch_embed.proj.weight"].shape
        patches = tensors["pos_embed"].shape[1] - 1
        hidden = tensors["blocks.0.mlp.fc1.weight"].shape[0]
        decoder_width = tensors["decoder_embed.weight"].shape[0]
    except KeyError as error:
        raise UserError(f"{path}: the MAE checkpoint lacks {error.args[0]}: {WANTED}") from error
    except (ValueError, IndexError) as error:
        raise UserError(
            f"{path}: tensors of wrong rank for an MAE ({short_reason(error)}): {WANTED}"
        ) from error
    if channels != 3:
        raise UserError(f"{path}: reads pictures of {channels} channels, and RGB has 3: {WANTED}")
    return {
        "image_size": math.isqrt(patches) * patch,
        "patch_size": patch,
        "encoder_width": width,
        "encoder_depth": _depth(tensors, "blocks"),
        "decoder_width": decoder_width,
        "decoder_depth": _depth(tensors, "decoder_blocks"),
        "mlp_ratio": hidden / width,
    }


def _check_decoder_ratio(path: Path, tensors: Mapping[str, Tensor], fields: Mapping[str, Any]) -> None:
    """`UserError` for what `MAEConfig` cannot say: an MLP of another width in the decoder."""
    hidden = tensors.get("decoder_blocks.0.mlp.fc1.weight")
    width, ratio = fields.get("decoder_width"), fields.get("mlp_ratio")
    if hidden is not None and width and ratio and hidden.shape[0] != ratio * width:
        raise UserError(
            f"{path}: the MLPs of its decoder are {hidden.shape[0] / width:g} times as wide as its tokens, "
            f"those of its encoder {ratio:g} times; only one ratio for both is read: {WANTED}"
        )


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
            "layer_norm_eps": config.get("layer_norm_eps", HF_LAYER_NORM_EPS),
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


def _with_biases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros for the biases of query, key and value, that a model of `qkv_bias` False has not."""
    weights = {name: tensor for name, tensor in tensors.items() if name.endswith(".attn.qkv.weight")}
    return {name.removesuffix("weight") + "bias": t.new_zeros(len(t)) for name, t in weights.items()} | dict(
        tensors
    )
