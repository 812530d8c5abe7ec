import copy
import io
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_quantize_pytorch import VectorQuantize

from tests.models.quantizers import QUICK, SMALL, UPDATES, batch, with_codebook
from uwm.models.quantizer import QUANTIZER_PRESETS, QuantizerConfig, VectorQuantizer

PROPERTY = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**31 - 1)


def train_steps(quantizer: VectorQuantizer, steps: range, tokens: int = 6) -> None:
    """Plain SGD steps on a moving cloud, written out so that a resumed run sees the same data."""
    for step in steps:
        output = quantizer(batch(step, 2, tokens // 2, quantizer.config.width) + 0.3 * step)
        if quantizer.codebook.requires_grad:
            (gradient,) = torch.autograd.grad(output.loss, quantizer.codebook)
            with torch.no_grad():
                quantizer.codebook -= 0.5 * gradient


# (1,0) and (0,2) are nearest to row 0, (3,0) and (4,2) to row 1; squared distances 1, 4, 1, 4.
HAND_ROWS = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
HAND_LATENTS = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [4.0, 2.0]]])


def test_paper_preset_by_hand():
    quantizer = with_codebook(QUANTIZER_PRESETS["paper"], HAND_ROWS)
    output = quantizer(HAND_LATENTS)
    assert output.codes.tolist() == [[0, 0], [1, 1]]
    assert torch.equal(output.quantized, HAND_ROWS[output.codes])
    assert output.loss.item() == pytest.approx(10 / 8 * 1.25)  # mean of 8 elements, weights 1 and 0.25
    assert output.perplexity.item() == pytest.approx(2.0)
    assert output.used.item() == 2
    output.loss.backward()
    # d/de of mean((e - z)^2) = 2 * sum(e - z) / 8
    torch.testing.assert_close(quantizer.codebook.grad, torch.tensor([[-0.25, -0.5], [0.25, -0.5]]))


def test_authors_preset_by_hand():
    quantizer = with_codebook(replace(QUANTIZER_PRESETS["authors"], ema_decay=0.9), HAND_ROWS)
    output = quantizer(HAND_LATENTS)
    assert output.loss.item() == pytest.approx(10 / 8 * 0.02)
    # 0.9 of the row and 0.1 of the mean (0.5, 1) or (3.5, 1) of its users, each used as often as expected
    torch.testing.assert_close(quantizer.codebook, torch.tensor([[0.05, 0.1], [3.95, 0.1]]))
    torch.testing.assert_close(quantizer.ema_count, torch.ones(2))
    # All four on row 0: counts 1 * 0.9 + 0.1 * 2 and 0.9; row 0 moves by 0.1 * 2 / 1.1 towards (1, 0).
    quantizer(torch.tensor([1.0, 0.0]).expand(2, 2, 2))
    torch.testing.assert_close(quantizer.ema_count, torch.tensor([1.1, 0.9]))
    start = torch.tensor([0.05, 0.1])
    torch.testing.assert_close(quantizer.codebook[0], start + 0.2 / 1.1 * (torch.tensor([1.0, 0.0]) - start))
    torch.testing.assert_close(quantizer.codebook[1], torch.tensor([3.95, 0.1]))


def test_perplexity_of_uneven_use():
    quantizer = with_codebook(SMALL, torch.tensor([[0.0], [1.0], [9.0]])).eval()
    output = quantizer(torch.tensor([[[0.0], [0.0], [0.0], [1.0]]]))
    assert output.perplexity.item() == pytest.approx(1 / (0.75**0.75 * 0.25**0.25))
    assert output.used.item() == 2


def test_ema_agrees_with_vector_quantize_pytorch():
    config = QuantizerConfig(
        codes=32, width=8, codebook_update="ema", beta=0.02, restart_threshold=0, data_init=False
    )
    ours = VectorQuantizer(config)
    theirs = VectorQuantize(
        8, 32, decay=0.99, commitment_weight=0.02, threshold_ema_dead_code=0, rotation_trick=False, eps=0.0
    )
    tokens, expected_use = 4 * 20, 4 * 20 / 32
    theirs._codebook.embed.copy_(ours.codebook[None])
    theirs._codebook.cluster_size.fill_(expected_use)  # our counts start at the expected use
    theirs._codebook.embed_avg.copy_(ours.codebook[None] * expected_use)
    for step in range(30):
        latents = batch(step, 4, 20, 8)
        mine, peer = latents.clone().requires_grad_(), latents.clone().requires_grad_()
        output = ours(mine)
        quantized, codes, loss = theirs(peer)
        assert torch.equal(output.codes, codes)
        torch.testing.assert_close(output.quantized, quantized, rtol=0, atol=1e-5)
        torch.testing.assert_close(output.loss, loss.sum(), rtol=1e-5, atol=0)
        (output.quantized.square().sum() + output.loss).backward()
        (quantized.square().sum() + loss.sum()).backward()
        torch.testing.assert_close(mine.grad, peer.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.codebook, theirs._codebook.embed[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.ema_count * (tokens / 32), theirs._codebook.cluster_size[0])


def test_gradient_loss_agrees_with_vector_quantize_pytorch():
    # With a learnable codebook theirs is one mse with gradients to both sides: ours with beta 1, halved.
    config = QuantizerConfig(codes=32, width=8, beta=1.0, restart_threshold=0, data_init=False)
    ours = VectorQuantizer(config)
    theirs = VectorQuantize(
        8, 32, learnable_codebook=True, ema_update=False, commitment_weight=1.0, rotation_trick=False
    )
    theirs._codebook.embed.data.copy_(ours.codebook.detach()[None])
    optimisers = [torch.optim.SGD(module.parameters(), lr=5.0) for module in (ours, theirs)]
    for step in range(10):
        latents = batch(step, 4, 20, 8)
        mine, peer = latents.clone().requires_grad_(), latents.clone().requires_grad_()
        output, (_, codes, loss) = ours(mine), theirs(peer)
        assert torch.equal(output.codes, codes)
        torch.testing.assert_close(output.loss, 2 * loss.sum())
        output.loss.backward()
        loss.sum().backward()
        torch.testing.assert_close(mine.grad, peer.grad)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        torch.testing.assert_close(ours.codebook, theirs._codebook.embed[0], rtol=1e-5, atol=1e-6)


@PROPERTY
@given(SEEDS, st.integers(1, 40), st.integers(1, 5), st.integers(1, 7), st.integers(1, 9))
def test_codes_are_the_nearest_rows(seed, codes, samples, tokens, width):
    quantizer = with_codebook(SMALL, batch(seed, codes, width)).eval()
    latents = batch(seed + 1, samples, tokens, width)
    output = quantizer(latents)
    distances = torch.cdist(latents.double(), quantizer.codebook.detach().double())  # (B, L, K)
    chosen = distances.gather(2, output.codes[..., None])[..., 0]
    torch.testing.assert_close(chosen, distances.amin(dim=2), rtol=0, atol=1e-4)  # a tie may go either way
    assert torch.equal(output.quantized, quantizer.lookup(output.codes))
    assert torch.equal(output.codes, quantizer.encode(latents))


@PROPERTY
@given(SEEDS, st.sampled_from(UPDATES), st.booleans())
def test_gradient_is_the_identity_plus_the_commitment_term(seed, update, training):
    quantizer = VectorQuantizer(replace(SMALL, codebook_update=update, data_init=False)).train(training)
    latents = batch(seed, 3, 5, 4).requires_grad_()
    weight = batch(seed + 1, 3, 5, 4)
    output = quantizer(latents)
    ((weight * output.quantized).sum() + output.loss).backward()
    commitment = 2 * SMALL.beta * (latents - output.quantized).detach() / latents.numel()
    torch.testing.assert_close(latents.grad, weight + commitment)


@PROPERTY
@given(SEEDS, st.sampled_from(UPDATES))
def test_tokens_may_be_permuted(seed, update):
    config = replace(SMALL, codebook_update=update, data_init=False, restart_threshold=0)
    straight, permuted = VectorQuantizer(config), VectorQuantizer(config)
    latents = batch(seed, 1, 12, 4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    a, b = straight(latents), permuted(latents[:, order])
    assert torch.equal(a.codes[:, order], b.codes)
    torch.testing.assert_close(a.loss, b.loss)
    torch.testing.assert_close(straight.codebook, permuted.codebook)  # one codebook for every slot
    torch.testing.assert_close(straight.ema_count, permuted.ema_count)


@pytest.mark.parametrize("update", UPDATES)
def test_eval_changes_nothing(update):
    quantizer = VectorQuantizer(replace(QUICK, codebook_update=update))
    train_steps(quantizer, range(5))
    quantizer.eval()
    before = copy.deepcopy(quantizer.state_dict())
    for seed in range(20):
        quantizer(batch(seed, 2, 3, 4) + 100)
    for name, value in quantizer.state_dict().items():
        assert torch.equal(value, before[name]), name


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(UPDATES), st.integers(0, 11), st.booleans())
def test_resumes_bit_for_bit(update, cut, used_module):
    config = replace(QUICK, codebook_update=update)
    straight, first, second = (VectorQuantizer(config) for _ in range(3))
    train_steps(straight, range(12))
    train_steps(first, range(cut))
    if used_module:  # loading must also replace what a module remembers of its own past
        train_steps(second, range(3))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    train_steps(second, range(cut, 12))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_float32_inside_autocast():
    quantizer = VectorQuantizer(SMALL).eval()
    latents = batch(0, 4, 8, 4).bfloat16()
    plain = quantizer(latents.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = quantizer(latents)
        assert torch.equal(quantizer.encode(latents), plain.codes)
    assert output.quantized.dtype == torch.float32
    assert torch.equal(output.codes, plain.codes)
    assert torch.equal(output.loss, plain.loss)


def test_codebook_is_a_parameter_only_with_gradient():
    paper, authors = (VectorQuantizer(replace(p, codes=8)) for p in QUANTIZER_PRESETS.values())
    assert [name for name, _ in paper.named_parameters()] == ["codebook"]
    assert list(authors.parameters()) == []
    assert paper.state_dict().keys() == authors.state_dict().keys()


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 5), (0, 3, 4), (2, 3, 1, 4)])
def test_wrong_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"give \(batch, tokens, 4\)"):
        VectorQuantizer(SMALL)(torch.zeros(shape))


@pytest.mark.parametrize(
    "fields",
    [{"codebook_update": "mean"}, {"codes": 0}, {"ema_decay": 1.0}, {"restart_threshold": 1.0}],
)
def test_wrong_config_is_named(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        QuantizerConfig(**fields)
