"""FICC: the terms of eq. 6 by hand, shapes, and that its code comes to carry the transition."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uwm.baselines.ficc import FICC, FICCConfig
from uwm.data.draws import Draws
from uwm.models.quantizer import QuantizerConfig
from uwm.training.adaptation import CycleConsistency

TINY = FICCConfig(
    image_size=16, channels=(12, 24), heads=2, inverse_depth=1, dynamics_depth=1, action_width=8,
    quantizer=QuantizerConfig(codes=8, width=8, codebook_update="ema", collapse_perplexity=0.0),
)  # fmt: skip


def moving_square(count: int, seed: int) -> Tensor:
    """uint8 pairs (count, 2, 3, 16, 16) of a white square that jumps 4 px left, right, up or down."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, 2, 3, 16, 16, dtype=torch.uint8)
    jumps = ((0, 4), (0, -4), (4, 0), (-4, 0))
    for image in images:
        y, x = torch.randint(4, 9, (2,), generator=generator).tolist()
        dy, dx = jumps[int(torch.randint(4, (), generator=generator))]
        image[0, :, y : y + 4, x : x + 4] = 255
        image[1, :, y + dy : y + dy + 4, x + dx : x + dx + 4] = 255
    return images


def test_shapes() -> None:
    model, images = FICC(TINY).eval(), moving_square(3, 0).float() / 255
    s_t, s_next = model.represent(images[:, 0]), model.represent(images[:, 1])
    assert s_t.shape == (3, 1 + 16, 24)
    actions = model.infer_actions(s_t, s_next)
    assert actions.continuous.shape == actions.quantized.shape == (3, 1, 8)
    assert torch.equal(actions.quantized, model.quantizer.codebook[actions.codes])
    shown = model.decode(model.predict(s_t, actions.quantized))
    assert shown.shape == (3, 3, 16, 16)
    assert 0 <= shown.min() <= shown.max() <= 1


def test_the_terms_of_the_loss() -> None:
    model, images = FICC(replace(TINY, alpha=0.5)).eval(), moving_square(4, 1).float() / 255
    o_t, o_next = images.unbind(1)
    out = model(o_t, o_next)
    s_t, s_next = model.represent(o_t), model.represent(o_next)
    action = model.infer_actions(s_t, s_next).quantized
    a, b = model.predict(s_t, action), s_next
    cosine = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    torch.testing.assert_close(out.similarity, -cosine.mean())
    reconstruction = F.mse_loss(model.frame_decoder(s_t[:, 1:].transpose(1, 2).reshape(4, 24, 4, 4)), o_t)
    torch.testing.assert_close(out.reconstruction, reconstruction)
    total = out.similarity + (out.difference + out.reconstruction) / 0.02 + 0.5 * out.quantizer_loss
    torch.testing.assert_close(out.loss, total)
    assert out.quantizer_loss > 0


def test_without_codebook_the_action_is_continuous() -> None:
    model, images = FICC(replace(TINY, quantize=False)).eval(), moving_square(2, 2).float() / 255
    actions = model.infer_actions(model.represent(images[:, 0]), model.represent(images[:, 1]))
    assert torch.equal(actions.quantized, actions.continuous)
    assert model(*images.unbind(1)).quantizer_loss == 0


def test_the_code_comes_to_carry_the_transition() -> None:
    model = FICC(TINY, seed=0)
    objective, optimizer = CycleConsistency(model), torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(300):
        optimizer.zero_grad()
        out = objective(moving_square(32, step), Draws(torch.Generator()))
        out["loss"].backward()
        optimizer.step()
    model.eval()
    images = moving_square(64, 10_000).float() / 255
    s_t, s_next = model.represent(images[:, 0]), model.represent(images[:, 1])
    codes = model.infer_actions(s_t, s_next).quantized

    def error(action: Tensor) -> float:
        return float((model.decode(model.predict(s_t, action)) - images[:, 1]).square().mean().detach())

    assert error(codes) < 0.8 * error(codes.roll(1, 0))


def test_sizes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        replace(TINY, image_size=18)
    with pytest.raises(ValueError, match="codes have width"):
        replace(TINY, action_width=4)


def test_save_and_load(tmp_path: Path) -> None:
    model, images = FICC(TINY, seed=1).eval(), moving_square(2, 3).float()[:, 0] / 255
    model.save(tmp_path / "f.safetensors")
    loaded = FICC.load(tmp_path / "f.safetensors")
    assert loaded.config == TINY
    assert torch.equal(loaded.represent(images), model.represent(images))
