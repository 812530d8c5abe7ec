"""A small MAE's tensors as FAIR's files and Hugging Face's folders name them."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from uwm.models.mae import MAEConfig

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


def save_fair(path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save({"model": tensors}, path)
    return path
