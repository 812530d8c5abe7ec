"""A robot's test pairs, and all that Figure 5 measures of what a method predicts for them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from uwm.baselines.reader import StateReader
from uwm.data.action_pairs import eef_in_crop
from uwm.evaluation.controllability import command_columns
from uwm.evaluation.eval_pairs import EvalPairs, EvalSetting, RolloutSegments, load_eval_pairs
from uwm.evaluation.further_metrics import ACTION_ROWS, ROLLOUT_ROWS, FurtherMetrics
from uwm.evaluation.gripper import gripper_in_crop, gripper_is_seen, gripper_measures, moved_in_picture
from uwm.evaluation.measure import FramePairs, Measuring, frame_distances, measure_pairs, region_distances
from uwm.evaluation.predictors import (
    Prediction,
    Predictor,
    as_dynamics,
    latent_action_predictor,
    predict_pairs,
)
from uwm.evaluation.probes import (
    EefProbe,
    eef_errors,
    eef_probe,
    has_eef_pos,
    latent_measures,
    probe_real_actions,
)
from uwm.evaluation.records import further_metrics
from uwm.evaluation.rollouts import rollout_columns
from uwm.evaluation.transfer import transfer_columns, transfer_in_picture
from uwm.methods import COPY, ORACLE
from uwm.metrics.perceptual import LPIPS
from uwm.models import LatentActions
from uwm.models.world import World


@dataclass(frozen=True)
class RobotEvaluation:
    """What predictions of a robot's pairs are measured with.

    `world` has the world model, and the MAE whose states it predicts; `decoder` decodes the states. Linear
    probes are fitted to `probe_pairs` training pairs. `reader` sees where in the picture the gripper is.
    """

    setting: EvalSetting
    world: World
    decoder: World
    network: LPIPS
    probe_pairs: int
    reader: StateReader | None = None

    @property
    def device(self) -> torch.device:
        """Where the models are, and the states that they predict."""
        return self.world.device

    @property
    def weights(self) -> dict[str, str]:
        """The sha256 of all weights that the numbers rest on but a method's own, by name."""
        return {**self.decoder.weights, "lpips": self.network.weights_sha256}

    def gripper_probe(self) -> EefProbe:
        """Reads the gripper's place off states."""
        return eef_probe(self.setting, self.probe_pairs)

    def latent_actions(self, test: EvalPairs) -> LatentActions:
        """The latent actions between both frames of each pair."""
        latents = predict_pairs(latent_action_predictor(self.world.world_model), test, self.device).latents
        assert latents is not None
        return latents

    @torch.no_grad()
    def measure(
        self, test: EvalPairs, method: str, predicted: Prediction, target: LatentActions | None = None
    ) -> tuple[pd.DataFrame, Tensor]:
        """Numbers per pair, in columns `<method>/<measure>`, and the predicted frames (n, 3, S, S).

        Distances over the frame, the moving region and, where its place is known, around the gripper; the
        error of the gripper's displacement. With `target`, how right the latent actions are.
        """
        states = {
            COPY.name: test.states[:, 0].to(self.device),
            ORACLE.name: test.states[:, 1].to(self.device),
        }
        states[method] = predicted.state
        how = Measuring(self.decoder, self.network, (frame_distances, region_distances))
        observed = FramePairs(test.pairs.manifest, test.images, f"{method} {self.setting.corpus.name}")
        keep = list(dict.fromkeys([ORACLE.name, method]))
        pairs, frames = measure_pairs(how, observed, states, only=[method], keep=keep)
        columns: dict[str, Tensor] = {}
        if target is not None:
            assert predicted.latents is not None
            columns |= latent_measures(predicted.latents, target)
        columns |= self._gripper_columns(test, predicted.state, frames[method], frames[ORACLE.name])
        for name, values in columns.items():
            pairs[f"{method}/{name}"] = values.double().cpu().numpy()
        return pairs, frames[method]

    def _gripper_columns(
        self, test: EvalPairs, state: Tensor, frame: Tensor, r_next: Tensor
    ) -> dict[str, Tensor]:
        columns: dict[str, Tensor] = {}
        if gripper_is_seen(test.pairs):
            centres = gripper_in_crop(test.pairs, self.setting.short_side, self.world.image_size)
            o_next = test.images[:, 1] / 255
            columns |= gripper_measures(self.network, frame, r_next, o_next, centres)
            if self.reader is not None:
                true = self._eef_px(test).diff(dim=1)[:, 0]
                moved = moved_in_picture(self.reader, test.states[:, 0], state)
                columns["hand_error_px"] = (moved - true).norm(dim=1)
        if has_eef_pos(test.pairs):
            columns["hand_error_mm"] = eef_errors(self.gripper_probe(), test.pairs, test.states[:, 0], state)
        return columns

    def _eef_px(self, test: EvalPairs) -> Tensor:
        return eef_in_crop(test.pairs, self.setting.short_side, self.world.image_size)

    def real_actions(self, predictor: Predictor, test: EvalPairs) -> FurtherMetrics:
        """R^2 of a linear probe that reads the robot's actions off the method's latent ones."""
        fitted, held_out = (
            load_eval_pairs(self.setting, split, self.probe_pairs, 0) for split in ("train", "validation")
        )
        residual, total = probe_real_actions(predictor, (fitted, held_out, test), self.device)
        return self._of_pairs(test, {"probe_r2_residual": residual, "probe_r2_total": total})

    def transfer(self, test: EvalPairs) -> FurtherMetrics:
        """How the gripper moves by latent actions of another clip."""
        probe, world_model = self.gripper_probe(), self.world.world_model
        columns = transfer_columns(world_model, probe, test, self.device)
        if self.reader is not None:
            eef_px = self._eef_px(test)
            columns |= transfer_in_picture(world_model, self.reader, test, eef_px, self.device)
        return self._of_pairs(test, columns)

    def commands(self, predictor: Predictor, test: EvalPairs) -> FurtherMetrics:
        """How the gripper moves under constant commands."""
        predict, probe = as_dynamics(predictor), self.gripper_probe()
        return self._of_pairs(test, command_columns(predict, probe, test, self.device))

    def rollouts(self, segments: RolloutSegments, states: Tensor) -> FurtherMetrics:
        """Errors of states (n, H, 1+N, D) predicted 1 to H steps ahead: `<measure>_<step>`."""
        columns = rollout_columns(self.network, self.decoder, segments, states)
        return further_metrics(ROLLOUT_ROWS, segments.rows, columns, self.network.protocol)

    def _of_pairs(self, test: EvalPairs, columns: Mapping[str, np.ndarray]) -> FurtherMetrics:
        return further_metrics(ACTION_ROWS, test.pairs.manifest.table, columns, self.network.protocol)
