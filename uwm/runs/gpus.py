"""Which GPUs this machine has, without loading torch."""

import os
import subprocess


def visible_gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES: those that it has already, else what `nvidia-smi` lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name and name != "-1"]
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(lines))] if done.returncode == 0 else []


def gpu_of(worker: int, gpus: list[str]) -> dict[str, str]:
    """The environment that gives a worker one GPU, in turn; nothing where there are none."""
    return {"CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)]} if gpus else {}
