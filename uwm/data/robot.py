"""Data of robots: makes them with robosuite, and gives the actions of frame pairs.

    python -m uwm.data.robot generate --out FILE.hdf5 --task Lift --robot Panda --episodes 100 --jobs 2
    python -m uwm.data.robot render DEMOS.hdf5 --out FILE.hdf5 --camera frontview --size 224
    python -m uwm.data.robot suite --out robosuite.hdf5 --jobs 8
    python -m uwm.data.robot corpus --out DIR

`generate` lets a policy act: `scripted` handles the task's objects and explores, `random` moves smoothly,
`replay` acts as in a file of demonstrations. `render` shows the states of demonstrations that have no
pictures. `suite` makes the in-domain set of Figures 4 and 5 at scales `small` and `paper`: several tasks,
with splits; with `--part I/N` a share of it, as a task of a Slurm array. These write HDF5 in robomimic's
layout (`uwm.data.robomimic.hdf5`), a corpus for everything else: `--data NAME=FILE.hdf5`, or
NAME=FILE.hdf5/CAMERA. `corpus` makes the bundled `sim-panda` again. An episode is a pure function of the
settings, the seed and its number. A stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from uwm.arguments import Parser, named_path, real, whole
from uwm.data.arguments import parse_part
from uwm.data.robomimic.actions import PairActions, pair_actions
from uwm.data.simulation.clips import PANDA
from uwm.data.simulation.corpora import check_renderer
from uwm.data.simulation.generate import Recording, Take, demonstrations, make_file
from uwm.data.simulation.render import read_demonstration, read_environment
from uwm.data.simulation.robot_corpus import make_corpus
from uwm.data.simulation.robot_scene import RobotScene, SceneConfig, check_names
from uwm.data.simulation.suite import make_suite, sized
from uwm.errors import UserError, run_cli

__all__ = ["PairActions", "pair_actions"]

CONTROL_SECONDS = 0.05  # robosuite's default: 20 control steps a second
EPISODES, SIDE = whole(1, 10_000_000), whole(8, 4096)


def control_steps(text: str) -> int:
    """An argparse type: seconds as control steps."""
    seconds = real(CONTROL_SECONDS, 3600)(text)
    steps = round(seconds / CONTROL_SECONDS)
    if abs(steps * CONTROL_SECONDS - seconds) > 1e-6:
        raise argparse.ArgumentTypeError(
            f"{text} is no multiple of {CONTROL_SECONDS:g}, the seconds of a control step"
        )
    return steps


def new_file(text: str) -> Path:
    """An argparse type: the name of an HDF5 file to write."""
    path = named_path(text)
    if path.suffix not in (".hdf5", ".h5"):
        raise argparse.ArgumentTypeError(f"{text}: the name of the new file must end in .hdf5")
    return path


def parse_command(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line. `UserError` for a bad one."""
    parser = Parser(prog="python -m uwm.data.robot", description=str(__doc__).splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    generate = commands.add_parser("generate", help="new episodes")
    generate.add_argument("--task", default="Lift", help="robosuite's task (Lift)")
    generate.add_argument("--robot", nargs="+", default=["Panda"], help="one, or two for tasks of two arms")
    generate.add_argument("--gripper", help="robosuite's gripper (the robot's own)")
    generate.add_argument(
        "--controller", help="of the arms, such as OSC_POSE or JOINT_POSITION (the robot's own)"
    )
    generate.add_argument("--episodes", type=EPISODES, help="how many (10; for replay one per demonstration)")
    generate.add_argument(
        "--first", type=whole(0), default=0, help="number of the first (0): for parts of a whole"
    )
    generate.add_argument("--steps", type=EPISODES, help="control steps per episode (100; for replay all)")
    generate.add_argument("--policy", choices=("scripted", "random", "replay"), default="scripted")
    generate.add_argument("--demos", type=named_path, help="file of demonstrations, for --policy replay")
    generate.add_argument("--seed", type=whole(0), default=0)
    render = commands.add_parser("render", help="pictures of demonstrations")
    render.add_argument("demos", type=named_path, metavar="DEMOS.hdf5", help="with states and actions")
    render.add_argument("--demo", nargs="+", help="names of some demos (all)")
    for command in (generate, render):
        command.add_argument("--out", type=new_file, required=True, help="new HDF5 file")
        command.add_argument("--camera", default="agentview", help="the task's, or workspace (agentview)")
        command.add_argument("--size", type=SIDE, default=224, help="side of the pictures, pixels (224)")
        command.add_argument("--frame-seconds", type=control_steps, default=2, help="between frames (0.1)")
        command.add_argument("--quality", choices=("fast", "full"), default="fast")
        command.add_argument(
            "--jpeg", type=whole(1, 100), metavar="QUALITY", help="JPEG pictures instead of lossless ones"
        )
    suite = commands.add_parser("suite", help="the in-domain set of Figures 4 and 5 at scale paper")
    suite.add_argument("--out", type=new_file, required=True, help="new HDF5 file")
    suite.add_argument("--size", type=SIDE, default=256, help="side of the pictures, pixels (256)")
    suite.add_argument("--seed", type=whole(0), default=0)
    suite.add_argument("--episodes", type=EPISODES, help="fewer in all, to try it out (720)")
    suite.add_argument("--part", default="0/1", help="NUMBER/COUNT: this share of the episodes, from 0")
    corpus = commands.add_parser("corpus", help="the bundled sim-panda again")
    corpus.add_argument("--out", type=named_path, required=True, help="folder of corpora")
    corpus.add_argument("--only", metavar="CLIP", help="one clip by name, such as test-0003")
    for command in (generate, render, suite, corpus):
        command.add_argument("--jobs", type=whole(1, 4096), default=2, help="processes (2)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, makes what is missing, and says where it went."""
    arguments = parse_command(argv)
    if arguments.command == "corpus":
        made, kept = make_corpus(arguments.out, arguments.only, arguments.jobs)
        print(f"{made} clips rendered and {kept} kept in {arguments.out / PANDA}")
        return 0
    return _make_suite(arguments) if arguments.command == "suite" else _make(arguments)


def _make_suite(arguments: argparse.Namespace) -> int:
    part = parse_part(arguments.part)
    suite = sized(arguments.size, arguments.seed, arguments.episodes)
    check_renderer()
    made, whole = make_suite(arguments.out, suite, arguments.jobs, part)
    episodes = sum(suite.episodes.values())
    if whole:
        size = arguments.out.stat().st_size / 1e6
        print(
            f"{arguments.out}: {episodes} demos of {len(suite.tasks)} tasks, {made} made now, {size:.0f} MB"
        )
    else:
        print(f"{made} demos made now; the last part, or the same command without --part, joins the file")
    return 0


def _make(arguments: argparse.Namespace) -> int:
    if arguments.command == "generate" and (arguments.policy == "replay") != (arguments.demos is not None):
        raise UserError("--policy replay and --demos FILE go together")
    takes = _takes(arguments)
    recording = Recording(
        scene=_scene(arguments),
        policy="look" if arguments.command == "render" else arguments.policy,
        demos=str(arguments.demos) if arguments.demos else None,
        steps=_steps(arguments),
        steps_per_frame=arguments.frame_seconds,
        seed=getattr(arguments, "seed", 0),
        jpeg=arguments.jpeg,
    )
    check_renderer()
    check_names(recording.scene)
    if not arguments.out.exists():
        _check_scene(recording, takes)
    start = time.perf_counter()
    made = make_file(arguments.out, recording, takes, arguments.jobs)
    size = arguments.out.stat().st_size / 1e6
    seconds = time.perf_counter() - start
    print(f"{arguments.out}: {len(takes)} demos, {made} of them made now in {seconds:.0f} s, {size:.1f} MB")
    return 0


def _check_scene(recording: Recording, takes: Sequence[Take]) -> None:
    """UserError for a scene that cannot be built, a camera that it lacks, and demonstrations that it cannot
    show or repeat: before anything is written."""
    scene = RobotScene(recording.scene)
    size = len(scene.env.action_spec[0])
    scene.close()
    path, acting = Path(str(recording.demos)), recording.policy == "replay"
    for name in dict.fromkeys(take.source for take in takes if take.source is not None):
        width = read_demonstration(path, name, acting=acting).actions.shape[1]
        if acting and width != size:
            raise UserError(f"{path}: {name} has actions of {width} numbers, the controller takes {size}")


def _steps(arguments: argparse.Namespace) -> int | None:
    """Control steps per episode; None: as many as the demonstration has."""
    if arguments.demos is not None:
        return getattr(arguments, "steps", None)
    return arguments.steps or 100


def _scene(arguments: argparse.Namespace) -> SceneConfig:
    look = {"camera": arguments.camera, "size": arguments.size, "quality": arguments.quality}
    if arguments.command == "render":
        task, robots, gripper = read_environment(arguments.demos)
        return SceneConfig(task, robots, gripper, **look)
    return SceneConfig(
        arguments.task, tuple(arguments.robot), arguments.gripper, arguments.controller, **look
    )


def _takes(arguments: argparse.Namespace) -> list[Take]:
    sources = demonstrations(arguments.demos) if arguments.demos else []
    if arguments.command == "render":
        chosen = arguments.demo or sources
        for name in chosen:
            if name not in sources:
                raise UserError(f"{arguments.demos}: no demo {name!r}; there are {', '.join(sources[:9])}")
        return [Take(name, number, name) for number, name in enumerate(chosen)]
    numbers = range(arguments.first, arguments.first + (arguments.episodes or len(sources) or 10))
    return [Take(f"demo_{i}", i, sources[i % len(sources)] if sources else None) for i in numbers]


if __name__ == "__main__":
    sys.exit(run_cli(main))
