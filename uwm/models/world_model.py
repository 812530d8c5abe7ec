"""The world model: action extractor, codebook and dynamics over the states of a frozen MAE (section 4.1)."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uwm.models.action_extractor import ActionExtractor, ActionExtractorConfig
from uwm.models.dynamics import Dynamics, DynamicsConfig
from uwm.models.mae import MAEConfig
from uwm.models.quantizer import QUANTIZER_PRESETS, QuantizerConfig, QuantizerOutput, VectorQuantizer
from uwm.models.storage import load_module, save_module

# Added to a token's mean squared error before the root, so that its gradient is finite at 0; states are O(1).
DISTANCE_FLOOR = 1e-4


@dataclass(frozen=True)
class WorldModelConfig:
    """The three trained parts; the widths that they share must agree."""

    extractor: ActionExtractorConfig = field(default_factory=ActionExtractorConfig)
    quantizer: QuantizerConfig = field(default_factory=lambda: QUANTIZER_PRESETS["paper"])
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    # Training steps with latent actions as they are, before the codebook comes in (and is drawn from them).
    # A codebook of random vectors at the start teaches the dynamics to ignore the actions. The paper and the
    # authors' code have no such phase: 0.
    continuous_steps: int = 0
    # What the prediction's error is to the loss: "mse" (eq. 12), or "distance", the mean length of a token's
    # error. The square asks for the mean of all that may come, which shows as blur, and looks most at the
    # largest motions; the length asks for one that may come, and weighs small motions alike. Ours.
    state_loss: Literal["mse", "distance"] = "mse"
    # False: dynamics that get zeros for actions, S_t+1 ~ p(S_t), the rival that every gain of the action is
    # measured against. Extractor and codebook are there, untrained and without effect.
    use_action: bool = True

    def __post_init__(self) -> None:
        a, d = self.extractor, self.dynamics
        for name in ("state_width", "state_tokens", "actions", "action_width", "slots", "codes_per_region"):
            if getattr(a, name) != getattr(d, name):
                raise ValueError(f"{name} differs: extractor {getattr(a, name)}, dynamics {getattr(d, name)}")
        if self.quantizer.width != a.action_width:
            raise ValueError(f"codes have width {self.quantizer.width}, latent actions {a.action_width}")


Preset = Literal["paper", "authors", "mini"]


def world_model_config(preset: Preset, mae: MAEConfig) -> WorldModelConfig:
    """A named configuration for the states of one MAE.

    `paper` follows the text, `authors` the published code where the two differ (see paper/deviations.md),
    `mini` makes those choices that two CPU cores learn soonest with.
    """
    state: dict[str, Any] = {"state_width": mae.encoder_width, "state_tokens": 1 + mae.tokens}
    heads: dict[str, Any] = {"heads": mae.encoder_heads}
    if preset == "mini":
        # Four codes for each patch: fewer limit what can be predicted, since most of the change
        # lies in the few patches that move.
        state |= {"actions": 4 * mae.tokens, "slots": "regions", "codes_per_region": 4}
        return WorldModelConfig(
            ActionExtractorConfig(**state, **heads),
            # Few and small steps: unused codes restart after 75 steps instead of 178; a commitment of 0.25
            # draws each slot to two codes before the dynamics have learnt to read them.
            replace(QUANTIZER_PRESETS["authors"], ema_decay=0.97, restart_threshold=0.1),
            DynamicsConfig(**state, **heads, output="state", residual=True),
            continuous_steps=100,
        )
    if preset == "authors":
        return WorldModelConfig(
            ActionExtractorConfig(**state, **heads, reading="tokens", standardize="none"),
            QUANTIZER_PRESETS["authors"],
            DynamicsConfig(**state, **heads),
        )
    return WorldModelConfig(
        ActionExtractorConfig(**state, **heads), QUANTIZER_PRESETS["paper"], DynamicsConfig(**state, **heads)
    )


class LatentActions(NamedTuple):
    """What the extractor saw between two states."""

    continuous: Tensor  # A_L, before the codebook: (B, L, W)
    quantized: Tensor  # A_D, rows of the codebook: (B, L, W)
    codes: Tensor  # which rows: (B, L), int64


class WorldModelOutput(NamedTuple):
    """One training forward."""

    prediction: Tensor  # (B, 1+N, D)
    loss: Tensor  # eq. 12
    state_mse: Tensor
    quantizer_loss: Tensor
    perplexity: Tensor  # of the codes in this batch, which its number of tokens bounds
    used: Tensor  # different codes in this batch
    ema_perplexity: Tensor  # of the codes over the last hundred steps or so


class WorldModel(nn.Module):
    """Predicts the next state of a frozen MAE through discrete latent actions (eq. 7-12).

    A call in training mode is one training step: the codebook counts and moves with it.
    `seed` draws the initial weights, whatever the state of torch's global generator, which is left as it was.
    """

    step: Tensor

    def __init__(self, config: WorldModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.extractor = ActionExtractor(config.extractor)
            self.quantizer = VectorQuantizer(config.quantizer)
            self.dynamics = Dynamics(config.dynamics)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        if not config.use_action:
            self.extractor.requires_grad_(False)
            self.quantizer.requires_grad_(False)

    def infer_actions(self, s_t: Tensor, s_next: Tensor) -> LatentActions:
        """Latent actions between two states, each (B, 1+N, D) (eq. 8 and 9). Changes nothing in the model."""
        continuous = self.extractor(s_t, s_next)
        codes = self.quantizer.encode(continuous)
        return LatentActions(continuous, self.quantizer.lookup(codes), codes)

    def predict(self, s_t: Tensor, quantized: Tensor) -> Tensor:
        """`s_t` (B, 1+N, D) and actions (B, L, W) -> predicted s_t+1 (B, 1+N, D) (eq. 10)."""
        return self.dynamics(s_t, quantized if self.config.use_action else torch.zeros_like(quantized))

    def rollout(self, s_t: Tensor, actions: Tensor) -> Tensor:
        """K steps from `s_t` (B, 1+N, D) by `actions` (B, K, L, W) -> states (B, K, 1+N, D)."""
        states = []
        for action in actions.unbind(1):
            s_t = self.predict(s_t, action)
            states.append(s_t)
        return torch.stack(states, dim=1)

    def forward(self, s_t: Tensor, s_next: Tensor) -> WorldModelOutput:
        """Training forward on two states, each (B, 1+N, D); in training mode the codebook may move."""
        quantized = self._quantize(s_t, s_next)
        prediction = self.predict(s_t, quantized.quantized)
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

    def _quantize(self, s_t: Tensor, s_next: Tensor) -> QuantizerOutput:
        """The codebook, or in the first training steps the latents themselves; zeros without action."""
        self.step += self.training
        sizes = self.config.extractor
        if not self.config.use_action:
            latents = s_t.new_zeros(len(s_t), sizes.actions, sizes.action_width)
        else:
            latents = self.extractor(s_t, s_next)
            if not self.training or self.step > self.config.continuous_steps:
                return self.quantizer(latents)
        zero = latents.new_zeros(())
        codes = torch.zeros(latents.shape[:2], dtype=torch.int64, device=latents.device)
        return QuantizerOutput(latents, codes, zero, zero, zero, zero)

    def save(self, path: Path | str, dtype: torch.dtype | None = None, card: dict | None = None) -> None:
        """Write weights and configuration as safetensors; `card` holds further JSON about the training."""
        save_module(self, Path(path), dtype=dtype, card=card)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote. Raises UserError for a file that is no world model."""
        config, tensors = load_module(Path(path), "WorldModel", WorldModelConfig)
        model = cls(config)
        model.load_state_dict(tensors)
        return model.eval()


def token_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over tokens of the root mean square error of states (B, 1+N, D); smooth where it is nearly 0."""
    squares = (prediction.float() - target.float()).square().mean(-1)  # (B, 1+N)
    return (squares + DISTANCE_FLOOR).sqrt().mean()
