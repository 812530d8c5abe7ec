"""What a task for planners is, how it is seen and how it is driven. Needs no simulator."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from uwm.data.simulation.robot_scene import WORKSPACE_CAMERA
from uwm.data.simulation.scene import CONTROL_HZ, SIZE
from uwm.errors import UserError, nearest

TaskName = Literal["reach", "push", "lift"]
TASKS: tuple[str, ...] = get_args(TaskName)
ACTION_SIZES = {"OSC_POSE": 7, "OSC_POSITION": 4}  # of a Panda: displacement, (rotation,) gripper
CAMERAS = (WORKSPACE_CAMERA, "agentview", "frontview", "sideview", "birdview")


class Ranges(NamedTuple):
    """Millimetres: how near is done, and how far apart start and goal are drawn."""

    tolerance: float
    nearest: float
    farthest: float


# Meta-World's tolerance for reaching (arXiv:1910.10897); a step at full speed brings the hand as far. Lifting
# has a test of its own.
RANGES = {"reach": Ranges(50, 100, 200), "push": Ranges(30, 60, 120), "lift": Ranges(40, 40, 200)}


@dataclass(frozen=True)
class TaskConfig:
    """A task and how it is seen and driven.

    Raises:
        UserError: no such task, camera or controller.
    """

    task: str = "reach"
    camera: str = WORKSPACE_CAMERA
    controller: str = "OSC_POSE"
    size: int = SIZE  # side of the square pictures, pixels
    control_steps: int = 4  # per step of a planner: 0.2 s
    steps: int = 10  # of an episode, at most

    def __post_init__(self) -> None:
        known = {"task": TASKS, "camera": CAMERAS, "controller": tuple(ACTION_SIZES)}
        for name, words in known.items():
            if (given := getattr(self, name)) not in words:
                raise UserError(f"no {name} {given!r} to plan for{nearest(given, words)}")

    @property
    def ranges(self) -> Ranges:
        """Of the task's distances."""
        return RANGES[self.task]

    @property
    def action_size(self) -> int:
        """Numbers of an action."""
        return ACTION_SIZES[self.controller]

    @property
    def seconds(self) -> float:
        """Of a step of the planner."""
        return self.control_steps / CONTROL_HZ
