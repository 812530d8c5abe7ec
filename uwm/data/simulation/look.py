"""Random looks and cameras of the simulated corpora.

A look is the colours and textures of everything in a scene, and its light. Positions are metres in the world
frame, colours are in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uwm.data.simulation.policies import Workspace

SCENE_CAMERA = "agentview"
WRIST_CAMERA = "robot0_eye_in_hand"
_ROBOT_PARTS = ("robot", "gripper", "mount", "base", "fixed_mount")


def dress(sim: Any, rng: np.random.Generator) -> None:
    """Gives the scene of `sim` new textures, colours and light. Shapes and physics stay as they are."""
    import mujoco

    model, context = sim.model._model, sim._render_context_offscreen
    context.gl_ctx.make_current()
    for texture in range(model.ntex):
        name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_TEXTURE, texture) or ""
        sky = model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_SKYBOX
        if not sky and not name.startswith(_ROBOT_PARTS):
            _paint_texture(model, texture, rng)
            mujoco.mjr_uploadTexture(model, context.con, texture)
    # Half as many repeats, for the same reason that patterns are soft.
    model.mat_texrepeat[:] *= 0.5
    _tint(model, rng)
    _light(model, rng)


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """Returns (3,) a colour in [0, 1] of any hue, neither near black nor fully saturated."""
    hue, saturation, value = rng.random(), 0.7 * rng.random() ** 1.5, rng.uniform(0.35, 0.95)
    wheel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return value * (1 - saturation + saturation * wheel)


def pattern(size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns (size, size, 3) uint8, a soft pattern of two colours: clouds, grain, stripes, checks or plain.

    Soft, because sharp fine textures cost many bytes in a video and alias at low resolution.
    """
    first = random_colour(rng)
    related = rng.random() < 0.8
    second = np.clip(first + rng.uniform(-0.25, 0.25, 3), 0.05, 1) if related else random_colour(rng)
    across, down = np.meshgrid(np.linspace(0, 1, 128), np.linspace(0, 1, 128))
    kind = rng.integers(5)
    waves = rng.uniform(2, 6)
    if kind == 0:
        mix = 0.5 * across + 0.5 * down
    elif kind <= 2:
        cells = (8, 8) if kind == 1 else (3, 16)
        mix = _enlarge(rng.random(cells), 128)
    elif kind == 3:
        angle = rng.uniform(0, np.pi)
        mix = 0.5 + 0.5 * np.sin(2 * np.pi * waves * (np.cos(angle) * across + np.sin(angle) * down))
    else:
        mix = 0.5 + 0.5 * np.tanh(3 * np.sin(2 * np.pi * waves * across) * np.sin(2 * np.pi * waves * down))
    image = first + mix[..., None] * (second - first)
    index = np.linspace(0, 127, size).astype(int)
    return (255 * image).astype(np.uint8)[index][:, index]


def _enlarge(grid: np.ndarray, size: int) -> np.ndarray:
    """Returns (size, size) the bilinear enlargement of `grid`: (m, n)."""
    for _ in range(2):
        count = grid.shape[0]
        position = np.linspace(0, count - 1, size)
        low = np.minimum(position.astype(int), count - 2)
        part = (position - low)[:, None]
        grid = (grid[low] * (1 - part) + grid[low + 1] * part).T
    return grid


def _paint_texture(model: Any, texture: int, rng: np.random.Generator) -> None:
    height, width = int(model.tex_height[texture]), int(model.tex_width[texture])
    channels, start = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
    image = np.full((height, width, channels), 255, dtype=np.uint8)
    # A cube texture is six squares in a column; they get the same picture.
    square = pattern(width, rng)
    tiled = np.tile(square, (-(-height // width), 1, 1))[:height]
    image[..., : min(3, channels)] = tiled[..., : min(3, channels)]
    model.tex_data[start : start + image.size] = image.ravel()


def _tint(model: Any, rng: np.random.Generator) -> None:
    """Colours what bears no texture: the robot in two colours of its own, other things each in one."""
    import mujoco

    paints = [random_colour(rng) for _ in range(2)]
    strength = rng.uniform(0.3, 0.8)
    for material in range(model.nmat):
        if np.any(model.mat_texid[material] >= 0):
            continue
        name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_MATERIAL, material) or ""
        rgb = model.mat_rgba[material, :3]
        paint = paints[rng.integers(2)] if name.startswith(_ROBOT_PARTS) else random_colour(rng)
        # Bright parts take more of the paint, so that joints and covers stay apart.
        model.mat_rgba[material, :3] = (1 - strength) * rgb + strength * paint * (0.35 + 0.65 * rgb.mean())
        model.mat_specular[material] = rng.uniform(0, 0.6)
    for geom in range(model.ngeom):
        if model.geom_group[geom] != 1 or model.geom_matid[geom] >= 0 or model.geom_rgba[geom, 3] < 0.5:
            continue
        rgb = model.geom_rgba[geom, :3]
        model.geom_rgba[geom, :3] = (1 - strength) * rgb + strength * random_colour(rng)


def _light(model: Any, rng: np.random.Generator) -> None:
    for light in range(model.nlight):
        angle, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.9)
        towards = np.array([np.cos(angle) * np.sin(tilt), np.sin(angle) * np.sin(tilt), np.cos(tilt)])
        model.light_pos[light] = np.array([0, 0, 0.8]) + 3 * towards
        model.light_dir[light] = -towards
        warmth = np.array([1, 1, 1]) + rng.uniform(-0.15, 0.15) * np.array([1, 0, -1])
        model.light_diffuse[light] = np.clip(rng.uniform(0.45, 0.85) * warmth, 0, 1)
        model.light_specular[light] = rng.uniform(0, 0.3)
        model.light_ambient[light] = rng.uniform(0.0, 0.15)
    # Without a fill light the sides turned from the lamp would be black.
    model.vis.headlight.ambient[:] = rng.uniform(0.3, 0.5)
    model.vis.headlight.diffuse[:] = rng.uniform(0.2, 0.45)


@dataclass
class Camera:
    """A camera of the model that stays where it is; `name` is its name in the model."""

    name: str

    def move(self, time: float, eef_pos: np.ndarray) -> None:
        """Sets the pose for `time` (seconds) and a hand at `eef_pos`: (3,) metres."""


@dataclass
class HeadCamera(Camera):
    """A camera on a walking, looking head: it sways, steps sideways and follows the hand with its gaze."""

    model: Any
    focus: np.ndarray
    fovy: float
    rng: np.random.Generator
    walled: bool
    _gaze: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = self.rng
        side = 1.0 if self.walled else rng.choice([-1.0, 1.0])
        self._azimuth = side * np.radians(rng.uniform(35, 150))
        self._walk = np.radians(rng.uniform(6, 16)) * rng.choice([-1.0, 1.0])
        self._distance = rng.uniform(0.4, 0.65)
        self._height = rng.uniform(0.25, 0.5)
        # (wave, axis): four waves for position (metres) and four for gaze (metres at the focus).
        self._frequency = rng.uniform(0.25, 0.9, (8, 1))
        self._phase = rng.uniform(0, 2 * np.pi, (8, 3))
        self._amplitude = np.r_[rng.uniform(0.01, 0.03, (4, 3)), rng.uniform(0.02, 0.05, (4, 3))]
        self._gaze = self.focus.copy()

    def move(self, time: float, eef_pos: np.ndarray) -> None:
        """Sets the pose for `time` (seconds) and a hand at `eef_pos` (3,), metres. Times must ascend."""
        self._gaze = self._gaze + 0.2 * (eef_pos - self._gaze)
        waves = self._amplitude * np.sin(2 * np.pi * self._frequency * time + self._phase)
        azimuth = self._azimuth + self._walk * time
        flat = self._distance * np.array([np.cos(azimuth), np.sin(azimuth), 0])
        position = self.focus + flat + [0, 0, self._height] + waves[:4].sum(0)
        aim(
            self.model, self.name, position, 0.4 * self.focus + 0.6 * self._gaze + waves[4:].sum(0), self.fovy
        )


def camera_of(kind: str, sim: Any, workspace: Workspace, rng: np.random.Generator, walled: bool) -> Camera:
    """Returns the camera of a clip, placed at random.

    Args:
        kind: "fixed" (somewhere around the table), "wrist" (on the gripper) or "head" (moves with a body).
        sim: the robosuite simulator.
        workspace: the box to look at.
        rng: decides the place.
        walled: whether something tall stands at the right side (-y), where a camera would see only it.
    """
    model = sim.model._model
    focus = workspace.centre + rng.uniform(-0.05, 0.05, 3)
    if kind == "wrist":
        model.cam_fovy[sim.model.camera_name2id(WRIST_CAMERA)] = rng.uniform(65, 85)
        return Camera(WRIST_CAMERA)
    if kind == "head":
        return HeadCamera(SCENE_CAMERA, model, focus, rng.uniform(50, 65), rng, walled)
    azimuth = np.radians(rng.uniform(-20 if walled else -125, 125))
    elevation = np.radians(rng.uniform(10, 50))
    distance = rng.uniform(0.55, 0.72)
    flat = np.array([np.cos(azimuth), np.sin(azimuth), 0.0]) * np.cos(elevation)
    direction = flat + np.array([0.0, 0.0, np.sin(elevation)])
    # Above the box, since the forearm is the largest thing that moves.
    focus = focus + np.array([0.0, 0.0, 0.08])
    aim(model, SCENE_CAMERA, focus + distance * direction, focus, rng.uniform(45, 57))
    return Camera(SCENE_CAMERA)


def aim(model: Any, name: str, position: np.ndarray, target: np.ndarray, fovy: float) -> None:
    """Puts a world-fixed camera at `position`: (3,) metres, looking at `target` (3,), `fovy` degrees high."""
    import mujoco

    camera = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    turn = np.stack([right, np.cross(back, right), back], axis=1)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, turn.ravel())
    model.cam_pos[camera], model.cam_quat[camera], model.cam_fovy[camera] = position, quaternion, fovy
