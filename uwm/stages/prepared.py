"""Shards of a training's pairs, made before it by `python -m uwm.data.prepare`."""

import sys
from pathlib import Path

from uwm.data.corpora import Corpus
from uwm.data.manifest import Manifest, write_manifest
from uwm.data.shards import NoShards, find_shards, pairs_missing
from uwm.env import cache_root, shards_root
from uwm.errors import UserError
from uwm.training.distributed import environment_ranks


def prepared_shards(quality: int, short_side: int, corpus: Corpus, manifest: Manifest) -> Path:
    """The folder of a manifest's shards below UWM_SHARDS. UserError with the command that makes them."""
    root = shards_root()
    try:
        folder = find_shards(root, manifest, short_side, quality)
    except NoShards as error:
        pairs = cache_root() / "manifests" / f"{corpus.name}-train-{manifest.sha256[:12]}.csv"
        pairs.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(manifest, pairs)
        raise UserError(
            f"{error}; set UWM_SHARDS, or make them: "
            f"python -m uwm.data.prepare {corpus.name}={corpus.folder} --manifest {pairs} "
            f"--size {short_side} --quality {quality} --out {root / corpus.name}"
        ) from None
    if environment_ranks().rank == 0 and (missing := pairs_missing(folder, manifest)):
        print(missing, file=sys.stderr)
    return folder
