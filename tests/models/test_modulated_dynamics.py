"""Dynamics that take the action as a modulation of their blocks, not as tokens."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.models.tiny_world import TINY, states
from uwm.models import WorldModel
from uwm.models.blocks import ModulatedBlock, transformer_blocks

MODULATED = replace(TINY, dynamics=replace(TINY.dynamics, conditioning="modulation", convolutions=1))


@pytest.mark.parametrize("output", ["queries", "state"])
@pytest.mark.parametrize("convolutions", [0, 2])
@pytest.mark.parametrize(("source", "count", "codes_per_region"), [("queries", 3, 1), ("regions", 4, 2)])
def test_modulated_dynamics_learn_from_the_action_alone(
    output: Any, convolutions: int, source: Any, count: int, codes_per_region: int
) -> None:
    tokens = replace(
        TINY.tokens, action_source=source, num_action_tokens=count, codes_per_region=codes_per_region
    )
    dynamics = replace(MODULATED.dynamics, output=output, convolutions=convolutions, residual=False)
    model, (s_t, s_next) = WorldModel(replace(MODULATED, tokens=tokens, dynamics=dynamics)), states(4)
    with torch.no_grad():  # from the identity, where no gradient reaches the actions yet
        for parameter in model.dynamics.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    out = model(s_t, s_next)
    out.loss.backward()
    assert out.prediction.shape == s_t.shape
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_modulated_dynamics_start_as_the_copy_and_take_no_action_tokens() -> None:
    model, (s_t, s_next) = WorldModel(MODULATED).eval(), states(4)
    seen: list[int] = []
    model.dynamics.modulated[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    assert torch.equal(model.predict(s_t, model.infer_actions(s_t, s_next).quantized), s_t)
    assert seen == [5]


def test_the_order_of_the_codes_matters_to_modulated_dynamics() -> None:
    model, (s_t, s_next) = WorldModel(MODULATED).eval(), states(4)
    torch.nn.init.normal_(model.dynamics.head.weight, generator=torch.Generator().manual_seed(0))
    for block in model.dynamics.modulated:
        torch.nn.init.normal_(block.modulate.weight, generator=torch.Generator().manual_seed(0))
    actions = model.infer_actions(s_t, s_next).continuous
    ahead, turned = model.predict(s_t, actions), model.predict(s_t, actions.flip(1))
    assert not torch.allclose(ahead, turned)


def test_a_regions_codes_modulate_its_own_patches_at_the_start() -> None:
    tokens = replace(TINY.tokens, action_source="regions", num_action_tokens=8, codes_per_region=2)
    model, (s_t, s_next) = WorldModel(replace(MODULATED, tokens=tokens)), states(4)
    captured: list[torch.Tensor] = []
    model.dynamics.modulated[0].register_forward_pre_hook(lambda _, args: captured.append(args[1]))
    actions = model.eval().infer_actions(s_t, s_next).continuous
    moved = actions.clone()
    moved[:, 5] += 1.0  # the second code of region 2, which is one of the 2 x 2 patches
    model.predict(s_t, actions)
    model.predict(s_t, moved)
    changed = (captured[0] - captured[1]).abs().amax((0, 2)) > 1e-6
    assert changed.tolist() == [True, False, False, True, False]  # the class token has the mean of all


def test_convolutions_take_modulation() -> None:
    with pytest.raises(ValueError, match="need conditioning=modulation"):
        replace(TINY.dynamics, convolutions=1)


def test_a_modulated_block_is_timms_where_the_gates_are_one() -> None:
    block = ModulatedBlock(16, 2).eval()
    plain = transformer_blocks(16, 1, 2)[0].eval()
    plain.load_state_dict({k: v for k, v in block.state_dict().items() if "modulate" not in k})
    x, action = states(4)[0], states(4)[1][:, :1]
    assert torch.equal(block(x, action), x)
    with torch.no_grad():  # the order in which the linear layer's outputs are read: scale, shift, gate, twice
        block.modulate.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 1.0]).repeat_interleave(16))
        torch.testing.assert_close(block(x, action), plain(x))
        block.modulate.bias[:16].fill_(-1.0)  # scale -1, shift 0: attention reads nothing
        x_mean = x + plain.attn(torch.zeros_like(x))
        torch.testing.assert_close(block(x, action), x_mean + plain.mlp(plain.norm2(x_mean)))


def test_without_action_the_dynamics_see_zeros() -> None:
    s_t, s_next = states(4)
    model = WorldModel(replace(MODULATED, use_action=False))
    torch.nn.init.normal_(model.dynamics.head.weight, generator=torch.Generator().manual_seed(0))
    model(s_t, s_next).state_mse.backward()
    assert all(p.grad is None for p in model.extractor.parameters())
    actions = model.eval().infer_actions(s_t, s_next).quantized
    assert torch.equal(model.predict(s_t, actions), model.predict(s_t, 1 + actions))
    # The network is the one that it is compared with.
    pairs = zip(WorldModel(MODULATED).parameters(), WorldModel(model.config).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
