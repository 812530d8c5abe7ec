"""What the world model's parts are worth: the base recipe with one thing changed, each trained and measured.

Topics: the rate (from 12 to 1,960 bits a transition), the length of the training, the presets `paper` and
`authors` and what makes the action matter in them, the parts of scale mini's recipe, the codebook, the
extractor, and the data. They stand in uwm/methods/variations.py, as assignments to the recipe.

    python experiments/ablations.py                              # scale mini; --only base,codes-12: some
    python experiments/ablations.py --set variations=base,depth-4

All but those of the length are short trainings of the same number of steps; `released` is the released
model itself. The base and the variations of `repeated` have two seeds, the others one, so that their small
differences say nothing. All are measured as in Table 1, on the same pairs.
"""

from uwm.runs.queries import answer_early

if __name__ == "__main__":
    answer_early(__file__)  # --status and its like need no torch

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from uwm.bounds import Bounded, Count, Counts, Names, Natural, OutOfBounds, SomeNames, check_bounds
from uwm.data.action_pairs import can_be_probed
from uwm.data.corpora import BUNDLED, IN_DOMAIN, INCLUDED
from uwm.data.splits import Split
from uwm.evaluation.actions import rates
from uwm.evaluation.compute import world_cost
from uwm.evaluation.eval_pairs import EvalSetting, load_eval_pairs
from uwm.evaluation.further_metrics import FurtherMetrics
from uwm.evaluation.measure import (
    FramePairs,
    Measuring,
    in_batches,
    measure_pairs,
)
from uwm.evaluation.predictors import latent_action_predictor
from uwm.evaluation.probes import action_probes
from uwm.evaluation.records import (
    column,
    method_metrics,
    read_further,
    write_evaluation,
    write_further,
    write_samples,
    write_table,
)
from uwm.evaluation.summary import table_text, title
from uwm.evaluation.worlds import MeasuredWorld, encoder_of, measure_world
from uwm.methods import COPY, ORACLE
from uwm.methods.variations import BASE, CODECS, REPEATED, VARIATIONS
from uwm.metrics.codec import code_within
from uwm.metrics.perceptual import LPIPS, ProtocolName, load_lpips
from uwm.models.world import World
from uwm.runs.artifacts import Artifact, Stage
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, CellResult, Context, Experiment, StageJob
from uwm.runs.settings import with_settings
from uwm.runs.source_digest import measuring_code
from uwm.stages.comparison_pairs import test_images, test_manifest
from uwm.stages.counting import measuring_operations
from uwm.stages.jobs import after_lists
from uwm.stages.mae import MAE, MAERecipe
from uwm.stages.manifest_jobs import read_lists
from uwm.stages.preflight import check_all_actions, check_clips, nodes_lack
from uwm.stages.pretrained import (
    corpus_of,
    obtain_pretrained,
    pretrain_stage,
    table_corpora,
    zero_shot_corpus,
)
from uwm.stages.world_model import PRETRAIN, PretrainRecipe, varied


@dataclass(frozen=True)
class Config(Bounded):
    """Everything that changes a number."""

    variations: Names = (BASE.name, *VARIATIONS, *CODECS)
    repeated: Names = REPEATED  # of the variations: trained with `further_seeds` too
    further_seeds: Counts = (1,)  # besides seed 0
    corpora: Names = (*BUNDLED, IN_DOMAIN)  # evaluated, besides those of --data
    pretrain_on: SomeNames = BUNDLED
    mae: MAERecipe = MAE["mini"]
    pretrain: PretrainRecipe = PRETRAIN["mini-short"]  # the base, which a variation changes
    probe_pairs: Count = 2000  # training pairs for the probe of real actions, on corpora that have them
    test_split: Split = "test"
    test_pairs: Count = 300  # per corpus
    lpips: ProtocolName = "alex"
    seed: Natural = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        known = (BASE.name, *VARIATIONS, *CODECS)
        unknown = [name for name in (*self.variations, *self.repeated) if name not in known]
        if unknown:
            raise OutOfBounds(f"variations: {unknown[0]!r} is none of {', '.join(known)}")


CONFIGS = {
    "smoke": Config(
        variations=(BASE.name, "codes-12", "codec-1960"),
        repeated=(),
        corpora=(BUNDLED[0], IN_DOMAIN),
        pretrain_on=BUNDLED[:1],
        mae=MAE["smoke"],
        pretrain=PRETRAIN["smoke"],
        test_pairs=20,
        probe_pairs=40,
    ),
    "mini": Config(),
}


def recipe_of(config: Config, cell: Cell) -> PretrainRecipe:
    """The base recipe, or a variation of it, with the cell's seed."""
    variation, recipe = VARIATIONS.get(cell.method), config.pretrain
    if variation:
        recipe = varied(recipe, variation.preset, variation.settings)
    return recipe if cell.seed is None else recipe.seeded(cell.seed)


def mae_of(config: Config, cell: Cell) -> MAERecipe:
    """The base's MAE, which shows a codec's frames too, or a variation of it."""
    variation = VARIATIONS.get(cell.method)
    return with_settings(config.mae, variation.mae) if variation else config.mae


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    """Variations x corpora, one training for each variation and seed; no number is seed 0."""
    names = table_corpora(config.corpora, data)
    return [Cell(v, name, seed) for v, seed in trainings(config, config.variations) for name in names]


def trainings(config: Config, names: Iterable[str]) -> list[tuple[str, int | None]]:
    """Variations and their seeds, the further ones last."""
    repeated = [name for name in names if name in config.repeated]
    further = [(name, seed) for seed in config.further_seeds for name in repeated]
    return [*((name, None) for name in names), *further]


def reads(config: Config, cell: Cell) -> dict[str, Any]:
    """What of the config changes a cell's numbers: its own recipe, not the other variations."""
    fields = ("pretrain_on", "probe_pairs", "test_split", "test_pairs", "lpips", "seed")
    read = {name: getattr(config, name) for name in fields}
    return read | {"mae": mae_of(config, cell), "pretrain": recipe_of(config, cell)}


def check_corpus(context: Context, name: str) -> None:
    """UserError where a corpus has no test clip that can be read, or actions that a probe cannot take."""
    check_clips(zero_shot_corpus(context, name), context.config.test_split, context.config.pretrain.gap)
    corpus = corpus_of(context, name)
    if can_be_probed(corpus):
        check_all_actions(corpus)


@torch.no_grad()
def evaluate(context: Context, cell: Cell, folder: Path) -> None:
    """Measure one variation on one corpus; `folder` gets the numbers per pair and those of the whole."""
    config: Config = context.config
    world = train_variation(context, cell)
    network = load_lpips(config.lpips).to(world.device)
    manifest, images = test_images(context, cell.corpus, world.image_size)
    test = FramePairs(manifest, images, cell.name)
    weights = {**world.weights, "lpips": network.weights_sha256}
    if cell.method in CODECS:
        pairs, whole = coded(world, network, test, cell.method)
        del weights["world-model"]
    else:
        measured = measure_world(column(cell), world, network, test, config.seed)
        pairs, whole = measured.pairs, of_the_whole(context, cell, world, measured)
    write_table(pairs, folder / "pairs.csv")
    write_evaluation(folder, manifest, network.protocol, weights, {cell.method: whole})


def coded(world: World, network: LPIPS, test: FramePairs, name: str) -> tuple[pd.DataFrame, FurtherMetrics]:
    """What a codec shows of R_t+1 after R_t in its bits: LPIPS to both, per pair, and the mean bits used."""
    s_t, s_next = in_batches(world.encode, test.images).unbind(1)
    states = {COPY.name: s_t, ORACLE.name: s_next}  # a codec's frames are no states
    pairs, _ = measure_pairs(Measuring(world, network), test, states, only=[ORACLE.name])
    r_t, r_next = (in_batches(world.mae.decode, state).mul(255).round().byte() for state in states.values())
    budget = CODECS[name] // 8
    frames = [code_within(a, b, budget) for a, b in zip(r_t.cpu(), r_next.cpu(), strict=True)]
    decoded = torch.stack([frame.frame for frame in frames]).to(world.device)
    used = np.array([8.0 * frame.size for frame in frames])
    columns = {
        f"{name}/{metric}": in_batches(network, decoded, target.float() / 255).double().cpu().numpy()
        for metric, target in (("lpips_to_current", r_t), ("lpips_to_next", r_next))
    }
    return pairs.assign(**columns, **{f"{name}/bits": used}), FurtherMetrics()


def of_the_whole(context: Context, cell: Cell, world: World, measured: MeasuredWorld) -> FurtherMetrics:
    """What is no mean over pairs: bits, and where the corpus has real actions how well they are read off."""
    config: Config = context.config
    further = rates(world.world_model, measured.actions, measured.states)
    further |= FurtherMetrics(world_cost(world, measured.images))
    corpus = corpus_of(context, cell.corpus)
    if not can_be_probed(corpus):
        return further
    setting = EvalSetting(encoder_of(world), corpus, config.pretrain.short_side, config.pretrain.gap)
    test = load_eval_pairs(setting, config.test_split, config.test_pairs, config.seed)
    return further | action_probes(
        latent_action_predictor(world.world_model), world.device, setting, test, config.probe_pairs
    )


def evaluation_stage(context: Context, cell: Cell) -> Stage:
    """Identity of a cell's evaluation. Obtains its training."""
    config: Config = context.config
    fields = {"lpips": config.lpips, "seed": config.seed, "probe_pairs": config.probe_pairs}
    world = train_variation(context, cell)
    inputs = {
        "manifest": test_manifest(context, cell.corpus).sha256,
        "lpips": load_lpips(config.lpips).weights_sha256,
        **world.weights,
    }
    measured_by = measuring_code(evaluate)
    fields = {**fields, "corpus": cell.corpus, "method": cell.method, "measured_by": measured_by}
    name = cell.name.replace("/", "-")
    return Stage(f"ablation-{name}", EXPERIMENT.version, fields, inputs)


def obtain_evaluation(context: Context, cell: Cell) -> Artifact:
    """The evaluation of a cell, as a cached stage."""
    stage = evaluation_stage(context, cell)
    return context.artifacts.obtain(stage, functools.partial(evaluate, context, cell), together=False)


def run_cell(context: Context, cell: Cell) -> CellResult:
    """One variation on one corpus."""
    artifact = obtain_evaluation(context, cell)
    evaluation = json.loads((artifact.path / "evaluation.json").read_text())
    pairs = pd.read_csv(artifact.path / "pairs.csv")
    measured = method_metrics(pairs, column(cell), evaluation["protocol"])
    whole = read_further(artifact.path, cell.method)
    return CellResult(
        measured | whole.metrics,
        write_samples(context, cell, pairs),
        evaluation["manifest_sha256"],
        evaluation["weights"],
        further_samples=write_further(context, cell, whole),
    )


def summarize(context: Context) -> None:
    """Print a table per corpus."""
    records, config = context.records(), context.config
    for corpus in table_corpora(config.corpora, context.data):
        trained = (Cell(name, corpus, seed) for name, seed in trainings(config, config.variations))
        by_column = {column(cell): records[cell.name] for cell in trained if cell.name in records}
        rows = {name: record.metrics for name, record in by_column.items() if record.status == "ok"}
        if rows:
            print(f"\nAblations, {corpus} ({title(context, corpus, rows)})")
            print(table_text(rows))


def stages(config: Config, data: Mapping[str, Path]) -> list[StageJob]:
    """The jobs of a cluster run: a training for each variation, and lists of a user's test pairs."""
    jobs, trained = [], [name for name in config.variations if name not in CODECS]
    for name, seed in trainings(config, trained):
        cell, suffix = Cell(name, "", seed), "" if seed is None else f"-s{seed}"
        compute, stage = (functools.partial(f, cell=cell) for f in (train_variation, variation_stage))
        read = tuple(Cell(name, corpus, seed).name for corpus in table_corpora(config.corpora, data))
        jobs.append(StageJob(f"pretrain-{name}{suffix}", compute, stage, cells=read))
    recipes = [recipe_of(config, Cell(name, "", seed)) for name, seed in trainings(config, trained)]
    corpora = table_corpora(config.corpora, data)
    return [*after_lists(config, jobs, recipes), *read_lists(corpora, data)]


def train_variation(context: Context, cell: Cell) -> World:
    """The training of a cell's variation."""
    return obtain_pretrained(context, recipe_of(context.config, cell), mae_of(context.config, cell))


def variation_stage(context: Context, cell: Cell) -> Stage:
    """Its identity."""
    return pretrain_stage(context, recipe_of(context.config, cell), mae_of(context.config, cell))


EXPERIMENT = Experiment(
    name="ablations",
    version=1,
    configs=CONFIGS,
    cells=cells,
    run_cell=run_cell,
    reads=reads,
    summarize=summarize,
    stages=stages,
    operations=measuring_operations,
    checks=nodes_lack,
    check_corpus=check_corpus,
    included=INCLUDED,
    description=(__doc__ or "").splitlines()[0],
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
