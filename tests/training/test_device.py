"""Batches on their way to the device, and what a training notes about its speed."""

import json
from dataclasses import replace

import pytest
import torch
from timm.models.vision_transformer import Block
from torch import nn

from tests.pretended_gpu import pretended_gpu
from tests.training.toy import CONFIG, Toy, train_toy
from uwm.bounds import identity_fields
from uwm.training.device import (
    DeviceBatches,
    Speed,
    begin_exactly,
    compile_blocks,
    peak_tflops,
    to_device,
)
from uwm.training.distributed import Ranks, default_device

CPU = torch.device("cpu")


@pytest.mark.parametrize("ahead", [False, True])
def test_batches_come_in_order_and_end(ahead):
    batches = DeviceBatches(iter([{"x": torch.ones(1) * n} for n in range(3)]), CPU, ahead=ahead)
    seen = []
    while (batch := batches.next()) is not None:
        batches.fetch()
        seen.append(int(batch["x"]))
    assert seen == [0, 1, 2]


def test_nothing_is_asked_for_ahead_on_the_cpu():
    asked = []

    def source():
        for number in range(3):
            asked.append(number)
            yield torch.zeros(1)

    batches = DeviceBatches(source(), CPU)
    batches.next()
    batches.fetch()
    assert asked == [0]
    assert batches.waited >= 0


def test_nested_batches_keep_their_form():
    moved = to_device([torch.ones(2), (torch.zeros(1), "name")], CPU)
    assert isinstance(moved, list)
    assert isinstance(moved[1], tuple)
    assert moved[1][1] == "name"


def test_peaks_by_name_and_precision():
    assert peak_tflops("NVIDIA H100 80GB HBM3", "bf16") == 989
    assert peak_tflops("NVIDIA H100 PCIe", "bf16") == 756
    assert peak_tflops("NVIDIA A100-SXM4-40GB", "fp32") == 19.5
    assert peak_tflops("Tesla V100-SXM2-16GB", "bf16") is None
    assert peak_tflops("an unknown device", "bf16") is None


def test_speed_is_counted_between_two_calls():
    speed = Speed(CPU, "fp32")
    speed.start(10, 0.0)
    speed.flops, speed.peak = 10**9, 1.0
    facts = speed.facts(20, 0.0)
    assert facts["steps_per_second"] > 0
    assert facts["data_wait"] == 0
    assert facts["mfu"] == pytest.approx(facts["steps_per_second"] * 1e-3, rel=0.1, abs=1e-3)


def test_the_timing_log_says_how_many_steps_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr("uwm.training.logs._TIMING_EVERY", 0.0)
    train_toy(tmp_path, Toy())
    lines = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()]
    assert lines[0]["steps"] == lines[-1]["step"]
    assert {"steps_per_second", "data_wait"} <= set(lines[-1])


def test_compiled_blocks_keep_their_weights_names_and_numbers():
    model = nn.Sequential(Block(8, 2), nn.Linear(8, 8), Block(8, 2))
    names, tokens = list(model.state_dict()), torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    wanted = model(tokens)
    assert compile_blocks(model, backend="eager") == 2
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(tokens), wanted)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_training_compiles_its_blocks_where_its_field_says_so(tmp_path, monkeypatch, compiled):
    """It says how, not what: an eager attempt's checkpoint is gone on with."""
    seen = []
    monkeypatch.setattr("uwm.training.loop.compile_blocks", lambda objective: seen.append(objective) or 1)
    train_toy(tmp_path, Toy(), config=replace(CONFIG, steps=2, warmup_steps=0))
    assert seen == []
    objective = Toy()
    assert train_toy(tmp_path / "other", objective, config=replace(CONFIG, compiled=compiled)).steps > 2
    assert seen == [objective] * compiled
    assert (
        train_toy(tmp_path, Toy(), config=replace(CONFIG, steps=2, warmup_steps=0, compiled=compiled)).steps
        == 2
    )
    told = identity_fields(replace(CONFIG, compiled=compiled))
    assert ("compiled" in told) == compiled  # older records and weights stay as they are


def rounds(value=None):
    """Whether convolutions and products may use TF32; sets it, too."""
    if value is not None:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = value
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


class Linear(nn.Linear):
    """An objective without draws, which the toy's does on the CPU."""

    def __init__(self):
        super().__init__(4, 1)

    def forward(self, batch, draws):
        return {"loss": (super().forward(batch[0]) - batch[1]).square().mean()}


@pytest.fixture
def choice():
    """PyTorch's own choice before, and again after a test."""
    before = rounds()
    begin_exactly.cache_clear()
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    begin_exactly.cache_clear()


@pytest.mark.usefixtures("choice")
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_measures_are_exact_before_and_after_a_training_on_a_gpu(tmp_path, precision):
    seen, toy = [], Linear()
    toy.register_forward_hook(lambda *_: seen.append(rounds()))
    rounds(True)
    with pretended_gpu() as gpu:
        assert default_device(Ranks()).type == "cuda"
        assert rounds() == (False, False)
        train_toy(tmp_path, toy, replace(CONFIG, precision=precision), device=gpu, validate=None)
        assert set(seen) == {(precision == "bf16",) * 2}
        assert rounds() == (False, False)


@pytest.mark.usefixtures("choice")
def test_a_training_on_the_cpu_leaves_the_arithmetic_alone(tmp_path):
    for value in (True, False):
        rounds(value)
        train_toy(tmp_path / str(value), Toy(), replace(CONFIG, precision="bf16"))
        assert rounds() == (value, value)
