"""A TorchScript program as a method: any model, without its code.

The program has the methods `infer` and `predict` of `LatentActionModel`, made before it was saved by
`torch.jit.export`. Put it beside this file as program.pt.
"""

from pathlib import Path

import torch
from torch import Tensor


class Program(torch.nn.Module):
    bits = 12.0  # 4 codes of 8
    image_size = 64
    weights = ("program.pt",)

    def __init__(self) -> None:
        super().__init__()
        self.program = torch.jit.load(Path(__file__).with_name("program.pt"), map_location="cpu")

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return self.program.infer(frames_t, frames_next)

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return self.program.predict(frames_t, actions)

    def embed(self, actions: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(actions, 8).flatten(1).float()
