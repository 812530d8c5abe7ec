"""What tests need of the simulator."""

import importlib.util
import os
import sys
from ctypes.util import find_library

import pytest


def missing() -> str:
    """What keeps robots from being rendered here; empty where nothing does."""
    if importlib.util.find_spec("robosuite") is None:
        return "robosuite is not installed: make setup-robot"
    if not (find_library("EGL") or find_library("OSMesa")):
        return "no OpenGL library: apt-get install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri"
    return ""


needs_robosuite = pytest.mark.skipif(
    bool(missing()) and os.environ.get("UWM_REQUIRE_ROBOSUITE") != "1", reason=missing()
)
"""Skips a test where the simulator is missing; with UWM_REQUIRE_ROBOSUITE=1 it fails instead."""


def command(*options: object) -> list[str]:
    """The words of the robot data tool, for a process of its own."""
    return [sys.executable, "-m", "uwm.data.robot", *map(str, options)]
