"""Metrics: arrays in, numbers out.

`from uwm.metrics import lpips, psnr, ssim` work as usual, but torch is imported only when one of them is
asked for: `uwm.metrics.statistics` needs NumPy alone, and the paper's tables and figures rely on that.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uwm.metrics.image import psnr, ssim
    from uwm.metrics.perceptual import LPIPS, load_lpips, lpips

__all__ = ["LPIPS", "load_lpips", "lpips", "psnr", "ssim"]

_HOME = {
    "LPIPS": "uwm.metrics.perceptual",
    "load_lpips": "uwm.metrics.perceptual",
    "lpips": "uwm.metrics.perceptual",
    "psnr": "uwm.metrics.image",
    "ssim": "uwm.metrics.image",
}


def __getattr__(name: str) -> Any:
    """Import the module of a metric at its first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
