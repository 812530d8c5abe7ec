"""FICC (Ye et al. 2022), the method's stated ancestor, as section 3 of the paper tells it (eq. 6).

Representation R, inverse dynamics and dynamics D are learnt together from pairs of frames; nothing is
pre-trained or frozen. One discrete code stands for a transition.
"""

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uwm.bounds import Bounded, Depth, NotNegative, Pixels, Positive, Width, check_bounds
from uwm.models.action_extractor import ActionExtractor, ActionExtractorConfig
from uwm.models.dynamics import Dynamics, DynamicsConfig
from uwm.models.quantizer import QuantizerConfig, VectorQuantizer
from uwm.models.seeding import seeded_draws
from uwm.models.storage import StoredModel
from uwm.models.tokens import LatentActions, TokenConfig, fit


@dataclass(frozen=True)
class FICCConfig(Bounded):
    """Eq. 6 fixes the loss; the networks' sizes are ours, near those of the world model beside it."""

    image_size: Pixels | None = None  # pixels, square; None: the world model's
    channels: tuple[Width, ...] = (32, 64, 96, 128)  # of R's convolutions, each of which halves the picture
    heads: Width = 4
    inverse_depth: Depth = 4
    dynamics_depth: Depth = 2
    action_width: Width = 64
    quantize: bool = True  # False: the latent action as it is, so that the codebook's part can be told
    # One code a transition (section 3), so a batch of 32 uses 32 codes at most: a small codebook, and no
    # alarm, since a collapse of this method is a result.
    quantizer: QuantizerConfig = field(
        default_factory=lambda: QuantizerConfig(codes=64, codebook_update="ema", collapse_perplexity=0.0)
    )
    alpha: NotNegative = 1.0  # weight of the quantiser's loss (section 3)
    # Of a pixel under p: -ln p of a normal distribution is the squared error over twice this. Eq. 6 gives
    # none; with a variance of 1 (and means over pixels) the cosine alone would rule: all states alike.
    pixel_variance: Positive = 0.01

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.image_size and self.image_size % 2 ** len(self.channels):
            raise ValueError(f"image_size {self.image_size} is no multiple of {2 ** len(self.channels)}")
        if self.quantizer.width != self.action_width:
            raise ValueError(f"codes have width {self.quantizer.width}, latents {self.action_width}")

    def fitted(self, image_size: int) -> Self:
        """For pictures of this size. ValueError where another one was set."""
        return replace(self, image_size=fit("image_size", self.image_size, image_size))


class FICCLoss(NamedTuple):
    """The terms of eq. 6, as means, and of the quantiser."""

    loss: Tensor
    similarity: Tensor  # -cos(predicted s_t+1, s_t+1), mean over tokens
    difference: Tensor  # squared error of the decoded o_t+1 - o_t
    reconstruction: Tensor  # squared error of the decoded o_t
    quantizer_loss: Tensor
    perplexity: Tensor


class Upsampler(nn.Sequential):
    """Transposed convolutions, (B, C, g, g) -> (B, 3, S, S): R's in reverse."""

    def __init__(self, inputs: int, channels: tuple[int, ...]) -> None:
        layers: list[nn.Module] = [nn.Conv2d(inputs, channels[-1], 1), nn.GELU()]
        widths = [*reversed(channels), 3]
        for before, after in itertools.pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.GELU()]
        super().__init__(*layers[:-1])


class FICC(StoredModel):
    """Forward-inverse cycle consistency. `seed` draws the weights."""

    config_type = FICCConfig

    def __init__(self, config: FICCConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = c = config
        if c.image_size is None:
            raise ValueError("FICC's picture size is not known yet: config.fitted(image_size) sets it")
        self.image_size, width = c.image_size, c.channels[-1]
        grid = c.image_size // int(2 ** len(c.channels))  # tokens along one side of a state
        self.tokens = TokenConfig(width, 1 + grid**2, num_action_tokens=1, action_width=c.action_width)
        with seeded_draws(seed):
            self.representation = self._convolutions(c.channels)
            self.extractor = ActionExtractor(
                ActionExtractorConfig(depth=c.inverse_depth, heads=c.heads), self.tokens
            )
            self.quantizer = VectorQuantizer(c.quantizer)
            self.dynamics = Dynamics(
                DynamicsConfig(depth=c.dynamics_depth, heads=c.heads, output="state", residual=True),
                self.tokens,
            )
            self.frame_decoder = Upsampler(width, c.channels)
            self.difference_decoder = Upsampler(width + c.action_width, c.channels)

    @staticmethod
    def _convolutions(channels: tuple[int, ...]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for before, after in zip((3, *channels[:-1]), channels, strict=True):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GELU()]
        return nn.Sequential(*layers[:-1])

    def represent(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [0, 1] -> states (B, 1+N, D): the tokens' mean, then the tokens in raster
        order, all of unit variance over their channels (a cosine fixes no length)."""
        tokens = self.representation(2 * images - 1).flatten(2).transpose(1, 2)  # (B, N, D)
        return self._unit(torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1))

    def infer_actions(self, s_t: Tensor, s_next: Tensor) -> LatentActions:
        """One latent action per transition: tensors of length 1 along their second dimension."""
        latents = self.extractor(s_t, s_next)  # (B, 1, W)
        codes = self.quantizer.encode(latents)
        return LatentActions(
            latents, self.quantizer.lookup(codes) if self.config.quantize else latents, codes
        )

    def predict(self, s_t: Tensor, action: Tensor) -> Tensor:
        """`s_t` (B, 1+N, D), `action` (B, 1, W) -> predicted s_t+1 (B, 1+N, D)."""
        return self._unit(self.dynamics(s_t, action))

    def decode(self, states: Tensor) -> Tensor:
        """States (B, 1+N, D) -> images (B, 3, S, S) in [0, 1]."""
        return self.frame_decoder(self._picture(states)).clamp(0, 1)

    def forward(self, o_t: Tensor, o_next: Tensor) -> FICCLoss:
        """Eq. 6 on images (B, 3, S, S) in [0, 1]; in training mode the codebook may move."""
        s_t, s_next = self.represent(torch.cat([o_t, o_next])).chunk(2)
        latents = self.extractor(s_t, s_next)
        quantized = self.quantizer(latents)
        action = quantized.quantized if self.config.quantize else latents
        quantizer_loss = quantized.loss if self.config.quantize else quantized.loss.new_zeros(())
        similarity = -F.cosine_similarity(self.predict(s_t, action), s_next, dim=-1).mean()
        picture = self._picture(s_t)
        everywhere = action.transpose(1, 2)[..., None].expand(-1, -1, *picture.shape[2:])  # (B, W, g, g)
        difference = F.mse_loss(
            self.difference_decoder(torch.cat([picture, everywhere], dim=1)), o_next - o_t
        )
        reconstruction = F.mse_loss(self.frame_decoder(picture), o_t)
        pixels = (difference + reconstruction) / (2 * self.config.pixel_variance)
        loss = similarity + pixels + self.config.alpha * quantizer_loss
        return FICCLoss(loss, similarity, difference, reconstruction, quantizer_loss, quantized.perplexity)

    def _picture(self, states: Tensor) -> Tensor:
        """The patch tokens as a picture: (B, 1+N, D) -> (B, D, g, g)."""
        side = math.isqrt(states.shape[1] - 1)
        return states[:, 1:].transpose(1, 2).unflatten(2, (side, side))

    @staticmethod
    def _unit(states: Tensor) -> Tensor:
        return F.layer_norm(states, states.shape[-1:])
