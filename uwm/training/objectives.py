"""What the trainings minimise: masked reconstruction (section 3) and latent-action prediction (eq. 12)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uwm.data.draws import Draws
from uwm.errors import BadInput, UserError
from uwm.metrics.statistics import perplexity
from uwm.models.mae import MaskedAutoencoder
from uwm.models.world_model import WorldModel

if TYPE_CHECKING:
    from uwm.metrics.perceptual import LPIPS

# SSIM's two constants for pixels of unit variance; they only matter where there is next to no contrast.
SSIM_FLOORS = (1e-4, 9e-4)


class MaskedReconstruction(nn.Module):
    """Trains an MAE on images at several mask ratios at once, an equal share of the batch at each.

    Ratio 0 beside the usual 0.75 makes the decoder good at what the world model asks of it: whole states.
    """

    def __init__(self, mae: MaskedAutoencoder, mask_ratios: tuple[float, ...] = (0.75, 0.0)) -> None:
        super().__init__()
        self.mae = mae
        self.mask_ratios = mask_ratios

    def forward(self, batch: Tensor, draws: Draws) -> dict[str, Tensor]:
        """`batch` (B, 3, H, W) uint8 images -> the loss and the loss of each mask ratio.

        UserError for fewer images than ratios.
        """
        if len(batch) < len(self.mask_ratios):
            raise UserError(
                f"a process gets {len(batch)} of the MAE's images at a time, fewer than the "
                f"{len(self.mask_ratios)} mask_ratios; raise train.batch_size or lower train.accumulate"
            )
        images = batch.float() / 255
        parts = images.tensor_split(len(self.mask_ratios))
        losses = {
            f"loss_mask_{ratio:g}": self.mae(
                part, ratio, noise=draws.rand(len(part), self.mae.config.tokens)
            ).loss
            for ratio, part in zip(self.mask_ratios, parts, strict=True)
        }
        return {"loss": torch.stack(list(losses.values())).mean(), **losses}


class PictureLoss:
    """Distances of the pictures that a predicted and the true next state show, by a frozen MAE's decoder.

    What matters in a state is what can be seen of it. `structure_loss` counts with `structure_weight`, and
    LPIPS by the frozen `network`, if there is one, with `perceptual_weight`. Not a module: no part of what is
    trained. UserError for a network with an MAE that shows no pictures.
    """

    def __init__(
        self,
        decoder: MaskedAutoencoder,
        structure_weight: float = 0.0,
        network: "LPIPS | None" = None,
        perceptual_weight: float = 0.0,
    ) -> None:
        if network and decoder.config.norm_pix_loss:
            raise UserError("an MAE of normalised pixels shows no picture: set the weight of LPIPS to 0")
        self.decoder, self.network = decoder.eval().requires_grad_(False), network
        self.weights = {"picture_loss": structure_weight, "lpips": perceptual_weight}
        self._measure = self._distances

    @property
    def counts(self) -> bool:
        """Whether any weight is above zero."""
        return bool(self.weights["picture_loss"] or self.network)

    def __call__(self, prediction: Tensor, s_next: Tensor) -> dict[str, Tensor]:
        """States (B, 1+N, D) -> the terms by name, not weighted."""
        return self._measure(prediction, s_next)

    def record(self, s_next: Tensor) -> None:
        """Run as CUDA graphs from now on, for states of this shape."""
        decoded = s_next.clone().requires_grad_()
        recorded: Any = torch.cuda.make_graphed_callables(self._distances, (decoded, s_next.clone()))
        self._measure = recorded

    def _distances(self, prediction: Tensor, s_next: Tensor) -> dict[str, Tensor]:
        decoder = self.decoder.to(s_next.device)
        with torch.no_grad():
            target = decoder.decode_patches(s_next)
        decoded = decoder.decode_patches(prediction)
        losses = {"picture_loss": structure_loss(decoded, target, decoder.config.patch_size)}
        if self.network is not None:
            images = (decoder.denormalise_patches(patches).clamp(0, 1) for patches in (decoded, target))
            losses["lpips"] = self.network.to(s_next.device).loss(*images).mean()
        return losses

    def weighted(self, terms: dict[str, Tensor]) -> "Tensor | int":
        """The sum of the terms, each times its weight."""
        return sum(self.weights[name] * value for name, value in terms.items())


class LatentActionPrediction(nn.Module):
    """Trains a world model on pairs of states (eq. 12), or on pairs of images through a frozen MAE.

    With a `picture` loss, that of what prediction and true next state show is added.
    """

    def __init__(
        self,
        world_model: WorldModel,
        mae: MaskedAutoencoder | None = None,
        picture: PictureLoss | None = None,
    ) -> None:
        super().__init__()
        self.world_model = world_model
        # A tuple: not a part of the state.
        self._mae = (mae.eval().requires_grad_(False),) if mae else None
        self.picture = picture if picture and picture.counts else None

    def forward(self, batch: Tensor, draws: Draws) -> dict[str, Tensor]:
        """`batch`: states (B, 2, 1+N, D), or uint8 images (B, 2, 3, H, W) where an MAE was given."""
        states = self._encode(batch) if self._mae else batch.float()
        out = self.world_model(states[:, 0], states[:, 1])
        terms = self.picture(out.prediction, states[:, 1]) if self.picture else {}
        return {
            "loss": out.loss + (self.picture.weighted(terms) if self.picture else 0),
            **terms,
            "state_mse": out.state_mse,
            "quantizer_loss": out.quantizer_loss,
            "perplexity": out.perplexity,
            "used": out.used,
            "ema_perplexity": out.ema_perplexity,
        }

    def record(self, batch: Tensor) -> None:
        """Run extractor, dynamics and picture loss as CUDA graphs, for batches (B, 2, 1+N, D) of this shape.

        Each is then one launch. In a small model the launching of its kernels takes longer than they do. The
        codebook is not among them, since it looks at its own counts. Nor is an extractor that stays as it is:
        in evaluation mode as it is, its graph would run in validation too, whose batches are others.
        Recording runs each part a few times, of which nothing may remain.
        """
        world, (s_t, s_next) = self.world_model, batch.float().unbind(1)
        before = {name: buffer.clone() for name, buffer in world.named_buffers()}
        tokens = world.config.tokens
        action = s_t.new_zeros(len(s_t), tokens.num_action_tokens, tokens.action_width, requires_grad=True)
        if world.extractor.training:
            torch.cuda.make_graphed_callables(world.extractor, (s_t.clone(), s_next.clone()))
        torch.cuda.make_graphed_callables(world.dynamics, (s_t.clone(), action), allow_unused_input=True)
        if self.picture:
            self.picture.record(s_next)
        for name, buffer in world.named_buffers():
            buffer.copy_(before[name])

    def _encode(self, images: Tensor) -> Tensor:
        assert self._mae is not None
        mae = self._mae[0].to(images.device)
        with torch.inference_mode():
            states = mae.encode(images.flatten(0, 1).float() / 255)  # (2B, 1+N, D)
        return states.clone().unflatten(0, (-1, 2))  # a backward pass keeps no tensor of inference mode


def structure_loss(
    patches: Tensor, target: Tensor, patch_size: int, cells: tuple[int, ...] = (4, 8)
) -> Tensor:
    """1 - SSIM (Wang et al. 2004) of patches (B, N, P*P*3): its windows, side by side, are `cells` px wide.

    Blur counts as much where contrast is low as where it is high. It shares no weights with the networks that
    LPIPS measures with. In fp32, whatever the training's precision: a variance is a difference of squares,
    of which bf16 leaves nothing where contrast is low.
    """
    losses = []
    with torch.autocast(patches.device.type, enabled=False):
        for cell in cells:
            shape = (patch_size // cell, cell, patch_size // cell, cell, 3)
            x, y = (side.float().unflatten(2, shape) for side in (patches, target))
            means = (z.mean((3, 5)) for z in (x, y, x * x, y * y, x * y))
            mean_x, mean_y, square_x, square_y, product = means
            light = _likeness(mean_x * mean_y, mean_x.square() + mean_y.square(), SSIM_FLOORS[0])
            spread = square_x - mean_x.square() + square_y - mean_y.square()
            losses.append(1 - (light * _likeness(product - mean_x * mean_y, spread, SSIM_FLOORS[1])).mean())
        return torch.stack(losses).mean()


def _likeness(product: Tensor, squares: Tensor, floor: float) -> Tensor:
    return (2 * product + floor) / (squares + floor)


@torch.no_grad()
def action_gap(
    world_model: WorldModel, pairs: Iterable[Tensor], generator: torch.Generator
) -> dict[str, float]:
    """State errors on held-out pairs: with their own actions, with another pair's, and of copying s_t.

    `pairs` are batches of states (B, 2, 1+N, D), B > 1. The *action gap*, shuffled minus own, is zero while
    the dynamics ignore the action, however far the training loss has fallen.
    """
    was_training, device = world_model.training, world_model.step.device
    world_model.eval()
    sums = torch.zeros(3, dtype=torch.float64)
    count, bits = 0, 0.0
    codes = []
    for states in pairs:
        s_t, s_next = states.to(device, torch.float32).unbind(1)
        actions = world_model.infer_actions(s_t, s_next)
        other = actions.quantized[derangement(len(s_t), generator)]
        predictions = (world_model.predict(s_t, actions.quantized), world_model.predict(s_t, other), s_t)
        sums += torch.stack([F.mse_loss(p, s_next) for p in predictions]).double().cpu() * len(s_t)
        count += len(s_t)
        codes.append(actions.codes.flatten())
        bits += float(world_model.bits(s_t, s_next).double().sum())
    world_model.train(was_training)
    own, shuffled, copy = (sums / count).tolist()
    metrics = {
        "state_mse": own,
        "state_mse_shuffled": shuffled,
        "state_mse_copy": copy,
        "action_gap": shuffled - own,
    }
    if world_model.config.bottleneck.kind != "codes":
        return metrics | {"bits": bits / count}
    return metrics | {
        "perplexity": perplexity(code_counts(torch.cat(codes), world_model.config.quantizer.codes))
    }


def pair_batches(pairs: Tensor, size: int = 64) -> list[Tensor]:
    """`pairs` (n, ...) in batches of `size`, none of a single pair: such a last one joins the one before."""
    batches = list(pairs.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [pairs[-size - 1 :]]
    return batches


def code_counts(codes: Tensor, size: int) -> np.ndarray:
    """How often each of `size` codes occurs in `codes` (int64 of any shape): (size,) int64."""
    return torch.bincount(codes.flatten().cpu(), minlength=size).numpy()


def derangement(n: int, generator: torch.Generator) -> Tensor:
    """A permutation of n >= 2 that leaves no pair its own action: a shift of a random order.

    Raises:
        BadInput: fewer than two, of which one would keep its own.
    """
    if n < 2:
        raise BadInput(f"another pair's action is one of at least two pairs, and there are {n}")
    order = torch.randperm(n, generator=generator)
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    return other
