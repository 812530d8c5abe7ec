"""Ways to a latent action side by side: the same states, pairs, batches and steps, another bottleneck each.

The families stand in uwm/methods/families.py: few codes (Genie, LAPO), LAPA's, Moto's, AdaWorld's Gaussian
numbers, numbers under noise, ours, and the presets `paper` and `authors`. Each is trained briefly, and
measured as Table 1 measures. On a corpus with a robot's actions, an adapter then learns to give the family's
latent actions for real ones, from some labelled pairs and from all, and is judged by where the hand comes to
be.

    python experiments/families.py                                # scale mini, hours on one core
    python experiments/families.py --only ours,moto               # some of them
    python experiments/families.py --set families=ours,laq seeds=0

Everything is trained on a small part of the pairs that the released model saw: `last_gain` says how much of
the held-out error the last quarter took away. Nothing is fine-tuned: the adapter meets the model as it was
pre-trained.
"""

from uwm.files import copy_atomically
from uwm.runs.queries import answer_early

if __name__ == "__main__":
    answer_early(__file__)  # --status and its like need no torch

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from uwm.baselines.reader import StateReader
from uwm.bounds import Bounded, Count, Counts, Names, Natural, OutOfBounds, Seeds, SomeNames, check_bounds
from uwm.data.action_pairs import action_pairs, all_action_pairs, eef_in_crop, has_actions
from uwm.data.corpora import BUNDLED, IN_DOMAIN, INCLUDED, Corpus
from uwm.data.manifest import Manifest
from uwm.data.splits import Split
from uwm.evaluation.eval_pairs import EvalPairs, EvalSetting, load_eval_pairs
from uwm.evaluation.further_metrics import ACTION_ROWS, FurtherMetrics
from uwm.evaluation.gripper import moved_in_picture
from uwm.evaluation.measure import FramePairs
from uwm.evaluation.panels import panel_rows, write_panel_rows, write_tiles
from uwm.evaluation.predictors import adapter_predictor, latent_action_predictor, predict_pairs
from uwm.evaluation.probes import action_probes
from uwm.evaluation.records import (
    column,
    further_metrics,
    method_metrics,
    read_further,
    write_evaluation,
    write_further,
    write_samples,
    write_table,
)
from uwm.evaluation.summary import measured_rows, table_text, title
from uwm.evaluation.transfer import transfer_in_picture
from uwm.evaluation.worlds import MeasuredModel, encoder_of
from uwm.methods.families import FAMILIES
from uwm.metrics.perceptual import ProtocolName, load_lpips
from uwm.models import WorldModel
from uwm.models.world import World
from uwm.runs.artifacts import Artifact, Stage
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, CellResult, Context, Estimate, Experiment, SkipCell, StageJob
from uwm.runs.jobs import shared_jobs
from uwm.runs.settings import identity_fields
from uwm.runs.source_digest import measuring_code
from uwm.stages.action_training import skip_where_fewer
from uwm.stages.adapter import AdapterRecipe, adapter_stage, family_adapter, obtain_adapter
from uwm.stages.comparison_pairs import test_images, test_manifest
from uwm.stages.counting import measuring_operations
from uwm.stages.finetune import Domain
from uwm.stages.jobs import domain_job, picture_reader_job, shared_first
from uwm.stages.mae import MAE, MAERecipe
from uwm.stages.manifest_jobs import list_jobs
from uwm.stages.preflight import check_clips, nodes_lack
from uwm.stages.pretrained import (
    corpus_of,
    in_domain_corpus,
    obtain_pretrained,
    obtain_pretrained_mae,
    pretrain_stage,
    table_corpora,
    zero_shot_corpus,
)
from uwm.stages.reader import READER, ReaderRecipe, obtain_picture_reader, sees_hand
from uwm.stages.trained import Trained
from uwm.stages.world_model import PRETRAIN, PretrainRecipe, varied
from uwm.training.convergence import last_gain

PRINTED = ("state_ratio", "own_over_shuffled", "leak", "lpips_ratio", "hand_error_px", "adapter_px")
ADAPTER_OF_ALL = "adapter"  # from all labelled pairs; `adapter-500` from so many


@dataclass(frozen=True)
class Config(Bounded):
    """Everything that changes a number."""

    families: Names = tuple(FAMILIES)
    corpora: Names = (BUNDLED[0], IN_DOMAIN)  # evaluated, besides those of --data
    pretrain_on: SomeNames = BUNDLED
    mae: MAERecipe = MAE["mini"]
    pretrain: PretrainRecipe = PRETRAIN["mini-families"]  # the base, of which a family has another bottleneck
    adapter: AdapterRecipe = family_adapter("mini", 600)
    labelled: Counts = (500,)  # pairs of further adapters, beside all that there are
    reader: ReaderRecipe = READER["mini"]  # sees where a robot's gripper is
    probe_pairs: Count = 2000  # training pairs for the probes, on corpora with real actions
    test_split: Split = "test"
    test_pairs: Count = 300  # per corpus
    lpips: ProtocolName = "alex"
    seeds: Seeds = (0, 1, 2)
    seed: Natural = 0  # of what is tested, not of what is trained

    def __post_init__(self) -> None:
        check_bounds(self)
        unknown = [name for name in self.families if name not in FAMILIES]
        if unknown:
            raise OutOfBounds(f"families: {unknown[0]!r} is none of {', '.join(FAMILIES)}")


CONFIGS = {
    "smoke": Config(
        families=("ours", "adaworld", "pixels"),
        pretrain_on=BUNDLED[:1],
        mae=MAE["smoke"],
        pretrain=PRETRAIN["smoke"],
        adapter=family_adapter("smoke", 3),
        reader=READER["smoke"],
        labelled=(8,),
        seeds=(0,),
        test_pairs=20,
        probe_pairs=40,
    ),
    "mini": Config(),
}


def recipe_of(config: Config, cell: Cell) -> PretrainRecipe:
    """The training of a cell's family."""
    family = FAMILIES[cell.method]
    return varied(config.pretrain, family.preset, family.settings).seeded(cell.seed)


def mae_of(config: Config, cell: Cell) -> MAERecipe:
    """What makes the states that a cell's family reads: the MAE, or for one over pixels none."""
    if not FAMILIES[cell.method].pixels:
        return config.mae
    model = replace(config.mae.model, encoder_width=config.mae.model.patch_values)
    return replace(config.mae, model=model, file=None, train=None, pixels=True)


def adapters(config: Config, cell: Cell) -> dict[str, AdapterRecipe]:
    """The adapters of a cell by name; the metric of each is its hand error, as `adapter_500_px`."""
    recipe = config.adapter.seeded(cell.seed)
    return {**{f"adapter-{n}": recipe.with_pairs(n) for n in config.labelled}, ADAPTER_OF_ALL: recipe}


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    """Seeds x families x corpora: one training for each family and seed."""
    names = table_corpora(config.corpora, data)
    return [Cell(f, name, seed) for seed in config.seeds for f in config.families for name in names]


def reads(config: Config, cell: Cell) -> dict[str, Any]:
    """What of the config changes a cell's numbers: its own recipe, not the other families."""
    fields = ("mae", "pretrain_on", "probe_pairs", "test_split", "test_pairs", "lpips", "seed")
    read = {name: getattr(config, name) for name in fields} | {"pretrain": recipe_of(config, cell)}
    if FAMILIES[cell.method].pixels:
        read["reads"] = mae_of(config, cell)  # `mae` shows what it draws
    if cell.corpus not in config.pretrain_on:
        read["reader"] = config.reader
    return read | {"adapter": config.adapter.seeded(cell.seed), "labelled": config.labelled}


def check_corpus(context: Context, name: str) -> None:
    """UserError where a corpus has no test clip that can be read."""
    check_clips(tested_corpus(context, name), context.config.test_split, context.config.pretrain.gap)


def tested_corpus(context: Context, name: str) -> Corpus:
    """The corpus whose test split is measured: where there are actions its own, since adapters and reader
    learn from its training clips; else, of a corpus that nothing is trained on, every clip."""
    corpus = corpus_of(context, name)
    return corpus if has_actions(corpus) else zero_shot_corpus(context, name)


def domain_of(context: Context, cell: Cell) -> Domain:
    """The cell's corpus, with the family's world model as it was pre-trained."""
    corpus, recipe = corpus_of(context, cell.corpus), recipe_of(context.config, cell)
    return Domain(context, corpus, None, recipe, mae_of(context.config, cell))


def model_of(context: Context, cell: Cell, domain: Domain) -> MeasuredModel:
    """The family's world model, and the MAE that shows what it predicts."""
    world = domain.world
    if not FAMILIES[cell.method].pixels:
        return MeasuredModel(world)
    mae = obtain_pretrained_mae(context)
    weights = {"mae": mae.sha256, "world-model": world.weights["world-model"]}
    return MeasuredModel(World(mae.model, world.world_model, weights), world)


def evaluate(context: Context, cell: Cell, folder: Path) -> None:
    """Measure one family on one corpus; `folder` gets the numbers per pair, those of the whole and panels."""
    config: Config = context.config
    domain, method = domain_of(context, cell), column(cell)
    model = model_of(context, cell, domain)
    network = load_lpips(config.lpips).to(model.world.device)
    corpus = tested_corpus(context, cell.corpus)
    manifest, images = test_images(context, cell.corpus, model.world.image_size, corpus)
    pairs, frames, whole = model.measure(
        method, network, FramePairs(manifest, images, cell.name), config.seed
    )
    gain = last_gain(pd.read_csv(context.artifacts.obtained["world-model"].path / "curve.csv"))
    whole |= FurtherMetrics({} if gain is None else {"last_gain": Estimate(gain, 1)})
    weights = {**model.world.weights, "lpips": network.weights_sha256}
    if has_actions(domain.corpus):
        test, dynamics = robot_test(context, domain, model, manifest), domain.world.world_model
        by_latent = model.through(latent_action_predictor(dynamics))
        whole |= action_probes(by_latent, model.world.device, test.setting, test.pairs, config.probe_pairs)
        if (reader := hand_reader(context, domain.corpus)) is not None:
            moved = transfer_in_picture(model.acting(), reader, test.pairs, test.eef_px, model.world.device)
            whole |= further_metrics(ACTION_ROWS, manifest.table, moved, "")
            trained = {name: obtain_adapter(r, domain) for name, r in adapters(config, cell).items()}
            errors = hand_errors(model, dynamics, trained, reader, test)
            pairs = pairs.assign(**{f"{method}/{name}": values for name, values in errors.items()})
            weights |= {name: adapter.sha256 for name, adapter in trained.items()}
    write_table(pairs, folder / "pairs.csv")
    write_evaluation(folder, manifest, network.protocol, weights, {cell.method: whole})
    rows, (o_t, o_next) = panel_rows(pairs), (images[:, k] / 255 for k in (0, 1))
    tiles = {"o_t": o_t, "o_next": o_next, cell.method: frames}
    write_tiles({name: frames[rows] for name, frames in tiles.items()}, folder / "panels")
    write_panel_rows(pairs, rows, folder / "panels")


class RobotTest(NamedTuple):
    """What real actions are measured on: the test pairs, and the end effector in both of their frames."""

    setting: EvalSetting
    pairs: EvalPairs
    eef_px: Tensor  # (n, 2, 2) in pixels of the crop


def robot_test(context: Context, domain: Domain, model: MeasuredModel, manifest: Manifest) -> RobotTest:
    """The pairs of `manifest`, in its order, with their states and actions."""
    config: Config = context.config
    world = model.world
    setting = EvalSetting(encoder_of(world), domain.corpus, config.pretrain.short_side, config.pretrain.gap)
    test = load_eval_pairs(setting, config.test_split, config.test_pairs, config.seed)
    if test.pairs.manifest.sha256 != manifest.sha256:
        raise ValueError(f"{domain.corpus.name}: frames and actions are measured on two lists of pairs")
    return RobotTest(setting, test, eef_in_crop(test.pairs, setting.short_side, world.image_size))


def hand_reader(context: Context, corpus: Corpus) -> StateReader | None:
    """What sees the gripper in the picture; None of a corpus that trained the family, or does not know it."""
    config: Config = context.config
    if corpus.name in config.pretrain_on:
        return None
    reader = obtain_picture_reader(config.reader, Domain(context, corpus, None))
    return None if reader is None else reader.model


def hand_errors(
    model: MeasuredModel,
    dynamics: WorldModel,
    adapters: Mapping[str, Trained],
    reader: StateReader,
    test: RobotTest,
) -> dict[str, np.ndarray]:
    """How far (n,) the hand is from where it came to be, in pixels: standing still, by latent actions, and by
    the real ones through each adapter."""
    device, pairs = model.world.device, test.pairs
    by_latent = model.through(latent_action_predictor(dynamics))
    states = {"still_px": pairs.states[:, 0], "hand_error_px": predict_pairs(by_latent, pairs, device).state}
    for name, adapter in adapters.items():
        by_real = model.through(adapter_predictor(dynamics, adapter.model))
        states[f"{name.replace('-', '_')}_px"] = predict_pairs(by_real, pairs, device).state
    true = test.eef_px.diff(dim=1)[:, 0]
    moved = {name: moved_in_picture(reader, pairs.states[:, 0], state) for name, state in states.items()}
    return {name: (predicted - true).norm(dim=1).numpy() for name, predicted in moved.items()}


def evaluation_stage(context: Context, cell: Cell) -> Stage:
    """Identity of a cell's evaluation. Obtains its training."""
    config: Config = context.config
    domain = domain_of(context, cell)
    fields: dict[str, Any] = {"lpips": config.lpips, "seed": config.seed, "probe_pairs": config.probe_pairs}
    manifest = test_manifest(context, cell.corpus, tested_corpus(context, cell.corpus))
    inputs = {
        "manifest": manifest.sha256,
        "lpips": load_lpips(config.lpips).weights_sha256,
        **domain.world.weights,
        "shown": obtain_pretrained_mae(context).sha256,
    }
    if has_actions(domain.corpus):
        fields["reader"] = identity_fields(config.reader)
        inputs |= {name: adapter_stage(r, domain).digest for name, r in adapters(config, cell).items()}
        inputs["labelled"] = all_action_pairs(domain.corpus, config.pretrain.gap, None).sha256
        inputs["labelled-test"] = action_pairs(domain.corpus, manifest).sha256
    measured_by = measuring_code(evaluate)
    fields = {**fields, "corpus": cell.corpus, "method": column(cell), "measured_by": measured_by}
    return Stage(f"family-{cell.file_name}", EXPERIMENT.version, fields, inputs)


def obtain_acting(context: Context, cell: Cell) -> None:
    """Train what a robot is measured by: with several processes all of them train, and one measures."""
    config: Config = context.config
    domain = domain_of(context, cell)
    if cell.corpus in config.pretrain_on or not has_actions(domain.corpus):
        return
    if hand_reader(context, domain.corpus) is not None:
        for recipe in adapters(config, cell).values():
            obtain_adapter(recipe, domain)


def check_pairs(context: Context, cell: Cell) -> None:
    """SkipCell where the cell's corpus has fewer labelled pairs than one of its adapters wants."""
    config: Config = context.config
    corpus = corpus_of(context, cell.corpus)
    if not has_actions(corpus):
        return
    for name, recipe in adapters(config, cell).items():
        skip_where_fewer(recipe, corpus, "adapter.pairs" if name == ADAPTER_OF_ALL else "labelled")


def run_cell(context: Context, cell: Cell) -> CellResult:
    """One family on one corpus. SkipCell as `check_pairs`."""
    config: Config = context.config
    check_pairs(context, cell)
    artifact: Artifact = context.artifacts.obtain(
        evaluation_stage(context, cell),
        functools.partial(evaluate, context, cell),
        together=False,
        first=functools.partial(obtain_acting, context, cell),
    )
    evaluation = json.loads((artifact.path / "evaluation.json").read_text())
    pairs = pd.read_csv(artifact.path / "pairs.csv")
    measured = method_metrics(pairs, column(cell), evaluation["protocol"])
    whole = read_further(artifact.path, cell.method)
    if cell.seed == config.seeds[0]:
        for path in sorted((artifact.path / "panels").iterdir()):
            copy_atomically(path, context.out / "panels" / cell.corpus / path.name)
    return CellResult(
        measured | whole.metrics,
        write_samples(context, cell, pairs),
        evaluation["manifest_sha256"],
        evaluation["weights"],
        further_samples=write_further(context, cell, whole),
    )


def summarize(context: Context) -> None:
    """Print a table per corpus."""
    for corpus in table_corpora(context.config.corpora, context.data):
        rows = measured_rows(context, corpus)
        if rows:
            print(f"\nFamilies, {corpus} ({title(context, corpus, rows)})")
            print(table_text(rows, PRINTED))


# Jobs of a cluster run


def stages(config: Config, data: Mapping[str, Path]) -> list[StageJob]:
    """The trainings of a cluster run; cells then find them."""
    families = [Cell(family, "", seed) for family in config.families for seed in config.seeds]
    first = shared_first(config, [recipe_of(config, cell) for cell in families], mae=True)
    before = tuple(job.name for job in first)
    trainings = [
        StageJob(
            training_name(cell),
            functools.partial(train_family, cell=cell),
            functools.partial(family_stage, cell=cell),
            needs=before,
            cells=(f"{cell.method}/*/s{cell.seed}",),
        )
        for cell in families
    ]
    needs = functools.partial(further_jobs, config, data, before)
    return [*first, *trainings, *shared_jobs(cells(config, data), needs)]


def training_name(cell: Cell) -> str:
    """The job that trains a cell's family."""
    return f"pretrain-{cell.method}-s{cell.seed}"


def further_jobs(
    config: Config, data: Mapping[str, Path], before: tuple[str, ...], cell: Cell
) -> Iterator[StageJob]:
    """What a cell reads beside its family: the list of its test pairs, and on a robot's corpus a reader of
    the MAE's states, which comes after the jobs `before`, and the adapters."""
    lists = list_jobs(cell.corpus, data, tested_corpus, cells=("*",))
    yield from lists
    if cell.corpus in config.pretrain_on:
        return
    listed = tuple(job.name for job in lists)
    reader_of = functools.partial(robot_domain, name=cell.corpus)
    yield picture_reader_job(f"reader-{cell.corpus}", config.reader, reader_of, *before, *listed)
    suffix, domain = cell.file_name.replace("__", "-"), functools.partial(acting_domain, cell=cell)
    for name, recipe in adapters(config, cell).items():
        yield domain_job(f"{name}-{suffix}", recipe, domain, training_name(cell), *listed)


def robot_domain(context: Context, name: str) -> Domain:
    """A robot's corpus whose gripper is seen. SkipCell for another, which needs no reader."""
    config: Config = context.config
    if not has_actions(corpus_of(context, name)):
        raise SkipCell(f"{name} has no actions")
    corpus = in_domain_corpus(context, name, config.adapter)
    if not sees_hand(config.reader, corpus):
        raise SkipCell(f"{name} does not tell where in the picture the gripper is")
    return Domain(context, corpus, None)


def acting_domain(context: Context, cell: Cell) -> Domain:
    """The domain of a cell's adapters. SkipCell as `robot_domain` and `check_pairs`."""
    robot_domain(context, cell.corpus)
    check_pairs(context, cell)
    return domain_of(context, cell)


def train_family(context: Context, cell: Cell) -> World:
    """One family's training."""
    return obtain_pretrained(context, recipe_of(context.config, cell), mae_of(context.config, cell))


def family_stage(context: Context, cell: Cell) -> Stage:
    """Identity of that training."""
    return pretrain_stage(context, recipe_of(context.config, cell), mae_of(context.config, cell))


EXPERIMENT = Experiment(
    name="families",
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
    check_cell=check_pairs,
    included=INCLUDED,
    description=(__doc__ or "").splitlines()[0],
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
