"""Latent actions of every frame pair of a corpus, as Parquet; by default by the released models.

    python -m uwm.actions NAME=DIR --out FILE.parquet
    python -m uwm.actions NAME=DIR --out FILE.parquet --mae M --world-model W

A row per pair: `video`, `t0` and `t1` in seconds, `codes` (L,) and, unless `--codes-only`, `vectors`
(L * W,), the rows of the codebook. The file's metadata (key `uwm`) names L, W, K, gap and weights. Of a model
without a codebook K is null, `codes` are empty, and `vectors` are the actions before any noise.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from uwm.arguments import Parser, named_path, real, whole
from uwm.data.corpora import Corpus, all_test, announce, parse_data
from uwm.data.crops import center_crop
from uwm.data.manifest import Manifest
from uwm.data.pairs import load_pairs
from uwm.data.selection import frozen_pairs
from uwm.errors import UserError, run_cli
from uwm.files import check_ours, replacing
from uwm.models.world import World
from uwm.training.distributed import default_device, environment_ranks

PAIRS_AT_ONCE = 256  # in memory at a time


def write_actions(world: World, corpus: Corpus, path: Path, gap: float, *, vectors: bool = True) -> int:
    """Write the latent actions of all pairs of a corpus's test clips; returns how many.

    Raises:
        UserError: no pair, a video that can't be read, or a file of somebody else's at `path`.
    """
    check_ours(path, _is_ours)
    manifest = frozen_pairs(corpus, "test", gap, None, 0)
    if not len(manifest.table):
        raise UserError(f"corpus {corpus.name!r} has no two frames {gap:g} s apart")
    schema = _schema(world, gap, vectors)
    with replacing(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        for table in _tables(world, corpus, manifest, schema):
            writer.write_table(table)
    return len(manifest.table)


def _is_ours(path: Path) -> bool:
    return b"uwm" in (pq.read_schema(path).metadata or {})


def _schema(world: World, gap: float, vectors: bool) -> pa.Schema:
    config = world.world_model.config
    about = {
        "num_action_tokens": config.tokens.num_action_tokens,
        "action_width": config.tokens.action_width,
        "codes": config.quantizer.codes if config.bottleneck.kind == "codes" else None,
        "gap": gap,
        "weights": world.weights,
    }
    fields = [("video", pa.string()), ("t0", pa.float64()), ("t1", pa.float64())]
    fields += [("codes", pa.list_(pa.int32()))]
    fields += [("vectors", pa.list_(pa.float32()))] if vectors else []
    return pa.schema(fields, metadata={"uwm": json.dumps(about)})


@torch.no_grad()
def _tables(world: World, corpus: Corpus, manifest: Manifest, schema: pa.Schema) -> Iterator[pa.Table]:
    size, short_side = world.image_size, round(world.image_size * 8 / 7)  # as in the evaluations
    starts = tqdm(
        range(0, len(manifest.table), PAIRS_AT_ONCE), desc=f"actions of {corpus.name}", mininterval=10
    )
    for start in starts:
        rows = manifest.table.iloc[start : start + PAIRS_AT_ONCE].reset_index(drop=True)
        images = center_crop(load_pairs(corpus, Manifest(rows), short_side), size, size)
        actions = world.world_model.infer_actions(*world.encode(images).unbind(1))
        columns: dict[str, Any] = {name: rows[name].to_numpy() for name in ("video", "t0", "t1")}
        columns["codes"] = list(actions.codes.int().cpu().numpy())
        if "vectors" in schema.names:
            vectors = actions.quantized if len(actions.codes[0]) else actions.continuous
            columns["vectors"] = list(vectors.flatten(1).cpu().numpy())
        yield pa.table(columns, schema=schema)


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m uwm.actions", description="Write latent actions of a corpus as Parquet.")
    parser.add_argument("data", metavar="NAME[:OPTIONS]=DIR", help="a corpus, or the name of a bundled one")
    parser.add_argument("--out", type=named_path, required=True, metavar="FILE", help="Parquet file")
    parser.add_argument("--mae", type=named_path, metavar="FILE", help="default: the released one")
    parser.add_argument("--world-model", type=named_path, metavar="FILE", help="default: the released one")
    parser.add_argument("--gap", type=real(1e-6, 1e6), default=0.2, help="seconds between a pair's frames")
    parser.add_argument("--threads", type=whole(1, 1024), help="of torch")
    parser.add_argument("--codes-only", action="store_true", help="without the codes' vectors")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    check_ours(options.out, _is_ours)  # before hours of work
    corpus = all_test(parse_data(options.data))
    announce(corpus)
    world = World.load(options.mae, options.world_model).to(default_device(environment_ranks()))
    count = write_actions(world, corpus, options.out, options.gap, vectors=not options.codes_only)
    print(f"{count} pairs in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_cli(main))
