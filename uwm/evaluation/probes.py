"""What can be read off states and latent actions: the end effector's position, the real action."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uwm.baselines.probe import Probe, fit_mlp, fit_probe
from uwm.data.action_pairs import ActionPairs, eef_in_crop
from uwm.evaluation.eval_pairs import EvalPairs, EvalSetting, load_eval_pairs
from uwm.evaluation.further_metrics import ACTION_ROWS, FurtherMetrics
from uwm.evaluation.predictors import Predictor, predict_pairs
from uwm.evaluation.records import further_metrics
from uwm.models import LatentActions
from uwm.models.tokens import regions_of_patches

# Latent actions


def latent_measures(latents: LatentActions, target: LatentActions) -> dict[str, Tensor]:
    """Of each pair (n,): the share of right codes, if there are any, and the mean squared error to A_L."""
    measures = {"latent_mse": (latents.continuous - target.continuous).square().mean((1, 2)).double()}
    if not target.codes.numel():
        return measures
    return {"code_accuracy": (latents.codes == target.codes).double().mean(1), **measures}


def mean_controls(pairs: ActionPairs) -> Tensor:
    """The mean control action (n, A) of each pair."""
    actions, mask = pairs.controls
    return (actions * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


ProbeRows = tuple[Tensor, Tensor]  # features (n, F), targets (n, A)
ProbeReadout = Callable[[Tensor], Tensor]  # features (n, F) -> targets (n, A)


def linear_probe(fitted: ProbeRows, held_out: ProbeRows) -> ProbeReadout:
    """Ridge regression, its penalty chosen on held-out rows."""
    return fit_probe(*fitted, held_out).ridge


def mlp_probe(fitted: ProbeRows, held_out: ProbeRows) -> ProbeReadout:
    """A network of one hidden layer, stopped where held-out rows are read best."""
    return fit_mlp(*fitted, held_out)


def probe_real_actions(
    predictor: Predictor,
    pairs: tuple[EvalPairs, EvalPairs, EvalPairs],
    device: torch.device,
    probe: Callable[[ProbeRows, ProbeRows], ProbeReadout] = linear_probe,
) -> tuple[np.ndarray, np.ndarray]:
    """What a probe from the discrete latent actions leaves of the mean control action's variance, and that
    variance, per test pair (n,): 1 minus the ratio of their sums is R^2. Over all dimensions of the action
    that vary, each scaled to unit variance.

    `pairs`: those it is fitted to, those that choose its penalty or length, and those it is tested on.
    """
    features = []
    for part in pairs:
        latents = predict_pairs(predictor, part, device).latents
        assert latents is not None
        features.append(latents.quantized.flatten(1).cpu())
    return _left_of_actions(features, pairs, probe)


def _left_of_actions(
    features: list[Tensor],
    pairs: tuple[EvalPairs, EvalPairs, EvalPairs],
    probe: Callable[[ProbeRows, ProbeRows], ProbeReadout],
) -> tuple[np.ndarray, np.ndarray]:
    """As `probe_real_actions`, from any features (n, F) of the three parts."""
    targets = [mean_controls(part.pairs).double() for part in pairs]
    varies = targets[2].std(0) > 0
    spread = targets[2].std(0)[varies]
    scaled = [target[:, varies] / spread for target in targets]
    read = probe((features[0], scaled[0]), (features[1], scaled[1]))
    residual = (read(features[2]) - scaled[2]).square().sum(1)
    total = (scaled[2] - scaled[2].mean(0)).square().sum(1)
    return residual.numpy(), total.numpy()


def visible_movement(pairs: ActionPairs, setting: EvalSetting) -> Tensor | None:
    """What a picture shows of the gripper's movement (n, 2 or 4): how far it goes, in pixels (x, y), and how
    far it is open before and after, where that is known. None where its place in the picture is not known."""
    eef_px = eef_in_crop(pairs, setting.short_side, setting.encoder.image_size)
    if not eef_px.isfinite().all():
        return None
    opening = torch.from_numpy(pairs.actions.gripper_opening).double()
    way = eef_px.diff(dim=1)[:, 0]
    return torch.cat([way, opening], dim=1) if opening.isfinite().all() else way


def action_probes(
    predictor: Predictor, device: torch.device, setting: EvalSetting, test: EvalPairs, pairs: int
) -> FurtherMetrics:
    """R^2 of a linear probe and of a network that read real actions off a method's latent ones; and of a
    linear probe that is given the gripper's true movement in the picture instead.

    `pairs`: how many training pairs they are fitted to, and at most that many validation pairs.
    """
    fitted, held_out = (load_eval_pairs(setting, split, pairs, 0) for split in ("train", "validation"))
    parts = (fitted, held_out, test)
    columns: dict[str, np.ndarray] = {}
    for name, probe in (("probe_r2", linear_probe), ("probe_r2_mlp", mlp_probe)):
        residual, total = probe_real_actions(predictor, parts, device, probe)
        columns |= {f"{name}_residual": residual, f"{name}_total": total}
    movements = [
        movement for part in parts if (movement := visible_movement(part.pairs, setting)) is not None
    ]
    if len(movements) == len(parts) and len({movement.shape[1] for movement in movements}) == 1:
        # Each number counts alike, whatever its unit.
        spread = movements[0].std(0).clamp_min(1e-9)
        residual, total = _left_of_actions([movement / spread for movement in movements], parts, linear_probe)
        columns |= {"probe_r2_movement_residual": residual, "probe_r2_movement_total": total}
    return further_metrics(ACTION_ROWS, test.pairs.manifest.table, columns, "")


PROBED_REGIONS = 49  # a probe reads no more tokens than these: with more patches, their means


MM_PER_METRE = 1000.0


def has_eef_pos(pairs: ActionPairs) -> bool:
    """Whether the gripper's place in the world is known in every frame."""
    return bool(np.isfinite(pairs.actions.eef_pos).all())


# The gripper's place in a state


@dataclass(frozen=True)
class EefProbe:
    """Reads the gripper's place (x, y, z in metres) and opening (0 to 1; 0 where unknown) off states."""

    probe: Probe

    def __call__(self, states: Tensor) -> Tensor:
        """States (n, 1+N, D) -> (n, 4) float64."""
        return self.probe.ridge(_features(states))

    def displacement(self, s_t: Tensor, s_next: Tensor) -> Tensor:
        """How the place changes between two states: (n, 4)."""
        return self(s_next) - self(s_t)


def fit_eef_probe(
    states: Tensor, pairs: ActionPairs, held_out: Tensor, held_out_pairs: ActionPairs
) -> EefProbe:
    """From the states (n, 2, 1+N, D) of pairs with a known hand; `held_out` ones choose the penalty."""
    fitted = fit_probe(
        _features(states.flatten(0, 1)),
        eef_positions(pairs).flatten(0, 1),
        (_features(held_out.flatten(0, 1)), eef_positions(held_out_pairs).flatten(0, 1)),
    )
    return EefProbe(fitted)


@functools.lru_cache(maxsize=2)
def eef_probe(setting: EvalSetting, pairs: int) -> EefProbe:
    """The probe for the gripper's place, fitted to `pairs` training pairs."""
    fitted, held_out = (load_eval_pairs(setting, split, pairs, 0) for split in ("train", "validation"))
    return fit_eef_probe(fitted.states, fitted.pairs, held_out.states, held_out.pairs)


def eef_positions(pairs: ActionPairs) -> Tensor:
    """Place and opening in both frames: (n, 2, 4)."""
    opening = np.nan_to_num(pairs.actions.gripper_opening)[..., None]
    return torch.from_numpy(np.concatenate([pairs.actions.eef_pos, opening], axis=2))


def eef_errors(probe: EefProbe, pairs: ActionPairs, s_t: Tensor, predicted: Tensor) -> Tensor:
    """Distance (n,) in mm between the predicted and the true displacement of the gripper."""
    eef_pos = eef_positions(pairs)[..., :3].double()
    true = eef_pos[:, 1] - eef_pos[:, 0]
    return (probe.displacement(s_t, predicted)[:, :3] - true).norm(dim=1) * MM_PER_METRE


def _features(states: Tensor) -> Tensor:
    patches = states[:, 1:].float().cpu()
    if patches.shape[1] > PROBED_REGIONS:
        patches = regions_of_patches(patches, PROBED_REGIONS)
    return patches.flatten(1)  # (n, regions * D)
