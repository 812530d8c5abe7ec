"""A stand-in for an experiment: a chain of hashes as the training; it stops and resumes as `train` does.

Its final value tells whether every step counted once and in order; `steps.log` holds the steps of all tries.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from uwm.errors import Interrupted
from uwm.methods import Method, declare_method
from uwm.metrics.spec import Metric, declare_metric
from uwm.runs.artifacts import Stage
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, CellResult, Context, Estimate, Experiment, StageJob

CHAIN = declare_method(Method("chain", "Chain of hashes"))
VALUE = declare_metric(Metric("value", "Value", "lower"))


@dataclass(frozen=True)
class Config:
    steps: int = 20
    step_s: float = 0.0
    checkpoint_every: int = 5
    seeds: int = 2
    fail: str = ""  # "cell": that of seed 1
    own_job: bool = True  # whether the stage has a job of its own
    chains: int = 1  # each with cells of its own
    fail_chain: int = -1  # this one fails
    cell_s: float = 0.0


def corpora(config: Config) -> list[str]:
    return ["numbers"] if config.chains == 1 else [f"numbers-{number}" for number in range(config.chains)]


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    return [Cell(CHAIN.name, corpus, seed) for corpus in corpora(config) for seed in range(config.seeds)]


def chain_stage(context: Context, corpus: str) -> Stage:
    config = context.config
    fields = {"steps": config.steps, "step_s": config.step_s}
    return Stage("chain", 1, {**fields, "corpus": corpus})


def chain(context: Context, corpus: str, folder: Path) -> None:
    """Compute value <- sha256(value, step), as often as the config says."""
    config = context.config
    if corpus == f"numbers-{config.fail_chain}":
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


def pretrain(context: Context, corpus: str) -> Path:
    return context.artifacts.obtain(chain_stage(context, corpus), partial(chain, context, corpus)).path


def run_cell(context: Context, cell: Cell) -> CellResult:
    state = json.loads((pretrain(context, cell.corpus) / "checkpoint.json").read_text())
    time.sleep(context.config.cell_s)
    if context.config.fail == "cell" and cell.seed == 1:
        raise ValueError("this cell was told to fail")
    context.out.mkdir(parents=True, exist_ok=True)
    samples = context.out / f"{cell.file_name}.csv"
    samples.write_text(f"value\n{state['value']}\n")
    value = int(state["value"][:6], 16) + (cell.seed or 0)
    return CellResult({VALUE.name: Estimate(value, context.config.steps)}, samples)


def stages(config: Config, data: Mapping[str, Path]) -> list[StageJob]:
    jobs = [
        StageJob(
            corpus.replace("numbers", "chain"),
            partial(pretrain, corpus=corpus),
            partial(chain_stage, corpus=corpus),
            cells=(f"*/{corpus}",),
        )
        for corpus in corpora(config)
    ]
    return jobs if config.own_job else []


def summarize(context: Context) -> None:
    for name, record in context.records().items():
        print(name, record.metrics.get("value", {}).get("value"), record.status)


EXPERIMENT = Experiment(
    "toy",
    1,
    {"smoke": Config(), "mini": Config(steps=40)},
    cells,
    run_cell,
    summarize=summarize,
    stages=stages,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
