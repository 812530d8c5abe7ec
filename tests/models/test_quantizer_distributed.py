"""Two gloo processes against each other and against one process. This file is also what they run."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from uwm.models.quantizer import QuantizerConfig, VectorQuantizer

REPOSITORY = Path(__file__).parents[2]
STEPS = 12
UPDATES = ["gradient", "ema"]
CONFIG = QuantizerConfig(codes=16, width=4, ema_decay=0.5, restart_threshold=0, data_init=False)
RESTARTS = replace(CONFIG, restart_threshold=0.4, data_init=True)
UNEVEN = {
    "counts": replace(CONFIG, codebook_update="ema"),
    "restarts, ema": replace(RESTARTS, codebook_update="ema"),
    "restarts": RESTARTS,
    "few": replace(RESTARTS, codes=64),
}


class Model(nn.Module):
    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.extractor = nn.Linear(4, 4)
        self.quantizer = VectorQuantizer(config)
        with torch.no_grad():
            self.extractor.weight.copy_(torch.eye(4))
            self.extractor.bias.zero_()

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        output = self.quantizer(self.extractor(latents))
        return (output.quantized - latents).square().mean() + output.loss, output.perplexity


def rank_batch(step: int, rank: int, samples: int = 3) -> Tensor:
    """Rank 0 sees a cloud around +5, rank 1 one around -5."""
    generator = torch.Generator().manual_seed(2 * step + rank)
    return torch.randn(samples, 2, 4, generator=generator) + (5 if rank == 0 else -5)


def joined_batch(step: int) -> Tensor:
    return torch.cat([rank_batch(step, rank) for rank in (0, 1)])


def train(config: QuantizerConfig, batches: list[Tensor], wrap: bool, broadcast: bool = False) -> dict:
    model = Model(config)
    wrapped = DistributedDataParallel(model, broadcast_buffers=broadcast) if wrap else model
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    perplexities, restarts = [], 0
    for latents in batches:
        loss, perplexity = wrapped(latents)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        perplexities.append(perplexity)
        restarts += int((model.quantizer.ema_count == 1).sum())
    logged = {"perplexities": torch.stack(perplexities), "restarts": torch.tensor(restarts)}
    return {**model.state_dict(), **logged}


def train_uneven(case: str, rank: int | None) -> dict:
    """The bare module; rank 1 has a third of rank 0's vectors. Without a rank, the joined batch."""
    quantizer = VectorQuantizer(UNEVEN[case])
    for step in range(STEPS):
        parts = [rank_batch(step, 0, 3), rank_batch(step, 1, 1)]
        quantizer(torch.cat(parts) if rank is None else parts[rank])
    return quantizer.state_dict()


def worker(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, timedelta(seconds=200), rank=rank, world_size=2)
    batches = [rank_batch(step, rank) for step in range(STEPS)]
    results = {case: train_uneven(case, rank) for case in UNEVEN}
    for update in UPDATES:
        for broadcast in (False, True):
            for name, config in (("plain", CONFIG), ("restarts", RESTARTS)):
                config = replace(config, codebook_update=update)
                results[f"{name}-{update}-{broadcast}"] = train(config, batches, True, broadcast)
    if rank == 0:  # must not wait for the other rank
        VectorQuantizer(CONFIG).eval()(batches[0])
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("broadcast", [False, True])
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("case", ["plain", "restarts"])
def test_ranks_hold_the_same_codebook(ranks, case, update, broadcast):
    first, second = (results[f"{case}-{update}-{broadcast}"] for results in ranks)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("broadcast", [False, True])
@pytest.mark.parametrize("update", UPDATES)
def test_two_ranks_equal_one_with_the_joined_batch(ranks, update, broadcast):
    joined = [joined_batch(step) for step in range(STEPS)]
    expected = train(replace(CONFIG, codebook_update=update), joined, wrap=False)
    for name, value in ranks[0][f"plain-{update}-{broadcast}"].items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", UNEVEN)
def test_uneven_batches_are_one_batch(ranks, case):
    expected = train_uneven(case, None)
    for results in ranks:
        for name, value in results[case].items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("update", UPDATES)
def test_restarts_take_vectors_of_both_ranks(ranks, update):
    result = ranks[0][f"restarts-{update}-False"]
    assert result["restarts"] > 0
    signs = result["quantizer.codebook"].mean(dim=1).sign()
    assert set(signs.tolist()) == {-1.0, 1.0}


if __name__ == "__main__":
    torch.multiprocessing.start_processes(worker, (Path(sys.argv[1]),), nprocs=2, start_method="spawn")
