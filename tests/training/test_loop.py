import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.toy import CONFIG, ROWS, Toy, newest_checkpoint, rows, train_toy
from uwm.data.draws import Draws
from uwm.errors import UserError
from uwm.training.batches import epoch_indices, seeded_generator
from uwm.training.loop import Interrupted, NonFiniteLoss, TrainConfig
from uwm.training.optimizer import learning_rate, parameter_groups


def read_log(run_dir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]


def test_learning_rate_by_hand() -> None:
    config = TrainConfig(steps=8, batch_size=1, learning_rate=2.0, warmup_steps=4, min_lr_fraction=0.1)
    # Warm-up 1/4..4/4 of 2; then 2 * (0.1 + 0.9 * (1 + cos(pi * k / 4)) / 2) for k = 0..3.
    half = math.sqrt(0.5)
    expected = [0.5, 1.0, 1.5, 2.0, 2.0, 0.2 + 0.9 * (1 + half), 0.2 + 0.9, 0.2 + 0.9 * (1 - half)]
    assert [learning_rate(step, config) for step in range(8)] == pytest.approx(expected, rel=1e-12)


def test_learning_rate_when_warmup_fills_the_run() -> None:
    config = TrainConfig(steps=4, batch_size=1, learning_rate=1.0, warmup_steps=4)
    assert [learning_rate(step, config) for step in range(2)] == [0.25, 0.5]


def test_only_matrices_decay() -> None:
    decayed, kept = parameter_groups(Toy(), 0.05)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.05, 0.0)
    assert [tuple(p.shape) for p in decayed["params"]] == [(8, 4), (1, 8)]
    assert [tuple(p.shape) for p in kept["params"]] == [(5, 4), (8,), (8,), (8,), (1,)]


def reference_training(toy: Toy) -> None:
    """The same training written out in plain PyTorch."""
    x, y = rows()
    matrices = [toy.net[0].weight, toy.net[2].weight]
    others = [toy.codebook, toy.net[0].bias, toy.net[1].weight, toy.net[1].bias, toy.net[2].bias]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95))
    for step in range(12):
        cosine = 0.5 * (1 + math.cos(math.pi * (step - 3) / 9))
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (step + 1) / 3 if step < 3 else 1e-2 * cosine
        optimizer.zero_grad()
        chosen = torch.from_numpy(epoch_indices(ROWS, 8, step, 7))
        for micro in range(2):
            part = chosen[4 * micro : 4 * micro + 4]
            draws = Draws(seeded_generator(7, step, micro, 0))
            (toy((x[part], y[part]), draws)["loss"] / 2).backward()
        nn.utils.clip_grad_norm_(matrices + others, 1.0)
        optimizer.step()


def test_equals_a_plain_loop_bit_for_bit(tmp_path: Path) -> None:
    ours, plain = Toy(), Toy()
    train_toy(tmp_path, ours)
    reference_training(plain)
    for key, value in plain.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    assert not torch.equal(ours.codebook, Toy().codebook)
    assert torch.equal(ours.encoder.weight, Toy().encoder.weight)  # frozen


def test_what_asks_for_a_training_may_take_no_gradients_itself(tmp_path: Path) -> None:
    ours, plain = Toy(), Toy()
    train_toy(tmp_path / "plain", plain)
    with torch.no_grad():
        train_toy(tmp_path / "ours", ours)
        assert not torch.is_grad_enabled()
    for key, value in plain.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key


class MeanSquare(nn.Module):
    """Without state between forward passes, so that micro-batches are exactly parts of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 1)
        nn.init.ones_(self.net.weight)
        nn.init.zeros_(self.net.bias)
        self.mask_token = nn.Parameter(torch.ones(4))  # never used

    def forward(self, batch: tuple, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {"loss": (self.net(batch[0]) - 2 * batch[1]).square().mean()}


@pytest.mark.parametrize("accumulate", [2, 4, 8])
def test_accumulated_micro_batches_equal_the_big_batch(tmp_path: Path, accumulate: int) -> None:
    weights = []
    for k in (1, accumulate):
        model = MeanSquare()
        train_toy(tmp_path / str(k), model, replace(CONFIG, accumulate=k), validate=None)  # type: ignore[arg-type]
        weights.append(model.net.weight.detach())
        assert torch.equal(model.mask_token, torch.ones(4))
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


def test_log_has_every_step_and_validation(tmp_path: Path) -> None:
    toy = Toy()
    result = train_toy(tmp_path, toy)
    log = read_log(tmp_path)
    steps = [row["step"] for row in log if "loss" in row]
    assert steps == list(range(1, 13))
    assert [row["step"] for row in log if "val/error" in row] == [4, 8, 12]
    assert list(log[0]) == ["step", "lr", "loss", "codebook_loss", "grad_norm"]
    assert [row["lr"] for row in log if "lr" in row] == [learning_rate(s, CONFIG) for s in range(12)]
    assert toy.training
    assert result.metrics["loss"] == log[-2]["loss"]
    assert result.metrics["val/error"] == log[-1]["val/error"]
    timing = json.loads((tmp_path / "timing.jsonl").read_text().splitlines()[0])
    assert timing["threads"] == torch.get_num_threads()


@pytest.mark.parametrize("call", [0, 9])
def test_non_finite_loss_stops_with_step_and_checkpoint(tmp_path: Path, call: int) -> None:
    toy = Toy()

    def poison(now: int) -> None:
        if now == call:
            with torch.no_grad():
                toy.ema[0] = math.nan

    toy.before = poison
    with pytest.raises(NonFiniteLoss) as caught:
        train_toy(tmp_path, toy)
    message = str(caught.value)
    assert f"loss is nan at step {call // 2 + 1};" in message
    if call == 0:
        assert "no checkpoint yet" in message
    else:
        assert "the last good checkpoint is" in message
        assert "step-00000003" in message
        assert newest_checkpoint(tmp_path)[0] == 3  # type: ignore[index]
    assert all(p.isfinite().all() for p in toy.parameters())  # the bad step wasn't taken


def test_infinite_gradient_and_validation_stop_too(tmp_path: Path) -> None:
    toy = Toy()
    toy.net[2].weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteLoss, match=r"grad_norm is (nan|inf) at step 1"):
        train_toy(tmp_path / "a", toy)
    with pytest.raises(NonFiniteLoss, match="val/error is nan at step 4"):
        train_toy(tmp_path / "b", Toy(), validate=lambda: {"error": math.nan})


def test_stop_saves_and_a_later_run_goes_on(tmp_path: Path) -> None:
    toy, answers = Toy(), iter([False] * 4 + [True])
    with pytest.raises(Interrupted, match=r"toy: stopped as asked after step 5; .*step-00000005"):
        train_toy(tmp_path / "stopped", toy, stop=lambda: next(answers))
    again, whole = Toy(), Toy()
    train_toy(tmp_path / "stopped", again)
    train_toy(tmp_path / "whole", whole)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), whole.parameters(), strict=True))
    logs = [(tmp_path / name / "log.jsonl").read_bytes() for name in ("stopped", "whole")]
    assert logs[0] == logs[1]


def test_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    train_toy(tmp_path, Toy())
    with pytest.raises(UserError, match=r"another training \(differs in learning_rate, seed\)"):
        train_toy(tmp_path, Toy(), replace(CONFIG, learning_rate=1.0, seed=8))
    with pytest.raises(UserError, match="of another model: it differs in mask_token"):
        train_toy(tmp_path, MeanSquare())  # type: ignore[arg-type]
    train_toy(tmp_path, Toy(), replace(CONFIG, checkpoint_every=5))  # changes no number


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("batch_size", -1), ("accumulate", 0), ("warmup_steps", -1), ("precision", "fp8")],
)
def test_bad_settings(field: str, value: object) -> None:
    with pytest.raises(UserError, match=field):
        replace(CONFIG, **{field: value})


def test_bf16_keeps_fp32_weights_and_stays_near(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []
    toy, exact = Toy(), Toy()
    toy.net[2].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    train_toy(tmp_path / "bf16", toy, replace(CONFIG, precision="bf16"), validate=None)
    train_toy(tmp_path / "fp32", exact, validate=None)
    assert set(seen) == {torch.bfloat16}
    assert toy.net[0].weight.dtype == torch.float32
    assert toy.net[0].weight.detach() == pytest.approx(exact.net[0].weight.detach(), abs=0.1)


def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train_toy(tmp_path, Toy(), tensorboard=True)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("val/error")] == [4, 8, 12]
    assert [event.step for event in events.Scalars("loss")] == [10]


def test_a_source_that_ends_too_soon_is_an_error(tmp_path: Path) -> None:
    class Short:
        def batches(self, start_step: int, rank: int, world_size: int) -> Iterator[tuple]:
            x, y = rows()
            yield x, y

    from uwm.training.loop import train

    with pytest.raises(UserError, match="ran out of batches at step 1"):
        train(Toy(), Short(), CONFIG, tmp_path, tensorboard=False)
