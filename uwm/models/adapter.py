"""The action adapter: what an environment's own actions mean as latent actions (section 4.2, eq. 13)."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uwm.bounds import Bounded, Codes, ControlSteps, Depth, OutOfBounds, Width, check_bounds, later
from uwm.errors import BadInput
from uwm.models.blocks import ModulatedConvolution, known_heads, transformer_blocks
from uwm.models.bottleneck import ContinuousBottleneck
from uwm.models.boundary import check_precision, check_tensor
from uwm.models.patches import sincos_positions
from uwm.models.quantizer import VectorQuantizer
from uwm.models.seeding import seeded_draws
from uwm.models.storage import StoredModel
from uwm.models.tokens import LatentActions, TokenConfig, regions_of_patches
from uwm.models.world_model import WorldModelConfig

Target = Literal["continuous", "quantized", "codes", "prediction"]


@dataclass(frozen=True)
class ControllerConfig(Bounded):
    """What the adapter must know of the robot's actions; None: it is taken from the data."""

    low: tuple[float, ...] | None = None  # the controller's range, one bound per dimension of an action
    high: tuple[float, ...] | None = None
    steps: ControlSteps | None = None  # most control actions between two frames: 4 for 0.2 s at 20 Hz

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.low is None or self.high is None:
            return
        if len(self.low) != len(self.high) or not self.low:
            raise ValueError(f"low and high need as many bounds, not {len(self.low)} and {len(self.high)}")
        if not all(math.isfinite(b - a) and a <= b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low must not exceed high, not {self.low} and {self.high}")


@dataclass(frozen=True)
class ActionAdapterConfig(Bounded):
    """Sizes that it shares with the world model must be equal to these. The paper gives no others."""

    depth: Depth = 2  # as the dynamics, which has the same to read: a state and an action
    heads: Width | None = None  # None: as many as the action extractor has
    width: Width | None = None  # of the transformer; None: the state's own
    # What joins them: "attention" over their tokens, as in extractor and dynamics, or "convolutions" over the
    # patches, whose channels the action scales. What a patch shows next depends on its neighbours and on how
    # far they move; of that product attention learns less in as many steps. For action tokens with a place.
    blocks: Literal["attention", "convolutions"] = "attention"
    use_state: bool = True  # p(S_t, A_GT) of eq. 13, or p(A_GT), which cannot know where the robot is
    # What the output is compared with: A_L before the codebook (eq. 13), the rows of the codebook that A_L
    # falls on, or their numbers (cross-entropy; the output then is one logit per code). With "prediction" it
    # is S_t+1, and the output is judged by what the frozen dynamics predict from it.
    target: Target = "continuous"
    # With the target "codes": the row of the likeliest one, or the rows' mean by their probabilities. The
    # robot's action leaves several open: by the mean the state's error is smaller, the picture less sharp.
    decode: Literal["likeliest", "mean"] = later("likeliest")
    tokens: TokenConfig | None = None  # None: the world model's
    codes: Codes | None = None  # in the codebook, for the target "codes"; None: the world model's
    controller: ControllerConfig = field(default_factory=ControllerConfig)

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.decode == "mean" and self.target != "codes":
            raise OutOfBounds(f"decode=mean reads codes; with target={self.target} set decode=likeliest")

    def check(self, world_model: WorldModelConfig) -> None:
        """OutOfBounds for a target that this world model lacks."""
        kind = world_model.bottleneck.kind
        if kind != "codes" and self.target in ("codes", "quantized"):
            raise OutOfBounds(
                f"target {self.target} needs a codebook, and the bottleneck is {kind}: "
                "set target=continuous or prediction"
            )

    def fitted(self, world_model: WorldModelConfig, controller: ControllerConfig) -> Self:
        """The adapter of this world model and this controller. OutOfBounds as `check`."""
        self.check(world_model)
        return replace(
            self,
            heads=self.heads or world_model.extractor.heads,
            width=self.width or world_model.extractor.width,
            tokens=world_model.tokens,
            codes=world_model.quantizer.codes,
            controller=controller,
        )


def check_mask(actions: Tensor, mask: Tensor) -> None:
    """ValueError where `mask` does not say of each of the actions (B, T, A) whether it is one."""
    for name, tensor in (("actions", actions), ("the mask", mask)):
        if not isinstance(tensor, Tensor):
            raise BadInput(f"{name} must be a tensor, not a {type(tensor).__name__}")
    if actions.ndim != 3 or mask.shape != actions.shape[:2] or mask.dtype != torch.bool:
        raise BadInput(f"the mask is {mask.dtype} {tuple(mask.shape)}; give bool {tuple(actions.shape[:2])}")


class ControlTokens(nn.Module):
    """Control actions as tokens: each scaled from the controller's range to [-1, 1], with its time step."""

    middle: Tensor
    reach: Tensor

    def __init__(self, controller: ControllerConfig, width: int) -> None:
        super().__init__()
        assert controller.low is not None
        assert controller.high is not None
        assert controller.steps is not None
        bounds = torch.tensor([controller.low, controller.high], dtype=torch.float32)  # (2, A)
        self.register_buffer("middle", bounds.mean(0), persistent=False)
        reach = (bounds[1] - bounds[0]) / 2
        self.register_buffer("reach", torch.where(reach > 0, reach, 1.0), persistent=False)
        self.embed = nn.Linear(bounds.shape[1], width)
        self.time = nn.Parameter(0.02 * torch.randn(controller.steps, width))

    def forward(self, actions: Tensor, mask: Tensor) -> Tensor:
        """`actions` (B, T, A) in the controller's units, `mask` (B, T) bool -> tokens (B, T, width).

        What stands where `mask` is False is never read. Raises ValueError for other sizes.
        """
        size, most = len(self.middle), len(self.time)
        if actions.ndim != 3 or actions.shape[2] != size or not 0 < actions.shape[1] <= most:
            raise ValueError(f"actions are {tuple(actions.shape)}; give (B, up to {most}, {size})")
        check_mask(actions, mask)
        scaled = self.scale(actions).masked_fill(~mask[..., None], 0.0)
        return self.embed(scaled) + self.time[: actions.shape[1]]

    def scale(self, actions: Tensor) -> Tensor:
        """Actions (..., A) from the controller's range to [-1, 1]."""
        return (actions - self.middle) / self.reach


class ActionAdapter(StoredModel):
    """A small network over [S_t, A_GT]: A_L ~ p(S_t, A_GT) (eq. 13).

    `seed` draws the initial weights and leaves torch's global generator as it was.
    """

    config_type = ActionAdapterConfig

    positions: Tensor

    def __init__(self, config: ActionAdapterConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = c = config
        if c.tokens is None or c.codes is None or None in (c.controller.low, c.controller.steps):
            raise ValueError("the adapter's sizes are not known yet: config.fitted(...) sets them")
        self.tokens = tokens = c.tokens
        if c.blocks == "convolutions" and tokens.action_source != "regions":
            raise ValueError("blocks=convolutions needs action tokens with a place: action_source=regions")
        _, state_width = tokens.state_size
        width = c.width or state_width
        self.register_buffer("positions", sincos_positions(width, tokens.grid), persistent=False)
        with seeded_draws(seed):
            self.controls = ControlTokens(c.controller, width)
            self.spread = nn.Linear(width, width)
            if c.use_state:
                self.embed_state = nn.Linear(state_width, width)
            if tokens.action_source == "queries":
                self.queries = nn.Parameter(0.02 * torch.randn(tokens.num_action_tokens, width))
            self.blocks = (
                transformer_blocks(width, c.depth, known_heads(c.heads))
                if c.blocks == "attention"
                else nn.ModuleList(ModulatedConvolution(width) for _ in range(c.depth))
            )
            self.norm = nn.LayerNorm(width, eps=1e-6)
            outputs = c.codes if c.target == "codes" else tokens.action_width
            self.head = nn.Linear(width, tokens.codes_per_region * outputs)

    def forward(self, s_t: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """`s_t` (B, 1+N, D), `actions` (B, T, A), `mask` (B, T) bool -> latents (B, L, W).

        With the target "codes": logits (B, L, codes).
        """
        x = self.positions.expand(len(s_t), -1, -1)  # (B, 1+N, width)
        if self.config.use_state:
            x = x + self.embed_state(s_t)
        if self.tokens.action_source == "queries":
            x = torch.cat([x, self.queries.expand(len(x), -1, -1)], dim=1)
        x = self.norm(self._joined(x, self.controls(actions, mask), mask))
        tokens = self.tokens
        if tokens.action_source == "queries":
            outputs = x[:, -tokens.num_action_tokens :]
        else:
            outputs = regions_of_patches(x[:, 1:], tokens.num_action_tokens // tokens.codes_per_region)
        return self.head(outputs).unflatten(2, (tokens.codes_per_region, -1)).flatten(1, 2)  # (B, L, W)

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
        # (B, 1, 1, tokens + T)
        attn_mask = torch.cat([mask.new_ones(len(x), tokens), mask], dim=1)[:, None, None]
        for block in self.blocks:
            x = block(x, attn_mask=attn_mask)
        return x[:, :tokens]

    def _everywhere(self, controls: Tensor, mask: Tensor) -> Tensor:
        """What a control action adds to every token of the state, averaged over the actions: (B, 1, width).
        So the training need not first learn to attend to a few action tokens among many patches."""
        given = self.spread(F.gelu(controls)) * mask[..., None]  # (B, T, width)
        return given.sum(1, keepdim=True) / mask.sum(1).clamp(min=1)[:, None, None]

    def infer_actions(
        self, s_t: Tensor, actions: Tensor, mask: Tensor, quantizer: VectorQuantizer | ContinuousBottleneck
    ) -> LatentActions:
        """Latent actions for real ones: discretised by the nearest code (eq. 9), or by the likeliest; or not
        discretised, the mean of the codebook by the codes' probabilities (`decode`).

        ValueError for other shapes, and for states or given actions that are not finite.
        """
        self._check(s_t, actions, mask)
        output = self(s_t, actions, mask)
        if self.config.target == "codes":
            assert isinstance(quantizer, VectorQuantizer)
            codes = output.argmax(-1)  # (B, L)
            likeliest = self.config.decode == "likeliest"
            latents = quantizer.lookup(codes) if likeliest else output.softmax(-1) @ quantizer.codebook
            return LatentActions(latents, latents, codes)
        return quantizer.settle(output)

    def _check(self, s_t: Tensor, actions: Tensor, mask: Tensor) -> None:
        check_tensor("s_t", s_t, (None, *self.tokens.state_size))
        check_precision("s_t", s_t, next(self.parameters()))
        check_mask(actions, mask)
        given = actions.masked_fill(~mask[..., None], 0.0)
        check_tensor("actions", given, (None, None, len(self.controls.middle)), len(s_t))
        check_precision("actions", given, s_t)
