"""What trainings on action-labelled data minimise: adapter (eq. 13), decoder, the compared methods."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uwm.data.draws import Draws
from uwm.errors import UserError
from uwm.models import ActionAdapter, MaskedAutoencoder, VectorQuantizer, WorldModel
from uwm.models.tokens import regions_of_patches
from uwm.training.distributed import environment_ranks, sum_over_ranks
from uwm.training.objectives import PictureLoss

if TYPE_CHECKING:
    from uwm.baselines.ficc import FICC
    from uwm.metrics.perceptual import LPIPS

ActionBatch = dict[str, Tensor]


class OnLabelledPairs(nn.Module):
    """Reads batches of labelled pairs: `actions` (B, T, A) and `mask` (B, T) bool beside `states`
    (B, 2, 1+N, D) or, where a frozen MAE is given, uint8 `images` (B, 2, 3, S, S)."""

    def __init__(self, mae: MaskedAutoencoder | None = None) -> None:
        super().__init__()
        self._mae = (mae.eval().requires_grad_(False),) if mae else None  # a tuple: no part of the state

    def states(self, batch: ActionBatch) -> tuple[Tensor, Tensor]:
        """s_t and s_t+1, each (B, 1+N, D)."""
        if "states" in batch:
            s_t, s_next = batch["states"].float().unbind(1)
            return s_t, s_next
        assert self._mae is not None
        images = batch["images"]
        with torch.inference_mode():
            states = self._mae[0].to(images.device).encode(images.flatten(0, 1).float() / 255)  # (2B, 1+N, D)
        s_t, s_next = states.clone().unflatten(0, (-1, 2)).unbind(1)
        return s_t, s_next


class AdapterRegression(OnLabelledPairs):
    """Trains an adapter towards the latent actions of a frozen world model (eq. 13), or towards what the
    world model predicts best from (target "prediction")."""

    def __init__(
        self,
        adapter: ActionAdapter,
        world_model: "WorldModel | FICC",
        mae: MaskedAutoencoder | None = None,
        change_weight: float = 0.0,
        commitment: float = 0.0,
    ) -> None:
        super().__init__(mae)
        if change_weight and adapter.tokens.action_source != "regions":
            raise UserError(
                "change_weight needs tokens with a place: set change_weight=0, or action_source=regions"
            )
        self.adapter, self.change_weight, self.commitment = adapter, change_weight, commitment
        self._world_model = (world_model.eval().requires_grad_(False),)

    def forward(self, batch: ActionBatch, draws: Draws) -> dict[str, Tensor]:
        """The loss. A batch may bring its pairs' `latents` (B, L, W) and `codes` (B, L), computed before."""
        world_model = self._world_model[0].to(batch["actions"].device)
        s_t, s_next = self.states(batch)
        if self.adapter.config.target == "prediction":
            return self._predicting(s_t, s_next, self.adapter(s_t, batch["actions"], batch["mask"]))
        if "codes" in batch:
            codes, latents = batch["codes"].long(), batch["latents"].float()
        else:
            with torch.no_grad():
                latents, _, codes = world_model.infer_actions(s_t, s_next)
        output = self.adapter(s_t, batch["actions"], batch["mask"])
        target = self.adapter.config.target
        if target == "codes":
            error = F.cross_entropy(output.flatten(0, 1), codes.flatten(), reduction="none")
            error = error.view_as(codes)  # (B, L)
        else:
            expected = latents
            if target == "quantized":
                assert isinstance(world_model.quantizer, VectorQuantizer)
                expected = world_model.quantizer.lookup(codes)
            error = (output - expected).square().mean(-1)  # (B, L)
        return {"loss": (error * self._weights(s_t, s_next)).mean()}

    def _weights(self, s_t: Tensor, s_next: Tensor) -> Tensor:
        """The weight of each latent action in the loss, (B, L): 1 on average, and more where the state
        changes. Most regions of a frame stand still; their latents are noise, which no action predicts."""
        tokens = self.adapter.tokens
        if not self.change_weight:
            return s_t.new_ones(len(s_t), tokens.num_action_tokens)
        change = (s_next - s_t)[:, 1:].square().mean(-1, keepdim=True)  # (B, N, 1)
        regions = regions_of_patches(change, tokens.num_action_tokens // tokens.codes_per_region).flatten(1)
        weights = 1 + self.change_weight * (regions / _over_ranks(regions.mean())).sqrt()  # (B, L / c)
        return (weights / _over_ranks(weights.mean())).repeat_interleave(tokens.codes_per_region, dim=1)

    def _predicting(self, s_t: Tensor, s_next: Tensor, latents: Tensor) -> dict[str, Tensor]:
        """The error of the prediction from the nearest codes, whose gradient goes straight through them, and
        how far the latents are from these (as eq. 12's commitment)."""
        world_model = self._world_model[0]
        nearest = world_model.quantizer.settle(latents.detach()).quantized
        prediction = world_model.predict(s_t, latents + (nearest - latents).detach())
        state_mse, commitment = F.mse_loss(prediction, s_next), F.mse_loss(latents, nearest)
        loss = state_mse + self.commitment * commitment
        return {"loss": loss, "state_mse": state_mse, "commitment": commitment}


def _over_ranks(mean: Tensor) -> Tensor:
    """The mean over the whole batch, of which each rank has an equal share."""
    ranks = environment_ranks()
    return sum_over_ranks(mean, ranks) / ranks.world_size


class DecoderReconstruction(nn.Module):
    """Trains the decoder of an MAE on states of whole images; everything else of the MAE stays frozen.

    With `network`, its LPIPS to the image is added to the mean squared error, times `weight`.
    """

    def __init__(self, mae: MaskedAutoencoder, network: "LPIPS | None" = None, weight: float = 1.0) -> None:
        super().__init__()
        self.mae = mae.requires_grad_(False)
        for name, parameter in mae.named_parameters():
            parameter.requires_grad_(name.startswith("decoder_"))
        self._network, self.weight = (network,), weight

    def forward(self, batch: dict[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        """`batch`: states (B, 1+N, D) and uint8 images (B, 3, S, S) -> the loss and its terms."""
        images = batch["images"].float() / 255
        prediction = self.mae.decoder_pred(self.mae.decode_tokens(batch["states"].float()))[:, 1:]
        mse = F.mse_loss(prediction, self.mae.target_patches(self.mae.normalise(images)))
        network = self._network[0]
        if network is None:
            return {"loss": mse}
        decoded = self.mae.denormalise_patches(prediction).clamp(0, 1)
        perceptual = network.to(images.device).loss(decoded, images).mean()
        return {"loss": mse + self.weight * perceptual, "mse": mse, "lpips": perceptual}


class NextState(OnLabelledPairs):
    """Trains a dynamics network with real actions (or none): the mean squared error of the next state, and
    with a `picture` loss that of what is shown."""

    def __init__(
        self, dynamics: nn.Module, mae: MaskedAutoencoder | None = None, picture: PictureLoss | None = None
    ) -> None:
        super().__init__(mae)
        self.dynamics = dynamics
        self.picture = picture if picture and picture.counts else None

    def forward(self, batch: ActionBatch, draws: Draws) -> dict[str, Tensor]:
        s_t, s_next = self.states(batch)
        prediction = self.dynamics(s_t, batch["actions"], batch["mask"])
        state_mse = F.mse_loss(prediction, s_next)
        if not self.picture:
            return {"loss": state_mse}
        terms = self.picture(prediction, s_next)
        return {"loss": state_mse + self.picture.weighted(terms), "state_mse": state_mse, **terms}


class CycleConsistency(nn.Module):
    """Trains FICC (eq. 6) on uint8 image pairs (B, 2, 3, S, S)."""

    def __init__(self, ficc: "FICC") -> None:
        super().__init__()
        self.ficc = ficc

    def forward(self, batch: Tensor, draws: Draws) -> dict[str, Tensor]:
        o_t, o_next = (batch.float() / 255).unbind(1)
        return dict(self.ficc(o_t, o_next)._asdict())
