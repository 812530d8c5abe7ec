"""Continuous latent actions that a noise limits, in the codebook's place.

A codebook of K codes lets L log2 K bits through. Numbers let any amount through, unless noise is added to
them. Two kinds of it:

- "gaussian": the extractor gives a mean and a variance, and the dynamics read a draw (a variational
  autoencoder, Kingma & Welling 2014; of latent actions, AdaWorld, Gao et al. 2025, with 32 numbers). Its rate
  is the divergence from the prior N(0, 1), in bits: what a draw costs to be sent, and an upper bound of the
  mutual information between transition and action. The loss holds it times `kl_weight`.
- "noise": actions of power 1, and white noise of a given power on top. No more than the channel's capacity,
  1/2 log2(1 + 1 / noise) bits for each number, gets through (Shannon 1948), whatever is learnt. After the
  constrained continuous actions of "Learning Latent Action World Models In The Wild".

The noise is there in evaluation too: without it, the dynamics would read more than the stated bits. It is the
same at every call for the same place in a batch, and has nothing to do with the pair.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from uwm.bounds import Bounded, Natural, NotNegative, OutOfBounds, Positive
from uwm.models.quantizer import QuantizerOutput
from uwm.models.tokens import LatentActions

POWER_FLOOR = 1e-6  # below it, an action of nearly 0 is not blown up to power 1
# Log variances beyond these are as good as none and all of the noise; their exponentials stay finite.
LOG_VARIANCE = (-12.0, 6.0)


@dataclass(frozen=True)
class BottleneckConfig(Bounded):
    """What limits a latent action: the codebook, or a noise."""

    kind: Literal["codes", "gaussian", "noise"] = "codes"
    # Of the divergence in nats, summed over a transition's numbers, beside the mean squared error of a state.
    kl_weight: NotNegative = 2e-4  # AdaWorld's, beside that of a picture
    noise: Positive = 1.0  # its power, over the action's
    seed: Natural = 0  # of the noise, together with the step

    def capacity(self, numbers: int) -> float | None:
        """Bits that so many numbers can carry; None where that depends on the transition."""
        return numbers / 2 * math.log2(1 + 1 / self.noise) if self.kind == "noise" else None

    def check(self, standardize: str, continuous_steps: int) -> None:
        """OutOfBounds for settings of extractor and training that make no sense without a codebook."""
        if self.kind == "gaussian" and standardize != "none":
            raise OutOfBounds(
                f"bottleneck gaussian gives its own scale: set extractor.standardize=none, not {standardize}"
            )
        if continuous_steps:
            raise OutOfBounds(
                f"continuous_steps come before a codebook: 0 with bottleneck {self.kind}, "
                f"not {continuous_steps}"
            )


class ContinuousBottleneck(nn.Module):
    """What both kinds share. In training each call is one step, with a noise of its own, on each rank."""

    step: Tensor
    outputs = 1  # numbers that the extractor gives for each of an action's

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def settle(self, latents: Tensor) -> LatentActions:
        """What the dynamics read of an action (B, L, W) that an adapter gives. No noise is added: the
        adapter has not seen the next frame, of which noise should hide a part."""
        raise NotImplementedError

    def _noise(self, like: Tensor) -> Tensor:
        """Standard normal numbers (B, L, W)."""
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        of = (self.config.seed, int(self.step), rank) if self.training else (self.config.seed,)
        seed = int(np.random.SeedSequence(of).generate_state(1)[0])
        generator = torch.Generator(like.device).manual_seed(seed)
        return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)

    def _output(self, drawn: Tensor, loss: Tensor) -> QuantizerOutput:
        """A training's output, without codes; counts a step."""
        if self.training:
            self.step += 1
        zero = drawn.new_zeros(())
        return QuantizerOutput(drawn, no_codes(drawn), loss, zero, zero, zero)


class GaussianBottleneck(ContinuousBottleneck):
    """A draw from N(mean, variance), whose divergence from N(0, 1) is its price."""

    outputs = 2

    def forward(self, moments: Tensor) -> QuantizerOutput:
        """Means and log variances (B, L, 2W) -> a draw (B, L, W), and the weighted divergence as loss."""
        mean, log_variance = split_moments(moments)
        drawn = mean + (log_variance / 2).exp() * self._noise(mean)
        return self._output(drawn, self.config.kl_weight * divergence(mean, log_variance).mean())

    def infer(self, moments: Tensor) -> LatentActions:
        """The mean, and a draw. Changes nothing."""
        mean, log_variance = split_moments(moments)
        drawn = mean + (log_variance / 2).exp() * self._noise(mean)
        return LatentActions(mean, drawn, no_codes(drawn))

    def settle(self, latents: Tensor) -> LatentActions:
        return LatentActions(latents, latents, no_codes(latents))

    def bits(self, moments: Tensor) -> Tensor:
        """The divergence of each transition, (B,), in bits."""
        return divergence(*split_moments(moments)) / math.log(2)


class NoiseBottleneck(ContinuousBottleneck):
    """An action of power 1 with white noise on top."""

    def forward(self, latents: Tensor) -> QuantizerOutput:
        """Latents (B, L, W) -> what is read of them (B, L, W); it costs nothing."""
        return self._output(self.infer(latents).quantized, latents.new_zeros(()))

    def infer(self, latents: Tensor) -> LatentActions:
        """The latents, and what is read of them. Changes nothing."""
        signal = of_power_one(latents)
        drawn = signal + math.sqrt(self.config.noise) * self._noise(signal)
        return LatentActions(latents, drawn, no_codes(drawn))

    def settle(self, latents: Tensor) -> LatentActions:
        signal = of_power_one(latents)
        return LatentActions(latents, signal, no_codes(signal))


def continuous_bottleneck(config: BottleneckConfig) -> GaussianBottleneck | NoiseBottleneck | None:
    """The bottleneck of a config; None for a codebook, which has a config of its own."""
    if config.kind == "codes":
        return None
    return GaussianBottleneck(config) if config.kind == "gaussian" else NoiseBottleneck(config)


def split_moments(moments: Tensor) -> tuple[Tensor, Tensor]:
    """(B, L, 2W) -> means and bounded log variances, (B, L, W) each."""
    mean, log_variance = moments.chunk(2, dim=-1)
    return mean, log_variance.clamp(*LOG_VARIANCE)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) in nats, summed over the numbers (B, L, W) of a transition: (B,)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2)) / 2


def of_power_one(latents: Tensor) -> Tensor:
    """Latents (B, L, W), those of each transition scaled to a mean square of 1."""
    return latents * torch.rsqrt(latents.square().mean((1, 2), keepdim=True) + POWER_FLOOR)


def no_codes(like: Tensor) -> Tensor:
    """The codes of actions (B, L, W) that have none: (B, 0)."""
    return torch.zeros(len(like), 0, dtype=torch.int64, device=like.device)
