"""Table 1 and Figure 3: does the prediction resemble the next frame, or a copy of the current one?

Claim (section 5.2): on in-the-wild video, the frame predicted from O_t and the latent actions is nearer to
O_t+1 than to O_t in LPIPS, both observations blurred alike by the MAE. The paper shows five pairs a corpus;
here all test pairs of frozen manifests are measured, next to reference rows that say what the numbers mean.

    python experiments/table1.py                      # mini: simulated corpora, released weights, 2 min
    python experiments/table1.py --recompute          # trains MAE and world model from scratch first, ~40 min
    python experiments/table1.py --data wild=DIR      # adds any folder of videos, zero-shot
    python experiments/table1.py --scale paper --data ssv2=DIR ego4d=DIR --submit

Methods: `uwm` (the model), `copy` (R_t as the prediction), `oracle` (the MAE's reconstruction of O_t+1: the
best that the frozen decoder can show), `zero-action`, `random-action`, `shuffled-action` (another pair's
actions) and `continuous` (latent actions not discretised).

Hoped for at `mini`: ratio LPIPS(prediction, O_t+1) / LPIPS(prediction, O_t) on the moving half under the
paper's own 0.56 (SSv2) and 0.69 (Ego4D). Measured: 0.78 and 0.73, better than `copy` and `shuffled-action`.
"""

import functools
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from uwm.data.corpora import BUNDLED, Corpus, open_corpus
from uwm.data.manifest import Manifest, write_manifest
from uwm.data.pairs import center_crop, load_pairs
from uwm.metrics.image import psnr, ssim
from uwm.metrics.perceptual import LPIPS, load_lpips
from uwm.metrics.statistics import bootstrap_mean, bootstrap_ratio
from uwm.runs.artifacts import Artifact, Stage
from uwm.runs.experiment import Cell, CellResult, Context, Experiment, Metric, StageJob
from uwm.stages import MAERecipe, PretrainRecipe, World, frozen_pairs, obtain_world
from uwm.training.distributed import default_device, environment_ranks
from uwm.training.loop import TrainConfig
from uwm.training.objectives import code_counts, derangement, perplexity

METHODS = ("uwm", "copy", "oracle", "zero-action", "random-action", "shuffled-action", "continuous")
TILES = ("o_t", "r_t", "o_next", "r_next", "prediction")  # the columns of Figure 3


@dataclass(frozen=True)
class Config:
    """Everything that changes a number of Table 1. The defaults are the paper's setting."""

    corpora: tuple[str, ...] = ("ssv2", "ego4d")  # evaluated, besides those of --data
    pretrain_on: tuple[str, ...] = ("ssv2", "ego4d")
    mae: MAERecipe = MAERecipe()
    pretrain: PretrainRecipe = PretrainRecipe(
        train=TrainConfig(
            steps=16_000,  # 20 epochs of 200k pairs at batch 256 (authors' code)
            batch_size=256,
            learning_rate=1e-4,  # section 5.1; the authors' code has 1e-3
            warmup_steps=1_600,
            precision="bf16",
            validate_every=500,
        ),
        pairs=100_000,  # per corpus: 200k in all, as in the authors' code
    )
    test_split: str = "test"
    test_pairs: int = 1000  # per corpus
    lpips: str = "alex"
    seed: int = 0


MINI = Config(
    corpora=BUNDLED,
    pretrain_on=BUNDLED,
    mae=MAERecipe(
        preset="mini",
        file=None,
        train=TrainConfig(
            steps=1200,
            batch_size=64,
            learning_rate=6e-4,
            warmup_steps=50,
            checkpoint_every=100,
            validate_every=100,
        ),
        procedural=6000,
    ),
    pretrain=PretrainRecipe(
        preset="mini",
        train=TrainConfig(
            steps=2600,
            batch_size=32,
            learning_rate=2e-3,
            warmup_steps=100,
            checkpoint_every=250,
            validate_every=250,
        ),
        short_side=128,
        views=2,
    ),
    test_pairs=600,
)

SMOKE = Config(
    corpora=BUNDLED,
    pretrain_on=BUNDLED[:1],
    mae=MAERecipe(
        preset="tiny", file=None, train=TrainConfig(steps=4, batch_size=8), procedural=16, short_side=64
    ),
    pretrain=PretrainRecipe(
        preset="mini",
        train=TrainConfig(steps=4, batch_size=8, learning_rate=1e-3),
        short_side=64,
        clips=4,
        views=1,
    ),
    test_pairs=20,
)


def corpora_of(config: Config, data: Mapping[str, Path]) -> tuple[str, ...]:
    """The corpora of the table: the config's, then those of --data."""
    return (*config.corpora, *(name for name in data if name not in config.corpora))


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    """Methods x corpora. One training seed: the paper's table has one too."""
    return [Cell(method, corpus) for corpus in corpora_of(config, data) for method in METHODS]


def corpus(context: Context, name: str) -> Corpus:
    return open_corpus(name, context.data.get(name))


def test_manifest(context: Context, name: str) -> Manifest:
    """The frozen test pairs of a corpus."""
    config: Config = context.config
    gap, pairs = config.pretrain.gap, config.test_pairs
    return frozen_pairs(corpus(context, name), config.test_split, gap, pairs, config.seed)


def pretrain(context: Context) -> World:
    """The MAE and the world model: released, cached, or trained now."""
    config = context.config
    corpora = {name: corpus(context, name) for name in config.pretrain_on}
    return obtain_world(config.mae, config.pretrain, corpora, context.artifacts, context.stop)


# Evaluation: one pass over a corpus measures all methods, for their images share features.


def predictions(world: World, s_t: Tensor, s_next: Tensor, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Each method's predicted state (n, 1+N, D) for the n pairs of a corpus, and the codes (n, L)."""
    model = world.world_model
    generator = torch.Generator().manual_seed(seed)
    actions = in_batches(model.infer_actions, s_t, s_next)
    random_codes = torch.randint(model.config.quantizer.codes, actions.codes.shape, generator=generator)
    inputs = {
        "uwm": actions.quantized,
        "zero-action": torch.zeros_like(actions.quantized),
        "random-action": model.quantizer.lookup(random_codes.to(s_t.device)),
        "shuffled-action": actions.quantized[derangement(len(s_t), generator)],
        "continuous": actions.continuous,
    }
    states = {method: in_batches(model.predict, s_t, action) for method, action in inputs.items()}
    return {**states, "copy": s_t, "oracle": s_next}, actions.codes


def in_batches(function: Callable[..., Any], *tensors: Tensor, size: int = 64) -> Any:
    """`function` over batches of the tensors; a tensor or a named tuple of tensors, joined again."""
    parts = [function(*batch) for batch in zip(*(t.split(size) for t in tensors), strict=True)]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return type(parts[0])(*(torch.cat(field) for field in zip(*parts, strict=True)))


def measure_pairs(
    world: World, network: LPIPS, images: Tensor, predicted: Mapping[str, Tensor]
) -> tuple[pd.DataFrame, Tensor]:
    """Per-pair numbers of all methods on uint8 pairs (n, 2, 3, S, S), and the predicted frames of `uwm`.

    `lpips_to_current` and `lpips_to_next` compare with R_t and R_t+1, the observations blurred by the MAE
    (section 5.2); the `_true` ones, PSNR and SSIM with the frames themselves.
    """
    o_t, o_next = images.float().div(255).unbind(1)
    frames = {method: world.mae.decode(state) for method, state in predicted.items()}
    features = {name: network.features(x) for name, x in {**frames, "o_t": o_t, "o_next": o_next}.items()}
    columns = {
        "motion": network.distance(features["o_t"], features["o_next"]),
        "lpips_of_copy": network.distance(features["copy"], features["oracle"]),
    }
    for method, frame in frames.items():
        measured = {
            "lpips_to_current": network.distance(features[method], features["copy"]),
            "lpips_to_next": network.distance(features[method], features["oracle"]),
            "lpips_to_current_true": network.distance(features[method], features["o_t"]),
            "lpips_to_next_true": network.distance(features[method], features["o_next"]),
            "psnr": psnr(frame, o_next),
            "ssim": ssim(frame, o_next),
            "state_mse": (predicted[method] - predicted["oracle"]).square().mean((1, 2)),
        }
        columns.update({f"{method}/{name}": value for name, value in measured.items()})
    table = pd.DataFrame({name: value.double().cpu().numpy() for name, value in columns.items()})
    return table, frames["uwm"]


@torch.no_grad()
def evaluate(context: Context, name: str, folder: Path) -> None:
    """Measure every method on a corpus; `folder` gets manifest, pairs, codes and the tiles of Figure 3."""
    config: Config = context.config
    device = default_device(environment_ranks())
    world, network = pretrain(context).to(device), load_lpips(config.lpips).to(device)
    manifest = test_manifest(context, name)
    images = load_pairs(corpus(context, name), manifest, config.pretrain.short_side)
    images = center_crop(images, world.image_size, world.image_size)  # (n, 2, 3, S, S)
    s_t, s_next = in_batches(world.encode, images).unbind(1)
    predicted, codes = predictions(world, s_t, s_next, config.seed)
    tables, frames = [], []
    for rows in tqdm(torch.arange(len(images)).split(32), desc=f"evaluate {name}", mininterval=10):
        part = {method: states[rows] for method, states in predicted.items()}
        table, shown = measure_pairs(world, network, images[rows].to(device), part)
        tables.append(table)
        frames.append(shown.cpu())
    pairs = pd.concat([manifest.table[["video", "t0", "t1"]], pd.concat(tables, ignore_index=True)], axis=1)
    pairs.insert(3, "moving", pairs["motion"] > pairs["motion"].median())
    write_table(pairs, folder / "pairs.csv")
    use = code_counts(codes, world.world_model.config.quantizer.codes)
    write_table(pd.DataFrame({"code": range(len(use)), "count": use}), folder / "code_use.csv")
    write_manifest(manifest, folder / "manifest.csv")
    write_panels(world, images, torch.cat(frames), pairs, folder / "panels")
    evaluation = {
        "protocol": network.protocol,
        "manifest_sha256": manifest.sha256,
        "weights": {**world.weights, "lpips": network.weights_sha256},
        "skipped": manifest.skipped,
    }
    (folder / "evaluation.json").write_text(json.dumps(evaluation, indent=1, allow_nan=False) + "\n")


def panel_rows(pairs: pd.DataFrame) -> list[int]:
    """Five pairs for Figure 3: of the moving half, those at the 10th, 30th, ... 90th percentile of motion.

    Each from another clip where there are enough. The paper's five are picked by hand; this rule looks at the
    frames alone, never at a prediction.
    """
    moving = pairs[pairs["moving"]].sort_values("motion")
    chosen: list[int] = []
    for quantile in (0.1, 0.3, 0.5, 0.7, 0.9):
        left = moving[~moving["video"].isin(pairs.loc[chosen, "video"])]
        left = left if len(left) else moving.drop(index=chosen)
        if len(left):
            distance = (left["motion"] - moving["motion"].quantile(quantile)).abs()
            chosen.append(int(distance.idxmin()))
    return chosen


def write_panels(world: World, images: Tensor, predicted: Tensor, pairs: pd.DataFrame, folder: Path) -> None:
    """The tiles of Figure 3 as PNG, and `panels.csv` with their numbers: the columns of Table 1."""
    folder.mkdir(exist_ok=True)
    rows = panel_rows(pairs)
    o_t, o_next = images[rows].unbind(1)
    r_t, r_next = (
        world.mae.decode(world.encode(images[rows]).flatten(0, 1)).cpu().unflatten(0, (-1, 2)).unbind(1)
    )
    columns = dict(zip(TILES, (o_t / 255, r_t, o_next / 255, r_next, predicted[rows]), strict=True))
    for tile, column in columns.items():
        for k, image in enumerate(column, start=1):
            pixels = image.mul(255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(folder / f"{k}_{tile}.png")
    numbers = pairs.loc[rows, ["video", "t0", "t1", "uwm/lpips_to_current", "uwm/lpips_to_next"]]
    numbers.columns = ["video", "t0", "t1", "lpips_to_current", "lpips_to_next"]
    numbers.insert(0, "k", range(1, len(rows) + 1))
    write_table(numbers, folder / "panels.csv")


# Records


def metrics(pairs: pd.DataFrame, method: str, protocol: str, suffix: str = "") -> dict[str, Metric]:
    """The metrics of one method over the rows of `pairs`, with 95% bootstrap intervals over clips."""
    clips = pairs["video"].to_numpy()
    column = {name.split("/")[1]: pairs[name].to_numpy() for name in pairs if name.startswith(f"{method}/")}
    to_current, to_next = column["lpips_to_current"], column["lpips_to_next"]
    means = {
        **{name: (values, "lower") for name, values in column.items() if name not in ("psnr", "ssim")},
        **{name: (column[name], "higher") for name in ("psnr", "ssim")},
        "success_vs_current": ((to_next < to_current).astype(float), "higher"),
        "success_vs_copy": ((to_next < pairs["lpips_of_copy"].to_numpy()).astype(float), "higher"),
    }
    result = {}
    for name, (values, better) in means.items():
        interval = bootstrap_mean(values, clips)
        named = protocol if "lpips" in name or "success" in name else None
        result[name + suffix] = Metric(interval.estimate, interval.n, better, tuple(interval.ci), named)
    by_clip = pd.Series(to_current).groupby(clips).sum()
    if (by_clip > 0).all():  # a copy of O_t has no distance to O_t, and so no ratio
        ratio = bootstrap_ratio(to_next, to_current, clips)
        result["lpips_ratio" + suffix] = Metric(ratio.estimate, ratio.n, "lower", tuple(ratio.ci), protocol)
    return result


def run_cell(context: Context, cell: Cell) -> CellResult:
    """One method on one corpus, out of the corpus's evaluation, which the other methods share."""
    artifact = obtain_evaluation(context, cell.corpus)
    evaluation = json.loads((artifact.path / "evaluation.json").read_text())
    pairs = pd.read_csv(artifact.path / "pairs.csv")
    measured = metrics(pairs, cell.method, evaluation["protocol"])
    measured |= metrics(pairs[pairs["moving"]], cell.method, evaluation["protocol"], "_moving")
    if cell.method == "uwm":
        counts = pd.read_csv(artifact.path / "code_use.csv")["count"].to_numpy()
        measured["perplexity"] = Metric(perplexity(counts), len(pairs), "higher")
    samples = publish(context, cell.corpus, artifact.path)
    return CellResult(measured, samples, evaluation["manifest_sha256"], evaluation["weights"])


def publish(context: Context, name: str, evaluation: Path) -> Path:
    """Copy what tables and figures are made of next to the records; returns the per-pair samples."""
    samples = context.out / "samples" / f"{name}.csv"
    copies = {"pairs.csv": samples, "code_use.csv": context.out / "code_use" / f"{name}.csv"}
    for path in sorted((evaluation / "panels").iterdir()):
        copies[f"panels/{path.name}"] = context.out / "panels" / name / path.name
    for source, target in copies.items():
        copy_atomically(evaluation / source, target)
    for stage, artifact in context.artifacts.obtained.items():
        if (artifact.path / "curve.csv").is_file():
            copy_atomically(artifact.path / "curve.csv", context.out / "curves" / f"{stage}.csv")
    return samples


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file so that another process sees the old one or the new one, never a part."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial_copy = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, partial_copy)
    os.replace(partial_copy, target)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """CSV, the same bytes for the same numbers."""
    table.to_csv(path, index=False, lineterminator="\n", float_format="%.6g")


def obtain_evaluation(context: Context, name: str) -> Artifact:
    """The evaluation of a corpus, as a cached stage."""
    return context.artifacts.obtain(
        evaluation_stage(context, name), functools.partial(evaluate, context, name), together=False
    )


def evaluation_stage(context: Context, name: str) -> Stage:
    config: Config = context.config
    fields = {"corpus": name, "methods": METHODS, "lpips": config.lpips, "seed": config.seed}
    world = pretrain(context)
    inputs = {**world.weights, "manifest": test_manifest(context, name).sha256}
    inputs["lpips"] = load_lpips(config.lpips).weights_sha256
    return Stage(f"evaluation-{name}", EXPERIMENT.version, fields, inputs)


def summarize(context: Context) -> None:
    """Print Table 1 of this run, and draw Figure 3's panels as one picture per corpus."""
    records = context.records()
    for name in corpora_of(context.config, context.data):
        rows = {
            method: records[f"{method}/{name}"].metrics
            for method in METHODS
            if f"{method}/{name}" in records and records[f"{method}/{name}"].status == "ok"
        }
        if rows:
            print(f"\nTable 1, {name} (moving half; {protocol_of(rows)}; mean [95% interval over clips])")
            print(table_text(rows))
    for folder in sorted((context.out / "panels").glob("*/")):
        print(f"Figure 3: {draw_figure(folder)}")


def protocol_of(rows: Mapping[str, Mapping[str, Any]]) -> str:
    return str(next(iter(rows.values()))["lpips_to_next"]["protocol"])


def table_text(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """One line a method: distance to O_t and O_t+1, their ratio, and how often O_t+1 is the nearer one."""
    names = (
        "lpips_to_current",
        "lpips_to_next",
        "lpips_ratio",
        "success_vs_current",
        "success_vs_copy",
        "psnr",
    )
    lines = [f"{'method':17}" + "".join(f"{name:>24}" for name in names)]
    for method, measured in rows.items():
        entries = (measured.get(f"{name}_moving") for name in names)
        text = (f"{e['value']:.3f} [{e['ci'][0]:.3f}, {e['ci'][1]:.3f}]" if e else "-" for e in entries)
        lines.append(f"{method:17}" + "".join(f"{entry:>24}" for entry in text))
    return "\n".join(lines)


def draw_figure(folder: Path) -> Path:
    """One picture of a corpus's tiles: a row a pair, the columns O_t, R_t, O_t+1, R_t+1, prediction."""
    count = len(list(folder.glob("*_o_t.png")))
    rows = [
        [np.asarray(Image.open(folder / f"{k}_{tile}.png")) for tile in TILES] for k in range(1, count + 1)
    ]
    picture = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    Image.fromarray(picture).save(folder / "all.png")
    return folder / "all.png"


def stages(config: Config, data: Mapping[str, Path]) -> list[StageJob]:
    """The jobs of a cluster run: pre-training, then an evaluation per corpus that its cells read."""
    evaluations = [
        StageJob(
            f"evaluate-{name}", functools.partial(_evaluate_job, name), needs=("pretrain",), trains=False
        )
        for name in corpora_of(config, data)
    ]
    return [StageJob("pretrain", pretrain), *evaluations]


def _evaluate_job(name: str, context: Context) -> None:
    obtain_evaluation(context, name)


EXPERIMENT = Experiment(
    name="table1",
    version=1,
    configs={"smoke": SMOKE, "mini": MINI, "paper": Config()},
    cells=cells,
    run_cell=run_cell,
    summarize=summarize,
    stages=stages,
    description=(__doc__ or "").splitlines()[0],
)

if __name__ == "__main__":
    raise SystemExit(EXPERIMENT.main())
