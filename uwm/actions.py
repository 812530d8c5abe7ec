"""Latent actions of every frame pair of a corpus, as Parquet; by default by the released models.

    python -m uwm.actions NAME=DIR --out FILE.parquet
    python -m uwm.actions NAME=DIR --out FILE.parquet --mae M --world-model W
    python -m uwm.actions NAME=DIR --out FILE.parquet --part $SLURM_ARRAY_TASK_ID/32 --workers 8

With `--part` each task takes a share of the clips and writes a file of its own, `FILE-3-of-32.parquet`; one
that is there, of the same pairs and weights, is not made again.

A row per pair: `video`, `t0` and `t1` in seconds, `codes` (L,) and, unless `--codes-only`, `vectors`
(L * W,), the rows of the codebook. The file's metadata (key `uwm`) names L, W, K, gap, weights and the digest
of the list of pairs. Of a model without a codebook K is null, `codes` are empty, and `vectors` are the
actions before any noise.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from uwm.arguments import Parser, named_path, real, whole
from uwm.data.arguments import parse_part
from uwm.data.corpora import Corpus, all_test, announce, parse_data
from uwm.data.crops import center_crop
from uwm.data.decoders import BadVideo
from uwm.data.manifest import Manifest
from uwm.data.pairs import load_pairs
from uwm.data.selection import frozen_pairs
from uwm.data.stream import one_thread_in_workers
from uwm.data.workers import Failure, crash_proof_map
from uwm.errors import UserError, run_cli
from uwm.files import check_ours, replacing
from uwm.models.world import World
from uwm.training.distributed import default_device

PAIRS_AT_ONCE = 256  # in memory at a time


def write_actions(
    world: World, corpus: Corpus, path: Path, gap: float, *, vectors: bool = True, workers: int = 0
) -> int:
    """Write the latent actions of all pairs of a corpus's test clips; returns how many.

    `workers` processes decode the videos (0: this one); they change no value.

    Raises:
        UserError: no pair, a video that can't be read, or a file of somebody else's at `path`.
    """
    check_ours(path, _is_ours)
    manifest, schema = _wanted(world, corpus, gap, vectors)
    with replacing(path) as partial_file, pq.ParquetWriter(partial_file, schema) as writer:
        for table in _tables(world, corpus, manifest, schema, workers):
            writer.write_table(table)
    return len(manifest.table)


def _is_written(world: World, corpus: Corpus, path: Path, gap: float, *, vectors: bool = True) -> bool:
    """Whether `write_actions` has written this file already.

    Raises:
        UserError: no pair, or a file of other pairs or weights at `path`.
    """
    if not path.exists():
        return False
    check_ours(path, _is_ours)
    schema, expected = pq.read_schema(path), _wanted(world, corpus, gap, vectors)[1]
    if (schema.names, schema.metadata) != (expected.names, expected.metadata):
        raise UserError(
            f"{path} holds other columns, or actions of other pairs or weights; "
            "move it away, or name another --out"
        )
    return True


def _wanted(world: World, corpus: Corpus, gap: float, vectors: bool) -> tuple[Manifest, pa.Schema]:
    """The pairs, and what their file says of itself."""
    manifest = frozen_pairs(corpus, "test", gap, None, 0)
    if not len(manifest.table):
        raise UserError(f"corpus {corpus.name!r} has no two frames {gap:g} s apart")
    return manifest, _schema(world, manifest, gap, vectors)


def _is_ours(path: Path) -> bool:
    return b"uwm" in (pq.read_schema(path).metadata or {})


def _schema(world: World, manifest: Manifest, gap: float, vectors: bool) -> pa.Schema:
    config = world.world_model.config
    about = {
        "num_action_tokens": config.tokens.num_action_tokens,
        "action_width": config.tokens.action_width,
        "codes": config.quantizer.codes if config.bottleneck.kind == "codes" else None,
        "gap": gap,
        "weights": world.weights,
        "pairs_sha256": manifest.sha256,
    }
    fields = [("video", pa.string()), ("t0", pa.float64()), ("t1", pa.float64())]
    fields += [("codes", pa.list_(pa.int32()))]
    fields += [("vectors", pa.list_(pa.float32()))] if vectors else []
    return pa.schema(fields, metadata={"uwm": json.dumps(about)})


@torch.no_grad()
def _tables(
    world: World, corpus: Corpus, manifest: Manifest, schema: pa.Schema, workers: int
) -> Iterator[pa.Table]:
    starts = range(0, len(manifest.table), PAIRS_AT_ONCE)
    parts = (manifest.table.iloc[i : i + PAIRS_AT_ONCE].reset_index(drop=True) for i in starts)
    without_clips = replace(corpus, clips=())  # all that a process needs to know of it
    loaded = crash_proof_map(partial(_pictures, without_clips, world.image_size), parts, workers)
    for rows, images in tqdm(loaded, f"actions of {corpus.name}", len(starts), mininterval=10):
        if isinstance(images, Failure):
            names = " to ".join(dict.fromkeys((rows["video"].iloc[0], rows["video"].iloc[-1])))
            raise UserError(f"{corpus.folder}: {images.reason} ({names})")
        states = world.encode(torch.from_numpy(images))
        actions = world.world_model.infer_actions(*states.unbind(1))
        columns: dict[str, Any] = {name: rows[name].to_numpy() for name in ("video", "t0", "t1")}
        columns["codes"] = list(actions.codes.int().cpu().numpy())
        if "vectors" in schema.names:
            vectors = actions.quantized if len(actions.codes[0]) else actions.continuous
            columns["vectors"] = list(vectors.flatten(1).cpu().numpy())
        yield pa.table(columns, schema=schema)


def _pictures(corpus: Corpus, size: int, rows: pd.DataFrame) -> NDArray[np.uint8]:
    """The pairs of some rows as the evaluations see them: uint8 (n, 2, 3, size, size)."""
    one_thread_in_workers()
    try:
        return center_crop(load_pairs(corpus, Manifest(rows), round(size * 8 / 7)), size, size).numpy()
    except BadVideo as error:
        raise UserError(str(error)) from None  # which file it is would get lost between processes


def _part_of(corpus: Corpus, path: Path, part: tuple[int, int]) -> tuple[Corpus, Path]:
    """The clips of a part (number, count), taken in turns, and the file that is theirs.

    Raises:
        UserError: the corpus has fewer clips than there are parts.
    """
    number, count = part
    if count == 1:
        return corpus, path
    clips = corpus.clips[number::count]
    if not clips:
        raise UserError(f"--part {number}/{count}: corpus {corpus.name!r} has {len(corpus.clips)} clips")
    return replace(corpus, clips=clips), path.with_name(f"{path.stem}-{number}-of-{count}{path.suffix}")


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m uwm.actions", description="Write latent actions of a corpus as Parquet.")
    parser.add_argument("data", metavar="NAME[:OPTIONS]=DIR", help="a corpus, or the name of a bundled one")
    parser.add_argument("--out", type=named_path, required=True, metavar="FILE", help="Parquet file")
    parser.add_argument("--mae", type=named_path, metavar="FILE", help="default: the released one")
    both = "the one over that MAE; name both or neither"
    parser.add_argument("--world-model", type=named_path, metavar="FILE", help=both)
    parser.add_argument("--gap", type=real(1e-6, 1e6), default=0.2, help="seconds between a pair's frames")
    parser.add_argument("--threads", type=whole(1, 1024), help="of torch")
    parser.add_argument("--workers", type=whole(0, 4096), default=0, help="processes that decode the videos")
    parser.add_argument("--part", default="0/1", help="NUMBER/COUNT: this share of the clips, from 0")
    parser.add_argument("--codes-only", action="store_true", help="without the codes' vectors")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    part = parse_part(options.part)
    corpus, path = _part_of(all_test(parse_data(options.data)), options.out, part)
    check_ours(path, _is_ours)  # before hours of work
    announce(corpus)
    world = World.load(options.mae, options.world_model).to(default_device())
    vectors = not options.codes_only
    if part[1] > 1 and _is_written(world, corpus, path, options.gap, vectors=vectors):
        print(f"{path} is there already")
        return 0
    count = write_actions(world, corpus, path, options.gap, vectors=vectors, workers=options.workers)
    print(f"{count} pairs in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(run_cli(main))
