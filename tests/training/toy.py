"""A training of a few milliseconds a step with all that makes resuming hard, and ways to kill it.

Also a script for torchrun: `toy.py RUN_DIR`.
"""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # optimisers import it at first use: here once for all processes forked from here
import torch.distributed as dist
from torch import Tensor, nn

from uwm.data.draws import Draws
from uwm.training import checkpoint
from uwm.training.batches import IndexSource
from uwm.training.loop import TrainConfig, TrainResult, train

PATIENCE = 300  # seconds until a process counts as hanging
ROWS, WIDTH = 50, 4
CONFIG = TrainConfig(
    steps=12,
    batch_size=8,
    learning_rate=1e-2,
    warmup_steps=3,
    accumulate=2,
    checkpoint_every=3,
    validate_every=4,
    seed=7,
)


def newest_checkpoint(run_dir: Path) -> tuple[int, dict[str, Any]] | None:
    """Step and state of the newest whole checkpoint; None without one."""
    path = checkpoint.newest_file(run_dir)
    return (int(path.name.split("-")[1]), checkpoint.read_checkpoint(path)) if path else None


def rows() -> tuple[Tensor, Tensor]:
    x = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1))
    return x, x.sum(1, keepdim=True)


class Toy(nn.Module):
    """A regression with noise, a frozen part, a codebook, and buffers: an EMA of its inputs and a counter."""

    frozen = ("encoder",)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
            self.net = nn.Sequential(nn.Linear(WIDTH, 8), nn.LayerNorm(8), nn.Linear(8, 1))
            self.codebook = nn.Parameter(torch.randn(5, WIDTH))
        self.register_buffer("ema", torch.zeros(WIDTH))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.before: Callable[[int], None] = lambda call: None

    def forward(self, batch: tuple[Tensor, Tensor], draws: Draws) -> dict[str, Tensor]:
        self.before(int(self.calls))
        x, y = batch
        x = self.encoder(x + 0.1 * draws.randn(*x.shape))
        codes = torch.cdist(x.detach(), self.codebook.detach()).argmin(1)
        mean = x.mean(0)
        if dist.is_initialized():
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        self.ema.mul_(0.9).add_(mean, alpha=0.1)
        self.calls.add_(1)
        codebook_loss = (self.codebook[codes] - x).square().mean()
        error = (self.net(x - self.ema) - y).square().mean()
        return {"loss": error + codebook_loss, "codebook_loss": codebook_loss}


def train_toy(run_dir: Path, toy: Toy, config: TrainConfig = CONFIG, **options: Any) -> TrainResult:
    x, y = rows()
    source = IndexSource(
        ROWS,
        lambda i, g: (x[i], y[i]),
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        seed=config.seed,
    )

    def validate() -> dict[str, float]:
        assert not toy.training
        return {"error": float((toy.net(toy.encoder(x) - toy.ema) - y).square().mean())}

    options = {"validate": validate, "device": torch.device("cpu"), "tensorboard": False} | options
    return train(toy, source, config, run_dir, name="toy", **options)


def save_weights(toy: Toy, path: Path) -> None:
    torch.save(toy.state_dict(), path)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_training(run_dir: Path, where: str, step: int) -> None:
    """Train, and die of SIGKILL at `where` in `step`: forward-N (micro-batch N), validate, write, rename."""
    torch.set_num_threads(1)
    toy = Toy()
    options: dict[str, Any] = {}
    write, replace = checkpoint._write, os.replace

    def half_write(path: Path, payload: memoryview) -> None:
        if checkpoint._step(path) == step:
            path.with_suffix(".tmp").write_bytes(payload[: len(payload) // 2])
            die()
        write(path, payload)

    def rename(old: Path, new: Path) -> None:
        replace(old, new)
        if checkpoint._step(Path(new)) == step:
            die()

    if where.startswith("forward-"):
        fatal = step * CONFIG.accumulate + int(where[-1])
        toy.before = lambda call: die() if call == fatal else None
    elif where == "validate":
        options["validate"] = die
    elif where == "write":
        checkpoint._write = half_write
    elif where == "rename":
        os.replace = rename
    train_toy(run_dir, toy, **options)


def finished_training(run_dir: Path) -> None:
    torch.set_num_threads(1)
    toy = Toy()
    train_toy(run_dir, toy)
    save_weights(toy, run_dir / "weights.pt")


def rank_main(rank: int, world_size: int, port: int, run_dir: Path, mode: str) -> None:
    """One rank as a launcher starts it, for the modes of test_distributed."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    toy = Toy()

    def fail(call: int) -> None:
        if rank == 1 and call == 5:
            raise RuntimeError("rank 1 breaks")

    if mode == "raise":
        toy.before = fail
    stop = (lambda: rank == 1 and int(toy.calls) >= 8) if mode == "stop" else None
    try:
        train_toy(run_dir, toy, stop=stop)
    except Exception as error:
        (run_dir / f"error-{rank}.txt").write_text(f"{type(error).__name__}: {error}")
        raise
    save_weights(toy, run_dir / f"weights-{rank}.pt")


def start(target: Callable[..., None], *arguments: Any) -> Any:
    """Start a process in milliseconds: forked from a server that has imported this module and no more."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.toy"])
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_dir = Path(sys.argv[1])
    toy = Toy()
    train_toy(run_dir, toy)
    save_weights(toy, run_dir / f"weights-{os.environ['RANK']}.pt")
