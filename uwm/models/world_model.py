"""The world model: action extractor, codebook and dynamics over the states of a frozen MAE (section 4.1)."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uwm.bounds import Bounded, Natural, check_bounds, later
from uwm.errors import BadInput
from uwm.models.action_extractor import ActionExtractor, ActionExtractorConfig
from uwm.models.bottleneck import BottleneckConfig, GaussianBottleneck, continuous_bottleneck
from uwm.models.boundary import check_precision, check_tensor
from uwm.models.dynamics import Dynamics, DynamicsConfig
from uwm.models.mae import MAEConfig
from uwm.models.quantizer import QUANTIZER_PRESETS, QuantizerConfig, QuantizerOutput, VectorQuantizer
from uwm.models.seeding import seeded_draws
from uwm.models.storage import StoredModel
from uwm.models.tokens import LatentActions, TokenConfig

# Added to a token's mean squared error before the root, so that its gradient is finite at 0; states are O(1).
DISTANCE_FLOOR = 1e-4


@dataclass(frozen=True)
class WorldModelConfig(Bounded):
    """The three trained parts, and the tokens that they share. Sizes of None are the MAE's to say."""

    presets: ClassVar[Mapping[str, "WorldModelConfig"]]  # by name, for the command line

    tokens: TokenConfig = field(default_factory=TokenConfig)
    extractor: ActionExtractorConfig = field(default_factory=ActionExtractorConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    # Training steps with latent actions as they are, before the codebook comes in (and is drawn from them).
    # A codebook of random vectors at the start teaches the dynamics to ignore the actions. The paper and the
    # authors' code have no such phase: 0.
    continuous_steps: Natural = 0
    # What the prediction's error is to the loss: "mse" (eq. 12), or "distance", the mean length of a token's
    # error. The square asks for the mean of all that may come, which shows as blur, and looks most at the
    # largest motions; the length asks for one that may come, and weighs small motions alike. Ours.
    state_loss: Literal["mse", "distance"] = "mse"
    use_action: bool = True  # False: the dynamics read zeros, S_t+1 ~ p(S_t), what an action must beat
    # What limits an action: the codebook `quantizer`, or a noise on continuous actions in its place.
    bottleneck: BottleneckConfig = later(BottleneckConfig())

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.bottleneck.kind != "codes":
            self.bottleneck.check(self.extractor.standardize, self.continuous_steps)
        elif self.quantizer.width != self.tokens.action_width:
            raise ValueError(
                f"codes have width {self.quantizer.width}, latent actions {self.tokens.action_width}: "
                "set quantizer.width and tokens.action_width alike"
            )

    def fitted(self, mae: MAEConfig) -> Self:
        """The configuration for the states of this MAE: the only place where sizes follow from it."""
        heads = mae.encoder_heads
        return replace(
            self,
            tokens=self.tokens.fitted(mae),
            extractor=replace(self.extractor, heads=self.extractor.heads or heads),
            dynamics=replace(self.dynamics, heads=self.dynamics.heads or heads),
        )

    @property
    def bits(self) -> float | None:
        """Bits of a transition's latent action: L log2 K, or the capacity of a noisy one; None where they
        depend on the transition (`WorldModel.bits`)."""
        if self.bottleneck.kind == "codes":
            return self.tokens.num_action_tokens * math.log2(self.quantizer.codes)
        return self.bottleneck.capacity(self.tokens.num_action_tokens * self.tokens.action_width)


# `paper` follows the text, `authors` the published code where the two differ (see paper/deviations.md).
WORLD_MODEL_PRESETS: dict[str, WorldModelConfig] = {
    "paper": WorldModelConfig(),
    "authors": WorldModelConfig(
        extractor=ActionExtractorConfig(token_layout="tokens", standardize="none"),
        quantizer=QUANTIZER_PRESETS["authors"],
    ),
}
WorldModelConfig.presets = WORLD_MODEL_PRESETS


class WorldModelOutput(NamedTuple):
    """One training forward."""

    prediction: Tensor  # (B, 1+N, D)
    loss: Tensor  # eq. 12
    state_mse: Tensor
    quantizer_loss: Tensor
    perplexity: Tensor  # of the codes in this batch, which its number of tokens bounds
    used: Tensor  # different codes in this batch
    ema_perplexity: Tensor  # of the codes over the last hundred steps or so


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, and each of its parts in its own mode again afterwards."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


class WorldModel(StoredModel):
    """Predicts the next state of a frozen MAE through discrete latent actions (eq. 7-12).

    A call in training mode is one training step: the codebook counts and moves with it.
    `seed` draws the initial weights, whatever the state of torch's global generator, which is left as it was.
    """

    config_type = WorldModelConfig

    step: Tensor

    def __init__(self, config: WorldModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with seeded_draws(seed):
            noisy = continuous_bottleneck(config.bottleneck)
            self.extractor = ActionExtractor(config.extractor, config.tokens, noisy.outputs if noisy else 1)
            self.quantizer = noisy or VectorQuantizer(config.quantizer)
            self.dynamics = Dynamics(config.dynamics, config.tokens)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def infer_actions(self, s_t: Tensor, s_next: Tensor) -> LatentActions:
        """Latent actions between two states, each (B, 1+N, D) (eq. 8 and 9). Changes nothing in the model.

        ValueError for other shapes, and for what is not finite; so in `predict` and `rollout`.
        """
        self._check_states("s_t", s_t)
        self._check_states("s_next", s_next, len(s_t))
        with evaluating(self.extractor):  # in training mode its running mean and deviation would move
            return self.quantizer.infer(self.extractor(s_t, s_next))

    def bits(self, s_t: Tensor, s_next: Tensor) -> Tensor:
        """Bits of each transition's latent action, (B,), of states as in `infer_actions`."""
        fixed = self.config.bits
        if fixed is not None:
            return s_t.new_full((len(s_t),), fixed)
        assert isinstance(self.quantizer, GaussianBottleneck)
        with evaluating(self.extractor):
            return self.quantizer.bits(self.extractor(s_t, s_next))

    def predict(self, s_t: Tensor, quantized: Tensor) -> Tensor:
        """`s_t` (B, 1+N, D) and actions (B, L, W) -> predicted s_t+1 (B, 1+N, D) (eq. 10)."""
        self._check_states("s_t", s_t)
        if self.config.use_action:
            check_tensor("quantized", quantized, (None, *self._action_size), len(s_t))
            check_precision("quantized", quantized, s_t)
        return self._predict(s_t, quantized)

    def _predict(self, s_t: Tensor, quantized: Tensor) -> Tensor:
        if not self.config.use_action:
            quantized = s_t.new_zeros(len(s_t), *self._action_size)
        return self.dynamics(s_t, quantized)

    def rollout(self, s_t: Tensor, actions: Tensor) -> Tensor:
        """H steps from `s_t` (B, 1+N, D) by `actions` (B, H, L, W) -> states (B, H, 1+N, D)."""
        self._check_states("s_t", s_t)
        check_tensor("actions", actions, (None, None, *self._action_size), len(s_t))
        check_precision("actions", actions, s_t)
        if not actions.shape[1]:
            raise BadInput("actions are of no step: give (B, H, L, W) with H of 1 or more")
        states = []
        for action in actions.unbind(1):
            s_t = self._predict(s_t, action)
            states.append(s_t)
        return torch.stack(states, dim=1)

    def forward(self, s_t: Tensor, s_next: Tensor) -> WorldModelOutput:
        """Training forward on two states, each (B, 1+N, D); in training mode the codebook may move."""
        latents = self.extractor(s_t, s_next)
        quantized = self._quantize(latents)
        prediction = self._predict(s_t, quantized.quantized)
        state_mse = F.mse_loss(prediction.float(), s_next.float())
        # The first term of eq. 12 is eq. 5's, written for images: here the state's error takes its place,
        # as in the authors' code (its pixel loss is off).
        error = state_mse if self.config.state_loss == "mse" else token_distance(prediction, s_next)
        return WorldModelOutput(
            prediction,
            error + quantized.loss,
            state_mse,
            quantized.loss,
            quantized.perplexity,
            quantized.used,
            quantized.ema_perplexity,
        )

    @property
    def _action_size(self) -> tuple[int, int]:
        return self.config.tokens.num_action_tokens, self.config.tokens.action_width

    def _check_states(self, name: str, states: Tensor, batch: int | None = None) -> None:
        check_tensor(name, states, (None, *self.config.tokens.state_size), batch)
        check_precision(name, states, next(self.parameters()))

    def _quantize(self, latents: Tensor) -> QuantizerOutput:
        """The codebook, or in the first training steps the latents themselves."""
        if not self.training:
            return self.quantizer(latents)
        self.step += 1
        if self.step > self.config.continuous_steps:
            return self.quantizer(latents)
        zero = latents.new_zeros(())
        codes = torch.zeros(latents.shape[:2], dtype=torch.int64, device=latents.device)
        return QuantizerOutput(latents, codes, zero, zero, zero, zero)


def token_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over tokens of the root mean square error of states (B, 1+N, D); smooth where it is nearly 0."""
    squares = (prediction.float() - target.float()).square().mean(-1)  # (B, 1+N)
    return (squares + DISTANCE_FLOOR).sqrt().mean()
