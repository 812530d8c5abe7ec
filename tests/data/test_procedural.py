"""Procedural pictures: reproducible, in range, with the asked spectra."""

import numpy as np
import pytest

from uwm.data.procedural import procedural_images, spectrum_noise


def slope(picture: np.ndarray) -> float:
    """Exponent a of the amplitude spectrum 1/f^a of a square (3, S, S), fitted over 1/16 to 1/4 per pixel."""
    size = picture.shape[-1]
    amplitude = np.abs(np.fft.fft2(picture - picture.mean(axis=(1, 2), keepdims=True))).mean(axis=0)
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    ring = (radius > 1 / 16) & (radius < 1 / 4)
    return -np.polyfit(np.log(radius[ring]), np.log(amplitude[ring]), 1)[0]


def test_pictures_are_reproducible_and_independent_of_the_count() -> None:
    few, many = procedural_images(3, 32, seed=5), procedural_images(9, 32, seed=5)
    assert few.shape == (3, 3, 32, 32)
    assert few.dtype == np.uint8
    assert np.array_equal(few, many[:3])
    assert not np.array_equal(few, procedural_images(3, 32, seed=6))


def test_pictures_differ_and_use_the_range() -> None:
    images = procedural_images(70, 48, seed=0)
    assert len({image.tobytes() for image in images}) == 70
    assert images.min() < 10
    assert images.max() > 245
    assert 100 < images.mean() < 155
    contrasts = images.std(axis=(1, 2, 3))
    assert np.quantile(contrasts, 0.1) > 5  # hardly any is flat
    assert np.median(contrasts) > 25


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_spectrum_noise_has_the_asked_slope(exponent: float) -> None:
    slopes = [slope(spectrum_noise(np.random.default_rng(i), 64, exponent)) for i in range(12)]
    assert np.median(slopes) == pytest.approx(exponent, abs=0.15)


def test_spectra_are_like_those_of_natural_pictures() -> None:
    """Field (1987): amplitude about 1/f. Single pictures scatter; their median must not."""
    slopes = [slope(image / 255.0) for image in procedural_images(70, 64, seed=1)]
    assert 0.7 < np.median(slopes) < 1.6


def test_pictures_correlate_across_colours_as_natural_ones_do() -> None:
    red, green = procedural_images(40, 32, seed=2)[:, :2].astype(float).reshape(40, 2, -1).transpose(1, 0, 2)
    assert np.median([np.corrcoef(r, g)[0, 1] for r, g in zip(red, green, strict=True)]) > 0.7
