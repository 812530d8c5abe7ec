"""Table 1 and Figure 3: does the prediction resemble the next frame, or a copy of the current one?

Claim (section 5.2): on in-the-wild video, the frame predicted from O_t and the latent actions is nearer to
O_t+1 than to O_t in LPIPS, both observations blurred alike by the MAE. The paper shows five pairs a corpus;
here all test pairs of frozen manifests are measured, next to reference rows that say what the numbers mean.

    python experiments/table1.py                      # mini: simulated corpora, released weights
    python experiments/table1.py --recompute          # trains MAE and world models from scratch first
    python experiments/table1.py --data wild=DIR      # adds any folder of videos, zero-shot
    python experiments/table1.py --method mine=FILE.py:CLASS    # adds a row: your model (docs/your-model.md)
    python experiments/table1.py --scale small --data ssv2=DIR    # one GPU of 24 GB
    python experiments/table1.py --scale paper --data ssv2=DIR ego4d=DIR --submit

Methods: `uwm` (the model), `copy` (R_t as the prediction), `oracle` (the MAE's reconstruction of O_t+1: the
best that the frozen decoder can show), `zero-action`, `random-action`, `shuffled-action` (another pair's
actions), `continuous` (latent actions not discretised) and `no-action` (a predictor trained without actions).
At scale mini `uwm` has the paper's 240 bits a transition; `uwm-1960` has 1,960, near a code of the frame.

Whether a latent action is one is measured beside it: bits, leak (the action to a frame of another clip),
gain over `no-action`, own against another pair's action, and on `sim-panda`, which nothing is trained on, how
much of the robot's own action a probe reads off it.

What to expect at mini: with another pair's actions the state's error is far larger, while in LPIPS the blur
of what moves hides much of it. The numbers stand in README.md.
"""

from uwm.files import copy_atomically
from uwm.runs.queries import answer_early

if __name__ == "__main__":
    answer_early(__file__)  # --status and its like need no torch

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from uwm.bounds import Bounded, Count, Names, Natural, OutOfBounds, SomeNames, check_bounds
from uwm.data.action_pairs import can_be_probed, eef_in_crop
from uwm.data.corpora import BUNDLED, IN_DOMAIN, INCLUDED
from uwm.data.manifest import write_manifest
from uwm.data.splits import Split
from uwm.data.states import FrozenEncoder
from uwm.evaluation.actions import ActionModel, StatePairs, action_columns, rates
from uwm.evaluation.codec_baseline import codec_columns
from uwm.evaluation.compute import frame_model_cost, world_cost
from uwm.evaluation.eval_pairs import EvalSetting, load_eval_pairs
from uwm.evaluation.frame_models import FrameModel, frame_model_rates, frame_predictor, measure_frame_model
from uwm.evaluation.further_metrics import ACTION_ROWS, FurtherMetrics
from uwm.evaluation.measure import (
    FramePairs,
    Measuring,
    in_batches,
    measure_pairs,
)
from uwm.evaluation.panels import FIGURE3_TILES, draw_tiles, write_figure3_panels
from uwm.evaluation.predictors import Predictor, latent_action_predictor
from uwm.evaluation.probes import action_probes, eef_probe, has_eef_pos
from uwm.evaluation.records import (
    further_metrics,
    method_metrics,
    publish_curves,
    read_further,
    write_evaluation,
    write_further,
    write_samples,
    write_table,
)
from uwm.evaluation.summary import table_text, title
from uwm.evaluation.transfer import transfer_columns, transfer_in_picture
from uwm.methods import (
    CONTINUOUS,
    COPY,
    NO_ACTION,
    ORACLE,
    RANDOM_ACTION,
    SHUFFLED_ACTION,
    UWM,
    UWM_1960,
    ZERO_ACTION,
    Method,
)
from uwm.methods.files import ExternalMethod, external_method
from uwm.methods.protocol import CheckedModel
from uwm.metrics.perceptual import ProtocolName, load_lpips
from uwm.models import LatentActions, VectorQuantizer, WorldModel
from uwm.models.world import World
from uwm.runs.artifacts import Artifact, Stage
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, CellResult, Context, Estimate, Experiment, SkipCell, StageJob
from uwm.runs.settings import identity_fields, plain_value
from uwm.runs.source_digest import measuring_code
from uwm.stages.comparison_pairs import test_images, test_manifest
from uwm.stages.counting import measuring_operations
from uwm.stages.external import Fitted, obtain_fitted
from uwm.stages.finetune import Domain
from uwm.stages.jobs import operations_of, picture_reader_job, pretrain_jobs
from uwm.stages.mae import MAE, MAERecipe
from uwm.stages.manifest_jobs import list_jobs
from uwm.stages.preflight import check_all_actions, check_clips, nodes_lack
from uwm.stages.pretrained import (
    corpus_of,
    in_domain_corpus,
    obtain_pretrained,
    pretrain_stage,
    pretrained_weights,
    table_corpora,
    zero_shot_corpus,
)
from uwm.stages.reader import READER, ReaderRecipe, obtain_picture_reader
from uwm.stages.trained import Trained
from uwm.stages.world_model import PRETRAIN, PretrainRecipe
from uwm.training.convergence import last_gain
from uwm.training.objectives import code_counts, derangement

ALWAYS = (UWM, COPY, ORACLE, ZERO_ACTION, RANDOM_ACTION, SHUFFLED_ACTION, CONTINUOUS)
MODELS = (UWM, UWM_1960)  # those with latent actions of their own, of which more is measured


@dataclass(frozen=True)
class Config(Bounded):
    """Everything that changes a number of Table 1. The defaults are the paper's setting."""

    corpora: Names = ("ssv2", "ego4d")  # evaluated, besides those of --data
    pretrain_on: SomeNames = ("ssv2", "ego4d")
    mae: MAERecipe = MAE["paper"]
    pretrain: PretrainRecipe = PRETRAIN["paper"]
    high_rate: PretrainRecipe | None = None  # of `uwm-1960`
    no_action: PretrainRecipe | None = PRETRAIN["paper-no-action"]
    probe_pairs: Count = 2000  # training pairs for the probe of real actions, on corpora that have them
    reader: ReaderRecipe = READER["paper"]  # sees where a robot's gripper is
    test_split: Split = "test"
    test_pairs: Count = 1000  # per corpus
    given_methods: Names = ()  # rows by others, NAME=FILE.py:CLASS each; --method
    lpips: ProtocolName = "alex"
    seed: Natural = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        kind = self.pretrain.model.bottleneck.kind
        if kind != "codes":
            raise OutOfBounds(
                f"pretrain.model.bottleneck.kind must be codes, not {kind}: {RANDOM_ACTION} draws from a "
                "codebook; experiments/families.py measures models without one"
            )


CONFIGS = {
    "smoke": Config(
        corpora=BUNDLED,
        pretrain_on=BUNDLED[:1],
        mae=MAE["smoke"],
        pretrain=PRETRAIN["smoke"],
        high_rate=PRETRAIN["smoke-high-rate"],
        no_action=PRETRAIN["smoke-no-action"],
        reader=READER["smoke"],
        test_pairs=20,
        probe_pairs=40,
    ),
    "mini": Config(
        corpora=(*BUNDLED, IN_DOMAIN),
        pretrain_on=BUNDLED,
        mae=MAE["mini"],
        pretrain=PRETRAIN["mini"],
        high_rate=PRETRAIN["mini-1960"],
        no_action=PRETRAIN["mini-no-action"],
        reader=READER["mini"],
        test_pairs=600,
    ),
    "small": Config(
        corpora=("ssv2",),
        pretrain_on=("ssv2",),
        pretrain=PRETRAIN["small"],
        no_action=PRETRAIN["small-no-action"],
        reader=READER["small"],
    ),
    "paper": Config(),
}


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    """Methods x corpora. One training seed: the paper's table has one too."""
    rows = [*methods(config), *(external.method for external in external_methods(config))]
    return [Cell(method.name, corpus) for corpus in table_corpora(config.corpora, data) for method in rows]


def methods(config: Config) -> list[Method]:
    """Those that the config has a recipe for."""
    further = {UWM_1960: config.high_rate, NO_ACTION: config.no_action}
    return [*ALWAYS, *(method for method, recipe in further.items() if recipe)]


def external_methods(config: Config) -> list[ExternalMethod]:
    """Those by others. UserError for a name that is taken, or a file that isn't there."""
    return [external_method(text) for text in config.given_methods]


def external_by(config: Config, cell: Cell) -> ExternalMethod | None:
    """The method by others that a cell measures; None for one of ours."""
    return next((external for external in external_methods(config) if external.name == cell.method), None)


def reads(config: Config, cell: Cell) -> dict[str, Any]:
    """What of the config changes a cell's numbers: not which other methods and corpora there are."""
    fields = ("mae", "pretrain_on", "test_split", "test_pairs", "lpips", "seed")
    read = {name: getattr(config, name) for name in fields}
    external, pretrain = external_by(config, cell), config.pretrain
    frames = {"gap": pretrain.gap, "short_side": pretrain.short_side, "clips": pretrain.clips}
    if external:
        compared = {"no_action": config.no_action, "probe_pairs": config.probe_pairs}
        # A trainer of its own sees as many pairs as our model's, by the same seed.
        trained = {"trained_as": pretrain.train} if external.source.fits else {}
        if cell.corpus not in config.pretrain_on:
            trained["reader"] = config.reader
        return {**read, **frames, **compared, **trained, "method": external.identity()}
    if cell.method in (COPY.name, ORACLE.name):  # no world model: the pairs alone
        return {**read, **frames}
    recipe = {UWM_1960.name: config.high_rate, NO_ACTION.name: config.no_action}.get(cell.method)
    read["pretrain"] = recipe or config.pretrain
    if cell.method in [method.name for method in MODELS]:
        read |= {"no_action": config.no_action, "probe_pairs": config.probe_pairs}
        if cell.corpus not in config.pretrain_on:  # may be a robot's
            read["reader"] = config.reader
    return read


def check_corpus(context: Context, name: str) -> None:
    """UserError where a corpus has no test clip that can be read, or actions that a probe cannot take."""
    check_clips(zero_shot_corpus(context, name), context.config.test_split, context.config.pretrain.gap)
    corpus = corpus_of(context, name)
    if can_be_probed(corpus):
        check_all_actions(corpus)


def test_frames(context: Context, name: str, size: int) -> FramePairs:
    """The frozen test pairs of a corpus and their frames, cropped to `size`."""
    return FramePairs(*test_images(context, name, size), name)


# Evaluation: one pass over a corpus measures all methods, for their images share features.


def obtain_models(context: Context) -> dict[Method, World]:
    """The trained worlds, by the method that each is of: released, cached, or trained now."""
    return {method: obtain_pretrained(context, recipe) for method, recipe in recipes(context.config).items()}


def recipes(config: Config) -> dict[Method, PretrainRecipe]:
    """What is trained for the table, by the method that it is of."""
    all_of = {UWM: config.pretrain, UWM_1960: config.high_rate, NO_ACTION: config.no_action}
    return {method: recipe for method, recipe in all_of.items() if recipe}


def predictions(
    models: Mapping[Method, World], s_t: Tensor, s_next: Tensor, seed: int
) -> tuple[dict[str, Tensor], dict[str, LatentActions]]:
    """Each method's predicted state (n, 1+N, D) for the n pairs of a corpus; the models' latent actions."""
    actions = {
        m.name: in_batches(world.world_model.infer_actions, s_t, s_next) for m, world in models.items()
    }
    states = {
        method.name: in_batches(world.world_model.predict, s_t, actions[method.name].quantized)
        for method, world in models.items()
    }
    states |= controls(models[UWM].world_model, s_t, actions[UWM.name], seed)
    return {**states, COPY.name: s_t, ORACLE.name: s_next}, actions


def controls(model: WorldModel, s_t: Tensor, actions: LatentActions, seed: int) -> dict[str, Tensor]:
    """What `model` predicts (n, 1+N, D) from wrong actions, and from actions that are not discretised."""
    quantizer, generator = model.quantizer, torch.Generator().manual_seed(seed)
    assert isinstance(quantizer, VectorQuantizer)  # `Config` refuses others
    random_codes = torch.randint(model.config.quantizer.codes, actions.codes.shape, generator=generator)
    inputs = {
        ZERO_ACTION: torch.zeros_like(actions.quantized),
        RANDOM_ACTION: quantizer.lookup(random_codes.to(s_t.device)),
        SHUFFLED_ACTION: actions.quantized[derangement(len(s_t), generator)],
        CONTINUOUS: actions.continuous,
    }
    return {method.name: in_batches(model.predict, s_t, action) for method, action in inputs.items()}


@torch.no_grad()
def evaluate(context: Context, name: str, folder: Path) -> None:
    """Measure every method on a corpus; `folder` gets manifest, pairs, codes and the tiles of Figure 3."""
    config: Config = context.config
    models = obtain_models(context)
    world = models[UWM]
    network = load_lpips(config.lpips).to(world.device)
    test = test_frames(context, name, world.image_size)
    manifest, images = test.manifest, test.images  # (n, 2, 3, S, S)
    s_t, s_next = in_batches(world.encode, images).unbind(1)
    states, actions = predictions(models, s_t, s_next, config.seed)
    pairs, frames = measure_pairs(Measuring(world, network), test, states, keep=[UWM.name])
    state_pairs = StatePairs(s_t, s_next, list(manifest.table["video"]), images[:, 1], images[:, 0])
    by_name = {method.name: models[method] for method in MODELS if method in models}
    no_action = models[NO_ACTION].world_model if NO_ACTION in models else None
    pairs = pairs.assign(**action_columns(by_name, no_action, network, state_pairs, config.seed))
    write_table(pairs, folder / "pairs.csv")
    use = code_counts(actions[UWM.name].codes, world.world_model.config.quantizer.codes)
    write_table(pd.DataFrame({"code": range(len(use)), "count": use}), folder / "code_use.csv")
    write_manifest(manifest, folder / "manifest.csv")
    write_figure3_panels(world, test, (UWM.name, frames[UWM.name]), pairs, folder / "panels")
    weights = {f"{method}": model.weights["world-model"] for method, model in models.items()}
    further = {
        method: rates(model.world_model, actions[method], state_pairs)
        | FurtherMetrics(world_cost(model, images))
        | read_off(context, name, model, model.world_model, latent_action_predictor(model.world_model))
        for method, model in by_name.items()
    }
    for method, recipe in recipes(config).items():
        gain = FurtherMetrics(gained(context, recipe))
        further[method.name] = further.get(method.name, FurtherMetrics()) | gain
    weights = {"mae": world.weights["mae"], **weights, "lpips": network.weights_sha256}
    write_evaluation(folder, manifest, network.protocol, weights, further)


def gained(context: Context, recipe: PretrainRecipe) -> dict[str, Estimate]:
    """What the last quarter of a training gained, where it was validated."""
    gain = last_gain(pd.read_csv(context.artifacts.obtained[recipe.stage].path / "curve.csv"))
    return {} if gain is None else {"last_gain": Estimate(gain, 1)}


@torch.no_grad()
def evaluate_external(context: Context, external: ExternalMethod, name: str, folder: Path) -> None:
    """Measure a method by others on a corpus, by the same measures and beside the same references."""
    config: Config = context.config
    world = obtain_references(context)
    network = load_lpips(config.lpips).to(world.device)
    built, fitted = build_external(context, external)
    model = FrameModel(CheckedModel(built, external.name).to(world.device), world.mae)
    test, free = test_frames(context, name, world.image_size), world.world_model if config.no_action else None
    pairs, drawn, actions = measure_frame_model(
        external.name, model, Measuring(world, network), test, free, config.seed
    )
    coded = codec_columns(world, network, test.images, model.model.bits)
    pairs = pairs.assign(**{f"{external.name}/{column}": values for column, values in coded.items()})
    write_table(pairs, folder / "pairs.csv")
    write_manifest(test.manifest, folder / "manifest.csv")
    write_figure3_panels(world, test, (external.name, drawn.cpu()), pairs, folder / "panels")
    whole = frame_model_rates(model.model, actions) | FurtherMetrics(frame_model_cost(model, test.images))
    whole |= read_off(context, name, world, model, frame_predictor(model))
    identity = external.identity()
    weights = {"mae": world.weights["mae"], "lpips": network.weights_sha256}
    if config.no_action:
        weights["no-action"] = world.weights["world-model"]
    weights |= {identity["file"]: identity["sha256"], **identity["weights"], **fitted}
    write_evaluation(folder, test.manifest, network.protocol, weights, {external.name: whole})


def build_external(context: Context, external: ExternalMethod) -> tuple[Any, dict[str, str]]:
    """A model by others, trained where it has a trainer of its own; the digest of what it learnt then."""
    if not external.source.fits:
        return external.source.build(), {}
    model, sha256 = obtain_fitted(context, Fitted(external.name, external.identity(), external.source.build))
    return model, {f"{external.name}-fitted": sha256}


def obtain_references(context: Context) -> World:
    """What a method by others is measured beside: the MAE, and the predictor without actions if there is."""
    return obtain_pretrained(context, context.config.no_action)


def read_off(
    context: Context, name: str, world: World, model: ActionModel, predictor: Predictor
) -> FurtherMetrics:
    """Where the corpus has real actions, how well they are read off the latent ones of a model; and how the
    gripper moves by latent actions of another clip. `world` shows the states that the model predicts."""
    config: Config = context.config
    corpus = corpus_of(context, name)
    if not can_be_probed(corpus):
        return FurtherMetrics()
    encoder = FrozenEncoder(world.weights["mae"], world.image_size, world.encode)
    setting = EvalSetting(encoder, corpus, config.pretrain.short_side, config.pretrain.gap)
    test = load_eval_pairs(setting, config.test_split, config.test_pairs, config.seed)
    further = action_probes(predictor, world.device, setting, test, config.probe_pairs)
    if not has_eef_pos(test.pairs):
        return further
    columns = transfer_columns(model, eef_probe(setting, config.probe_pairs), test, world.device)
    if (reader := obtain_reader_of(context, name)) is not None:
        eef_px = eef_in_crop(test.pairs, setting.short_side, world.image_size)
        columns |= transfer_in_picture(model, reader.model, test, eef_px, world.device)
    return further | further_metrics(ACTION_ROWS, test.pairs.manifest.table, columns, "")


# Records


def run_cell(context: Context, cell: Cell) -> CellResult:
    """One method on one corpus, out of the corpus's evaluation, which the other methods share."""
    external = external_by(context.config, cell)
    artifact = (
        obtain_external(context, external, cell.corpus)
        if external
        else obtain_evaluation(context, cell.corpus)
    )
    evaluation = json.loads((artifact.path / "evaluation.json").read_text())
    pairs = pd.read_csv(artifact.path / "pairs.csv")
    measured = method_metrics(pairs, cell.method, evaluation["protocol"])
    whole = read_further(artifact.path, cell.method)
    if cell.method == UWM.name:
        publish(context, cell.corpus, artifact.path)
    elif external:
        publish_panels(context, f"{cell.corpus}-{external.name}", artifact.path)
    return CellResult(
        measured | whole.metrics,
        write_samples(context, cell, pairs),
        evaluation["manifest_sha256"],
        evaluation["weights"],
        further_samples=write_further(context, cell, whole),
    )


def publish(context: Context, name: str, evaluation: Path) -> None:
    """Copy what figures are made of next to the records: the uses of the codes, Figure 3's tiles, curves."""
    copy_atomically(evaluation / "code_use.csv", context.out / "code_use" / f"{name}.csv")
    publish_panels(context, name, evaluation)
    publish_curves(context)


def publish_panels(context: Context, name: str, evaluation: Path) -> None:
    """Figure 3's tiles alone."""
    for path in sorted((evaluation / "panels").iterdir()):
        copy_atomically(path, context.out / "panels" / name / path.name)


def obtain_evaluation(context: Context, name: str) -> Artifact:
    """The evaluation of a corpus, as a cached stage."""
    return context.artifacts.obtain(
        evaluation_stage(context, name),
        functools.partial(evaluate, context, name),
        together=False,
        first=functools.partial(obtain_reader_of, context, name),
    )


def obtain_reader_of(context: Context, name: str) -> Trained | None:
    """What sees a robot's gripper in the pictures of a corpus; None where `read_off` asks for none."""
    config: Config = context.config
    corpus = corpus_of(context, name)
    if name in config.pretrain_on or not can_be_probed(corpus):
        return None
    return obtain_picture_reader(config.reader, Domain(context, corpus, None))


def evaluation_stage(context: Context, name: str) -> Stage:
    config: Config = context.config
    names = [method.name for method in methods(config)]
    fields: dict[str, Any] = {"corpus": name, "methods": names, "lpips": config.lpips, "seed": config.seed}
    fields |= {"probe_pairs": config.probe_pairs, "measured_by": measuring_code(evaluate)}
    fields["reader"] = identity_fields(config.reader)
    # A plan ends here where they are not there: it opens no test clips.
    weights = {method: pretrained_weights(context, recipe) for method, recipe in recipes(config).items()}
    inputs = {"manifest": test_manifest(context, name).sha256}
    for method, digests in weights.items():
        inputs |= {"mae": digests["mae"], method.name: digests["world-model"]}
    inputs["lpips"] = load_lpips(config.lpips).weights_sha256
    return Stage(f"evaluation-{name}", EXPERIMENT.version, fields, inputs)


def obtain_external(context: Context, external: ExternalMethod, name: str) -> Artifact:
    """The evaluation of a method by others on a corpus, as a cached stage."""
    return context.artifacts.obtain(
        external_stage(context, external, name),
        functools.partial(evaluate_external, context, external, name),
        together=False,
        first=functools.partial(obtain_reader_of, context, name),
    )


def external_stage(context: Context, external: ExternalMethod, name: str) -> Stage:
    config: Config = context.config
    fields = {**reads(config, Cell(external.name, name)), "corpus": name}
    fields |= {"measured_by": measuring_code(evaluate_external)}
    world = obtain_references(context)
    inputs = {"manifest": test_manifest(context, name).sha256, **world.weights}
    inputs |= build_external(context, external)[1]
    inputs["lpips"] = load_lpips(config.lpips).weights_sha256
    return Stage(f"evaluation-{name}-{external.name}", EXPERIMENT.version, plain_value(fields), inputs)


def summarize(context: Context) -> None:
    """Print Table 1 of this run, and draw Figure 3's panels as one picture per corpus."""
    records = context.records()
    for name in table_corpora(context.config.corpora, context.data):
        rows = {
            cell.method: records[cell.name].metrics
            for cell in context.cells
            if cell.corpus == name and cell.name in records and records[cell.name].status == "ok"
        }
        if rows:
            print(f"\nTable 1, {name} ({title(context, name, rows)})")
            print(table_text(rows))
    for folder in sorted((context.out / "panels").glob("*/")):
        print(f"Figure 3: {draw_tiles(folder, FIGURE3_TILES)}")


def stages(config: Config, data: Mapping[str, Path]) -> list[StageJob]:
    """The jobs of a cluster run: the trainings, then per corpus its evaluation, which its cells read."""
    jobs, others = pretrain_jobs(config, (), list(recipes(config).values())), further_trainings(config)
    jobs, trained = [*jobs, *others], tuple(job.name for job in others)
    for name in table_corpora(config.corpora, data):
        lists = list_jobs(name, data)
        before = ("pretrain", *(job.name for job in lists))
        readers = [] if name in config.pretrain_on else [reader_job(config, name, before)]
        evaluated = (*before, *trained, *(job.name for job in readers))
        jobs += [*lists, *readers, evaluation_job(name, methods(config), evaluated)]
        jobs += [external_job(external, name, (*before, *trained)) for external in external_methods(config)]
    return jobs


def further_trainings(config: Config) -> list[StageJob]:
    """Those beside the pre-training, which leaves them the MAE. Else one corpus's evaluation would train for
    all while another's waits."""
    return [
        StageJob(
            f"pretrain-{method}",
            functools.partial(obtain_pretrained, recipe=recipe),
            functools.partial(pretrain_stage, recipe=recipe),
            needs=("pretrain",),
            operations=operations_of(recipe),
            cells=(),
        )
        for method, recipe in recipes(config).items()
        if method != UWM
    ]


def reader_job(config: Config, name: str, before: tuple[str, ...]) -> StageJob:
    """What sees a robot's gripper in the pictures of a corpus, as `obtain_reader_of` asks for it."""

    def domain(context: Context) -> Domain:
        if not can_be_probed(corpus_of(context, name)):
            raise SkipCell(f"{name} has no actions in each split")
        return Domain(context, in_domain_corpus(context, name, config.reader), None)

    return replace(picture_reader_job(f"reader-{name}", config.reader, domain, *before), cells=())


def evaluation_operations(config: Config, name: str) -> float | None:
    """Of measuring a corpus's cells; None where they are not known."""
    shared = {"pretrain": config.pretrain}  # which references do not read
    read = [shared | reads(config, Cell(method.name, name)) for method in methods(config)]
    counts = [measuring_operations(fields) for fields in read]
    return None if None in counts else sum(filter(None, counts))


def evaluation_job(name: str, ours: Iterable[Method], before: tuple[str, ...]) -> StageJob:
    """The evaluation of a corpus, which this corpus's cells alone wait for."""
    return StageJob(
        f"evaluate-{name}",
        functools.partial(obtain_evaluation, name=name),
        functools.partial(evaluation_stage, name=name),
        needs=before,
        trains=False,
        cells=tuple(f"{method}/{name}" for method in ours),
        operations=lambda context: evaluation_operations(context.config, name),
    )


def external_job(external: ExternalMethod, name: str, before: tuple[str, ...]) -> StageJob:
    """The same of a method by others."""
    return StageJob(
        f"evaluate-{name}-{external.name}",
        functools.partial(obtain_external, external=external, name=name),
        functools.partial(external_stage, external=external, name=name),
        needs=before,
        trains=False,
        cells=(f"{external.name}/{name}",),
    )


EXPERIMENT = Experiment(
    name="table1",
    version=2,
    configs=CONFIGS,
    cells=cells,
    run_cell=run_cell,
    reads=reads,
    summarize=summarize,
    stages=stages,
    without_gpu=("*",),
    checks=nodes_lack,
    check_corpus=check_corpus,
    included=INCLUDED,
    description=(__doc__ or "").splitlines()[0],
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
