"""PSNR and SSIM: hand-computed, and against scikit-image."""

import math

import pytest
import torch
from torch import Tensor

from uwm.metrics import psnr, ssim
from uwm.metrics.image import delta_psnr


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_by_hand() -> None:
    a = torch.full((3, 3, 4, 5), 0.5)
    b = a.clone()
    b[0] += 0.1  # mse 0.01 -> 20 dB
    b[1, 0, 0, 0] += 0.5  # mse 0.25 / 60
    expected = [20.0, 10 * math.log10(60 / 0.25), 100.0]  # identical images: the stated limit
    assert psnr(a, b).tolist() == pytest.approx(expected, abs=1e-4)


def test_ssim_of_flat_images_by_hand() -> None:
    a, b = torch.full((1, 3, 16, 16), 0.4), torch.full((1, 3, 16, 16), 0.6)
    # no variance: only the luminance term (2ab + c1) / (a^2 + b^2 + c1) is left
    assert ssim(a, b).item() == pytest.approx((0.48 + 1e-4) / (0.52 + 1e-4), abs=1e-6)


def test_ssim_of_one_window_by_hand() -> None:
    # a single window, y = 1 - x: the variances agree and the covariance is their negative
    x = noise(1, 3, 11, 11).double()
    line = torch.exp(-((torch.arange(11.0) - 5) ** 2) / 4.5).double()
    window = torch.outer(line, line) / line.sum() ** 2
    expected = 0.0
    for channel in x[0]:
        mean = (window * channel).sum()
        variance = (window * (channel - mean) ** 2).sum()
        luminance = (2 * mean * (1 - mean) + 1e-4) / (mean**2 + (1 - mean) ** 2 + 1e-4)
        expected += (luminance * (-2 * variance + 9e-4) / (2 * variance + 9e-4)).item() / 3
    assert ssim(x, 1 - x).item() == pytest.approx(expected, abs=1e-6)


def test_ssim_is_symmetric_and_one_for_equal_images() -> None:
    a, b = noise(4, 3, 20, 30), noise(4, 3, 20, 30, seed=1)
    assert torch.equal(ssim(a, b), ssim(b, a))
    assert torch.allclose(ssim(a, a), torch.ones(4), atol=1e-6)
    assert (ssim(a, b) < 0.5).all()


@pytest.mark.parametrize("strength", [0.02, 0.2, 1.0])
def test_agreement_with_scikit_image(strength: float) -> None:
    reference = pytest.importorskip("skimage.metrics")
    ramp = torch.linspace(0, 1, 40).expand(2, 3, 33, 40)
    a = (ramp + 0.1 * noise(2, 3, 33, 40)).clamp(0, 1)
    b = (a + strength * (noise(2, 3, 33, 40, seed=1) - 0.5)).clamp(0, 1)
    arrays = list(zip(a.double().numpy(), b.double().numpy(), strict=True))
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    similarity = [
        reference.structural_similarity(x, y, data_range=1, channel_axis=0, **wang) for x, y in arrays
    ]
    ratio = [reference.peak_signal_noise_ratio(x, y, data_range=1) for x, y in arrays]
    assert ssim(a, b).tolist() == pytest.approx(similarity, abs=1e-6)
    assert psnr(a, b).tolist() == pytest.approx(ratio, abs=1e-4)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\) and \(2, 3, 8, 8\)"):
        psnr(torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="float images"):
        psnr(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="at least 11 px, got 8x20"):
        ssim(torch.zeros(1, 3, 8, 20), torch.zeros(1, 3, 8, 20))


def test_delta_psnr_by_hand() -> None:
    target = torch.full((1, 3, 4, 4), 0.5)
    own, random = target + 0.01, target - 0.1  # 40 dB and 20 dB
    assert delta_psnr(own, random, target).item() == pytest.approx(20, abs=1e-3)
    assert delta_psnr(random, own, target).item() == pytest.approx(-20, abs=1e-3)
    assert delta_psnr(own, own, target).item() == 0
