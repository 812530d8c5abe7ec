"""Patches of images: their order, their positions, masking, and the loss over them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uwm.models.patches import draw_masking, masked_error, patchify, sincos_positions, unpatchify


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    batch=st.integers(1, 3), side=st.integers(1, 4), patch=st.integers(1, 5), seed=st.integers(0, 2**31 - 1)
)
@settings(max_examples=30, deadline=None)
def test_unpatchify_inverts_patchify(batch: int, side: int, patch: int, seed: int) -> None:
    images = torch.rand(batch, 3, side * patch, side * patch, generator=seeded(seed))
    patches = patchify(images, patch)
    assert patches.shape == (batch, side**2, patch**2 * 3)
    assert torch.equal(unpatchify(patches, patch), images)


def test_patchify_is_in_raster_order_with_channels_last() -> None:
    image = torch.arange(3 * 4 * 4).reshape(1, 3, 4, 4).float()
    patches = patchify(image, 2)
    # Patch 1 is the upper right one; its values run over rows, columns, then channels.
    expected = [image[0, c, y, x] for y in (0, 1) for x in (2, 3) for c in range(3)]
    assert patches[0, 1].tolist() == [float(v) for v in expected]


@pytest.mark.parametrize("shape", [(1, 3, 9, 8), (1, 3, 8, 9)])
def test_patchify_refuses_sizes_that_do_not_divide(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="9"):
        patchify(torch.zeros(shape), 8)


def test_unpatchify_refuses_what_is_no_square() -> None:
    with pytest.raises(ValueError, match="6 patches"):
        unpatchify(torch.zeros(1, 6, 12), 2)


def test_positions_are_the_table_of_he_et_al() -> None:
    table = sincos_positions(8, 3)[0]
    assert table.shape == (10, 8)
    assert not table[0].any()  # CLS
    row, column = 2, 1  # patch 7
    expected = [
        f(place * omega)
        for place in (column, row)  # the first half of the channels tells the column
        for f in (math.sin, math.cos)
        for omega in (1.0, 0.01)  # 10000^(-i / (8/4))
    ]
    assert table[1 + 3 * row + column].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("ratio", "kept"), [(0.75, 4), (0.7, 4), (0.0, 16), (0.99, 1)])
def test_masking_keeps_the_asked_share(ratio: float, kept: int) -> None:
    masking = draw_masking(torch.rand(5, 16, generator=seeded()), ratio)
    assert masking.keep.shape == (5, kept)
    assert masking.mask.sum(dim=1).tolist() == [16 - kept] * 5
    assert not masking.mask.gather(1, masking.keep).any()


def test_masking_restores_raster_order() -> None:
    noise = torch.rand(3, 9, generator=seeded())
    order = noise.argsort(dim=1)
    assert torch.equal(order.gather(1, draw_masking(noise, 0.5).restore), torch.arange(9).expand(3, 9))


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_masking_refuses_other_ratios(ratio: float) -> None:
    with pytest.raises(ValueError, match="mask_ratio"):
        draw_masking(torch.zeros(1, 4), ratio)


def test_loss_counts_hidden_patches_only() -> None:
    prediction, target = torch.zeros(1, 4, 2), torch.tensor([[[1.0, 1], [2, 2], [3, 3], [4, 4]]])
    assert masked_error(prediction, target, torch.tensor([[0.0, 1, 0, 1]])) == (4 + 16) / 2
    assert masked_error(prediction, target, torch.zeros(1, 4)) == (1 + 4 + 9 + 16) / 4
