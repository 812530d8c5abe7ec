"""A small experiment without torch; its file is copied into a project of the test's own."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from uwm.errors import Interrupted, UserError
from uwm.metrics.spec import Metric, declare_metric
from uwm.runs.artifacts import Stage
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, CellResult, Context, Estimate, Experiment, Parts, SkipCell, StageJob

ERROR = declare_metric(Metric("error", "Error", "lower"))


@dataclass(frozen=True)
class Training:
    steps: int = 10
    rates: tuple[float, ...] = (0.1, 0.2)


@dataclass(frozen=True)
class Config:
    training: Training = field(default_factory=Training)
    pretrain_on: tuple[str, ...] = ("ours",)
    fault: str = ""
    limit: int | None = None


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    corpora = ("ours", *(name for name in data if name != "ours"))
    return [Cell("copy", name) for name in corpora] + [
        Cell("uwm", name, seed) for name in corpora for seed in (0, 1)
    ]


def weights_stage(context: Context) -> Stage:
    return Stage("weights", 1, {"steps": context.config.training.steps})


def train(context: Context) -> Path:
    return context.artifacts.obtain(weights_stage(context), lambda folder: _train(context, folder)).path


def _train(context: Context, folder: Path) -> None:
    while context.config.fault == "slow" and not (folder / "half.txt").exists():
        if context.stop():
            (folder / "half.txt").write_text("half")
            raise Interrupted("stopped half way")
        (folder / "busy.txt").touch()
        time.sleep(0.2)  # longer than it takes from a signal to the end of the parent
    with open(folder / "attempts.txt", "a") as file:
        file.write("x")
    (folder / "weights.txt").write_text(str(context.config.training.steps))


def parts(config: Config, cell: Cell) -> list[str]:
    return ["a", "b", "c"] if cell.method == "uwm" else []


def run_part(context: Context, cell: Cell, part: str) -> None:
    if context.config.fault == "part" and part == "b":
        raise ValueError("no part b")
    context.work.joinpath(f"part-{cell.file_name}-{part}").write_text(str(os.getpid()))


def run_cell(context: Context, cell: Cell) -> CellResult:
    faults: dict[str, BaseException] = {
        "error": ValueError("it\nbroke"),
        "input": UserError("no video"),
        "skip": SkipCell("no GPU"),
        "disk": OSError(28, "No space left on device", "/cache/weights"),
        "memory": MemoryError(),
        "pipe": BrokenPipeError(32, "Broken pipe"),
        "interrupt": KeyboardInterrupt(),
    }
    if cell.method == "copy" and context.config.fault in faults:
        raise faults[context.config.fault]
    if cell.method == "copy" and context.config.fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    found = sorted(path.name[-1] for path in context.work.glob(f"part-{cell.file_name}-*"))
    context.work.joinpath(f"parts-of-{cell.file_name}").write_text("".join(found))
    context.work.joinpath(f"process-of-{cell.file_name}").write_text(str(os.getpid()))
    context.work.joinpath(f"gpu-of-{os.getpid()}").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
    value = float((train(context) / "weights.txt").read_text()) / 3
    if context.config.fault == "nan":
        value = float("nan")
    context.out.mkdir(parents=True, exist_ok=True)
    samples = context.out / f"{cell.file_name}.csv"
    samples.write_text(f"{value}\n")
    return CellResult({ERROR.name: Estimate(value, 3, (value / 2, value * 2), "toy")}, samples)


def checks(context: Context) -> Iterator[str]:
    if context.config.fault == "no weights":
        raise UserError("no weights")
    if context.config.fault == "other weights":
        yield "other weights"


def check_cell(context: Context, cell: Cell) -> None:
    if cell.method == "copy" and context.config.fault == "skip":
        raise SkipCell("no GPU")


def summarize(context: Context) -> None:
    for name, record in context.records().items():
        print(name, record.status)


EXPERIMENT = Experiment(
    name="toy",
    version=1,
    configs={"smoke": Config(Training(2)), "mini": Config(), "paper": Config()},
    cells=cells,
    run_cell=run_cell,
    summarize=summarize,
    parts=Parts(parts, run_part),
    included=("ours",),
    checks=checks,
    check_cell=check_cell,
    stages=lambda config, data: [
        StageJob("weights", train, weights_stage, operations=lambda context: 7.2e15)
    ],
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
