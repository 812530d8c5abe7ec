"""What trainings cost: against the formula of a ViT, by hand, and what the pages say of it."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.documents import ROOT, blocks
from uwm import cost, reading_cost
from uwm.data.corpora import BUNDLED
from uwm.methods import AHEAD, COPY, R_LA
from uwm.metrics.perceptual import load_lpips
from uwm.models import MaskedAutoencoder, WorldModel
from uwm.runs.cli import choose, main
from uwm.runs.experiment import Cell, load_experiment
from uwm.stages import counting
from uwm.stages.adapter import ADAPTER
from uwm.stages.decoder import DECODER
from uwm.stages.finetune import FINETUNE
from uwm.stages.mae import MAE
from uwm.stages.reader import READER
from uwm.stages.world_model import PRETRAIN

PAGES = (ROOT / "slurm" / "README.md", ROOT / "docs" / "paper-scale.md")
COMMANDS = [text for page in PAGES for _, text in blocks(page) if text.startswith("$ python -m uwm.cost")]
SHOWN = [text for text in COMMANDS if "--trainings" not in text.splitlines()[0]]
ALL_TRAININGS = {
    text.splitlines()[0]: text.splitlines()[1:] for text in COMMANDS if text not in SHOWN
}  # by command


@pytest.mark.slow
def test_the_encoder_costs_what_the_formula_says():
    config = MAE["paper"].model
    width, tokens = config.encoder_width, config.tokens + 1
    # A multiply-add is two: projections and MLP 12 D^2 of them a token, scores and their use 2 N D.
    block = 2 * tokens * (12 * width**2 + 2 * tokens * width)
    patches = 2 * config.tokens * width * 3 * config.patch_size**2
    assert counting.encode_cost(MAE["paper"]) == 2 * (config.encoder_depth * block + patches)


@pytest.mark.slow
@pytest.mark.parametrize("text", SHOWN, ids=lambda text: text.splitlines()[0])
def test_the_pages_show_the_counted_cost(text, capsys):
    command, _, shown = text.partition("\n")
    assert cost.main(command.split()[4:]) == 0
    assert capsys.readouterr().out == shown


def test_the_pairs_that_cells_measure_by_hand():
    assert counting.measured_pairs({"test_pairs": 1000, "pretrain": None}) == 1000
    ahead = {"test_pairs": 1000, "probe_pairs": 200, "horizon": 10, "rollouts": 6}
    assert counting.measured_pairs(ahead) == 1000 + 200 + 10 * 6
    found = {one.experiment: (one.cells, one.pairs) for one in cost.measurings("paper")}
    assert found["table1"] == (16, 16 * 1000 + 2 * 2000)  # the probe is that of `uwm`, on both corpora
    cells = found["figure4"][0]
    assert found["figure4"] == (cells, cells * 1000)


def test_what_a_measured_pair_costs_by_hand():
    """Encoding, inferring, predicting and showing three pictures leave LPIPS's features of five."""
    mae, pretrain = MAE["smoke"], PRETRAIN["smoke"]
    one = counting.measure_cost(mae, pretrain, "alex")
    states = torch.randn(2, 2, 1 + mae.model.tokens, mae.model.encoder_width)
    network = MaskedAutoencoder(mae.model).eval()
    model = WorldModel(pretrain.model.fitted(mae.model)).eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.predict(states[:, 0], model.infer_actions(*states.unbind(1)).quantized)
        for _ in range(3):
            network.decode(states[:, 0])
    left = one - counter.get_total_flops() // 2 - counting.encode_cost(mae)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        size = mae.model.image_size
        load_lpips("random").features(torch.rand(5, 3, size, size))
    assert left == pytest.approx(counter.get_total_flops(), rel=1e-6)


@pytest.mark.slow
def test_cells_are_measured_by_no_more_than_is_counted(tmp_path, monkeypatch):
    """What a run computes of cells whose trainings are there, with probes, rollouts and some steps ahead."""
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    experiment = load_experiment(ROOT / "experiments" / "figure5.py")
    only = f"{R_LA}/*/s0,{COPY},{R_LA.variant(AHEAD)}/*/s0"
    words = ["--scale", "smoke", "--only", only, "--out", str(tmp_path / "records")]
    assert main(experiment, words) == 0
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        assert main(experiment, words) == 0
    config, records = experiment.configs["smoke"], sorted((tmp_path / "records").glob("*.json"))
    names = {path.stem for path in records}
    reads = [experiment.reads(config, c) for c in experiment.cells(config, {}) if c.file_name in names]
    assert len(reads) == len(names)
    each = counting.measure_cost(config.mae, config.pretrain, config.lpips)
    counted = each * sum(map(counting.measured_pairs, reads))
    assert counted / 3 < counter.get_total_flops() <= counted


@pytest.mark.parametrize(
    ("name", "only", "measured", "job"),
    [
        ("figure4", "w_pre/*,copy/*", ("w_pre/*", "copy/*"), "figure4-cells"),
        ("table1", "uwm/sim-ego", ("*/sim-ego",), "table1-evaluate-sim-ego"),  # of all methods at once
    ],
)
def test_a_plan_tells_what_measuring_takes(name, only, measured, job, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UWM_RUNS", str(tmp_path / "runs"))
    site = tmp_path / "site.toml"
    site.write_text("gpus_per_node = 1\n")
    words = ["--scale", "smoke", "--only", only, "--dry-run", "--graph", "--site", str(site)]
    experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
    assert main(experiment, [*words, "--out", str(tmp_path / "out")]) == 0
    [told] = re.findall(rf"{job}: .*; (\S+) GPU hours counted", capsys.readouterr().out)
    config, operations = experiment.configs["smoke"], 0
    for cell in choose(experiment.cells(config, {}), list(measured)):
        read = {"pretrain": config.pretrain, **experiment.reads(config, cell)}
        each = counting.measure_cost(read["mae"], read["pretrain"], read["lpips"])
        operations += each * counting.measured_pairs(read)
    assert float(told) == pytest.approx(operations / 30e12 / 3600, rel=5e-3)


def test_a_plan_counts_no_measuring_of_models_over_pixels():
    families = load_experiment(ROOT / "experiments" / "families.py")
    config = families.configs["smoke"]
    cells = families.cells(config, {})
    unknown = {c.method for c in cells if families.operations(families.reads(config, c)) is None}
    assert unknown == {"pixels"}
    table1 = load_experiment(ROOT / "experiments" / "table1.py")
    read = table1.reads(table1.configs["smoke"], Cell("uwm", "sim-ego"))
    assert counting.measuring_operations(read)
    pixels = replace(read["mae"], pixels=True, file=None, train=None)
    assert counting.measuring_operations({**read, "mae": pixels}) is None


def test_what_shards_take_by_hand():
    assert reading_cost.stored(PRETRAIN["mini"], BUNDLED) == {}
    recipe = replace(PRETRAIN["paper"], pairs=3600, short_side=480)  # 240 KiB a pair
    told = reading_cost.stored(recipe, ("ssv2", "ego4d"))["shards"]
    assert told.startswith("2 GB on disk, 0.3 core hours")  # 7200 pairs; 109 and 1,091 s


def test_what_frames_and_states_take_by_hand():
    """Of 30,000 frames of 256 px: crops of 224 px, and (1+196) x 768 numbers in fp16; see the page's line."""
    frames, mae = 30_000, MAE["paper"].model
    pictures, crops, states = (frames * size for size in (3 * 256**2, 3 * 224**2, 2 * 197 * 768))
    assert counting.held_memory(DECODER["paper"], mae, frames) == pictures + crops + states
    fewer = replace(DECODER["paper"], pairs=5000)  # 10,000 frames at most, which are copied
    assert counting.held_memory(fewer, mae, frames) == pictures + (pictures + crops + states) // 3
    assert counting.held_memory(ADAPTER["paper"], mae, frames) == pictures  # cropped and encoded at each step
    assert counting.held_memory(FINETUNE["paper"], mae, frames) == 0  # read live
    assert cost.in_domain_memory(READER["paper"], MAE["paper"]) == pictures + crops + states
    assert cost.in_domain_memory(PRETRAIN["paper"], MAE["paper"]) == 0
    assert (
        cost.held_line("paper")
        == "19.5 GB of a host a GPU at most, by figure5's decoder and figure5's reader"
    )


@pytest.mark.parametrize(
    ("command", "scale", "tflops"),
    [
        ("$ python -m uwm.cost --tflops 280 --trainings", "paper", 280),
        ("$ python -m uwm.cost --scale small --tflops 25 --trainings", "small", 25),
    ],
)
def test_the_trainings_on_the_page_add_up(command, scale, tflops, monkeypatch):
    """Counting each network takes minutes: its operations are taken from the page, all else is counted."""
    lines = ALL_TRAININGS[command]
    rows = [re.split(r"\s{2,}", line) for line in lines]
    shown = {row[1]: row for row in rows[1:] if len(row) > 6}

    def read_off(recipe, *_):
        _, _, _, _, _, operations, memory, *_ = shown[cost.kind_of(recipe)]
        return SimpleNamespace(total=1e9 * float(operations), memory=lambda _: 1e9 * float(memory))

    monkeypatch.setattr(cost, "cost_of_alike", read_off)
    monkeypatch.setattr(cost, "measure_cost", lambda *_: 139.7e9)
    for told, line in zip(cost.all_trainings(scale, tflops, 30), lines, strict=True):
        words, hours = told.rsplit(maxsplit=1)
        wanted_words, wanted = line.rsplit(maxsplit=1)
        assert words.split() == wanted_words.split()
        if told != lines[0]:
            assert float(hours) == pytest.approx(float(wanted), abs=0.1 if "  " * 9 in told else 0.011)


def test_a_jobs_operations_are_those_that_are_counted_here():
    figure4 = load_experiment(ROOT / "experiments" / "figure4.py")
    config = figure4.configs["smoke"]
    jobs = {job.name: job for job in figure4.stages(config, {})}
    context = SimpleNamespace(config=config)
    sums = dict.fromkeys(("pre-training", "fine-tuning"), 0)
    for name, job in jobs.items():
        sums["pre-training" if name == "pretrain" else "fine-tuning"] += job.operations(context)
    counted = [found for found in cost.counted_trainings("smoke") if found.experiment == "figure4"]
    assert sums["fine-tuning"] == sum(f.operations for f in counted if f.kind.startswith("fine-tuning"))
    one = counting.step_cost(config.pretrain, config.mae, config.pretrain).total
    assert sums["pre-training"] == one * config.pretrain.train.batch_size * config.pretrain.train.steps


def test_both_pages_show_it():
    assert len(SHOWN) == len(PAGES)
    assert len(ALL_TRAININGS) == len(cost.COUNTED_SCALES)


class Squares(nn.Module):
    """sum((W x)^2) of pairs (B, 2, 3): keeps x, (B, 2, 3), and W x, (B, 2, 5), for the backward pass."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 5)

    def forward(self, batch, generator):
        return {"loss": self.linear(batch).square().sum()}


def test_what_is_kept_for_the_backward_pass_by_hand():
    for pairs in (2, 4):
        assert counting._kept_bytes(Squares(), torch.ones(pairs, 2, 3), "fp32") == 4 * pairs * 2 * (3 + 5)
    both = [counting._kept_bytes(Squares(), torch.ones(pairs, 2, 3), "bf16") for pairs in (2, 4)]
    assert both[1] - both[0] == 2 * 2 * 2 * (3 + 5)


def test_the_memory_of_a_step_by_hand():
    found = counting.StepCost(0, 0, 0, parameters=10, frozen=100, kept=7, kept_once=20)
    assert found.memory(pairs=3) == 4 * 100 + (4 + 4 + 8) * 10 + 20 + 3 * 7


def test_a_backward_pass_costs_twice_its_forward_and_frozen_parts_less():
    mae, pretrain = MAE["smoke"], PRETRAIN["smoke"]
    found = counting.step_cost(pretrain, mae, pretrain)
    assert found.encode == 0  # states are computed once
    assert found.backward == pytest.approx(2 * found.forward, rel=0.05)
    assert found.parameters > 0
    live = counting.step_cost(
        PRETRAIN["smoke"].__class__(pretrain.train, model=pretrain.model), mae, pretrain
    )
    assert live.encode == counting.encode_cost(mae)
    assert live.total == found.total + live.encode
    assert live.frozen > found.frozen  # the encoder


def test_every_training_is_counted_once(monkeypatch):
    """By hand: methods and numbers of pairs, times seeds, of the three experiments."""
    monkeypatch.setattr(cost, "cost_of_alike", lambda *_: SimpleNamespace(total=1))
    assert {one.held > 0 for one in cost.counted_trainings("paper") if one.kind.startswith("decoder")} == {
        True
    }
    found = {(one.experiment, one.kind): one.times for one in cost.counted_trainings("paper")}
    assert found == {
        ("table1", "pre-training"): 1,
        ("table1", "pre-training (no action)"): 1,
        ("figure4", "fine-tuning"): 3 * (1 + 3),  # w_ft and its curve
        ("figure4", "fine-tuning (from scratch)"): 3 * 2,  # w_tfs and scratch
        ("figure4", "fine-tuning (dynamics)"): 3,
        ("figure4", "fine-tuning (no-codebook)"): 3,
        ("figure5", "decoder (mse)"): 1,  # the fine-tuned world model is Figure 4's
        ("figure5", "decoder (mse+lpips)"): 1,
        ("figure5", "adapter (continuous)"): 3 * (1 + 3),
        ("figure5", "adapter (continuous, no state)"): 3,
        ("figure5", "adapter (quantized)"): 1,
        ("figure5", "adapter (codes)"): 1,
        ("figure5", "adapter (prediction)"): 1,
        ("figure5", "dynamics (direct)"): 3 + 3,  # the curve has one seed
        ("figure5", "dynamics (no-action)"): 3,
        ("figure5", "FICC"): 1,
    }
