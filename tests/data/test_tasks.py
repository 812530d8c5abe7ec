"""Tasks for planners in the simulator."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from tests.data.robot_simulator import needs_robosuite
from uwm.data.simulation.task_config import TASKS, TaskConfig
from uwm.data.simulation.tasks import TaskEnvironment
from uwm.errors import UserError

ACTIONS = np.random.default_rng(0).uniform(-1, 1, (3, 7))


@contextmanager
def playing(config: TaskConfig) -> Iterator[TaskEnvironment]:
    """One environment at a time: each has an OpenGL context."""
    environment = TaskEnvironment(config)
    try:
        yield environment
    finally:
        environment.close()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": "reech"}, "no task 'reech' to plan for; did you mean 'reach'?"),
        ({"camera": "workspce"}, "no camera 'workspce' to plan for; did you mean 'workspace'?"),
        ({"controller": "OSC"}, "no controller 'OSC' to plan for"),
    ],
)
def test_unknown_names_are_one_line_without_a_simulator(wrong, message, monkeypatch):
    monkeypatch.setattr("uwm.data.simulation.robot_scene.import_robosuite", lambda: pytest.fail("started"))
    with pytest.raises(UserError) as error:
        TaskEnvironment(TaskConfig(**wrong))
    assert str(error.value).startswith(message)


@needs_robosuite
@pytest.mark.robosuite
def test_looking_ahead_is_stepping_robosuite_by_hand_and_leaves_no_trace():
    """Bit for bit: what is foreseen, and what happens afterwards."""
    with playing(TaskConfig("reach", size=32)) as environment:
        scene = environment.scene
        first, info = environment.reset(7)
        foreseen, distances = (
            ahead(ACTIONS, range(3)) for ahead in (environment.pictures_ahead, environment.distances_ahead)
        )
        assert np.array_equal(environment.pictures_ahead(ACTIONS, [2]), foreseen[2:])
        environment.pictures_ahead(-ACTIONS, [0, 2])
        stepped = [environment.step(action) for action in ACTIONS]
        states = [scene.state()]

        again, info_again = environment.reset(7)  # as if nothing had been asked
        assert first.picture.tobytes() == again.picture.tobytes()
        assert first.goal.tobytes() == again.goal.tobytes()
        assert info == info_again
        for action, picture, distance, (seen, reward, *_, told) in zip(
            ACTIONS, foreseen, distances, stepped, strict=True
        ):
            for _ in range(4):
                scene.env.step(action.astype(np.float32).astype(np.float64))
                scene.env.sim.forward()
            by_hand = scene.picture()
            assert np.array_equal(picture, by_hand)
            assert np.array_equal(seen.picture, by_hand)
            assert distance == told["distance_mm"] == environment.distance_mm()
            assert reward == -told["distance_mm"] / 1000
        states.append(scene.state())
        assert np.array_equal(*states)


@needs_robosuite
@pytest.mark.robosuite
@pytest.mark.parametrize("task", TASKS)
def test_starts_and_goals_are_drawn_by_the_seed(task):
    with playing(TaskConfig(task, size=32, steps=2)) as environment:
        near, far = environment.config.ranges[1:]
        first, info = environment.reset(1)
        assert task == "lift" or near <= info["distance_mm"] <= far
        assert not info["success"]
        assert not np.array_equal(first.picture, first.goal)
        other, _ = environment.reset(2)
        assert not np.array_equal(first.goal, other.goal)
        still = environment.held
        assert not environment.step(still)[3]
        assert environment.step(still)[3]  # the time is up
        again, info_again = environment.reset(1)
        assert again.picture.tobytes() == first.picture.tobytes()
        assert again.goal.tobytes() == first.goal.tobytes()
        assert info == info_again
        with pytest.raises(ValueError, match=r"the action is \(4,\)"):
            environment.step(np.zeros(4))


@needs_robosuite
@pytest.mark.robosuite
def test_the_way_straight_to_the_goal_reaches_it():
    """By the true places, which no policy is shown."""
    with playing(TaskConfig("reach", size=32)) as environment:
        environment.reset(5)
        for _ in range(environment.config.steps):
            action = environment.held
            away = environment.goal_place - environment.scene.eef_pos()
            action[:3] = np.clip(away / 0.2, -1, 1)
            _, _, done, late, info = environment.step(action)
            if done or late:
                break
        assert done
        assert info["success"]
        assert info["distance_mm"] <= 50
