"""AdaWorld's latent action encoder, with the decoder that it was trained with: 32 continuous numbers.

Its network comes from its own package, github.com/Little-Podi/AdaWorld, folder lam; the `state_dict` of its
checkpoint goes beside this file, saved as lam.pt. The package wants a GPU. The large diffusion model that
AdaWorld predicts with is not asked.
"""

from pathlib import Path

import torch
from torch import Tensor

LATENT, PATCH, HEADS = 32, 16, 16  # as its checkpoint was trained; all else its tensors tell


class Encoder(torch.nn.Module):
    bits = 32.0 * LATENT  # float32 each
    image_size = 256
    weights = ("lam.pt",)

    def __init__(self) -> None:
        super().__init__()
        try:
            from lam.modules import LatentActionModel
            from lam.modules.blocks import patchify, unpatchify
        except ImportError as error:
            raise ImportError("this needs AdaWorld's own package: put AdaWorld/lam on PYTHONPATH") from error
        self.patchify, self.unpatchify = patchify, unpatchify
        state = torch.load(Path(__file__).with_name("lam.pt"), map_location="cpu", weights_only=True)
        state = {name.removeprefix("lam."): value for name, value in state.items()}
        width = state["fc.weight"].shape[1]
        encoder, decoder = (
            len({name.split(".")[2] for name in state if name.startswith(f"{part}.transformer_blocks.")})
            for part in ("encoder", "decoder")
        )
        self.lam = LatentActionModel(3, width, LATENT, PATCH, encoder, decoder, HEADS)
        self.lam.load_state_dict(state)

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        found = self.lam.encode(self._video(frames_t, frames_next))["z_mu"]  # (B, 32)
        self.lam.mu_record = None  # where it keeps all that it ever encoded
        return found

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        patches = self.lam.patch_up(self.patchify(self._video(frames_t), PATCH))  # (B, 1, N, E)
        logits = self.lam.decoder(patches + self.lam.action_up(actions)[:, None, None])
        frames = self.unpatchify(logits.sigmoid(), PATCH, *frames_t.shape[2:])  # (B, 1, S, S, 3)
        return frames[:, 0].permute(0, 3, 1, 2)

    def _video(self, *frames: Tensor) -> Tensor:
        return torch.stack(frames, dim=1).permute(0, 1, 3, 4, 2)  # (B, T, S, S, 3)
