"""A start for autoencoders that are trained for minutes: the network begins as a linear (PCA) codec."""

from typing import cast

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from uwm.models.mae import MaskedAutoencoder
from uwm.models.patches import patchify

BATCH = 64  # images per forward pass: bounds the memory, changes nothing else
EIGENVALUE_FLOOR = 1e-6  # of the largest: directions without variance are not blown up


@torch.no_grad()
def warm_start(
    mae: MaskedAutoencoder,
    images: Tensor,
    *,
    spectrum_power: float = 0.5,
    token_scale: float = 0.3,
    ridge: float = 1e-5,
) -> None:
    """Set the weights of `mae` such that its unmasked reconstruction of such `images` is good at once.

    images: (B, 3, H, W) in [0, 1], training images; some hundred are enough.

    1. The patch embedding is the projection on the patches' top D principal components (of the normalised
       pixels, mean removed through the bias). Component i, of variance l_i, gets the variance
       token_scale^2 * l_i^p / mean_j(l_j^p), p = `spectrum_power`: 1 keeps the variances of PCA, 0 whitens.
       The tokens' root mean square is thus `token_scale`, where that of the fixed positions is 0.7. (The
       encoder's LayerNorm divides each token by its norm, contrast included; the larger the positions'
       share in that norm, the more linear the codec.) Each component has one channel, the strong ones
       those where the positions vary least: see `_quiet_channels`.
    2. All residual branches start at zero (`attn.proj`, `mlp.fc2`): both transformers are the identity.
    3. `decoder_embed` moves the encoder's quiet channels to the decoder's (a partial permutation; the
       identity for equal widths), and `decoder_pred` is fitted by ridge regression from the decoder's final
       tokens to the target patches; the penalty is `ridge` times the tokens' mean variance.

    Raises ValueError if the encoder is wider than a patch has values.
    """
    _set_patch_embedding(mae, images, spectrum_power, token_scale)
    for block in [*mae.blocks, *mae.decoder_blocks]:
        _silence(cast(Block, block))
    shared = min(mae.config.encoder_width, mae.config.decoder_width)
    source, target = _quiet_channels(mae.pos_embed), _quiet_channels(mae.decoder_pos_embed)
    nn.init.zeros_(mae.decoder_embed.weight)
    mae.decoder_embed.weight[target[:shared], source[:shared]] = 1.0
    nn.init.zeros_(mae.decoder_embed.bias)
    _fit_prediction(mae, images, ridge)


def _set_patch_embedding(mae: MaskedAutoencoder, images: Tensor, power: float, scale: float) -> None:
    width, values = mae.config.encoder_width, mae.config.patch_values
    if width > values:
        raise ValueError(f"an encoder {width} wide has more channels than a patch has values ({values})")
    patches = _Moments(values)
    for batch in images.split(BATCH):
        patches.add(patchify(mae.normalise(batch), mae.config.patch_size))
    variances, directions = torch.linalg.eigh(patches.covariance())  # ascending
    variances, directions = variances.flip(0)[:width], directions.flip(1)[:, :width]  # (D,), (P*P*3, D)
    variances = variances.clamp_min(EIGENVALUE_FLOOR * variances[0])
    gain = scale * variances ** ((power - 1) / 2) / (variances**power).mean().sqrt()
    signs = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True)).sign()  # else arbitrary
    rows = torch.empty_like(directions.T)  # (D, P*P*3), values in the order of `patchify`
    rows[_quiet_channels(mae.pos_embed)] = (directions * signs * gain).T
    p = mae.config.patch_size
    mae.patch_embed.proj.weight.copy_(rows.reshape(width, p, p, 3).permute(0, 3, 1, 2))  # (D, 3, P, P)
    cast(Tensor, mae.patch_embed.proj.bias).copy_(-(rows @ patches.mean()))


def _quiet_channels(positions: Tensor) -> Tensor:
    """Channels (D,) of positions (1, 1 + N, D), from those that vary least over the places to the most.

    A read-out shared by all places can't tell content from position where the positions vary, so the
    weakest components belong there.
    """
    return positions[0, 1:].var(dim=0).argsort(stable=True)


def _silence(block: Block) -> None:
    for layer in (block.attn.proj, block.mlp.fc2):
        for parameter in cast(nn.Linear, layer).parameters():
            nn.init.zeros_(parameter)


def _fit_prediction(mae: MaskedAutoencoder, images: Tensor, ridge: float) -> None:
    width = mae.config.decoder_width
    joint = _Moments(width + mae.config.patch_values)
    for batch in images.split(BATCH):
        tokens = mae.decode_tokens(mae.encode(batch))[:, 1:]
        joint.add(torch.cat([tokens, mae.target_patches(mae.normalise(batch))], dim=-1))
    covariance, mean = joint.covariance(), joint.mean()
    inputs, cross = covariance[:width, :width], covariance[:width, width:]
    penalty = ridge * inputs.diagonal().mean() * torch.eye(width, dtype=inputs.dtype, device=inputs.device)
    solution = torch.linalg.solve(inputs + penalty, cross)  # (Dd, P*P*3)
    mae.decoder_pred.weight.copy_(solution.T)
    mae.decoder_pred.bias.copy_(mean[width:] - mean[:width] @ solution)


class _Moments:
    """Mean and covariance of vectors that come in batches, in float64."""

    def __init__(self, values: int) -> None:
        self.count = 0
        self.sum = torch.zeros(values, dtype=torch.float64)
        self.products = torch.zeros(values, values, dtype=torch.float64)

    def add(self, vectors: Tensor) -> None:
        rows = vectors.flatten(0, -2).double()  # (rows, values)
        self.count += len(rows)
        self.sum = self.sum.to(rows.device) + rows.sum(dim=0)
        self.products = self.products.to(rows.device) + rows.T @ rows

    def mean(self) -> Tensor:
        return self.sum / self.count

    def covariance(self) -> Tensor:
        mean = self.mean()
        return self.products / self.count - torch.outer(mean, mean)
