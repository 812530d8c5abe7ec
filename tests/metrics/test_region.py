"""The moving region and its measures: by hand on small pictures."""

import pytest
import torch

from uwm.metrics.image import delta_psnr, psnr, ssim
from uwm.metrics.perceptual import load_lpips, lpips
from uwm.metrics.region import MARGIN, THRESHOLD, moving_region, region_lpips, region_psnr


def frames_with(change: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two grey pictures of 32 pixels that differ in the blue of one pixel, (10, 20)."""
    o_t = torch.full((1, 3, 32, 32), 0.5)
    o_next = o_t.clone()
    o_next[0, 2, 10, 20] += change
    return o_t, o_next


def test_the_region_is_what_changes_and_a_margin() -> None:
    region = moving_region(*frames_with(0.1))[0]
    rows, columns = torch.where(region)
    assert (rows.min(), rows.max()) == (10 - MARGIN, 10 + MARGIN)
    assert (columns.min(), columns.max()) == (20 - MARGIN, 20 + MARGIN)
    assert region.sum() == (2 * MARGIN + 1) ** 2


def test_small_changes_elsewhere_are_left_out() -> None:
    o_t, o_next = frames_with(0.1)
    o_next[0, 0, 30, 2] += THRESHOLD / 2
    assert not moving_region(o_t, o_next)[0, 30, 2]


@pytest.mark.parametrize("change", [THRESHOLD / 2, THRESHOLD])
def test_without_a_large_change_the_largest_counts(change: float) -> None:
    o_t, o_next = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    o_next[0, 2, 10, 20] = change
    o_next[0, 2, 30, 2] = change / 3
    assert moving_region(o_t, o_next).sum() == (2 * MARGIN + 1) ** 2


def test_equal_frames_have_the_whole_picture() -> None:
    o_t, _ = frames_with(0.1)
    assert moving_region(o_t, o_t).all()


def test_each_pair_has_its_own_region() -> None:
    pairs = [frames_with(0.1), frames_with(0.01)]
    o_t, o_next = (torch.cat(frames) for frames in zip(*pairs, strict=True))
    assert moving_region(o_t, o_next).flatten(1).sum(1).tolist() == [49, 49]


def test_psnr_of_a_region_by_hand() -> None:
    truth = torch.zeros(1, 3, 32, 32)
    image = truth.clone()
    image[0, :, :, 16:] = 0.1
    half = torch.zeros(1, 32, 32, dtype=torch.bool)
    half[:, :, 16:] = True
    assert region_psnr(image, truth, half).item() == pytest.approx(20)  # MSE 0.01
    assert region_psnr(image, truth, ~half).item() == 100  # equal there
    everywhere = torch.ones_like(half)
    assert region_psnr(image, truth, everywhere).item() == pytest.approx(psnr(image, truth).item())


def test_lpips_of_a_region() -> None:
    network = load_lpips("random")
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 2, 3, 64, 64, generator=generator)
    b[1, :, :, :24] = a[1, :, :, :24]
    everywhere = torch.ones(2, 64, 64, dtype=torch.bool)
    fa, fb = network.features(a), network.features(b)
    torch.testing.assert_close(region_lpips(network, fa, fb, everywhere), network(a, b))
    left = everywhere.clone()
    left[:, :, 8:] = False
    where_equal, where_not = (region_lpips(network, fa, fb, part)[1] for part in (left, ~left))
    assert where_equal < 0.3 * where_not


OF_TWO_PICTURES = {
    "psnr": lambda a, b: psnr(a, b),
    "ssim": lambda a, b: ssim(a, b),
    "delta_psnr": lambda a, b: delta_psnr(a, a, b),
    "lpips": lambda a, b: lpips(a, b, "random"),
    "forward": lambda a, b: load_lpips("random")(a, b),
    "loss": lambda a, b: load_lpips("random").loss(a, b),
    "distance": lambda a, b: load_lpips("random").distance(*map(load_lpips("random").features, (a, b))),
    "moving_region": lambda a, b: moving_region(a, b),
    "region_psnr": lambda a, b: region_psnr(a, b, whole(max(a, b, key=len))),
    "region_psnr of a region": lambda a, b: region_psnr(a, a, whole(b)),
    "region_lpips": lambda a, b: region_lpips(
        load_lpips("random"), *map(load_lpips("random").features, (a, b)), whole(max(a, b, key=len))
    ),
    "region_lpips of a region": lambda a, b: region_lpips(
        load_lpips("random"), *[load_lpips("random").features(a)] * 2, whole(b)
    ),
}


def whole(images: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(images), 32, 32, dtype=torch.bool)


@pytest.mark.parametrize("numbers", [(2, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("name", OF_TWO_PICTURES)
def test_one_picture_is_not_compared_with_many(name: str, numbers: tuple[int, int]) -> None:
    a, b = (torch.full((number, 3, 32, 32), 0.5) for number in numbers)
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        OF_TWO_PICTURES[name](a, b)
    assert "\n" not in str(caught.value)
    OF_TWO_PICTURES[name](a, a)


def test_a_region_of_another_size_is_refused() -> None:
    image = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match=r"^expected a region of 32x32 pixels, got 1x32"):
        region_psnr(image, image, torch.ones(1, 1, 32))
