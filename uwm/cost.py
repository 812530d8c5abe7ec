"""What the trainings of a scale will cost, and measuring what they learnt, counted before they run.

    python -m uwm.cost                                # pre-training of scale paper, one GPU at 400 TFLOP/s
    python -m uwm.cost --gpus 8 --tflops 250          # others
    python -m uwm.cost --scale small --trainings      # every training of Table 1, Figures 4 and 5

Operations and the memory of a step are counted on the real networks, attention included; a host's memory is
what reading pairs takes: blocks to shuffle, and a process for each core but one; for trainings of Figures 4
and 5 the frames and states that they hold. What the data takes is in `uwm.reading_cost`. A rate is nothing
that can be counted: `timing.jsonl` beside a training's log has the measured one.

Measuring is done in fp32. It is counted as if each cell encoded, predicted and showed its pairs anew: test
pairs, those that probes are fitted to, and each step of its rollouts. Cells of a run share a part of that.

Not counted are the decoding of test clips, FICC's small adapter, what reads the gripper off a picture,
encoding where a recipe computes states once, and the steps with a perceptual loss that a pre-training can
end with (at scale mini it does).
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from uwm.arguments import Parser, one_of, real, whole
from uwm.data.simulation.suite import Suite
from uwm.env import REPOSITORY
from uwm.errors import run_cli
from uwm.reading_cost import looked_at, made_here, stored
from uwm.runs.experiment import Cell, load_experiment
from uwm.runs.slurm.site import TFLOPS, TFLOPS_FP32
from uwm.stages.action_training import ActionRecipe
from uwm.stages.adapter import AdapterRecipe
from uwm.stages.baselines import DynamicsRecipe
from uwm.stages.counting import (
    StepCost,
    TrainedRecipe,
    bare,
    cost_of_alike,
    held_memory,
    measure_cost,
    measured_pairs,
    step_cost,
)
from uwm.stages.decoder import DecoderRecipe
from uwm.stages.finetune import FinetuneRecipe
from uwm.stages.mae import MAERecipe
from uwm.stages.pair_training import PairRecipe, planned_memory
from uwm.stages.world_model import PretrainRecipe

COUNTED_EXPERIMENTS = ("table1", "figure4", "figure5")
COUNTED_SCALES = ("small", "paper")


class Trainings(NamedTuple):
    """Trainings of an experiment with the same network and as many pairs to see; seeds differ, say."""

    experiment: str
    kind: str
    cost: StepCost
    batch_size: int
    steps: int
    times: int
    held: int  # bytes of frames and states in each rank's host; 0 where batches are read live

    @property
    def operations(self) -> int:
        """Of all of them together."""
        return self.cost.total * self.batch_size * self.steps * self.times


class Measurements(NamedTuple):
    """What all cells of an experiment measure together: pairs, and the operations of each."""

    experiment: str
    cells: int
    pairs: int
    each: int

    @property
    def operations(self) -> int:
        """Of all of them together."""
        return self.each * self.pairs


def table(
    cost: StepCost,
    recipe: PretrainRecipe,
    reading: tuple[float, float],
    gpus: int,
    tflops: float,
    further: Mapping[str, str],
) -> list[str]:
    """Lines of name and value: what one training costs, and then `further` ones. `reading`: memory of a rank
    for its batches, in bytes, and how much of it the processes that read take."""
    train = recipe.train
    total = cost.total * train.batch_size * train.steps
    hours = total / (tflops * 1e12) / 3600
    share = 100 * cost.encode / cost.total
    pairs = -(-train.batch_size // gpus)
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
        "kept for backward": f"{cost.kept / 1e6:.1f} MB a pair",
        "memory of a GPU": f"{cost.memory(pairs) / 1e9:.1f} GB for {pairs} pairs, the framework's own aside",
        "memory of a host": f"{reading[0] / 1e9:.1f} GB a GPU at most to read pairs, "
        f"{reading[1] / 1e9:.1f} GB of it the processes",
        f"time at {tflops:g} TFLOP/s": f"{hours:.2f} GPU hours, {60 * hours / gpus:.0f} minutes on {gpus}",
        "pairs to read": f"{tflops * 1e12 * gpus / cost.total:,.0f} a second for {gpus} at that rate",
        **further,
    }
    width = max(map(len, rows))
    return [f"{name:<{width}}  {value}" for name, value in rows.items()]


def measuring_line(scale: str, tflops: float) -> str:
    """What measuring the three experiments takes together, at a rate in fp32."""
    measurements = list(measurings(scale))
    hours = sum(one.operations for one in measurements) / (tflops * 1e12) / 3600
    pairs, each = sum(one.pairs for one in measurements), measurements[0].each / 1e9
    return f"{hours:.2f} GPU hours at {tflops:g} TFLOP/s in fp32, {pairs:,} pairs of {each:.1f} GFLOP"


def counted_trainings(scale: str) -> Iterator[Trainings]:
    """Every training of the three experiments at a scale, in the first experiment that needs it."""
    counted: set[tuple[Any, str]] = set()
    for name in COUNTED_EXPERIMENTS:
        counts: dict[tuple[str, TrainedRecipe, int, int], int] = {}
        held: dict[str, int] = {}
        for config, cell, read in _cells(name, scale):
            for recipe in read.values():
                if not isinstance(recipe, TrainedRecipe):
                    continue
                key = recipe, "" if isinstance(recipe, PretrainRecipe) else cell.corpus
                if key not in counted:
                    counted.add(key)
                    alike = kind_of(recipe), bare(recipe), recipe.train.batch_size, recipe.train.steps
                    counts[alike] = counts.get(alike, 0) + 1
                    held[alike[0]] = max(held.get(alike[0], 0), in_domain_memory(recipe, config.mae))
        for (kind, recipe, batch_size, steps), count in counts.items():
            cost = cost_of_alike(recipe, config.mae, bare(config.pretrain))
            yield Trainings(name, kind, cost, batch_size, steps, count, held[kind])


def in_domain_memory(recipe: PairRecipe | ActionRecipe, mae: MAERecipe) -> int:
    """`held_memory` of a recipe that trains on the in-domain set; 0 for the pre-training."""
    if isinstance(recipe, PretrainRecipe):
        return 0
    suite = Suite()
    clips = min(suite.episodes["train"], recipe.clips or suite.episodes["train"])
    return held_memory(recipe, mae.model, clips * suite.steps // suite.steps_per_frame)


def held_line(scale: str) -> str:
    """The most that a training on the in-domain set holds in memory, and which it is."""
    held: dict[str, int] = {}
    for name in COUNTED_EXPERIMENTS:
        for config, _, read in _cells(name, scale):
            for field, recipe in read.items():
                if isinstance(recipe, PairRecipe | ActionRecipe):
                    label = f"{name}'s {field}"
                    held[label] = max(held.get(label, 0), in_domain_memory(recipe, config.mae))
    most = max(held.values())
    names = " and ".join(field for field, size in held.items() if size == most)
    return f"{most / 1e9:.1f} GB of a host a GPU at most, by {names}"


def measurings(scale: str) -> Iterator[Measurements]:
    """What the cells of each of the three experiments measure at a scale."""
    for name in COUNTED_EXPERIMENTS:
        cells = list(_cells(name, scale))
        pairs = sum(measured_pairs(read) for _, _, read in cells)
        config = cells[0][0]
        yield Measurements(name, len(cells), pairs, measure_cost(config.mae, config.pretrain, config.lpips))


def _cells(name: str, scale: str) -> Iterator[tuple[Any, Cell, Mapping[str, Any]]]:
    """An experiment's config at a scale, and each of its cells with what it reads of it."""
    experiment = load_experiment(REPOSITORY / "experiments" / f"{name}.py")
    config = experiment.configs[scale]
    for cell in experiment.cells(config, {}):
        yield config, cell, experiment.reads(config, cell)


def kind_of(recipe: TrainedRecipe) -> str:
    """A training's name for a table: `fine-tuning (from scratch)`."""
    if isinstance(recipe, PretrainRecipe):
        name, how = "pre-training", ["" if recipe.model.use_action else "no action"]
    elif isinstance(recipe, FinetuneRecipe):
        name, how = "fine-tuning", ["from scratch" if recipe.start == "scratch" else "", recipe.trained]
    elif isinstance(recipe, AdapterRecipe):
        name, how = "adapter", [recipe.model.target, "" if recipe.model.use_state else "no state"]
    elif isinstance(recipe, DecoderRecipe):
        name, how = "decoder", [recipe.objective]
    else:
        name, how = ("dynamics", [recipe.kind]) if isinstance(recipe, DynamicsRecipe) else ("FICC", [])
    said = ", ".join(word for word in how if word and word != "all")
    return f"{name} ({said})" if said else name


HEADER = ("", "training", "times", "steps", "batch", "GFLOP a pair", "GPU, GB", "held, GB", "GPU hours")


def all_trainings(scale: str, tflops: float, tflops_fp32: float) -> list[str]:
    """A line for each kind of training, one for measuring each experiment, and the sums."""
    rows: list[tuple[str, ...]] = [HEADER]
    hours = dict.fromkeys(COUNTED_EXPERIMENTS, 0.0)
    for trainings in counted_trainings(scale):
        spent = trainings.operations / (tflops * 1e12) / 3600
        hours[trainings.experiment] += spent
        rows.append(
            (
                trainings.experiment,
                trainings.kind,
                f"{trainings.times}",
                f"{trainings.steps:,}",
                f"{trainings.batch_size}",
                f"{trainings.cost.total / 1e9:.1f}",
                f"{trainings.cost.memory(trainings.batch_size) / 1e9:.1f}",
                f"{trainings.held / 1e9:.1f}" if trainings.held else "",
                f"{spent:.2f}",
            )
        )
    for measured in measurings(scale):
        spent = measured.operations / (tflops_fp32 * 1e12) / 3600
        hours[measured.experiment] += spent
        texts = (
            f"measuring {measured.pairs:,} pairs",
            f"{measured.cells}",
            "",
            "",
            f"{measured.each / 1e9:.1f}",
        )
        rows.append((measured.experiment, *texts, "", "", f"{spent:.2f}"))
    rows += [(name, "together", *[""] * 6, f"{spent:.1f}") for name, spent in hours.items()]
    rate = f"at {tflops:g} TFLOP/s, {tflops_fp32:g} in fp32"
    rows.append(("all", rate, *[""] * 6, f"{sum(hours.values()):.1f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return [
        "  ".join(
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m uwm.cost",
        description="Count what the trainings of a scale cost.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--scale", type=one_of(COUNTED_SCALES), default="paper", help="one with GPUs")
    parser.add_argument(
        "--trainings",
        action="store_true",
        help="every training, not the pre-training alone; and measuring, by experiment",
    )
    parser.add_argument("--gpus", type=whole(1, 4096), default=1, help="how many share a training")
    parser.add_argument("--cores", type=whole(1, 4096), default=12, help="of each GPU's process")
    parser.add_argument("--tflops", type=real(1e-3, 1e5), default=TFLOPS, help="TFLOP/s that a GPU reaches")
    parser.add_argument(
        "--tflops-fp32",
        type=real(1e-3, 1e5),
        default=TFLOPS_FP32,
        help="TFLOP/s in fp32, in which measures are taken",
    )
    options = parser.parse_args(argv)
    if options.trainings:
        print("\n".join(all_trainings(options.scale, options.tflops, options.tflops_fp32)))
        return 0
    config = load_experiment(REPOSITORY / "experiments" / "table1.py").configs[options.scale]
    cost = step_cost(config.pretrain, config.mae, config.pretrain)
    sizes = config.mae.model.image_size, len(config.pretrain_on), options.gpus, options.cores - 1
    reading = planned_memory(config.pretrain, *sizes)
    memory, rate = (reading.total, reading.processes), options.tflops
    further = stored(config.pretrain, config.pretrain_on) | looked_at() | made_here()
    further["frames and states"] = held_line(options.scale)
    further["measuring"] = measuring_line(options.scale, options.tflops_fp32)
    print("\n".join(table(cost, config.pretrain, memory, options.gpus, rate, further)))
    return 0


if __name__ == "__main__":
    sys.exit(run_cli(main))
