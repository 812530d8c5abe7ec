"""One process or many: who am I, on which device, and the few things that all ranks do together.

The processes are started by `torchrun` or by a cluster launcher; both say who is who in RANK, WORLD_SIZE,
LOCAL_RANK, MASTER_ADDR and MASTER_PORT. Without WORLD_SIZE, or with WORLD_SIZE=1, nothing here communicates.
"""

import atexit
import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from uwm.env import launched_rank
from uwm.errors import UserError
from uwm.training.device import begin_exactly

COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # of what all ranks compute together
# Ranks also wait while rank 0 alone validates, which may begin with decoding, or measures a corpus. One that
# dies is noticed at once, by its connections.
PATIENCE = timedelta(days=7)
_messages: Any = None


@dataclass(frozen=True)
class Ranks:
    """This process's place among `world_size` processes; rank 0 logs, validates and saves."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        return self.rank == 0


def environment_ranks() -> Ranks:
    """The place given by the launcher's environment variables. Raises `UserError` when it is incomplete."""
    rank, world_size = launched_rank()
    if world_size == 1:
        return Ranks()
    needed = ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in needed if name not in os.environ]
    if missing:
        raise UserError(f"WORLD_SIZE={world_size} is set but {', '.join(missing)} isn't; start with torchrun")
    return Ranks(rank, world_size, int(os.environ["LOCAL_RANK"]))


def default_device(ranks: Ranks | None = None) -> torch.device:
    """This rank's GPU, or the CPU. A launcher may show all GPUs of a node to a rank, or only its own.

    Whatever is measured or trained asks here first: from then on fp32 is exact on a GPU.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    begin_exactly()
    ranks = ranks or environment_ranks()
    return torch.device("cuda", ranks.local_rank % torch.cuda.device_count())


def join(ranks: Ranks, device: torch.device) -> None:
    """Join the process group once; it stays up until the process ends, for all trainings of the process."""
    global _messages
    if ranks.world_size == 1 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=COLLECTIVE_TIMEOUT)
    _messages = dist.new_group(backend="gloo", timeout=PATIENCE)
    atexit.register(_leave)


def messages() -> Any:
    """The group for small messages between processes, on the CPU whatever the device; None in one process."""
    return _messages


def _leave() -> None:
    global _messages
    _messages = None
    if dist.is_initialized():
        dist.destroy_process_group()


def sum_over_ranks(values: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    """The elementwise sum of every rank's `values`, in place."""
    if ranks.world_size > 1:
        dist.all_reduce(values)
    return values


def std_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """The standard deviation of all ranks' `values` together; each rank has as many."""
    ranks = environment_ranks()
    if ranks.world_size == 1:
        return values.std()
    count = values.numel() * ranks.world_size
    mean = sum_over_ranks(values.detach().double().mean(), ranks) / ranks.world_size
    squares = sum_over_ranks((values.detach().double() - mean).square().sum(), ranks)
    return (squares / (count - 1)).sqrt().to(values.dtype)


def from_leader(value: Any, ranks: Ranks) -> Any:
    """Rank 0's `value` on every rank; also makes every rank wait for rank 0."""
    if ranks.world_size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, group=messages())
    return box[0]


def parallel(module: nn.Module, ranks: Ranks, device: torch.device) -> nn.Module:
    """`module` with gradients averaged over ranks, and with rank 0's parameters and buffers to begin with.

    Later on, buffers are left to the modules that keep them. Unused parameters are looked for: a mask token
    takes no part in a step without masks.
    """
    if ranks.world_size == 1:
        return module
    for buffer in module.buffers():
        dist.broadcast(buffer, src=0)
    with warnings.catch_warnings():  # torch 2.14 renames broadcast_buffers; its successor isn't in torch 2.6
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(
            module,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=True,
        )


def without_exchange(module: nn.Module) -> AbstractContextManager[None]:
    """Backward passes in this context keep their gradients to this rank, for a later exchange."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()
