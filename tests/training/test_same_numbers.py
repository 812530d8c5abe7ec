"""Two processes train what one would with the same batches: also the random views and masks, the codebook's
moving means, and the codes that restart."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.training.toy import PATIENCE, free_port, start
from uwm.baselines.reader import ReaderConfig, StateReader
from uwm.models import MAE_PRESETS, MaskedAutoencoder, TokenConfig, WorldModel
from uwm.models.quantizer import QuantizerConfig
from uwm.stages.reader import ReadingError
from uwm.stages.world_model import PLACED
from uwm.training.batches import IndexSource
from uwm.training.loop import TrainConfig, train
from uwm.training.objectives import LatentActionPrediction, MaskedReconstruction
from uwm.training.sources import cropped_images, state_pairs

STEPS = 5
WITHOUT_EFFECT = "qkv.bias"  # softmax takes the keys' away: a gradient of rounding, which Adam makes large
MAE = MAE_PRESETS["tiny"]
# A code restarts at its second step without use.
QUICK = QuantizerConfig(codes=24, ema_decay=0.5, restart_threshold=0.3)
EMA = replace(QUICK, codebook_update="ema", codes=300)  # more codes than a batch has tokens: noisy copies


def world_model(quantizer: QuantizerConfig) -> tuple[nn.Module, IndexSource]:
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(3, 20, 1 + MAE.tokens, MAE.encoder_width, generator=draw)
    load = state_pairs(states, torch.randint(20, (30, 2), generator=draw))
    config = replace(
        PLACED,
        quantizer=quantizer,
        extractor=replace(PLACED.extractor, depth=1),
        dynamics=replace(PLACED.dynamics, depth=1, convolutions=1),
        continuous_steps=1,
    )
    model = WorldModel(config.fitted(MAE), seed=0)
    for bias in (model.extractor.norm.bias, model.extractor.head.bias):  # the standardiser takes these away
        bias.requires_grad_(False)
    return LatentActionPrediction(model), IndexSource(30, load, batch_size=8, accumulate=2)


def masked() -> tuple[nn.Module, IndexSource]:
    images = torch.randint(256, (30, 3, 70, 90), generator=torch.Generator().manual_seed(0)).byte()
    load = cropped_images(images, MAE.image_size)
    return MaskedReconstruction(MaskedAutoencoder(MAE)), IndexSource(30, load, batch_size=8, accumulate=2)


def reader() -> tuple[nn.Module, IndexSource]:
    draw = torch.Generator().manual_seed(0)
    states, targets = torch.randn(30, 1, 5, 12, generator=draw), torch.randn(30, 3, generator=draw)
    model = StateReader(ReaderConfig(channels=2, width=8, tokens=TokenConfig(state_width=12, state_tokens=5)))

    def load(rows: Tensor, draws: object) -> dict[str, Tensor]:
        return {"states": states[rows], "targets": targets[rows]}

    return ReadingError(model, noise=0.5), IndexSource(30, load, batch_size=8, accumulate=2)


CASES: dict[str, Callable[[], tuple[nn.Module, IndexSource]]] = {
    "ema": lambda: world_model(EMA),
    "gradient": lambda: world_model(QUICK),
    "mae": masked,
    "reader": reader,
}


def trained(folder: Path) -> None:
    """Train each case; leaves its weights and buffers, and what it logged."""
    torch.set_num_threads(1)
    for name, made in CASES.items():
        objective, source = made()
        config = TrainConfig(STEPS, batch_size=8, accumulate=2, learning_rate=1e-3)
        train(objective, source, config, folder / name, tensorboard=False, device=torch.device("cpu"))
        torch.save(objective.state_dict(), folder / f"{name}-{os.environ.get('RANK', 'alone')}.pt")


def rank_main(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    trained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What one process left, and what two did."""
    alone, together = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    port = free_port()
    processes = [start(rank_main, rank, port, together) for rank in range(2)]
    trained(alone)
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0, 0]
    return alone, together


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_what_one_does(folders: tuple[Path, Path], name: str) -> None:
    alone, together = folders
    one = torch.load(alone / f"{name}-alone.pt")
    ranks = [torch.load(together / f"{name}-{rank}.pt") for rank in range(2)]
    for key, value in one.items():
        assert torch.equal(ranks[0][key], ranks[1][key]), key
        if not key.endswith(WITHOUT_EFFECT):
            assert ranks[0][key].numpy() == pytest.approx(value.numpy(), rel=1e-3, abs=3e-4), (
                key
            )  # of 5 steps of 1e-3
    if name in ("ema", "gradient"):
        fresh = one["world_model.quantizer.ema_count"] == 1
        assert 0 < fresh.sum() < len(fresh)  # the last step restarted some codes
    logs = [(folder / name / "log.jsonl").read_text().splitlines() for folder in folders]
    for mine, its in zip(*logs, strict=True):
        assert json.loads(mine) == pytest.approx(json.loads(its), rel=1e-3)
