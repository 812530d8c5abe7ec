"""Masked autoencoder (paper section 3; He et al. 2022): states from images and images from states.

Parameter names follow the published checkpoints (`patch_embed.proj`, `blocks`, `decoder_blocks`, ...),
so that a FAIR file is a plain state dict of this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple, Self, cast

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn

from uwm.bounds import Bounded, Depth, Pixels, Positive, Range, Width, check_bounds
from uwm.errors import BadInput, UserError
from uwm.files import home_path
from uwm.models import mae_weights
from uwm.models.blocks import transformer_blocks
from uwm.models.boundary import check_images, check_precision, check_tensor
from uwm.models.mae_weights import Contents, Heads
from uwm.models.patches import (
    draw_masking,
    masked_error,
    patch_statistics,
    patchify,
    sincos_positions,
    take_tokens,
    unpatchify,
)
from uwm.models.seeding import seeded_draws
from uwm.models.storage import StoredModel

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class MAEConfig(Bounded):
    """Sizes of the autoencoder; the defaults are ViT-B with the 8 x 512 decoder of He et al. (2022)."""

    presets: ClassVar[Mapping[str, "MAEConfig"]]  # by name, for the command line

    image_size: Pixels = 224  # pixels, square
    patch_size: Pixels = 16
    encoder_width: Width = 768
    encoder_depth: Depth = 12
    encoder_heads: Width = 12
    decoder_width: Width = 512
    decoder_depth: Depth = 8
    decoder_heads: Width = 16
    mlp_ratio: Annotated[float, Range(above=0, high=64)] = 4.0
    norm_pix_loss: bool = False  # the decoder predicts patches with their own mean and variance removed
    layer_norm_eps: Positive = 1e-6

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}")
        for part in ("encoder", "decoder"):
            width, heads = getattr(self, f"{part}_width"), getattr(self, f"{part}_heads")
            if width % heads or width % 4:  # 4: sine and cosine of two coordinates
                raise ValueError(f"{part}_width {width} must be a multiple of 4 and of {part}_heads {heads}")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """N, the number of patches; a state has 1 + N tokens."""
        return self.grid**2

    @property
    def state_size(self) -> tuple[int, int]:
        """(1 + N, D) of a state: CLS and the patches, and the numbers of each token."""
        return 1 + self.tokens, self.encoder_width

    @property
    def patch_values(self) -> int:
        """P * P * 3, the values of one patch."""
        return self.patch_size**2 * 3


MAE_PRESETS: dict[str, MAEConfig] = {
    "base": MAEConfig(),
    "large": MAEConfig(encoder_width=1024, encoder_depth=24, encoder_heads=16),
    # The ViT-S that the paper's authors trained for themselves.
    "small": MAEConfig(
        encoder_width=384, encoder_heads=6, decoder_width=384, decoder_depth=4, decoder_heads=6
    ),
    "mini": MAEConfig(
        image_size=112,
        encoder_width=128,
        encoder_depth=6,
        encoder_heads=4,
        decoder_width=128,
        decoder_depth=3,
        decoder_heads=4,
    ),
    # For tests and the `smoke` scale.
    "tiny": MAEConfig(
        image_size=64,
        encoder_width=48,
        encoder_depth=1,
        encoder_heads=2,
        decoder_width=48,
        decoder_depth=1,
        decoder_heads=2,
    ),
}
MAEConfig.presets = MAE_PRESETS


class MAEOutput(NamedTuple):
    """What a training step needs; `mask` is 1 where a patch was hidden from the encoder."""

    loss: Tensor  # scalar: mean squared error in normalised pixels
    prediction: Tensor  # (B, N, P*P*3)
    mask: Tensor  # (B, N)


class MaskedAutoencoder(StoredModel):
    """ViT encoder and lightweight ViT decoder (paper section 3); ImageNet normalisation happens inside.

    `seed` draws the initial weights (Xavier, as He et al. 2022), and leaves torch's generators as they were.
    """

    config_type = MAEConfig

    cls_token: nn.Parameter
    mask_token: nn.Parameter
    pos_embed: Tensor
    decoder_pos_embed: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, config: MAEConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = c = config
        norm = cast(type[nn.LayerNorm], partial(nn.LayerNorm, eps=c.layer_norm_eps))
        blocks = partial(transformer_blocks, mlp_ratio=c.mlp_ratio, layer_norm_eps=c.layer_norm_eps)
        with seeded_draws(seed):
            self.patch_embed = PatchEmbed(c.image_size, c.patch_size, 3, c.encoder_width)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, c.encoder_width))
            self.blocks = blocks(c.encoder_width, c.encoder_depth, c.encoder_heads)
            self.norm = norm(c.encoder_width)
            self.decoder_embed = nn.Linear(c.encoder_width, c.decoder_width)
            self.mask_token = nn.Parameter(torch.zeros(1, 1, c.decoder_width))
            self.decoder_blocks = blocks(c.decoder_width, c.decoder_depth, c.decoder_heads)
            self.decoder_norm = norm(c.decoder_width)
            self.decoder_pred = nn.Linear(c.decoder_width, c.patch_values)
        self.register_buffer("pos_embed", sincos_positions(c.encoder_width, c.grid))
        self.register_buffer("decoder_pos_embed", sincos_positions(c.decoder_width, c.grid))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self._initialise(torch.Generator().manual_seed(seed))

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> states (B, 1 + N, D): CLS, then all patches in raster order.

        Nothing is masked or shuffled, so token n of two frames shows the same place. The states come after
        the encoder's LayerNorm. Raises `ValueError` for images of another size, kind or range.
        """
        return self._encode_tokens(self._embed(self.normalise(images)))

    def decode(self, states: Tensor, like: Tensor | None = None) -> Tensor:
        """States (B, 1 + N, D) -> images (B, 3, H, W), clamped to [0, 1].

        A `norm_pix_loss` model predicts patches without mean and variance, which come from the images `like`
        (B, 3, H, W), else `UserError`. States of another shape or precision, or not finite: `ValueError`.
        """
        check_tensor("states", states, (None, *self.config.state_size))
        check_precision("states", states, self.mean)
        if not self.config.norm_pix_loss:
            return self.denormalise_patches(self.decode_patches(states)).clamp(0, 1)
        if like is None:
            raise UserError(
                "this MAE was trained on normalised pixels (norm_pix_loss), so its states alone give no RGB: "
                "pass like=images for the patches' mean and variance, or load a mae_visualize_* checkpoint"
            )
        mean, deviation = patch_statistics(patchify(self.normalise(like), self.config.patch_size))
        if len(like) not in (1, len(states)):
            raise BadInput(f"like is a batch of {len(like)} beside one of {len(states)}")
        return self.denormalise_patches(self.decode_patches(states) * deviation + mean).clamp(0, 1)

    def forward(
        self,
        images: Tensor,
        mask_ratio: float = 0.75,
        generator: torch.Generator | None = None,
        *,
        noise: Tensor | None = None,
    ) -> MAEOutput:
        """Masked training (section 3): mean squared error on the hidden patches; all patches at ratio 0.

        images: (B, 3, H, W) in [0, 1]. The patches with the smallest `noise` (B, N) stay visible; it is
        drawn from `generator` unless given.
        """
        pixels = self.normalise(images)
        target = self.target_patches(pixels)  # (B, N, P*P*3)
        if noise is None:
            where = generator.device if generator is not None else images.device
            noise = torch.rand(target.shape[:2], generator=generator, device=where)
        masking = draw_masking(noise.to(images.device), mask_ratio)
        states = self._encode_tokens(self._embed(pixels, masking.keep))
        prediction = self.decode_patches(states, masking.restore)
        return MAEOutput(masked_error(prediction, target, masking.mask), prediction, masking.mask)

    def normalise(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [0, 1] -> ImageNet-normalised pixels. `ValueError` for others."""
        check_images("images", images, self.config.image_size)
        return (images.to(self.mean.dtype) - self.mean) / self.std

    def target_patches(self, pixels: Tensor) -> Tensor:
        """What the decoder learns to predict for normalised pixels (B, 3, H, W): (B, N, P*P*3)."""
        patches = patchify(pixels, self.config.patch_size)
        if not self.config.norm_pix_loss:
            return patches
        mean, deviation = patch_statistics(patches)
        return (patches - mean) / deviation

    def decode_tokens(self, states: Tensor, restore: Tensor | None = None) -> Tensor:
        """States (B, 1 + M, D) -> the decoder's final tokens (B, 1 + N, Dd), before `decoder_pred`.

        `restore` (B, N) puts mask tokens for the hidden patches; without it M = N, in raster order.
        """
        tokens = self.decoder_embed(states)
        if restore is not None:
            hidden = self.mask_token.expand(len(tokens), restore.shape[1] + 1 - tokens.shape[1], -1)
            patches = torch.cat([tokens[:, 1:], hidden.to(tokens.dtype)], dim=1)  # (B, N, Dd), shuffled
            tokens = torch.cat([tokens[:, :1], take_tokens(patches, restore)], dim=1)
        tokens = tokens + self.decoder_pos_embed
        for block in self.decoder_blocks:
            tokens = block(tokens)
        return self.decoder_norm(tokens)

    def decode_patches(self, states: Tensor, restore: Tensor | None = None) -> Tensor:
        """States (B, 1 + M, D) -> patches (B, N, P*P*3) in the units that the decoder was trained on.

        `restore` (B, N) as in `decode_tokens`.
        """
        return self.decoder_pred(self.decode_tokens(states, restore))[:, 1:]

    def denormalise_patches(self, patches: Tensor) -> Tensor:
        """Patches in ImageNet-normalised pixels (B, N, P*P*3) -> RGB images (B, 3, H, W), not clamped."""
        return unpatchify(patches, self.config.patch_size) * self.std + self.mean

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        norm_pix_loss: bool | None = None,
        encoder_heads: int | None = None,
        decoder_heads: int | None = None,
    ) -> Self:
        """Read a FAIR `.pth` with a decoder, a HF ViTMAE directory or file, or a file written by `save`.

        In float32 and evaluation mode. `norm_pix_loss` overrides what the file or its name says; heads are
        for FAIR's files, which do not tell them (assumed ones give a warning). Raises `UserError` for
        encoder-only files, wrong shapes, missing or unknown keys.
        """
        config, tensors = cls.read(path, norm_pix_loss, {"encoder": encoder_heads, "decoder": decoder_heads})
        model = cls(config)
        model.load_state_dict(tensors)
        return model.eval()

    @classmethod
    def read(
        cls, path: Path | str, norm_pix_loss: bool | None = None, heads: Heads | None = None
    ) -> Contents:
        """The sizes and the checked float32 weights of such a file, without a model of them, as `load`."""
        return mae_weights.read_checked(home_path(path), norm_pix_loss, heads or {}, MAEConfig, cls)

    def _initialise(self, generator: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(cast(Tensor, module.bias))
        projection = self.patch_embed.proj
        nn.init.xavier_uniform_(projection.weight.data.flatten(1), generator=generator)
        nn.init.zeros_(cast(Tensor, projection.bias))
        nn.init.normal_(self.cls_token, std=0.02, generator=generator)
        nn.init.normal_(self.mask_token, std=0.02, generator=generator)

    def _embed(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        """Patch embedding plus positions (B, N, D), or (B, M, D) for the patches `keep` (B, M)."""
        tokens = self.patch_embed(pixels) + self.pos_embed[:, 1:]
        return tokens if keep is None else take_tokens(tokens, keep)

    def _encode_tokens(self, tokens: Tensor) -> Tensor:
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        tokens = torch.cat([cls, tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)
