"""Where a codebook starts, when unused codes start anew, and when training stops over a collapse."""

from dataclasses import replace

import pytest
import torch

from tests.models.quantizers import QUICK, SMALL, UPDATES, batch, with_codebook
from uwm.models.quantizer import CodebookCollapseError, QuantizerConfig, VectorQuantizer


def test_first_batch_gives_the_codebook():
    latents = batch(0, 5, 8, 4) * 3 + 10
    quantizer = VectorQuantizer(SMALL)
    output = quantizer(latents)
    rows = {tuple(row) for row in latents.flatten(0, 1).tolist()}
    drawn = {tuple(row) for row in quantizer.codebook.tolist()}
    assert len(drawn) == 16
    assert drawn <= rows
    assert output.used.item() == 16
    before = quantizer.codebook.detach().clone()
    quantizer(latents + 50)
    assert torch.equal(quantizer.codebook, before)


def test_first_batch_smaller_than_the_codebook_is_tiled_with_noise():
    latents = batch(0, 1, 3, 4)
    quantizer = VectorQuantizer(SMALL)
    output = quantizer(latents)
    assert torch.equal(output.quantized, latents)  # each vector is there once exactly
    distances = torch.cdist(quantizer.codebook.detach(), latents[0]).amin(dim=1)
    assert (distances == 0).sum() == 3
    assert distances.max() < 0.1
    assert len(quantizer.codebook.unique(dim=0)) == 16


@pytest.mark.parametrize("update", UPDATES)
def test_dead_codes_restart_at_vectors_of_the_batch(update):
    rows = torch.tensor([[0.0, 0.0], [90.0, 90.0], [80.0, 90.0], [90.0, 80.0]])
    quantizer = with_codebook(replace(QUICK, codebook_update=update), rows)
    for seed in range(2):
        quantizer(batch(seed, 2, 4, 2))
        assert torch.equal(quantizer.codebook[1:], rows[1:])
    latents = batch(2, 2, 4, 2)
    quantizer(latents)
    fresh = {tuple(row) for row in quantizer.codebook[1:].tolist()}
    assert len(fresh) == 3
    assert fresh <= {tuple(row) for row in latents.flatten(0, 1).tolist()}
    assert quantizer.ema_count[1:].tolist() == [1.0, 1.0, 1.0]
    assert quantizer(batch(3, 2, 20, 2)).used.item() == 4


def test_restart_draws_differ_from_step_to_step():
    quantizer = VectorQuantizer(SMALL)
    latents = batch(0, 4, 8, 4).flatten(0, 1)
    draws = []
    for _ in range(3):
        draws.append(quantizer._candidates(latents))
        quantizer(batch(1, 1, 8, 4))
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])
    other = VectorQuantizer(replace(SMALL, seed=1))
    assert not torch.equal(draws[0], other._candidates(latents))


def test_well_used_codebook_does_not_churn_with_few_tokens():
    # 8 tokens for 64 codes: a code is expected once in 8 steps, far below Jukebox's absolute 1.0 a step.
    # With "gradient" and no optimiser, rows can only change by a restart.
    centres = torch.arange(64.0)[:, None].expand(64, 4) * 10
    quantizer = with_codebook(QuantizerConfig(), centres)
    generator = torch.Generator().manual_seed(0)
    for _ in range(600):
        drawn = torch.randint(64, (1, 8), generator=generator)
        output = quantizer(centres[drawn] + 0.1 * torch.randn(1, 8, 4, generator=generator))
    assert (quantizer.codebook == centres).all(dim=1).float().mean() > 0.95
    assert output.perplexity <= 8
    assert output.ema_perplexity > 50  # sees past the small batch


def test_restart_does_not_depend_on_a_changed_batch_size():
    centres = torch.arange(8.0)[:, None].expand(8, 4) * 10
    quantizer = with_codebook(QUICK, centres)
    for tokens in [8] * 20 + [800] * 20 + [8] * 20:
        quantizer(centres.repeat(tokens // 8, 1)[None])
    assert torch.equal(quantizer.codebook, centres)
    torch.testing.assert_close(quantizer.ema_count, torch.ones(8))


def test_unused_rows_stay_without_restart():
    rows = torch.tensor([[0.0, 0.0], [90.0, 90.0]])
    quantizer = with_codebook(replace(QUICK, codebook_update="ema", restart_threshold=0), rows)
    for seed in range(400):  # the count of row 1 underflows to 0
        quantizer(batch(seed, 1, 4, 2))
    assert quantizer.ema_count[1] == 0
    assert torch.equal(quantizer.codebook[1], rows[1])


@pytest.mark.parametrize("patience", [100, 400])  # 400 goes over several rounds of restarts
def test_collapse_stops_training(patience):
    quantizer = VectorQuantizer(QuantizerConfig(codes=256, width=4, collapse_patience=patience))
    latents = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])[None]
    for _ in range(patience - 1):
        assert quantizer(latents).ema_perplexity < 5.12
    with pytest.raises(CodebookCollapseError, match=rf"collapse at step {patience}: .*256") as caught:
        quantizer(latents)
    assert "\n" not in str(caught.value)
    quantizer.eval()(latents)  # measuring goes on


def test_collapse_counter_starts_anew_after_recovery():
    config = QuantizerConfig(codes=128, width=4, ema_decay=0.5, restart_threshold=0, collapse_patience=100)
    quantizer = VectorQuantizer(config)
    for step in range(200):
        spread = 1.0 if step % 90 == 0 else 0.0
        quantizer(batch(step, 4, 16, 4) * spread)
        assert quantizer.collapsed_steps <= 90
