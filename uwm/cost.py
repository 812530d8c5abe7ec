"""What the pre-training of scale `paper` costs, before anybody has paid for it.

    python -m uwm.cost                        # one GPU at 400 TFLOP/s
    python -m uwm.cost --gpus 8 --tflops 250  # others

Operations are counted on the real networks, attention included, for one pair. A rate is nothing that can be
counted: `timing.jsonl` beside a training's log has the measured one.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from uwm.arguments import Parser, real, whole
from uwm.errors import run_cli
from uwm.models import MaskedAutoencoder, WorldModel
from uwm.stages.mae import MAE, MAERecipe
from uwm.stages.world_model import PRETRAIN, PretrainRecipe

PAIRS = 2  # counted together: a batch of one has no variance to standardise by


class PairCost(NamedTuple):
    """Floating-point operations of a step of pre-training for each pair; a multiply-add is two."""

    encode: int  # frozen MAE, both frames
    forward: int  # extractor, quantiser, dynamics
    backward: int
    parameters: int  # of the world model

    @property
    def total(self) -> int:
        return self.encode + self.forward + self.backward


def pair_cost(mae_recipe: MAERecipe, recipe: PretrainRecipe) -> PairCost:
    """Counts one step of `recipe` on the CPU, with fresh weights. The loss on the picture is not counted."""
    generator = torch.Generator().manual_seed(0)
    mae = MaskedAutoencoder(mae_recipe.model).eval()
    world_model = WorldModel(recipe.model.fitted(mae_recipe.model)).train()
    size = mae_recipe.model.image_size
    frames = torch.rand((2 * PAIRS, 3, size, size), generator=generator)
    with torch.no_grad():
        states, encode = _count(lambda: mae.encode(frames))
    s_t, s_next = states.unflatten(0, (PAIRS, 2)).unbind(1)
    loss, forward = _count(lambda: world_model(s_t, s_next).loss)
    _, backward = _count(loss.backward)
    parameters = sum(parameter.numel() for parameter in world_model.parameters())
    return PairCost(encode, forward, backward, parameters)


def _count(work: Callable[[], Any]) -> tuple[Any, int]:
    # The fused attention of a CPU is not known to the counter; the plain one has the same operations.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = work()
    return result, counter.get_total_flops() // PAIRS


def table(cost: PairCost, recipe: PretrainRecipe, gpus: int, tflops: float) -> list[str]:
    """Lines of name and value."""
    train = recipe.train
    total = cost.total * train.batch_size * train.steps
    hours = total / (tflops * 1e12) / 3600
    share = 100 * cost.encode / cost.total
    rows = {
        "encode both frames": f"{cost.encode / 1e9:.1f} GFLOP a pair ({share:.0f}%)",
        "world model forward": f"{cost.forward / 1e9:.1f} GFLOP a pair",
        "world model backward": f"{cost.backward / 1e9:.1f} GFLOP a pair",
        "a pair": f"{cost.total / 1e9:.1f} GFLOP",
        "a step": f"{cost.total * train.batch_size / 1e12:.1f} TFLOP, {train.batch_size} pairs",
        "all steps": f"{total / 1e18:.2g} EFLOP, {train.steps:,} steps",
        "world model": f"{cost.parameters / 1e6:.1f} million parameters",
        "gradients": f"{4 * cost.parameters / 1e6:.0f} MB (fp32)",
        "a checkpoint": f"{12 * cost.parameters / 1e9:.2f} GB (weights and two moments, fp32)",
        f"time at {tflops:g} TFLOP/s": f"{hours:.2f} GPU hours, {60 * hours / gpus:.0f} minutes on {gpus}",
        "pairs to read": f"{tflops * 1e12 * gpus / cost.total:,.0f} a second for {gpus} at that rate",
    }
    width = max(map(len, rows))
    return [f"{name:<{width}}  {value}" for name, value in rows.items()]


def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m uwm.cost",
        description="Count what the pre-training of scale paper costs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--gpus", type=whole(1, 4096), default=1, help="how many share the work")
    parser.add_argument("--tflops", type=real(1e-3, 1e5), default=400, help="TFLOP/s that a GPU reaches")
    options = parser.parse_args(argv)
    recipe = PRETRAIN["paper"]
    cost = pair_cost(MAE["paper"], recipe)
    print("\n".join(table(cost, recipe, options.gpus, options.tflops)))
    return 0


if __name__ == "__main__":
    sys.exit(run_cli(main))
