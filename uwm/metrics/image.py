"""PSNR and SSIM of images in [0,1]."""

import torch
from torch import Tensor

PSNR_LIMIT = 100.0  # dB of identical images, which would be infinite and spoil every mean
SSIM_WINDOW = 11  # px; with SSIM_SIGMA and K1, K2 the constants of Wang et al. 2004
SSIM_SIGMA = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, (B,) for images (B,3,H,W) in [0,1]; at most `PSNR_LIMIT`.

    Raises ValueError for other shapes or dtypes.
    """
    _check(a, b)
    mse = (a.double() - b.double()).square().mean(dim=(1, 2, 3))
    return (-10 * torch.log10(mse)).clamp(max=PSNR_LIMIT).float()


def delta_psnr(predicted: Tensor, random: Tensor, target: Tensor) -> Tensor:
    """What the action adds, in dB, (B,): PSNR to `target` of the prediction from its own action minus that
    from a random one (Bruce et al. 2024, Genie, section 3.1). Images (B,3,H,W) in [0,1]."""
    return psnr(predicted, target) - psnr(random, target)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004), (B,) for images (B,3,H,W) in [0,1].

    Gaussian window of 11x11 and sigma 1.5, only where it lies within the image; the mean over pixels and
    the three colour channels. Raises ValueError for other shapes or dtypes and for images under 11 px.
    """
    _check(a, b)
    if min(a.shape[2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW} px, got {a.shape[2]}x{a.shape[3]}")
    x, y = a.double(), b.double()  # the variances are differences of near-equal numbers
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x**2
    variance_y = _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean(dim=(1, 2, 3)).float()


def _blur(images: Tensor) -> Tensor:
    """Weighted mean in the Gaussian window: (B,3,H,W) -> (B,3,H-10,W-10).

    As matrix products, along each axis one: faster on a CPU than convolutions in float64.
    """
    rows, columns = (_window_matrix(size, images) for size in images.shape[2:])
    return rows @ images @ columns.T


def _window_matrix(size: int, like: Tensor) -> Tensor:
    """The window at every place where it lies within `size` pixels: (size-10, size)."""
    offsets = torch.arange(SSIM_WINDOW, dtype=like.dtype, device=like.device) - SSIM_WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    rows = size - SSIM_WINDOW + 1
    matrix = like.new_zeros(rows, size)
    for row in range(rows):
        matrix[row, row : row + SSIM_WINDOW] = weights / weights.sum()
    return matrix


def check_alike(a: Tensor, b: Tensor) -> None:
    """ValueError for anything but two tensors of one shape: broadcasting would hide a lone image."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        raise ValueError(f"expected two tensors, got {type(a).__name__} and {type(b).__name__}")
    if a.shape != b.shape:
        raise ValueError(
            f"expected two batches (B,3,H,W) of one shape, got {tuple(a.shape)} and {tuple(b.shape)}"
        )


def _check(a: Tensor, b: Tensor) -> None:
    check_alike(a, b)
    if a.ndim != 4 or a.shape[1] != 3:
        raise ValueError(f"expected two batches (B,3,H,W), got {tuple(a.shape)}")
    if not (a.is_floating_point() and b.is_floating_point()):
        raise ValueError(f"expected float images in [0,1], got {a.dtype} and {b.dtype}")
