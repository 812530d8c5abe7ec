"""A world model of stable-worldmodel's kind (LeWM, PLDM): it knows real actions and embeddings, no pictures.

Its action is inferred as its planners find one: of 256 fixed candidates, that by which it predicts nearest
to the next frame's embedding. Its network comes from its own package: pip install 'stable-worldmodel[train]'.
As that package saves them, config and weights go beside this file as config.json and weights.pt. Such a model
draws nothing: decoder.pt is a TorchScript program of your own, embeddings (B, D) to frames (B, 3, 224, 224).
"""

import json
from pathlib import Path

import torch
from torch import Tensor

HERE = Path(__file__).parent
MEAN, DEVIATION = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


class WorldModel(torch.nn.Module):
    bits = 8.0  # one of 256 candidates
    image_size = 224
    weights = ("config.json", "weights.pt", "decoder.pt")

    def __init__(self) -> None:
        super().__init__()
        try:
            import hydra.utils
            import stable_worldmodel  # noqa: F401 (named in the config)
        except ImportError as error:
            raise ImportError("this needs the package 'stable-worldmodel[train]', with hydra-core") from error
        config = json.loads((HERE / "config.json").read_text())
        self.model = hydra.utils.instantiate(config)
        self.model.load_state_dict(torch.load(HERE / "weights.pt", map_location="cpu", weights_only=True))
        self.decoder = torch.jit.load(HERE / "decoder.pt", map_location="cpu")
        # It learnt from actions of mean 0 and variance 1, all those between two frames in a row.
        shape = 256, config["action_encoder"]["input_dim"]
        self.register_buffer("candidates", torch.randn(shape, generator=torch.Generator().manual_seed(0)))

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        now, wanted = self._embedded(frames_t), self._embedded(frames_next)  # (B, D)
        count = len(self.candidates)
        reached = self._step(now.repeat_interleave(count, 0), self.candidates.repeat(len(now), 1))
        distance = (reached.unflatten(0, (len(now), count)) - wanted[:, None]).norm(dim=2)
        return distance.argmin(1, keepdim=True)  # (B, 1)

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return self.decoder(self._step(self._embedded(frames_t), self.embed(actions))).clamp(0, 1)

    def embed(self, actions: Tensor) -> Tensor:
        return self.candidates[actions[:, 0]]

    def _embedded(self, frames: Tensor) -> Tensor:
        pixels = (frames - MEAN.to(frames)) / DEVIATION.to(frames)
        return self.model.encode({"pixels": pixels[:, None]})["emb"][:, 0]  # one frame each

    def _step(self, embedded: Tensor, actions: Tensor) -> Tensor:
        return self.model.predict(embedded[:, None], self.model.action_encoder(actions[:, None]))[:, 0]
