"""LAPA's latent action quantiser (LAQ): 4 codes of 8, frames of 256 px.

Its network comes from its own package, github.com/LatentActionPretraining/LAPA, folder laq; its checkpoint
goes beside this file as laq.pt. The package builds the codebook on a GPU.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

CODES, CODEBOOK = 4, 8
SIZES = {"dim": 1024, "quant_dim": 32, "image_size": 256, "patch_size": 32, "dim_head": 64, "heads": 16}
DEPTHS = {"spatial_depth": 8, "temporal_depth": 8}  # as its checkpoint was trained


class LAQ(torch.nn.Module):
    bits = CODES * math.log2(CODEBOOK)
    image_size = SIZES["image_size"]
    weights = ("laq.pt",)

    def __init__(self) -> None:
        super().__init__()
        try:
            from laq_model import LatentActionQuantization
        except ImportError as error:
            raise ImportError("this needs LAPA's own package: pip install -e LAPA/laq") from error
        self.laq = LatentActionQuantization(**SIZES, **DEPTHS, codebook_size=CODEBOOK, code_seq_len=CODES)
        path = Path(__file__).with_name("laq.pt")
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.laq.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        clip = torch.stack([frames_t, frames_next], dim=2)  # (B, 3, 2, S, S)
        return self.laq.inference(clip, return_only_codebook_ids=True)  # (B, 4)

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        self.laq.vq.device = frames_t.device  # where it puts the codes that it is given
        clip = torch.stack([frames_t, frames_t], dim=2)  # of which the second isn't used
        frames = self.laq.inference(clip, user_action_token_num=actions.flatten().tolist())
        return frames.clamp(0, 1)  # its last layer is linear

    def embed(self, actions: Tensor) -> Tensor:
        return self.laq.vq.codebooks[actions].flatten(1)
