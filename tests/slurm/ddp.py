"""A real training, `uwm.training.loop.train`, as the stage of an experiment, for several nodes and ranks."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from uwm.data.draws import Draws
from uwm.methods import Method, declare_method
from uwm.metrics.spec import Metric, declare_metric
from uwm.runs.artifacts import Stage
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, CellResult, Context, Estimate, Experiment, StageJob
from uwm.training.batches import IndexSource
from uwm.training.loop import TrainConfig, train

ROWS = 48
REGRESSION = declare_method(Method("regression", "Regression"))
WEIGHT = declare_metric(Metric("weight", "Weight", "higher", per_step=True))


@dataclass(frozen=True)
class Config:
    steps: int = 30
    step_s: float = 0.0
    fail_rank: int = -1  # this rank dies at step 5


class Regression(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.calls = config, 0
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(4, 1, generator=generator))

    def forward(self, batch: tuple[Tensor, Tensor], draws: Draws) -> dict[str, Tensor]:
        self.calls += 1
        time.sleep(self.config.step_s)
        if self.calls == 5 and self.config.fail_rank == _rank():
            raise ArithmeticError(f"rank {_rank()} was told to die")
        inputs, targets = batch
        return {"loss": (inputs @ self.weight - targets).square().mean()}


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def stage_of(context: Context) -> Stage:
    config = context.config
    return Stage("regression", 1, {"steps": config.steps, "step_s": config.step_s, "dies": config.fail_rank})


def fit(context: Context, folder: Path) -> None:
    inputs = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(1))
    targets = inputs.sum(1, keepdim=True)
    source = IndexSource(ROWS, lambda indices, generator: (inputs[indices], targets[indices]), batch_size=8)
    model = Regression(context.config)
    config = TrainConfig(steps=context.config.steps, batch_size=8, learning_rate=0.05, checkpoint_every=10)
    train(model, source, config, folder, stop=context.stop, tensorboard=False)
    if _rank() == 0:
        torch.save(model.weight.detach(), folder / "weight.pt")


def pretrain(context: Context) -> Path:
    return context.artifacts.obtain(stage_of(context), lambda folder: fit(context, folder)).path


def run_cell(context: Context, cell: Cell) -> CellResult:
    weight = torch.load(pretrain(context) / "weight.pt", weights_only=True)
    return CellResult({f"{WEIGHT.name}_{i}": Estimate(float(w), 1) for i, w in enumerate(weight.flatten())})


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    return [Cell(REGRESSION.name, "numbers")]


def stages(config: Config, data: Mapping[str, Path]) -> list[StageJob]:
    return [StageJob("regression", pretrain, stage_of)]


EXPERIMENT = Experiment("ddp", 1, {"mini": Config()}, cells, run_cell, stages=stages)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
