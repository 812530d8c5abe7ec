"""A stand-in for an experiment: a chain of hashes as the training; it stops and resumes as `train` does.

Its final value tells whether every step counted once and in order; `steps.log` holds the steps of all tries.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from uwm.errors import Interrupted
from uwm.methods import Method
from uwm.methods import declare as declare_method
from uwm.metrics.spec import Metric, declare
from uwm.runs.artifacts import Stage
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, CellResult, Context, Estimate, Experiment, StageJob

CHAIN = declare_method(Method("chain", "Chain of hashes"))
VALUE = declare(Metric("value", "Value", "lower"))


@dataclass(frozen=True)
class Config:
    steps: int = 20
    step_s: float = 0.0
    checkpoint_every: int = 5
    seeds: int = 2
    fail: str = ""  # "cell" or "stage"
    own_job: bool = True  # whether the stage has a job of its own


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    return [Cell(CHAIN.name, "numbers", seed) for seed in range(config.seeds)]


def chain_stage(context: Context) -> Stage:
    config = context.config
    return Stage("chain", 1, {"steps": config.steps, "fail": config.fail == "stage", "step_s": config.step_s})


def chain(context: Context, folder: Path) -> None:
    """Compute value <- sha256(value, step), as often as the config says."""
    config = context.config
    if config.fail == "stage":
        raise ValueError("the stage was told to fail")
    saved = folder / "checkpoint.json"
    state = json.loads(saved.read_text()) if saved.exists() else {"step": 0, "value": ""}
    while state["step"] < config.steps:
        value = hashlib.sha256(f"{state['value']}{state['step']}".encode()).hexdigest()
        state = {"step": state["step"] + 1, "value": value}
        time.sleep(config.step_s)
        with open(folder / "steps.log", "a") as log:
            log.write(f"{state['step']}\n")
        stopping = context.stop()
        if stopping or state["step"] % config.checkpoint_every == 0 or state["step"] == config.steps:
            temporary = folder / f"checkpoint.{os.getpid()}.tmp"
            temporary.write_text(json.dumps(state))
            os.replace(temporary, saved)
        if stopping and state["step"] < config.steps:
            raise Interrupted(f"stopped after step {state['step']}")


def pretrain(context: Context) -> Path:
    return context.artifacts.obtain(chain_stage(context), lambda folder: chain(context, folder)).path


def run_cell(context: Context, cell: Cell) -> CellResult:
    state = json.loads((pretrain(context) / "checkpoint.json").read_text())
    if context.config.fail == "cell" and cell.seed == 1:
        raise ValueError("this cell was told to fail")
    context.out.mkdir(parents=True, exist_ok=True)
    samples = context.out / f"{cell.file_name}.csv"
    samples.write_text(f"value\n{state['value']}\n")
    value = int(state["value"][:6], 16) + (cell.seed or 0)
    return CellResult({VALUE.name: Estimate(value, context.config.steps)}, samples)


def stages(config: Config, data: Mapping[str, Path]) -> list[StageJob]:
    return [StageJob("chain", pretrain, chain_stage)] if config.own_job else []


def summarize(context: Context) -> None:
    for name, record in context.records().items():
        print(name, record.metrics.get("value", {}).get("value"), record.status)


EXPERIMENT = Experiment(
    "toy", 1, {"smoke": Config(), "mini": Config(steps=40)}, cells, run_cell, summarize, stages
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
