"""The action adapter: what an environment's own actions mean as latent actions (section 4.2, eq. 13)."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uwm.models.action_extractor import regions_of_patches
from uwm.models.blocks import ModulatedConvolution
from uwm.models.mae import sincos_positions, transformer_blocks
from uwm.models.quantizer import VectorQuantizer
from uwm.models.storage import load_module, save_module
from uwm.models.world_model import LatentActions, WorldModelConfig

Target = Literal["continuous", "quantized", "codes", "prediction"]


@dataclass(frozen=True)
class ActionAdapterConfig:
    """Sizes must be those of the world model; of the adapter's own ones the paper gives none."""

    low: tuple[float, ...] = (-1.0,) * 7  # the controller's range, one bound per dimension of an action
    high: tuple[float, ...] = (1.0,) * 7
    control_steps: int = 4  # most control actions between two frames: 0.2 s at 20 Hz
    state_width: int = 768
    state_tokens: int = 197
    width: int | None = None  # of the transformer; None: the state's own
    depth: int = 2  # as the dynamics, which has the same to read: a state and an action
    heads: int = 12
    # What joins them: "attention" over their tokens, as in extractor and dynamics, or "convolutions" over the
    # patches, whose channels the action scales. What a patch shows next depends on its neighbours and on how
    # far they move; of that product attention learns less in as many steps. For slots with a place.
    blocks: Literal["attention", "convolutions"] = "attention"
    actions: int = 24
    action_width: int = 64
    slots: Literal["queries", "regions"] = "queries"  # as in the extractor
    codes_per_region: int = 1  # the same
    use_state: bool = True  # p(S_t, A_GT) of eq. 13, or p(A_GT), which cannot know where the robot is
    # What the output is compared with: A_L before the codebook (eq. 13), the rows of the codebook that A_L
    # falls on, or their numbers (cross-entropy; the output then is one logit per code). With "prediction" it
    # is S_t+1, and the output is judged by what the frozen dynamics predict from it.
    target: Target = "continuous"
    codes: int = 1024  # in the codebook, for the target "codes"

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or not self.low:
            raise ValueError(f"low and high need as many bounds, not {len(self.low)} and {len(self.high)}")
        if not all(math.isfinite(b - a) and a <= b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low must not exceed high, not {self.low} and {self.high}")
        if self.blocks == "convolutions" and self.slots != "regions":
            raise ValueError("blocks=convolutions needs slots with a place: slots=regions")


def adapter_config(
    world_model: WorldModelConfig, low: Tensor, high: Tensor, control_steps: int, **changes: Any
) -> ActionAdapterConfig:
    """The adapter that fits a world model and a controller with the range `low` to `high` (A,)."""
    extractor = world_model.extractor
    names = (
        "state_width",
        "state_tokens",
        "width",
        "heads",
        "actions",
        "action_width",
        "slots",
        "codes_per_region",
    )
    shared = {name: getattr(extractor, name) for name in names}
    return ActionAdapterConfig(
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        control_steps=control_steps,
        codes=world_model.quantizer.codes,
        **{**shared, **changes},
    )


class ControlTokens(nn.Module):
    """Control actions as tokens: each scaled from the controller's range to [-1, 1], with its time step."""

    middle: Tensor
    reach: Tensor

    def __init__(
        self, low: tuple[float, ...], high: tuple[float, ...], control_steps: int, width: int
    ) -> None:
        super().__init__()
        bounds = torch.tensor([low, high], dtype=torch.float32)  # (2, A)
        self.register_buffer("middle", bounds.mean(0), persistent=False)
        reach = (bounds[1] - bounds[0]) / 2
        self.register_buffer("reach", torch.where(reach > 0, reach, 1.0), persistent=False)
        self.embed = nn.Linear(len(low), width)
        self.time = nn.Parameter(0.02 * torch.randn(control_steps, width))

    def forward(self, actions: Tensor, mask: Tensor) -> Tensor:
        """`actions` (B, T, A) in the controller's units, `mask` (B, T) bool -> tokens (B, T, width).

        What stands where `mask` is False is never read. Raises ValueError for other sizes.
        """
        wanted, most = len(self.middle), len(self.time)
        if actions.ndim != 3 or actions.shape[2] != wanted or not 0 < actions.shape[1] <= most:
            raise ValueError(f"actions are {tuple(actions.shape)}; give (B, up to {most}, {wanted})")
        if mask.shape != actions.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(f"the mask is {mask.dtype} {tuple(mask.shape)}; give bool {actions.shape[:2]}")
        scaled = self.scale(actions).masked_fill(~mask[..., None], 0.0)
        return self.embed(scaled) + self.time[: actions.shape[1]]

    def scale(self, actions: Tensor) -> Tensor:
        """Actions (..., A) from the controller's range to [-1, 1]."""
        return (actions - self.middle) / self.reach


class ActionAdapter(nn.Module):
    """A small network over [S_t, A_GT]: A_L ~ p(S_t, A_GT) (eq. 13).

    `seed` draws the initial weights and leaves torch's global generator as it was.
    """

    positions: Tensor

    def __init__(self, config: ActionAdapterConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = c = config
        width = c.width or c.state_width
        self.register_buffer(
            "positions", sincos_positions(width, math.isqrt(c.state_tokens - 1)), persistent=False
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.controls = ControlTokens(c.low, c.high, c.control_steps, width)
            self.spread = nn.Linear(width, width)
            if c.use_state:
                self.embed_state = nn.Linear(c.state_width, width)
            if c.slots == "queries":
                self.queries = nn.Parameter(0.02 * torch.randn(c.actions, width))
            self.blocks = (
                transformer_blocks(width, c.depth, c.heads)
                if c.blocks == "attention"
                else nn.ModuleList(ModulatedConvolution(width) for _ in range(c.depth))
            )
            self.norm = nn.LayerNorm(width, eps=1e-6)
            outputs = c.codes if c.target == "codes" else c.action_width
            self.head = nn.Linear(width, c.codes_per_region * outputs)

    def forward(self, s_t: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """`s_t` (B, 1+N, D), `actions` (B, T, A), `mask` (B, T) bool -> latents (B, L, W).

        With the target "codes": logits (B, L, codes).
        """
        x = self.positions.expand(len(s_t), -1, -1)  # (B, 1+N, width)
        if self.config.use_state:
            x = x + self.embed_state(s_t)
        if self.config.slots == "queries":
            x = torch.cat([x, self.queries.expand(len(x), -1, -1)], dim=1)
        x = self.norm(self._joined(x, self.controls(actions, mask), mask))
        if self.config.slots == "queries":
            slots = x[:, -self.config.actions :]
        else:
            slots = regions_of_patches(x[:, 1:], self.config.actions // self.config.codes_per_region)
        return self.head(slots).unflatten(2, (self.config.codes_per_region, -1)).flatten(1, 2)  # (B, L, W)

    def _joined(self, x: Tensor, controls: Tensor, mask: Tensor) -> Tensor:
        """The tokens `x` (B, tokens, width) after the blocks, which read the controls (B, T, width) too."""
        everywhere = self._everywhere(controls, mask)
        if self.config.blocks == "convolutions":
            action = F.gelu(everywhere)
            patches = x[:, 1:] + action
            for block in self.blocks:
                patches = block(patches, action)
            return torch.cat([x[:, :1], patches], dim=1)
        tokens = x.shape[1]
        x = torch.cat([x + everywhere, controls], dim=1)  # (B, tokens + T, width)
        seen = torch.cat([mask.new_ones(len(x), tokens), mask], dim=1)[:, None, None]  # (B, 1, 1, tokens + T)
        for block in self.blocks:
            x = block(x, attn_mask=seen)
        return x[:, :tokens]

    def _everywhere(self, controls: Tensor, mask: Tensor) -> Tensor:
        """The mean of what each control action adds to every token of the state, (B, 1, width).

        Few action tokens among many patches are found late.
        """
        given = self.spread(F.gelu(controls)) * mask[..., None]  # (B, T, width)
        return given.sum(1, keepdim=True) / mask.sum(1).clamp(min=1)[:, None, None]

    def infer_actions(
        self, s_t: Tensor, actions: Tensor, mask: Tensor, quantizer: VectorQuantizer
    ) -> LatentActions:
        """Latent actions for real ones: discretised by the nearest code (eq. 9), or by the likeliest."""
        output = self(s_t, actions, mask)
        if self.config.target == "codes":
            codes = output.argmax(-1)  # (B, L)
            return LatentActions(quantizer.lookup(codes), quantizer.lookup(codes), codes)
        codes = quantizer.encode(output)
        return LatentActions(output, quantizer.lookup(codes), codes)

    def save(self, path: Path | str, dtype: torch.dtype | None = None, card: dict | None = None) -> None:
        """Write weights and configuration as safetensors; `card` holds further JSON about the training."""
        save_module(self, Path(path), dtype=dtype, card=card)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote. Raises UserError for a file that is no adapter."""
        config, tensors = load_module(Path(path), "ActionAdapter", ActionAdapterConfig)
        model = cls(config)
        model.load_state_dict(tensors)
        return model.eval()
