"""Figure 4: the pre-trained world model in a robot's domain: as it is, fine-tuned on 2k pairs, from scratch.

Claim (section 5.2): on Robosuite, W_pre, trained on diverse video alone, predicts degraded frames; W_ft,
fine-tuned on 2k frame pairs, is far better and matches W_tfs, trained from scratch on all in-domain data. The
paper shows pictures; here all test pairs are measured, with intervals.

    python experiments/figure4.py                                    # mini: every cell and seed
    python experiments/figure4.py --only w_pre,w_ft/*/s0,w_tfs/*/s0  # the figure's three columns, one seed
    python experiments/figure4.py --data lift=FILE.hdf5              # adds robomimic data or a video folder
    python experiments/figure4.py --scale paper --data ssv2=DIR ego4d=DIR robosuite=FILE.hdf5 --submit

Methods: `w_pre`; `w_ft` (2k pairs); `w_tfs` (from scratch on all pairs); `scratch` (from scratch on the pairs
of `w_ft`; both take more steps); `w_ft-100`, `w_ft-500`, `w_ft-10k` (for one seed, parts of one another);
`w_ft-dynamics` and `w_ft-no-codebook` (less is trained); `copy` (R_t as the prediction) and `oracle` (the
MAE's R_t+1). A seed draws pairs, batches and first weights; `first_seed_alone` says which have one.
"""

from uwm.runs.queries import answer_early

if __name__ == "__main__":
    answer_early(__file__)  # --status and its like need no torch

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from uwm.bounds import Bounded, Count, Counts, Names, Natural, Seeds, SomeNames
from uwm.data.corpora import BUNDLED, IN_DOMAIN, INCLUDED
from uwm.data.crops import center_crop
from uwm.data.manifest import Manifest
from uwm.data.pairs import load_pairs
from uwm.data.selection import frozen_pairs
from uwm.data.splits import Split
from uwm.evaluation.further_metrics import CODE_ROWS, FurtherMetrics, code_table
from uwm.evaluation.measure import (
    FramePairs,
    Measuring,
    Observed,
    Predicted,
    frame_distances,
    in_batches,
    measure_pairs,
    region_distances,
)
from uwm.evaluation.panels import draw_tiles, panel_rows, write_panel_rows, write_tiles
from uwm.evaluation.records import column, method_metrics, publish_curves, write_further, write_samples
from uwm.evaluation.summary import measured_rows, table_text, title
from uwm.methods import (
    COPY,
    ORACLE,
    SCRATCH,
    W_FT,
    W_FT_DYNAMICS,
    W_FT_NO_CODEBOOK,
    W_PRE,
    W_TFS,
    parse,
)
from uwm.metrics.image import psnr, ssim
from uwm.metrics.perceptual import LPIPS, ProtocolName, load_lpips
from uwm.metrics.statistics import perplexity
from uwm.models.world import World
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, CellResult, Context, Estimate, Experiment, StageJob
from uwm.runs.jobs import shared_jobs
from uwm.stages.counting import measuring_operations
from uwm.stages.finetune import FINETUNE, Domain, FinetuneRecipe, skip_where_few
from uwm.stages.jobs import finetune_job, pretrain_jobs
from uwm.stages.mae import MAE, MAERecipe
from uwm.stages.manifest_jobs import listed_first
from uwm.stages.preflight import check_clips, nodes_lack
from uwm.stages.pretrained import corpus_of, in_domain_corpus, measured_corpora
from uwm.stages.world_model import PRETRAIN, PretrainRecipe

PANEL_METHODS = (W_PRE.name, W_TFS.name, W_FT.name)  # the last columns of Figure 4
TILES = ("o_t", "o_next", *PANEL_METHODS)
PRINTED = ("lpips_to_next", "lpips_region", "psnr_region", "lpips_ratio", "success_vs_copy")


@dataclass(frozen=True)
class Config(Bounded):
    """Everything that changes a number of Figure 4. The defaults are the paper's setting where it says."""

    corpora: Names = ("robosuite",)  # in-domain; those of --data are added
    pretrain_on: SomeNames = ("ssv2", "ego4d")
    mae: MAERecipe = MAE["paper"]
    pretrain: PretrainRecipe = PRETRAIN["paper"]
    finetune: FinetuneRecipe = FINETUNE["paper"]
    scratch_steps: Count = 8000  # of `w_tfs` and `scratch`, in place of finetune.train.steps
    tfs_steps: Count | None = None  # of `w_tfs`, which has more pairs; None: as many as `scratch`
    curve: Counts = (100, 500, 10_000)  # further numbers of pairs
    seeds: Seeds = (0, 1, 2)
    first_seed_alone: Names = ()  # methods that have no other
    test_split: Split = "test"
    test_pairs: Count = 1000
    test_seed: Natural = 0
    lpips: ProtocolName = "alex"


CONFIGS = {
    "smoke": Config(
        corpora=(IN_DOMAIN,),
        pretrain_on=BUNDLED[:1],
        mae=MAE["smoke"],
        pretrain=PRETRAIN["smoke-high-rate"],
        finetune=FINETUNE["smoke"],
        scratch_steps=4,
        curve=(4, 12),
        seeds=(0,),
        test_pairs=12,
    ),
    "mini": Config(
        corpora=(IN_DOMAIN,),
        pretrain_on=BUNDLED,
        mae=MAE["mini"],
        pretrain=PRETRAIN["mini"],
        finetune=FINETUNE["mini"],
        scratch_steps=2400,
        tfs_steps=9600,
        first_seed_alone=(
            *(W_TFS.name, SCRATCH.name, W_FT_DYNAMICS.name, W_FT_NO_CODEBOOK.name),
            *(W_FT.with_pairs(pairs) for pairs in (100, 500, 10_000)),
        ),
    ),
    "small": Config(
        pretrain_on=("ssv2",),
        pretrain=PRETRAIN["small"],
        finetune=FINETUNE["small"],
        scratch_steps=4000,
    ),
    "paper": Config(),
}


def recipes(config: Config) -> dict[str, FinetuneRecipe]:
    """What each trained method is trained by, but for the seed."""
    tuned = config.finetune
    scratch = replace(tuned, start="scratch", train=replace(tuned.train, steps=config.scratch_steps))
    tfs_steps = config.tfs_steps or config.scratch_steps
    return {
        W_FT.name: tuned,
        W_TFS.name: replace(scratch, pairs=None, train=replace(tuned.train, steps=tfs_steps)),
        SCRATCH.name: scratch,
        **{W_FT.with_pairs(pairs): replace(tuned, pairs=pairs) for pairs in config.curve},
        W_FT_DYNAMICS.name: replace(tuned, trained="dynamics"),
        W_FT_NO_CODEBOOK.name: replace(tuned, trained="no-codebook"),
    }


def reads(config: Config, cell: Cell) -> dict[str, Any]:
    """What of the config changes a cell's numbers: its own recipe, not those of other methods."""
    fields = ("mae", "pretrain_on", "pretrain", "test_split", "test_pairs", "test_seed", "lpips")
    read = {name: getattr(config, name) for name in fields}
    read |= {"gap": config.finetune.gap, "short_side": config.finetune.short_side}
    return read if cell.seed is None else {**read, "recipe": recipes(config)[cell.method].seeded(cell.seed)}


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    """Methods x corpora; the trained ones with each seed."""
    listed = []
    for name in measured_corpora(config, data):
        listed += [Cell(W_PRE.name, name)]
        for method in recipes(config):
            seeds = config.seeds[:1] if method in config.first_seed_alone else config.seeds
            listed += [Cell(method, name, seed) for seed in seeds]
        listed += [Cell(reference.name, name) for reference in (COPY, ORACLE)]
    return listed


def domain_of(context: Context, cell: Cell) -> Domain:
    """A cell's corpus and world model: pre-trained, or trained on the corpus.

    Raises:
        SkipCell: the corpus has too few pairs.
    """
    config: Config = context.config
    corpus = in_domain_corpus(context, cell.corpus, config.finetune)
    if cell.seed is None:
        return Domain(context, corpus, None)
    recipe = recipes(config)[cell.method].seeded(cell.seed)
    skip_where_few(recipe, corpus, "curve" if parse(cell.method).short_pairs else "finetune.pairs")
    return Domain(context, corpus, recipe)


def blurred_distances(network: LPIPS, observed: Observed, predicted: Predicted) -> dict[str, Tensor]:
    """Measures (B,) in pixels to R_t+1, the blurred observation."""
    return {
        "psnr_blurred": psnr(predicted.frame, observed.frames["r_next"]),
        "ssim_blurred": ssim(predicted.frame, observed.frames["r_next"]),
    }


def run_cell(context: Context, cell: Cell) -> CellResult:
    """Train, or find, the cell's world model, and measure its predictions of the test pairs."""
    world = domain_of(context, cell).world
    network = load_lpips(context.config.lpips).to(world.device)
    manifest, images = test_pairs(context, cell.corpus, world.image_size)
    pairs, frames, codes = evaluate(cell, world, network, manifest, images)
    measured, whole = method_metrics(pairs, column(cell), network.protocol), FurtherMetrics()
    if codes is not None and codes.shape[1]:  # there is a codebook
        table = code_table(codes)
        used = Estimate(perplexity(table["count"].to_numpy()), len(pairs))
        whole = FurtherMetrics({"perplexity": used}, {CODE_ROWS: table})
    write_panels(context, cell, pairs, images, frames)
    publish_curves(context, {"finetune": f"finetune_{cell.file_name}"})
    weights = {**world.weights, "lpips": network.weights_sha256}
    samples, further = write_samples(context, cell, pairs), write_further(context, cell, whole)
    return CellResult(measured | whole.metrics, samples, manifest.sha256, weights, further_samples=further)


@torch.no_grad()
def evaluate(
    cell: Cell, world: World, network: LPIPS, manifest: Manifest, images: Tensor
) -> tuple[pd.DataFrame, Tensor, Tensor | None]:
    """Numbers per pair, the frames (n, 3, S, S) that the cell predicts, and its codes (n, L) if any."""
    s_t, s_next = in_batches(world.encode, images).unbind(1)
    states, codes = {COPY.name: s_t, ORACLE.name: s_next}, None
    if cell.method not in states:
        actions = in_batches(world.world_model.infer_actions, s_t, s_next)
        states[column(cell)] = in_batches(world.world_model.predict, s_t, actions.quantized)
        codes = actions.codes
    measures, name = (frame_distances, region_distances, blurred_distances), column(cell)
    how, test = Measuring(world, network, measures), FramePairs(manifest, images, cell.name)
    pairs, frames = measure_pairs(how, test, states, only=[name], keep=[name])
    return pairs, frames[name], codes


def test_pairs(context: Context, name: str, size: int) -> tuple[Manifest, Tensor]:
    """The frozen test pairs of a corpus and their frames, uint8 (n, 2, 3, S, S)."""
    config: Config = context.config
    corpus, gap = corpus_of(context, name), config.finetune.gap
    manifest = frozen_pairs(corpus, config.test_split, gap, config.test_pairs, config.test_seed)
    return manifest, center_crop(load_pairs(corpus, manifest, config.finetune.short_side), size, size)


def write_panels(context: Context, cell: Cell, pairs: pd.DataFrame, images: Tensor, frames: Tensor) -> None:
    """The cell's column of Figure 4, of the first seed, beside O_t and O_t+1; and which pairs they are."""
    if cell.method not in PANEL_METHODS or cell.seed not in (None, context.config.seeds[0]):
        return
    folder, rows = context.out / "panels" / cell.corpus, panel_rows(pairs)
    o_t, o_next = (images[rows] / 255).unbind(1)
    write_tiles({"o_t": o_t, "o_next": o_next, cell.method: frames[rows]}, folder)
    write_panel_rows(pairs, rows, folder)


def check_corpus(context: Context, name: str) -> None:
    """UserError where a corpus has no test clip that can be read."""
    check_clips(corpus_of(context, name), context.config.test_split, context.config.finetune.gap)


def summarize(context: Context) -> None:
    """Print the numbers of this run, and draw the panels as one picture per corpus."""
    for name in measured_corpora(context.config, context.data):
        if rows := measured_rows(context, name):
            print(f"\nFigure 4, {name} ({title(context, name, rows)})")
            print(table_text(rows, PRINTED))
        if picture := draw_tiles(context.out / "panels" / name, TILES):
            print(f"Figure 4: {picture}")


def stages(config: Config, data: Mapping[str, Path]) -> list[StageJob]:
    """The trainings of a cluster run: the pre-training, then that of each cell, side by side."""
    return shared_jobs(cells(config, data), listed_first(partial(needs, config), data))


def needs(config: Config, cell: Cell) -> Iterator[StageJob]:
    """The trainings behind a cell."""
    yield from pretrain_jobs(config)
    if cell.seed is not None:
        recipe = recipes(config)[cell.method].seeded(cell.seed)
        yield finetune_job(f"train-{cell.file_name}", recipe, partial(domain_of, cell=cell))


EXPERIMENT = Experiment(
    name="figure4",
    version=2,
    configs=CONFIGS,
    cells=cells,
    run_cell=run_cell,
    reads=reads,
    summarize=summarize,
    stages=stages,
    operations=measuring_operations,
    checks=nodes_lack,
    check_corpus=check_corpus,
    check_cell=domain_of,
    included=INCLUDED,
    description=(__doc__ or "").splitlines()[0],
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
