"""Figure 5: prediction from the robot's own actions, through an adapter to the latent ones.

Claim (sections 4.2, 5.2, eq. 13): with an action adapter p(S_t, A_GT) -> A_L as the only trained module, the
frozen world model predicts the next frame from real actions (R_GT) as it does from latent ones (R_LA). The
decoder is fine-tuned on in-domain frames, since neighbouring frames differ little. The paper shows pictures;
here all test pairs are measured, with intervals.

    python experiments/figure5.py                                    # mini: every cell and seed
    python experiments/figure5.py --only copy,r_la/*/s0,r_gt/*/s0    # the figure's columns, one seed
    python experiments/figure5.py --data lift=FILE.hdf5              # adds robomimic data with images
    python experiments/figure5.py --scale paper --data ssv2=DIR ego4d=DIR robosuite=FILE.hdf5 --submit

The world model is Figure 4's W_ft: pre-trained, then fine-tuned on 2k frame pairs. Methods: `r_la` (latent
actions, inferred from both frames); `r_gt` (adapter, all labelled pairs), `r_gt-100`, `r_gt-500`, `r_gt-2k`;
`r_gt-continuous` and so on (the adapter's other targets), `r_gt-likeliest` (the likeliest codes, not their
mean); `no-state` (adapter without state); `shuffled` (another pair's action); `direct`, `direct-100`, ...
(dynamics from real actions, from scratch); `no-action`; `ficc`, `ficc-la` (eq. 6, from real actions and from
its own latent ones); `copy`, `oracle` (R_t, R_t+1).
`X-mae-decoder` and `X-lpips-decoder` are shown by the MAE's own decoder, and by one tuned with LPIPS too;
`X-5-steps` predicts five steps (1 s) ahead, each from what the one before predicted.
Trained methods have the cells of three seeds; `first_seed_alone`, the adapter's other targets, `direct-N`,
FICC and the other decoders one. The committed records of scale mini are of the first seed alone.

Measured besides Table 1's: the moving region, a crop around the gripper, right codes, rollouts of 1 to 10
steps; how the gripper moves in the picture, as a small network sees it; and, by a linear probe, how it moves
in space, as predicted, under commands, and with latent actions of another clip. `--set fvd=r3d18`, or another
protocol of uwm/metrics/fvd.py, adds the Frechet video distance of the rollouts. These are few for it.
"""

from uwm.runs.queries import answer_early

if __name__ == "__main__":
    answer_early(__file__)  # --status and its like need no torch

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from torch import Tensor

from uwm.bounds import (
    Bounded,
    Count,
    Counts,
    Names,
    Natural,
    OutOfBounds,
    Seeds,
    SomeCounts,
    SomeNames,
    check_bounds,
    later,
)
from uwm.data.action_pairs import all_action_pairs, check_action_sizes
from uwm.data.corpora import BUNDLED, IN_DOMAIN, INCLUDED
from uwm.data.splits import Split
from uwm.env import weights_folder
from uwm.errors import UserError
from uwm.evaluation.controllability import commandable
from uwm.evaluation.eval_pairs import (
    EvalPairs,
    EvalSetting,
    RolloutSegments,
    load_eval_pairs,
    load_pairs_ahead,
    load_rollout_segments,
)
from uwm.evaluation.figures import (
    show_commands,
    show_pairs,
    show_rollouts,
    show_transfer,
    write_rollout_table,
)
from uwm.evaluation.further_metrics import FurtherMetrics
from uwm.evaluation.panels import draw_tiles, panel_rows, write_panel_rows
from uwm.evaluation.predictors import (
    Prediction,
    Predictor,
    adapter_predictor,
    as_dynamics,
    copy_predictor,
    dynamics_predictor,
    latent_action_predictor,
    oracle_predictor,
    predict_by_ficc,
    predict_pairs,
)
from uwm.evaluation.records import column, method_metrics, publish_curves, write_further, write_samples
from uwm.evaluation.robot import RobotEvaluation
from uwm.evaluation.rollouts import roll_out, rollout_fvd
from uwm.evaluation.summary import measured_rows, table_text, title
from uwm.methods import (
    AHEAD,
    COPY,
    DIRECT,
    FICC_LATENT,
    FICC_REAL,
    LPIPS_DECODER,
    MAE_DECODER,
    NO_ACTION,
    NO_STATE,
    ORACLE,
    R_GT,
    R_GT_LIKELIEST,
    R_GT_TARGETS,
    R_LA,
    SHUFFLED,
    STEPS_AHEAD,
    Method,
    Variant,
    parse,
)
from uwm.metrics.fvd import NO_FVD, ClipNetwork, FVDName, fvd_at_hand, load_fvd
from uwm.metrics.perceptual import ProtocolName, load_lpips
from uwm.models import LatentActions
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, CellResult, Context, Experiment, StageJob
from uwm.runs.jobs import shared_jobs
from uwm.stages.action_training import AS_ON_ALL, MINI_FEW_PAIRS, ActionRecipe, FewPairs, skip_where_fewer
from uwm.stages.adapter import ADAPTER, AdapterRecipe, obtain_adapter
from uwm.stages.baselines import (
    DYNAMICS,
    FICC_RECIPE,
    DynamicsRecipe,
    FICCRecipe,
    obtain_dynamics,
    obtain_ficc,
    obtain_ficc_adapter,
)
from uwm.stages.counting import measuring_operations
from uwm.stages.decoder import DECODER, DecoderRecipe, obtain_decoder
from uwm.stages.finetune import FINETUNE, Domain, FinetuneRecipe, skip_where_few
from uwm.stages.jobs import domain_job, ficc_adapter_job, finetune_job, picture_reader_job, pretrain_jobs
from uwm.stages.mae import MAE, MAERecipe
from uwm.stages.manifest_jobs import listed_first
from uwm.stages.preflight import check_all_actions, check_clips, nodes_lack
from uwm.stages.pretrained import corpus_of, in_domain_corpus, measured_corpora
from uwm.stages.reader import READER, ReaderRecipe, obtain_picture_reader
from uwm.stages.world_model import PRETRAIN, PretrainRecipe
from uwm.training.distributed import default_device
from uwm.training.objectives import derangement

PRINTED = ("lpips_to_next", "lpips_region", "lpips_hand", "psnr_hand", "code_accuracy", "hand_error_px")
TILES = ("o_t", "o_next", R_LA.name, R_GT.name)
WITH_ROLLOUTS = (COPY, ORACLE, R_LA, R_GT, DIRECT, NO_ACTION, NO_STATE)
WITH_STEPS = (R_LA, R_GT, SHUFFLED, NO_STATE, DIRECT, NO_ACTION)  # measured some steps ahead too
COMMANDED = (R_GT, DIRECT, NO_STATE)
PUBLISHED = (R_GT, DIRECT, NO_ACTION, FICC_REAL)  # whose training curves of the first seed are kept


@dataclass(frozen=True)
class Config(Bounded):
    """Everything that changes a number of Figure 5. The defaults are the paper's models where it says."""

    corpora: Names = ("robosuite",)  # in-domain, with actions; those of --data are added
    pretrain_on: SomeNames = ("ssv2", "ego4d")
    mae: MAERecipe = MAE["paper"]
    pretrain: PretrainRecipe = PRETRAIN["paper"]
    finetune: FinetuneRecipe = FINETUNE["paper"]
    adapter: AdapterRecipe = ADAPTER["paper"]
    decoder: DecoderRecipe = DECODER["paper"]
    dynamics: DynamicsRecipe = DYNAMICS["paper"]
    ficc: FICCRecipe = FICC_RECIPE["paper"]
    reader: ReaderRecipe = READER["paper"]  # sees where the gripper is
    curve: Counts = (100, 500, 2000)  # further numbers of labelled pairs
    few: FewPairs = AS_ON_ALL  # how these few are trained on
    seeds: Seeds = (0, 1, 2)
    first_seed_alone: Names = ()  # methods that have no other
    test_split: Split = "test"
    test_pairs: Count = 1000
    test_seed: Natural = 0
    probe_pairs: Count = 2000  # training pairs that linear probes are fitted to
    horizon: Count = 10  # steps of a rollout
    rollouts: Count = 60  # at most, evenly over the test clips
    panel_steps: SomeCounts = (1, 2, 4, 7, 10)  # of a rollout, shown as panels
    lpips: ProtocolName = "alex"
    fvd: FVDName = later(NO_FVD)  # of the rollouts, which are few for it

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in ("adapter", "dynamics"):  # both are made to the world model's measure, after its training
            try:
                getattr(self, name).model.check(self.pretrain.model)
            except OutOfBounds as error:
                raise OutOfBounds(f"{name}.model: {error}") from error
        if (most := max(self.panel_steps)) > self.horizon:
            raise OutOfBounds(f"panel_steps go to {most}, beyond the horizon of {self.horizon} steps")


CONFIGS = {
    "smoke": Config(
        corpora=(IN_DOMAIN,),
        pretrain_on=BUNDLED[:1],
        mae=MAE["smoke"],
        pretrain=PRETRAIN["smoke-high-rate"],
        finetune=FINETUNE["smoke"],
        adapter=ADAPTER["smoke"],
        decoder=DECODER["smoke"],
        dynamics=DYNAMICS["smoke"],
        ficc=FICC_RECIPE["smoke"],
        reader=READER["smoke"],
        curve=(8,),
        seeds=(0,),
        test_pairs=12,
        probe_pairs=12,
        horizon=2,
        rollouts=4,
        panel_steps=(1, 2),
    ),
    "mini": Config(
        corpora=(IN_DOMAIN,),
        pretrain_on=BUNDLED,
        mae=MAE["mini"],
        pretrain=PRETRAIN["mini"],
        finetune=FINETUNE["mini"],
        adapter=ADAPTER["mini"],
        decoder=DECODER["mini"],
        dynamics=DYNAMICS["mini"],
        ficc=FICC_RECIPE["mini"],
        reader=READER["mini"],
        few=MINI_FEW_PAIRS,
        first_seed_alone=(NO_STATE.name, NO_ACTION.name, R_GT.with_pairs(100), R_GT.with_pairs(2000)),
    ),
    "small": Config(
        pretrain_on=("ssv2",),
        pretrain=PRETRAIN["small"],
        finetune=FINETUNE["small"],
        adapter=ADAPTER["small"],
        decoder=DECODER["small"],
        dynamics=DYNAMICS["small"],
        ficc=FICC_RECIPE["small"],
        reader=READER["small"],
    ),
    "paper": Config(),
}


# Methods: what each of them trains

R = TypeVar("R", bound=ActionRecipe)


def adapters(config: Config) -> dict[str, AdapterRecipe]:
    """The adapters of the methods that have one."""
    recipe = config.adapter
    return {
        R_GT.name: recipe,
        NO_STATE.name: with_network(recipe, use_state=False),
        **other_adapters(recipe),
        **on_few(config, R_GT, recipe),
        SHUFFLED.name: recipe,  # not next to r_gt: of two processes one would wait for the other's training
    }


def other_adapters(recipe: AdapterRecipe) -> dict[str, AdapterRecipe]:
    """The adapter with other targets, and with the likeliest code in place of the codes' mean."""
    plain = with_network(recipe, decode="likeliest")
    variants = {
        method.name: with_network(plain, target=target)
        for target, method in R_GT_TARGETS.items()
        if target != recipe.model.target
    }
    return variants if plain == recipe else {R_GT_LIKELIEST.name: plain, **variants}


def with_network(recipe: AdapterRecipe, **changes: Any) -> AdapterRecipe:
    """The recipe with another network or target."""
    return replace(recipe, model=replace(recipe.model, **changes))


def dynamics(config: Config) -> dict[str, DynamicsRecipe]:
    """The dynamics without latent actions."""
    recipe = config.dynamics
    return {
        DIRECT.name: recipe,
        NO_ACTION.name: replace(recipe, kind="no-action"),
        **on_few(config, DIRECT, recipe),
    }


def on_few(config: Config, method: Method, recipe: R) -> dict[str, R]:
    """The method trained on each of the config's numbers of labelled pairs, by the name of its cells."""
    return {method.with_pairs(pairs): recipe.with_pairs(pairs, config.few) for pairs in config.curve}


@lru_cache(maxsize=4)
def recipes(config: Config) -> Mapping[str, AdapterRecipe | DynamicsRecipe | FICCRecipe]:
    """The methods that are trained, beside the world model. A plan asks for each cell's several times."""
    ficc = dict.fromkeys(names((FICC_REAL, FICC_LATENT)), config.ficc)
    return {**adapters(config), **dynamics(config), **ficc}


def own_recipe(config: Config, cell: Cell) -> AdapterRecipe | DynamicsRecipe | FICCRecipe | None:
    """What the cell's method is trained by, beside the world model; None where it needs no more."""
    recipe = recipes(config).get(parse(cell.method).base)
    return None if recipe is None else recipe.seeded(cell.seed)


def finetuned(config: Config, cell: Cell) -> FinetuneRecipe | None:
    """The fine-tuning of the world model, for a method that predicts by one."""
    if cell.seed is None or isinstance(own_recipe(config, cell), DynamicsRecipe | FICCRecipe):
        return None
    return config.finetune.seeded(cell.seed)


def decoder(config: Config, variant: Variant | None) -> DecoderRecipe | None:
    """What shows the states of a method's variant; None: the MAE's own decoder."""
    if variant == LPIPS_DECODER:
        return replace(config.decoder, objective="mse+lpips", lpips=config.lpips)
    return None if variant == MAE_DECODER else config.decoder


# Cells


def seeds(config: Config) -> dict[str, tuple[int, ...]]:
    """The seeds of each trained method: all, or for what is beside the paper's point the first."""
    by_method = dict.fromkeys([R_LA.name, *adapters(config), *dynamics(config)], config.seeds)
    once = [*other_adapters(config.adapter)]
    once += [DIRECT.with_pairs(pairs) for pairs in config.curve]
    once += [FICC_REAL.name, FICC_LATENT.name]
    once += [*config.first_seed_alone]
    once += [method.variant(end) for end in (MAE_DECODER, LPIPS_DECODER) for method in (R_LA, R_GT)]
    by_method |= dict.fromkeys(once, config.seeds[:1])
    return by_method | {method.variant(AHEAD): by_method[method.name] for method in WITH_STEPS}


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    """Methods x corpora x seeds."""
    variants = (None, MAE_DECODER, LPIPS_DECODER, AHEAD)
    fixed = [method.variant(end) for end in variants for method in (COPY, ORACLE)]
    listed, trained = [], seeds(config)
    for name in measured_corpora(config, data):
        listed += [Cell(method, name) for method in fixed]
        # Seed by seed: cells that follow each other in a process share states and latent actions.
        for seed in config.seeds:
            listed += [Cell(method, name, seed) for method in trained if seed in trained[method]]
    return listed


def reads(config: Config, cell: Cell) -> dict[str, Any]:
    """What of the config changes a cell's numbers: its own recipes, not those of other methods."""
    parsed, fields = parse(cell.method), ("mae", "pretrain_on", "pretrain", "test_split", "test_pairs")
    read = {name: getattr(config, name) for name in (*fields, "test_seed", "probe_pairs", "lpips")}
    read |= {"gap": config.adapter.gap, "short_side": config.adapter.short_side}
    read |= {"decoder": decoder(config, parsed.variant), "reader": config.reader}
    tuned = finetuned(config, cell)
    if tuned is not None:
        read["finetune"] = tuned
    if cell.method in names(WITH_ROLLOUTS):
        read |= {"horizon": config.horizon, "rollouts": config.rollouts}
        if config.fvd != NO_FVD:
            read["fvd"] = config.fvd
    recipe = own_recipe(config, cell)
    fields_of = {AdapterRecipe: "adapter", DynamicsRecipe: "dynamics", FICCRecipe: "ficc"}
    if recipe is not None:
        read[fields_of[type(recipe)]] = recipe
    if parsed.method == FICC_REAL:
        read["adapter"] = config.adapter.seeded(cell.seed)
    return read


def names(methods: Iterable[Method]) -> list[str]:
    """Of methods themselves, without their variants."""
    return [method.name for method in methods]


# Predictions


def domain_of(context: Context, cell: Cell) -> Domain:
    """The cell's corpus, with the fine-tuned world model of its seed where it predicts by one, or else the
    pre-trained one.

    Raises:
        SkipCell: a recipe of the cell wants more pairs than there are.
        UserError: the corpus has no actions.
    """
    config: Config = context.config
    corpus = in_domain_corpus(context, cell.corpus, config.adapter)
    short = parse(cell.method).short_pairs
    skip_where_fewer(replace(config.adapter, pairs=None), corpus, "adapter.pairs")  # has it actions?
    for name, recipe in reads(config, cell).items():
        if isinstance(recipe, FinetuneRecipe):
            skip_where_few(recipe, corpus, f"{name}.pairs")
        elif isinstance(recipe, ActionRecipe) and not isinstance(recipe, ReaderRecipe):
            on_curve = short and name in ("adapter", "dynamics")
            skip_where_fewer(recipe, corpus, "curve" if on_curve else f"{name}.pairs")
    return Domain(context, corpus, finetuned(config, cell))


def evaluation_of(domain: Domain, cell: Cell) -> RobotEvaluation:
    """What measures the cell: its world, the decoder of its variant, LPIPS. `copy` and `oracle` need the MAE
    alone."""
    config: Config = domain.context.config
    recipe, world = decoder(config, parse(cell.method).variant), domain.world
    decoding = world if recipe is None else obtain_decoder(recipe, domain)
    setting = EvalSetting(domain.encoder, domain.corpus, config.adapter.short_side, config.adapter.gap)
    network = load_lpips(config.lpips).to(world.device)
    reader = obtain_picture_reader(config.reader, domain)
    state_reader = reader.model if reader else None
    return RobotEvaluation(setting, world, decoding, network, config.probe_pairs, state_reader)


def test_pairs(
    config: Config, cell: Cell, evaluation: RobotEvaluation
) -> tuple[EvalPairs, RolloutSegments | None]:
    """The frozen test pairs, with the single steps where there are several. Their actions are like those of
    the training pairs."""
    setting, choice = evaluation.setting, (config.test_pairs, config.test_seed)
    if parse(cell.method).variant == AHEAD:
        test, segments = load_pairs_ahead(setting, config.test_split, STEPS_AHEAD, *choice)
    else:
        test, segments = load_eval_pairs(setting, config.test_split, *choice), None
    known = all_action_pairs(setting.corpus, config.adapter.gap, config.adapter.clips).actions
    check_action_sizes((segments.pairs if segments else test).pairs, *known.actions.shape[1:])
    return test, segments


def obtain_predictor(domain: Domain, cell: Cell) -> Predictor:
    """How the cell's method predicts: cached, or trained now."""
    recipe, method = own_recipe(domain.context.config, cell), parse(cell.method).method
    if method in (COPY, ORACLE):
        return copy_predictor if method == COPY else oracle_predictor
    world = domain.world
    if method == R_LA:
        return latent_action_predictor(world.world_model)
    if isinstance(recipe, DynamicsRecipe):
        return dynamics_predictor(obtain_dynamics(recipe, domain).model)
    assert isinstance(recipe, AdapterRecipe)
    return adapter_predictor(world.world_model, obtain_adapter(recipe, domain).model)


def predict_by_frames(domain: Domain, cell: Cell, test: EvalPairs) -> tuple[Prediction, LatentActions | None]:
    """FICC's predictions; where it reads the robot's actions, its own latent actions too."""
    config: Config = domain.context.config
    recipe = config.ficc.seeded(cell.seed)
    ficc, adapter = obtain_ficc(recipe, domain).model, None
    if cell.method == FICC_REAL.name:
        adapter = obtain_ficc_adapter(config.adapter.seeded(cell.seed), recipe, domain).model
    predicted, latents = predict_by_ficc(ficc, adapter, domain.world, test)
    return predicted, latents if adapter else None


def others(cell: Cell, count: int) -> Tensor | None:
    """Which of the pairs each gets its action from, where not its own."""
    shuffled = parse(cell.method).method == SHUFFLED
    return derangement(count, torch.Generator().manual_seed(0)) if shuffled else None


# Measures


def run_cell(context: Context, cell: Cell) -> CellResult:
    """Train, or find, what the cell needs, and measure its predictions of the test pairs."""
    config: Config = context.config
    domain, method = domain_of(context, cell), parse(cell.method).method
    evaluation = evaluation_of(domain, cell)
    test, segments = test_pairs(config, cell, evaluation)
    network = fvd_network(config, cell)
    predictor: Predictor | None = None
    target: LatentActions | None = None
    further = FurtherMetrics()
    if method in (FICC_REAL, FICC_LATENT):
        predicted, target = predict_by_frames(domain, cell, test)
    else:
        predictor, other = obtain_predictor(domain, cell), others(cell, len(test.images))
        if segments:
            predicted = Prediction(roll_out(predictor, segments, evaluation.device, other)[:, -1])
        else:
            predicted = predict_pairs(predictor, test, evaluation.device, other)
            if predicted.latents is not None and method != R_LA:
                target = evaluation.latent_actions(test)
            further = further_metrics_of(context, cell, evaluation, predictor, test)
    pairs, frames = evaluation.measure(test, column(cell), predicted, target)
    measured = method_metrics(pairs, column(cell), evaluation.network.protocol)
    if predictor and cell.method in TILES and cell.seed == config.seeds[0]:
        write_panels(context, cell, evaluation, predictor, pairs, test, frames)
    if cell.method in names(PUBLISHED) and cell.seed == config.seeds[0]:
        publish_curves(context)
    return CellResult(
        measured | further.metrics,
        write_samples(context, cell, pairs),
        test.pairs.manifest.sha256,
        {**evaluation.weights, **({"fvd": network.weights_sha256} if network else {})},
        further_samples=write_further(context, cell, further),
    )


def further_metrics_of(
    context: Context, cell: Cell, evaluation: RobotEvaluation, predictor: Predictor, test: EvalPairs
) -> FurtherMetrics:
    """Rollouts, commands, transfer and the reverse probe, for the methods that each is about."""
    further = FurtherMetrics()
    if cell.method in names(WITH_ROLLOUTS):
        further |= rollouts(context, cell, evaluation, predictor)
    if cell.method == R_LA.name:
        further |= evaluation.real_actions(predictor, test)
    if commandable(test.pairs) and cell.method == R_LA.name:
        further |= evaluation.transfer(test)
    if commandable(test.pairs) and cell.method in names(COMMANDED):
        further |= evaluation.commands(predictor, test)
    return further


def rollouts(
    context: Context, cell: Cell, evaluation: RobotEvaluation, predictor: Predictor
) -> FurtherMetrics:
    """Errors 1 to `horizon` steps ahead; the adapter's first seed leaves pictures and animations too."""
    config: Config = context.config
    most = config.horizon, config.rollouts
    segments = load_rollout_segments(evaluation.setting, config.test_split, *most)
    states = roll_out(predictor, segments, evaluation.device)
    if cell.method == R_GT.name and cell.seed == config.seeds[0]:
        inferred = latent_action_predictor(evaluation.world.world_model)
        both = {R_LA.name: roll_out(inferred, segments, evaluation.device), R_GT.name: states}
        show_rollouts(both, segments, evaluation.decoder, config.panel_steps, context.out, cell.corpus)
    further, network = evaluation.rollouts(segments, states), fvd_network(config, cell)
    if network is not None:
        further |= FurtherMetrics(rollout_fvd(network, evaluation.decoder, segments, states))
    return further


def fvd_network(config: Config, cell: Cell) -> ClipNetwork | None:
    """What sees a cell's rollouts as clips; None where that isn't asked for."""
    if config.fvd == NO_FVD or cell.method not in names(WITH_ROLLOUTS):
        return None
    return load_fvd(config.fvd).to(default_device())


# Files


def write_panels(
    context: Context,
    cell: Cell,
    evaluation: RobotEvaluation,
    predictor: Predictor,
    pairs: pd.DataFrame,
    test: EvalPairs,
    frames: Tensor,
) -> None:
    """The cell's column of Figure 5, and what its actions do elsewhere."""
    folder, rows = context.out / "panels" / cell.corpus, panel_rows(pairs)
    show_pairs(cell.method, test, frames, rows, evaluation.setting.short_side, folder)
    write_panel_rows(pairs, rows, folder)
    if not commandable(test.pairs):
        return
    if cell.method == R_GT.name:
        commands = folder.with_name(f"{cell.corpus}-commands")
        show_commands(as_dynamics(predictor), test, rows, evaluation.decoder, commands)
    else:
        show_transfer(test, rows, evaluation.decoder, folder.with_name(f"{cell.corpus}-transfer"))


def check_corpus(context: Context, name: str) -> None:
    """UserError where a corpus has no test clip that can be read, or no actions."""
    corpus = corpus_of(context, name)
    check_clips(corpus, context.config.test_split, context.config.adapter.gap)
    check_all_actions(corpus)


def lacking(context: Context) -> Iterator[str]:
    """As `nodes_lack`, and likewise for the network of an FVD."""
    yield from nodes_lack(context)
    fvd = context.config.fvd
    if fvd == NO_FVD or fvd_at_hand(fvd, weights_folder()):
        return
    text = f"no weights of FVD ({fvd}) in UWM_WEIGHTS or torch's cache: without internet it is fvd-random"
    if context.scale in ("small", "paper"):
        raise UserError(text)
    yield text


def fvd_line(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The distances of rollouts, where they were measured; else empty."""
    measured = {row: metrics["fvd"] for row, metrics in rows.items() if "fvd" in metrics}
    texts = [f"{row} {x['value']:.1f} ({x['protocol']}, {x['n']} clips)" for row, x in measured.items()]
    return f"FVD of rollouts: {', '.join(texts)}" if texts else ""


def summarize(context: Context) -> None:
    """Print the numbers of this run, write `rollouts/<corpus>.csv`, and draw each panel as one picture."""
    config: Config = context.config
    for name in measured_corpora(config, context.data):
        rows = measured_rows(context, name)
        if rows:
            print(f"\nFigure 5, {name} ({title(context, name, rows)})")
            print(*filter(None, (table_text(rows, PRINTED), fvd_line(rows))), sep="\n")
        write_rollout_table(rows, config.horizon, context.out / "rollouts" / f"{name}.csv")
        picture = draw_tiles(context.out / "panels" / name, TILES)
        if picture:
            print(f"Figure 5: {picture}")


# Jobs of a cluster run


def stages(config: Config, data: Mapping[str, Path]) -> list[StageJob]:
    """The trainings of a cluster run; cells then find them."""
    return shared_jobs(cells(config, data), listed_first(partial(needs, config), data))


def needs(config: Config, cell: Cell) -> Iterator[StageJob]:
    """The trainings behind a cell, each after those that it needs itself."""
    yield from pretrain_jobs(config)
    parsed, suffix = parse(cell.method), f"{cell.corpus}-s{cell.seed}"
    unseeded = partial(domain_of, cell=replace(cell, method=COPY.name, seed=None))
    recipe = decoder(config, parsed.variant)
    if recipe is not None:  # the same for all seeds, for it needs the MAE alone
        name = "decoder-lpips" if recipe.objective == "mse+lpips" else "decoder"
        yield domain_job(f"{name}-{cell.corpus}", recipe, unseeded, "pretrain")
    yield picture_reader_job(f"reader-{cell.corpus}", config.reader, unseeded, "pretrain")
    if cell.seed is None:
        return
    tuned, before = finetuned(config, cell), "pretrain"
    if tuned is not None:
        before = f"finetune-{suffix}"
        yield finetune_job(before, tuned, partial(domain_of, cell=cell))
    cell_recipe, base = own_recipe(config, cell), parsed.base
    if isinstance(cell_recipe, AdapterRecipe):
        base = f"adapter-{R_GT if parsed.method == SHUFFLED else base}"
    elif isinstance(cell_recipe, FICCRecipe):
        base = "ficc"
    domain = partial(domain_of, cell=cell)
    if cell_recipe is not None:
        yield domain_job(f"{base}-{suffix}", cell_recipe, domain, before)
    if isinstance(cell_recipe, FICCRecipe) and parsed.method == FICC_REAL:
        fitted = config.adapter.seeded(cell.seed)
        yield ficc_adapter_job(f"adapter-ficc-{suffix}", fitted, cell_recipe, domain, f"ficc-{suffix}")


EXPERIMENT = Experiment(
    name="figure5",
    version=2,
    configs=CONFIGS,
    cells=cells,
    run_cell=run_cell,
    reads=reads,
    summarize=summarize,
    stages=stages,
    operations=measuring_operations,
    checks=lacking,
    check_corpus=check_corpus,
    check_cell=domain_of,
    included=INCLUDED,
    description=(__doc__ or "").splitlines()[0],
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
