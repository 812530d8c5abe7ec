"""The codec row: sizes, budgets, and that what the codec shows is what was sent."""

import pytest
import torch

from uwm.metrics.codec import WORST, _finest, code_next, code_within
from uwm.metrics.image import psnr


def moving_pattern() -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth colours of 64 px that shift by 3 px: uint8 (3, 64, 64) twice."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    picture = torch.nn.functional.interpolate(noise, size=(64, 64), mode="bicubic").clamp(0, 1)[0]
    o_t = picture.mul(255).byte()
    return o_t, o_t.roll(3, 2)


def error(frame: torch.Tensor, target: torch.Tensor) -> float:
    return float(-psnr(frame[None], target[None].float() / 255))


def test_finer_rate_factors_take_more_bytes_and_show_more() -> None:
    o_t, o_next = moving_pattern()
    coded = [code_next(o_t, o_next, crf) for crf in (10, 30, 50)]
    assert coded[0].size > coded[1].size > coded[2].size > 0
    assert error(coded[0].frame, o_next) < error(coded[1].frame, o_next) < error(coded[2].frame, o_next)


def test_the_reference_is_nearly_exact_and_a_still_picture_costs_next_to_nothing() -> None:
    o_t, _ = moving_pattern()
    coded = code_next(o_t, o_t, 40, "yuv444p")
    assert error(coded.frame, o_t) < -40  # dB
    assert coded.size < 40


@pytest.mark.parametrize("budget", [60, 200, 1000])
def test_the_largest_frame_within_the_budget(budget: int) -> None:
    o_t, o_next = moving_pattern()
    coded = code_within(o_t, o_next, budget)
    assert coded.crf is not None
    assert 0 < coded.size <= budget
    assert coded.crf == 0 or code_next(o_t, o_next, coded.crf - 1).size > budget
    assert torch.equal(coded.frame, code_next(o_t, o_next, coded.crf).frame)


def test_no_frame_is_sent_where_none_fits() -> None:
    o_t, o_next = moving_pattern()
    coded = code_within(o_t, o_next, 5)
    assert (coded.size, coded.crf) == (0, None)
    assert torch.equal(coded.frame, o_t.float() / 255)


@pytest.mark.parametrize("first", [0, 1, 17, WORST])
def test_bisection_by_hand(first: int) -> None:
    assert _finest(lambda crf: crf >= first) == first
