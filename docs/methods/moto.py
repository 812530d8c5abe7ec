"""Moto's latent motion tokenizer: 8 codes of 128, frames of 224 px.

Its network comes from its own package, github.com/TencentARC/Moto, with hydra; its config and checkpoint go
beside this file as moto.yaml and moto.bin. The MAE that the config names comes from the Hugging Face hub.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).parent
MEAN, DEVIATION = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


class Tokenizer(torch.nn.Module):
    bits = 8 * math.log2(128)
    image_size = 224
    weights = ("moto.yaml", "moto.bin")

    def __init__(self) -> None:
        super().__init__()
        try:
            import hydra.utils
            import latent_motion_tokenizer  # noqa: F401 (named in the config)
            from omegaconf import OmegaConf
        except ImportError as error:
            raise ImportError("this needs Moto's own package on PYTHONPATH, and hydra-core") from error
        self.moto = hydra.utils.instantiate(OmegaConf.load(HERE / "moto.yaml"))
        state = torch.load(HERE / "moto.bin", map_location="cpu", weights_only=True)
        missing, others = self.moto.load_state_dict(state, strict=False)
        others += [name for name in missing if not name.startswith(("image_encoder.", "loss_fn_lpips."))]
        if others:  # but for what it leaves out
            raise ValueError(f"moto.bin is no checkpoint of moto.yaml: {others[0]}")
        self.moto.image_encoder.register_forward_pre_hook(_in_order, with_kwargs=True)

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return self.moto.tokenize(_normal(frames_t), _normal(frames_next))[1]  # (B, 8)

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        drawn = self.moto.decode_image(_normal(frames_t), actions)["recons_pixel_values"]
        return (drawn * DEVIATION.to(drawn) + MEAN.to(drawn)).clamp(0, 1)  # its last layer is linear

    def embed(self, actions: Tensor) -> Tensor:
        return self.moto.vector_quantizer.get_codebook_entry(actions).flatten(1)


def _normal(frames: Tensor) -> Tensor:
    return (frames - MEAN.to(frames)) / DEVIATION.to(frames)


def _in_order(mae: Any, inputs: Any, options: Any) -> Any:
    """This MAE shuffles patches at random even where it hides none: a rising noise keeps their order."""
    rising = torch.arange((inputs[0].shape[-1] // mae.config.patch_size) ** 2, device=inputs[0].device)
    return inputs, {**options, "noise": rising.expand(len(inputs[0]), -1)}
