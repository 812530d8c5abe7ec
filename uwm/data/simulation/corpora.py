"""Renders the simulated corpora `sim-third-person` and `sim-ego` from seeds.

    python -m uwm.data.simulation --out DIR [--corpus NAME ...] [--split NAME ...] [--only CLIP] [--jobs 2]

Clips go to DIR/<corpus>/<split>/<split>-<index>.mp4, with one manifest DIR/<corpus>/clips.csv. A clip is a
pure function of its corpus and its seed. A stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from uwm.arguments import Parser, named_path, whole
from uwm.data.simulation.clips import (
    CLIPS_PER_SPLIT,
    CORPORA,
    EGO,
    MANIFEST,
    PANDA,
    THIRD_PERSON,
    ClipRow,
    SimulatedClip,
    all_clips,
    read_rows,
    write_rows,
)
from uwm.data.simulation.jobs import in_processes
from uwm.data.simulation.scene import FPS, SIZE, Scene, Simulator, draw_scene, import_robosuite
from uwm.data.splits import SPLITS
from uwm.errors import UserError
from uwm.files import remove_matching, replacing

CRF = {THIRD_PERSON: 24, EGO: 26, PANDA: 26}
"""Constant rate factor of the encoder: the picture quality, chosen so that sim-panda takes less than
15 MB, and the other two less than 24."""

NO_RENDERER = (
    "this needs robosuite and an OpenGL library: run `make setup-robot`, and `apt-get install libegl1 "
    "libegl-mesa0 libgl1 libgl1-mesa-dri`, or libosmesa6 and set MUJOCO_GL=osmesa ({reason})"
)


def encode(path: Path, images: Sequence[np.ndarray], crf: int, keyframe_every: int = FPS) -> None:
    """Writes an H.264 video whose bytes depend on the pictures and the encoder's version only.

    Args:
        path: the new file, MP4 whatever its name.
        images: (height, width, 3) uint8 RGB pictures, `FPS` a second.
        crf: constant rate factor; a smaller one is a better picture.
        keyframe_every: frames from one key frame to the next; by default a second's.
    """
    import av

    # No B-frames, and key frames close together: a pair of frames is decoded fast from anywhere.
    options = {"crf": str(crf), "preset": "slow", "bf": "0", "g": str(keyframe_every), "threads": "1"}
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def render_clip(simulator: Simulator, clip: SimulatedClip, out: Path) -> None:
    """Renders one clip into `out`/<corpus>, with its manifest row beside it (`.csv`) until the run ends."""
    images, states = zip(*simulator.frames(clip.corpus, clip.seed), strict=True)
    path = out / clip.corpus / clip.file
    with replacing(path) as temporary:  # renamed last: a clip that is there is whole and has its row
        encode(temporary, images, CRF[clip.corpus])
        scene, camera = draw_scene(clip.corpus, clip.seed)
        row = ClipRow(
            file=clip.file,
            split=clip.split,
            seed=clip.seed,
            task=scene.task,
            robot="+".join(scene.robots),
            camera=camera,
            width=SIZE,
            height=SIZE,
            fps=FPS,
            frames=len(images),
            sha256=hashlib.sha256(temporary.read_bytes()).hexdigest(),
            states_sha256=hashlib.sha256(np.stack(states).astype("<f8").tobytes()).hexdigest(),
        )
        write_rows(_row_file(out, clip), [row])


def _row_file(out: Path, clip: SimulatedClip) -> Path:
    return out / clip.corpus / ".rows" / f"{clip.split}-{clip.index:04d}.csv"


def _is_done(out: Path, clip: SimulatedClip, known: dict[tuple[str, str], int]) -> bool:
    """Returns whether the clip is there, with a row of the same seed in the manifest or beside it."""
    if not (out / clip.corpus / clip.file).is_file():
        return False
    seeds = [known.get((clip.corpus, clip.file)), *(row.seed for row in read_rows(_row_file(out, clip)))]
    return clip.seed in seeds


def work_units(clips: Iterable[SimulatedClip]) -> list[tuple[Scene, list[SimulatedClip]]]:
    """Groups clips by scene, since building an environment takes seconds.

    A fifth of the training clips comes first, then validation and test, then the rest: so a stopped run is
    still of use.
    """
    groups: dict[tuple[int, Scene], list[SimulatedClip]] = defaultdict(list)
    for clip in clips:
        early = clip.index < CLIPS_PER_SPLIT[clip.corpus]["train"] // 5
        phase = (0 if early else 2) if clip.split == "train" else 1
        groups[phase, draw_scene(clip.corpus, clip.seed)[0]].append(clip)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1].task))
    return [(scene, group) for (_, scene), group in ordered]


def _render_unit(out: Path, unit: tuple[Scene, list[SimulatedClip]], done: Callable[[], None]) -> None:
    simulator = Simulator(unit[0])
    for clip in unit[1]:
        render_clip(simulator, clip, out)
        done()
    simulator.close()


def render_clips(clips: Sequence[SimulatedClip], out: Path, jobs: int) -> None:
    """Renders clips in `jobs` processes.

    Raises:
        UserError: a process failed.
    """
    in_processes(partial(_render_unit, out), work_units(clips), len(clips), jobs, "clip")


def merge_rows(clips: Sequence[SimulatedClip], out: Path) -> None:
    """Merges the rows of finished clips into the manifests, and clears what a stopped run left."""
    for corpus in sorted({clip.corpus for clip in clips}):
        rows = {row.file: row for row in read_rows(out / corpus / MANIFEST)}
        for path in sorted((out / corpus / ".rows").glob("*.csv")):
            rows.update({row.file: row for row in read_rows(path)})
        write_rows(out / corpus / MANIFEST, rows.values())
        remove_matching(out / corpus / ".rows", "*.csv", ".*.tmp")
        for part in (out / corpus).glob("*/.*.mp4.*.tmp"):
            part.unlink()


def select(arguments: argparse.Namespace) -> list[SimulatedClip]:
    """Returns the clips that the command line asks for.

    Raises:
        UserError: an unknown corpus, split or clip.
    """
    for kind, known in (("corpus", CORPORA), ("split", SPLITS)):
        for name in getattr(arguments, kind) or ():
            if name not in known:
                raise UserError(f"unknown {kind} {name!r}; there are {', '.join(known)}")
    clips = all_clips(arguments.seed, arguments.corpus or CORPORA, arguments.split or SPLITS)
    if arguments.only:
        clips = [clip for clip in clips if Path(clip.file).stem == arguments.only.removesuffix(".mp4")]
        if not clips:
            raise UserError(f"no clip {arguments.only!r}; names are such as test-0003")
    return clips


def check_renderer() -> None:
    """Raises `UserError` where robosuite or the OpenGL library is missing."""
    # A context that could not be made complains once more when it is freed, before this function ends.
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    fault = _renderer_fault()
    sys.unraisablehook = hook
    if fault is not None:
        raise UserError(NO_RENDERER.format(reason=fault))


def _renderer_fault() -> str | None:
    try:
        import_robosuite()
        import mujoco

        mujoco.GLContext(8, 8).free()
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def command(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, renders what is missing, and says where it went."""
    parser = Parser(prog="python -m uwm.data.simulation", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=named_path, required=True, help="folder of the corpora")
    parser.add_argument("--corpus", nargs="+", help=f"of {', '.join(CORPORA)} (all)")
    parser.add_argument("--split", nargs="+", help=f"of {', '.join(SPLITS)} (all)")
    parser.add_argument("--only", metavar="CLIP", help="one clip by name, such as test-0003")
    parser.add_argument("--jobs", type=whole(1, 4096), default=2, help="processes (2)")
    parser.add_argument("--seed", type=whole(0), default=0, help="seed of the corpora (0)")
    arguments = parser.parse_args(argv)
    clips = select(arguments)
    known = {
        (corpus, row.file): row.seed
        for corpus in CORPORA
        for row in read_rows(arguments.out / corpus / MANIFEST)
    }
    missing = [clip for clip in clips if not _is_done(arguments.out, clip, known)]
    if missing:
        check_renderer()
        render_clips(missing, arguments.out, min(arguments.jobs, len(missing)))
    merge_rows(clips, arguments.out)
    kept = len(clips) - len(missing)
    print(f"{len(missing)} clips rendered and {kept} kept in {arguments.out}; manifests are */{MANIFEST}")
    return 0
