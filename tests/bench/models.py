"""Speed of the models, as ratios of interleaved runs: `make bench`. Absolute times belong to one machine.

World model: pairs/s from live images (encoder in the loop) against cached states; a training step with the
blocks compiled, as the field `compiled` does, against eager ones, as a table. Quantiser: a training step
against vector-quantize-pytorch at equal size. Evaluation: features computed once against plain `lpips` calls.
"""

import shutil
import statistics
import time
from collections.abc import Callable

import lpips
import torch
from tables import write_table
from vector_quantize_pytorch import VectorQuantize

from uwm.metrics.perceptual import load_lpips
from uwm.models import MAE_PRESETS, MaskedAutoencoder, VectorQuantizer, WorldModel
from uwm.models.quantizer import QUANTIZER_PRESETS
from uwm.stages.mae import MAE
from uwm.stages.world_model import PRETRAIN
from uwm.training.device import compile_blocks
from uwm.training.objectives import LatentActionPrediction

ROUNDS = 7


def medians(**runs: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each function over interleaved rounds, after one that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for counted in range(ROUNDS + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if counted:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def report(title: str, seconds: dict[str, float], items: int, unit: str) -> None:
    """Rates, and the first run's against each other one's."""
    print(f"\n{title}")
    first = next(iter(seconds.values()))
    for name, value in seconds.items():
        print(f"  {name:28}{items / value:10.1f} {unit}/s   {first / value:6.2f} x")


def world_model(scale: str) -> WorldModel:
    """A scale's world model for its MAE's states, of one seed."""
    return WorldModel(PRETRAIN[scale].model.fitted(MAE[scale].model))


def training_steps(batch: int = 32) -> None:
    """A training step of the mini world model, with the encoder in the loop and without."""
    mae = MaskedAutoencoder(MAE_PRESETS["mini"]).eval()
    images = torch.randint(0, 256, (batch, 2, 3, 112, 112), dtype=torch.uint8)
    states = torch.randn(batch, 2, 1 + mae.config.tokens, mae.config.encoder_width)

    runs = {
        name: stepping(LatentActionPrediction(world_model("mini"), encoder), data)
        for name, encoder, data in (("live encoding", mae, images), ("cached states", None, states))
    }
    report(f"World model, mini, batch {batch}: training", medians(**runs), batch, "pairs")


def stepping(objective: LatentActionPrediction, data: torch.Tensor) -> Callable[[], float]:
    """A function that makes one training step on a batch, and returns its loss."""
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4)

    def step() -> float:
        optimizer.zero_grad()
        loss = objective(data, torch.Generator().manual_seed(0))["loss"]
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def compiled_steps(scale: str = "mini", batch: int = 32) -> None:
    """A training step on cached states, eager and with compiled blocks, from the same weights."""
    columns = (
        "Blocks",
        "ms a step",
        "Pairs/s",
        "Of the eager rate",
        "First step, s",
        "Loss of the first step",
    )
    title = (
        f"torch.compile on the CPU: a training step of the world model, {scale}, batch {batch}, one thread"
    )
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        write_table("compile", title, columns, [("not measured: no C++ compiler here", "", "", "", "", "")])
        return
    mae = MAE[scale].model
    states = torch.randn(
        batch, 2, 1 + mae.tokens, mae.encoder_width, generator=torch.Generator().manual_seed(0)
    )
    steps, first = {}, {}
    for name in ("eager", "compiled"):
        objective = LatentActionPrediction(world_model(scale), None)
        if name == "compiled":
            assert compile_blocks(objective) > 0
        steps[name] = stepping(objective, states)
        began = time.perf_counter()
        loss = steps[name]()
        first[name] = (f"{time.perf_counter() - began:.1f}", f"{loss:.5f}")
    seconds = medians(**steps)
    rows = [
        (name, f"{1000 * s:.1f}", f"{batch / s:.1f}", f"{seconds['eager'] / s:.2f}", *first[name])
        for name, s in seconds.items()
    ]
    write_table("compile", title, columns, rows)


def quantizer_steps(batch: int = 64, tokens: int = 24) -> None:
    """A training step of the quantiser, forward and backward, 1024 codes of 64 dimensions."""
    peer = VectorQuantize(dim=64, codebook_size=1024, decay=0.99, commitment_weight=0.25).train()
    latents = torch.randn(batch, tokens, 64, requires_grad=True)

    def step_of(preset: str) -> Callable[[], object]:
        quantizer = VectorQuantizer(QUANTIZER_PRESETS[preset]).train()

        def step() -> None:
            out = quantizer(latents)
            (out.quantized.sum() + out.loss).backward()

        return step

    def peer_step() -> None:
        quantized, _, loss = peer(latents)
        (quantized.sum() + loss.sum()).backward()

    runs = {
        "vector-quantize-pytorch": peer_step,
        "ours, authors": step_of("authors"),
        "ours, paper": step_of("paper"),
    }
    report(f"Quantiser, {batch} x {tokens} tokens: training step", medians(**runs), 1, "steps")


def evaluation(pairs: int = 8, methods: int = 7) -> None:
    """LPIPS of seven methods to both observations: every image's features once, against pairwise calls."""
    network = load_lpips("lpips-random")
    plain = lpips.LPIPS(net="alex", pretrained=True, pnet_rand=True, verbose=False).eval()
    images = torch.rand(methods, pairs, 3, 112, 112)

    def cached() -> None:
        features = [network.features(batch) for batch in images]
        for feature in features:
            network.distance(feature, features[0])
            network.distance(feature, features[1])

    @torch.no_grad()
    def calls() -> None:
        for batch in images:
            plain(batch, images[0], normalize=True)
            plain(batch, images[1], normalize=True)

    report(
        "Evaluation, seven methods",
        medians(**{"plain lpips calls": calls, "features once": cached}),
        pairs,
        "pairs",
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("1 thread; medians of interleaved runs; x: rate relative to the first line")
    training_steps()
    compiled_steps()
    quantizer_steps()
    evaluation()
