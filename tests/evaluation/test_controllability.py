"""Probe of the gripper's place, commands and transfer, on states whose contents are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from uwm.data.action_pairs import ActionPairs
from uwm.data.corpora import BUNDLED, bundled
from uwm.data.manifest import Manifest
from uwm.data.robomimic.actions import PairActions
from uwm.evaluation.controllability import COMMANDS, command_columns, commandable, commanded
from uwm.evaluation.eval_pairs import EvalPairs, RolloutSegments
from uwm.evaluation.predictors import dynamics_predictor
from uwm.evaluation.probes import eef_errors, fit_eef_probe, has_eef_pos
from uwm.evaluation.rollouts import roll_out
from uwm.evaluation.transfer import donors, transfer_columns
from uwm.models import LatentActions

GAIN = 0.02  # metres that a full action moves the gripper along its axis
READ = torch.randn(4, 5, 16, generator=torch.Generator().manual_seed(5))  # how a place shows in a state


def shown(places: Tensor) -> Tensor:
    """States (n, 5, 16) that hold a place and opening (n, 4) linearly."""
    states = torch.einsum("np,ptd->ntd", places, READ)
    states[:, 0] = 0
    return states


def seen(count: int, seed: int) -> EvalPairs:
    """Pairs in six clips: the first three numbers of an action move the hand, the last closes it."""
    rng = np.random.default_rng(seed)
    actions = np.repeat(rng.uniform(-1, 1, (count, 1, 7)), 4, axis=1).astype(np.float32)
    start = rng.uniform(-0.2, 0.2, (count, 3))
    position = np.stack([start, start + GAIN * actions[:, 0, :3]], axis=1).astype(np.float32)
    gripper = rng.uniform(0, 1, (count, 2)).astype(np.float32)
    hand = 0.5 + position[:, :, :2]
    limits = np.full(7, -1, np.float32), np.full(7, 1, np.float32)
    found = PairActions(actions, np.ones((count, 4), bool), *limits, hand, position, gripper, position)
    table = pd.DataFrame({"video": [f"clip{i % 6}" for i in range(count)]})
    pairs = ActionPairs(str(seed), bundled(BUNDLED[0]), Manifest(table), found)
    places = torch.from_numpy(np.concatenate([position, gripper[..., None]], axis=2))
    states = torch.stack([shown(places[:, 0]), shown(places[:, 1])], dim=1)
    return EvalPairs(pairs, torch.zeros(count, 2, 3, 8, 8, dtype=torch.uint8), states)


FITTED, HELD_OUT, TEST = (seen(count, seed) for seed, count in enumerate((300, 60, 60)))
PROBE = fit_eef_probe(FITTED.states, FITTED.pairs, HELD_OUT.states, HELD_OUT.pairs)
CPU = torch.device("cpu")


def moving(s_t: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
    """Dynamics that know the robot."""
    change = torch.zeros(len(s_t), 4)
    change[:, :3] = GAIN * actions[:, 0, :3]
    change[:, 3] = -0.3 * actions[:, 0, 6]
    return s_t + shown(change)


def test_the_probe_reads_places_and_errors_are_millimetres() -> None:
    assert PROBE.probe.r2.min() > 0.999
    s_t, s_next = TEST.states.unbind(1)
    assert eef_errors(PROBE, TEST.pairs, s_t, s_next).max() < 0.2
    copied = eef_errors(PROBE, TEST.pairs, s_t, s_t)
    true = GAIN * np.linalg.norm(TEST.pairs.actions.actions[:, 0, :3], axis=1) * 1000
    np.testing.assert_allclose(copied, true, rtol=1e-4)


def test_a_rollout_adds_up_the_steps_of_its_own_run_or_of_another() -> None:
    chains = RolloutSegments(TEST, torch.tensor([[0, 1, 2], [10, 4, 30]]))
    action = torch.from_numpy(TEST.pairs.actions.actions[:, 0, :3])
    for other, acting in ((None, [[0, 1, 2], [10, 4, 30]]), ([1, 0], [[10, 4, 30], [0, 1, 2]])):
        chosen = None if other is None else torch.tensor(other)
        states = roll_out(dynamics_predictor(moving), chains, CPU, chosen, size=1)
        assert states.shape == (2, 3, 5, 16)
        for run, start in enumerate((0, 10)):
            moved = PROBE.displacement(TEST.states[[start], 0], states[run, -1:])[0, :3]
            expected = GAIN * action[acting[run]].sum(0)
            torch.testing.assert_close(moved.float(), expected, atol=5e-4, rtol=0)


def test_a_command_is_one_number_of_the_action() -> None:
    actions = commanded(TEST.pairs, COMMANDS["left"])
    assert (actions[..., 1] == 1).all()
    assert (actions[..., [0, 2, 3, 4, 5]] == 0).all()
    assert torch.equal(actions[..., 6], TEST.controls[0][..., 6])  # the gripper goes on as it did
    assert (commanded(TEST.pairs, COMMANDS["open"])[..., 6] == -1).all()
    masked = replace(TEST.pairs.actions, mask=np.arange(4)[None] < np.full((60, 1), 3))
    short = commanded(replace(TEST.pairs, actions=masked), COMMANDS["up"])
    assert (short[:, 3] == 0).all()
    shifted = replace(TEST.pairs.actions, low=np.zeros(7, np.float32))
    assert (commanded(replace(TEST.pairs, actions=shifted), COMMANDS["down"])[..., 2] == 0).all()


def test_dynamics_that_obey_are_told_from_those_that_do_not() -> None:
    obeying = command_columns(moving, PROBE, TEST, CPU)
    assert (obeying["control_success"] == 1).all()
    assert obeying["control_left_mm"].mean() == pytest.approx(1000 * GAIN, rel=1e-2)
    assert obeying["control_close"].mean() == pytest.approx(0.3, rel=1e-2)
    contrary = command_columns(lambda s, a, m: moving(s, -a, m), PROBE, TEST, CPU)
    assert (contrary["control_success"] == 0).all()
    assert contrary["control_up_mm"].mean() == pytest.approx(-1000 * GAIN, rel=1e-2)


class Differences(nn.Module):
    """A world model whose latent action is the difference of the states."""

    def infer_actions(self, s_t: Tensor, s_next: Tensor) -> LatentActions:
        return LatentActions(s_next - s_t, s_next - s_t, torch.zeros(len(s_t), 1))

    def predict(self, s_t: Tensor, quantized: Tensor) -> Tensor:
        return s_t + quantized


def test_transfer_is_measured_against_the_donors_motion() -> None:
    found = transfer_columns(Differences(), PROBE, TEST, CPU)
    assert found["transfer_mm"].mean() < 0.2
    assert found["transfer_random_mm"].mean() < 0.2
    assert found["transfer_still_mm"].mean() > 5


def test_a_donor_is_the_nearest_of_another_clip() -> None:
    chosen = donors(TEST.pairs)
    clips = TEST.clips
    place = TEST.pairs.actions.eef_in_picture[:, 0]
    for i, j in enumerate(chosen.tolist()):
        assert clips[i] != clips[j]
        others = np.flatnonzero(clips != clips[i])
        distance = np.linalg.norm(place[others] - place[i], axis=1)
        assert others[distance.argmin()] == j


def test_unknown_hands_are_not_measured() -> None:
    def without(**changes: np.ndarray) -> ActionPairs:
        return replace(TEST.pairs, actions=replace(TEST.pairs.actions, **changes))

    assert commandable(TEST.pairs)
    nowhere = without(eef_pos=np.full((60, 2, 3), np.nan, np.float32))
    assert not has_eef_pos(nowhere)
    assert not commandable(nowhere)
    joints = without(actions=np.zeros((60, 4, 8), np.float32))
    assert has_eef_pos(joints)
    assert not commandable(joints)
