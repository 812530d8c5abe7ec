"""Speed of the robot data tool, beside a plain robosuite loop, in one run: `make bench`.

The plain loop is robosuite as it comes: default quality, default camera observations of 224 x 224 pixels, so
a picture at every control step (20 Hz). Ours steps at the same 20 Hz, draws in fast quality, and only the
frames that are kept. Frames are 0.05, 0.1 (the tool's default) or 0.2 s apart; of the plain loop's pictures
then each, each second or each fourth is kept. CPU seconds of one process are taken, in alternating rounds,
since the rest of the machine disturbs these less; building the environment (seconds, once per process) is
left out. Last, the whole command with several processes by the wall clock, all included.

    python tests/bench/robot.py [--tasks Lift NutAssembly] [--rounds 5] [--jobs 2]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from uwm.data.robot import main as robot
from uwm.data.simulation.robot_scene import RobotScene, SceneConfig
from uwm.data.simulation.scene import import_robosuite

SIZE = 224
GAPS = (0.05, 0.1, 0.2)
STEPS = 40  # control steps in a round
STATE: dict[str, Any] = {}  # of a worker process: its environment


def actions(size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (STEPS, size))


def plain(task: str) -> tuple[Callable[[], float], None]:
    """A round of the plain loop: CPU seconds per control step, each with a picture."""
    import_robosuite()
    import robosuite

    env = robosuite.make(
        task, robots="Panda", has_renderer=False, has_offscreen_renderer=True, use_camera_obs=True,
        camera_names="agentview", camera_heights=SIZE, camera_widths=SIZE, ignore_done=True,
    )  # fmt: skip
    env.reset()

    def round_() -> float:
        start = time.process_time()
        for action in actions(env.action_dim):
            observation = env.step(action)[0]
        assert observation["agentview_image"].shape == (SIZE, SIZE, 3)
        return (time.process_time() - start) / STEPS

    return round_, None


def ours(task: str) -> tuple[Callable[[], dict[float, float]], float]:
    """A round of ours, CPU seconds per frame by their gap; and how far fast pictures are from full."""
    pictures = {}
    for quality in ("full", "fast"):
        scene = RobotScene(SceneConfig(task, size=SIZE, quality=quality))
        scene.reset(np.random.default_rng(0))
        pictures[quality] = scene.picture().astype(int)
        if quality == "full":
            scene.close()

    def round_() -> dict[float, float]:
        result = {}
        for gap in GAPS:
            each, frames = round(gap * 20), 0
            start = time.process_time()
            for step, action in enumerate(actions(scene.env.action_dim)):
                if step % each == 0:
                    scene.picture()
                    frames += 1
                scene.step(action)
            result[gap] = (time.process_time() - start) / frames
        return result

    return round_, float(np.abs(pictures["full"] - pictures["fast"]).mean())


def prepare(kind: str, task: str) -> float | None:
    STATE["round"], difference = {"plain": plain, "ours": ours}[kind](task)
    STATE["round"]()  # compiles, and fills caches
    return difference


def one_round() -> Any:
    return STATE["round"]()


def compare(task: str, rounds: int) -> None:
    """Prints the rates of one task, of two processes that take turns."""
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context) as a, ProcessPoolExecutor(1, context) as b:
        a.submit(prepare, "plain", task).result()
        difference = b.submit(prepare, "ours", task).result()
        pairs = [(a.submit(one_round).result(), b.submit(one_round).result()) for _ in range(rounds)]
    for gap in GAPS:
        kept = [each * round(gap * 20) for each, _ in pairs]
        mine = [by_gap[gap] for _, by_gap in pairs]
        ratio = statistics.median(k / m for k, m in zip(kept, mine, strict=True))
        print(
            f"{task:12} frames {gap:4.2f} s apart: plain {1 / statistics.median(kept):5.1f}, "
            f"ours {1 / statistics.median(mine):5.1f} frames per CPU second, {ratio:.1f}x"
        )
    print(f"{task:12} fast pictures differ from full ones by {difference:.2f} of 255 on the mean")


def whole_command(task: str, jobs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bench.hdf5"
        start = time.perf_counter()
        robot(["generate", "--out", str(out), "--task", task, "--episodes", "8", "--jobs", str(jobs)])
        seconds = time.perf_counter() - start
        print(
            f"{task:12} the whole command, {jobs} processes: 400 frames in {seconds:.0f} s by the clock, "
            f"{400 / seconds:.1f} per second; {out.stat().st_size / 400 / 1024:.0f} KiB each"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the robot data tool.")
    parser.add_argument("--tasks", nargs="+", default=["Lift", "NutAssembly"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    for task in arguments.tasks:
        compare(task, arguments.rounds)
    whole_command(arguments.tasks[0], arguments.jobs)


if __name__ == "__main__":
    main()
