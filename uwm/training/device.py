"""What a training does for its device: early batches, arithmetic chosen on purpose, speed in numbers.

On the CPU nothing here changes a bit of what is computed.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import nn

from uwm.env import records_graphs
from uwm.training.batches import Batch

# Peak of dense matrix products by the device's name, in TFLOP/s: bf16, and fp32 without TF32 (data sheets).
PEAKS = {
    "H200": (989, 67),
    "H100 PCIe": (756, 51),
    "H100 NVL": (835, 60),
    "H100": (989, 67),
    "A100": (312, 19.5),
    "L40S": (362, 91.6),
    "A6000": (155, 38.7),
    "4090": (165, 82.6),
    "V100": (0, 15.7),  # no bf16
}


def _set_arithmetic(precision: str) -> None:
    """TF32 goes with bf16, where the rest is rounded more coarsely anyway; fp32 is fp32."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "bf16"
    torch.backends.cudnn.allow_tf32 = precision == "bf16"


@cache
def begin_exactly() -> None:
    """Measure in fp32 as it is, once for a process: PyTorch's own choice is TF32 for convolutions."""
    _set_arithmetic("fp32")


@contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """A training's arithmetic on a GPU. What is measured after it is exact again."""
    if device.type != "cuda":
        yield
        return
    _set_arithmetic(precision)
    try:
        yield
    finally:
        _set_arithmetic("fp32")


def compile_blocks(objective: nn.Module, backend: str = "inductor") -> int:
    """Compile each transformer block in place, which keeps the names of the weights. Returns their number.

    Block by block: one compilation serves all blocks of a size, and random draws stay outside.
    """
    blocks = [module for module in objective.modules() if isinstance(module, Block)]
    for block in blocks:
        block.compile(backend=backend)
    return len(blocks)


class Graphs:
    """CUDA graphs of an objective that can `record` itself, where UWM_GRAPHS asks for them.

    On one GPU and without autocast: elsewhere a line on stderr says so, and everything runs eagerly. So does
    what has no `record`, or reads images.
    """

    def __init__(self, device: torch.device, precision: str, world_size: int) -> None:
        possible = device.type == "cuda" and precision == "fp32" and world_size == 1
        self.wanted = possible and records_graphs()
        if records_graphs() and not possible:
            said = "UWM_GRAPHS has no effect on this training: it is for fp32 on one GPU"
            print(said, file=sys.stderr, flush=True)
        self._recorded = False

    def record(self, objective: nn.Module, batch: Batch) -> None:
        """Record for batches of this shape, once."""
        record = getattr(objective, "record", None)
        if self.wanted and not self._recorded and record and torch.is_floating_point(batch):
            record(batch)
        self._recorded = True


def peak_tflops(name: str, precision: str) -> float | None:
    """Peak of a device in a precision; None for one that is not in the table."""
    match = next((peaks for part, peaks in PEAKS.items() if part in name), None)
    return (match[0 if precision == "bf16" else 1] or None) if match else None


class DeviceBatches:
    """The batches of a source on their device.

    With `ahead` (by default on a GPU) `fetch` asks for the next one while the device still computes: it is
    pinned and copied without waiting. `waited` sums the seconds in which the loop stood still for data.
    """

    def __init__(self, batches: Iterator[Batch], device: torch.device, *, ahead: bool | None = None) -> None:
        self.batches, self.device = batches, device
        self.ahead = device.type == "cuda" if ahead is None else ahead
        self.waited = 0.0
        self._next: list[Batch] = []

    def next(self) -> Batch | None:
        """The next batch, or None after the last."""
        if not self._next:
            began = time.monotonic()
            self._load()
            self.waited += time.monotonic() - began
        return self._next.pop()

    def fetch(self) -> None:
        """Load the next batch now, if that can be hidden behind what the device does."""
        if self.ahead and not self._next:
            self._load()

    def _load(self) -> None:
        batch = next(self.batches, None)
        self._next.append(None if batch is None else to_device(batch, self.device))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """A batch on `device`; to a GPU from pinned memory, for only then the copy runs beside the program."""
    if isinstance(batch, torch.Tensor):
        if device.type == "cuda" and batch.device.type == "cpu":
            batch = batch.pin_memory()
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


class Speed:
    """Speed of a training between two lines of its timing log."""

    def __init__(self, device: torch.device, precision: str) -> None:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        self.peak = peak_tflops(name, precision)
        self.flops: int | None = None  # of one step on this device; None: not counted
        self._mark = (time.monotonic(), 0, 0.0)

    def facts(self, step: int, waited: float) -> dict[str, float]:
        """Steps per second since the last call, the share of time without data, and MFU where it is known."""
        (then, first, before), now = self._mark, time.monotonic()
        self._mark = (now, step, waited)
        seconds = max(now - then, 1e-9)
        rate = (step - first) / seconds
        facts = {"steps_per_second": round(rate, 4), "data_wait": round((waited - before) / seconds, 4)}
        if self.flops:
            facts["tflops"] = round(self.flops * rate / 1e12, 3)
        if self.flops and self.peak:
            facts["mfu"] = round(self.flops * rate / 1e12 / self.peak, 4)
        return facts

    def start(self, step: int, waited: float) -> None:
        """Count from here on."""
        self._mark = (time.monotonic(), step, waited)


def counting_flops(device: torch.device) -> Any:
    """A context that counts floating-point operations; on a GPU only, since it may replace fused operations
    by their parts."""
    if device.type != "cuda":
        return None
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode(display=False)
