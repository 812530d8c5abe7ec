"""What a training step takes on this machine: time, share of the peak (MFU), exchange between processes.

    python -m uwm.bench                    # pre-training of scale paper on one GPU
    python -m torch.distributed.run --standalone --nproc-per-node=gpu -m uwm.bench     # on all: NCCL
    python -m uwm.bench --compiled         # the same with the transformer blocks compiled
    python -m uwm.bench --scale smoke      # on a CPU, in seconds: gloo

It is the loop of every training on a random batch in memory: encoding, both passes, exchange, optimiser.
What reading the data takes is not in it (`make bench`; `data_wait` in a training's timing.jsonl).
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from uwm.arguments import Parser, named_path, one_of, whole
from uwm.env import REPOSITORY, runs_root
from uwm.errors import UserError, run_cli
from uwm.files import check_ours, write_atomically
from uwm.models import MaskedAutoencoder, WorldModel
from uwm.runs.experiment import load_experiment
from uwm.runs.provenance import code_provenance, environment
from uwm.stages.counting import step_cost
from uwm.stages.mae import MAERecipe
from uwm.stages.world_model import PretrainRecipe
from uwm.training import distributed
from uwm.training.batches import micro_batch_size
from uwm.training.device import peak_tflops
from uwm.training.distributed import Ranks
from uwm.training.loop import train
from uwm.training.objectives import LatentActionPrediction, PictureLoss

TIMED_SCALES = ("smoke", "small", "paper")
WARM_UP = 5  # steps: memory is reserved, kernels are chosen, blocks compiled
EXCHANGES = 10  # of which the median counts


class Repeated:
    """One batch for all steps; notes when each step asks for it."""

    def __init__(self, batch: Tensor) -> None:
        self.batch, self.asked = batch, list[float]()

    def batches(self, start_step: int, rank: int, world_size: int) -> Iterator[Tensor]:
        while True:
            self.asked.append(time.monotonic())
            yield self.batch


def random_batch(recipe: PretrainRecipe, mae: MaskedAutoencoder, pairs: int) -> Tensor:
    """What the recipe's source would give: uint8 images (B, 2, 3, S, S), or states (B, 2, 1+N, D)."""
    config, draw = mae.config, torch.Generator().manual_seed(0)
    if recipe.views:
        return torch.randn(pairs, 2, *config.state_size, generator=draw).half()
    size = config.image_size
    return torch.randint(256, (pairs, 2, 3, size, size), dtype=torch.uint8, generator=draw)


def time_steps(recipe: PretrainRecipe, mae: MAERecipe, ranks: Ranks, steps: int, folder: Path) -> float:
    """Median seconds of a step of the training loop itself, the first ones left out."""
    config = replace(recipe.train, steps=WARM_UP + steps, warmup_steps=0, validate_every=0)
    encoder = MaskedAutoencoder(mae.model)
    model = WorldModel(recipe.model.fitted(mae.model))
    pairs = micro_batch_size(config.batch_size, config.accumulate, ranks.world_size)
    source = Repeated(random_batch(recipe, encoder, pairs))
    state_encoder = None if recipe.views else encoder
    objective = LatentActionPrediction(model, state_encoder, PictureLoss(encoder, recipe.picture_weight))
    train(objective, source, config, folder, name="bench", tensorboard=False)
    asked = source.asked[:: config.accumulate]
    return statistics.median(b - a for a, b in zip(asked[WARM_UP:-1], asked[WARM_UP + 1 :], strict=True))


def time_exchange(size: int, ranks: Ranks, device: torch.device, folder: Path) -> dict[str, Any]:
    """An all-reduce of `size` float32 numbers, the gradients of the model, checked and timed."""
    alone = not dist.is_initialized()
    backend = "nccl" if device.type == "cuda" else "gloo"
    if alone:  # one process exchanges with itself: so the library has run at least
        dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
    seconds, expected = [], float(sum(range(1, ranks.world_size + 1)))
    for _ in range(EXCHANGES):
        values = torch.full((size,), float(ranks.rank + 1), device=device)
        _wait(device)
        began = time.monotonic()
        dist.all_reduce(values)
        _wait(device)
        seconds.append(time.monotonic() - began)
        if not bool((values == expected).all()):
            raise RuntimeError(f"{backend}: rank {ranks.rank} holds a wrong sum after an all-reduce")
    if alone:
        dist.destroy_process_group()
    median, share = statistics.median(seconds), 2 * (ranks.world_size - 1) / ranks.world_size
    # What each link carries (nccl-tests call it the bus bandwidth); nothing in one process.
    return {
        "backend": backend,
        "megabytes": round(4 * size / 1e6, 3),
        "milliseconds": round(1e3 * median, 3),
        "bus_gb_per_second": round(share * 4 * size / median / 1e9, 3),
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured_steps(scale: str, steps: int, compiled: bool = False) -> dict[str, Any] | None:
    """The record of this machine; None but on rank 0. UserError where the scale needs a GPU."""
    if scale != "smoke" and not torch.cuda.is_available():
        raise UserError(f"no GPU here for scale {scale}; --scale smoke runs on a CPU")
    config = load_experiment(REPOSITORY / "experiments" / "table1.py").configs[scale]
    pretrain, mae = config.pretrain, config.mae
    recipe = replace(pretrain, train=replace(pretrain.train, compiled=compiled))
    ranks = distributed.environment_ranks()
    device = distributed.default_device(ranks)
    distributed.join(ranks, device)
    cost = step_cost(recipe, mae, recipe)
    with tempfile.TemporaryDirectory() as folder:
        seconds = time_steps(recipe, mae, ranks, steps, Path(folder) / "training")
        exchange = time_exchange(cost.parameters, ranks, device, Path(folder))
    if not ranks.leads:
        return None
    cuda = device.type == "cuda"
    precision, batch = recipe.train.precision, recipe.train.batch_size
    tflops = cost.total * batch / ranks.world_size / seconds / 1e12
    peak = peak_tflops(torch.cuda.get_device_name(device), precision) if cuda else None
    return {
        "scale": scale,
        "processes": ranks.world_size,
        "batch_size": batch,
        "precision": precision,
        "steps": steps,
        "milliseconds_per_step": round(1e3 * seconds, 3),
        "pairs_per_second": round(batch / seconds, 2),
        "tflops_per_process": round(tflops, 4),
        "mfu": round(tflops / peak, 4) if peak else None,
        "peak_memory_gb": round(torch.cuda.max_memory_allocated(device) / 1e9, 3) if cuda else None,
        "exchange": exchange,
        "cuda": torch.version.cuda if cuda else None,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else None,
        "env": {**environment(REPOSITORY), **({"compiled": True} if compiled else {})},
        "code": code_provenance(REPOSITORY, Path(__file__)),
    }


def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m uwm.bench",
        description="Time a training step and the exchange between processes on this machine.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--scale", type=one_of(TIMED_SCALES), default="paper", help="whose pre-training")
    parser.add_argument("--steps", type=whole(2, 100_000), default=50, help="steps that count")
    parser.add_argument("--compiled", action="store_true", help="with compiled transformer blocks")
    parser.add_argument("--out", type=named_path, help="the record; none: in the folder of runs")
    options = parser.parse_args(argv)
    if options.out:
        check_ours(options.out, lambda path: "milliseconds_per_step" in json.loads(path.read_text()))
    record = measured_steps(options.scale, options.steps, options.compiled)
    if record is None:
        return 0
    name = f"{options.scale}-{record['processes']}.json"
    path: Path = options.out or runs_root(REPOSITORY) / "bench" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, allow_nan=False)
    write_atomically(path, text + "\n")
    print(text)
    print(f"written to {os.path.relpath(path)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(run_cli(main))
