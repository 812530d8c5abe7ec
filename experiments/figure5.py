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
`r_gt-continuous` and so on (the adapter's other targets); `no-state` (adapter without state); `shuffled`
(another pair's action); `direct`, `direct-100`, ... (dynamics from real actions, from scratch); `no-action`;
`ficc`, `ficc-la` (eq. 6, from real actions and from its own latent ones); `copy`, `oracle` (R_t, R_t+1).
`X-mae-decoder` and `X-lpips-decoder` are shown by the MAE's own decoder, and by one tuned with LPIPS too;
`X-5-steps` predicts five steps (1 s) ahead, each from what the one before predicted.
Trained methods have three seeds; the adapter's other targets, `direct-N`, FICC and the other decoders one.

Measured besides Table 1's: the moving region, a crop around the gripper, right codes, rollouts of 1 to 10
steps, and the gripper's displacement (by a linear probe) as predicted, under commands, and with latent
actions of another clip.
"""

from uwm.runs.asking import answer_early

if __name__ == "__main__":
    answer_early(__file__)  # --status and its like need no torch

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd
import torch
from torch import Tensor

from uwm.bounds import Bounded, Count, Counts, Names, Natural, Seeds, SomeCounts, SomeNames
from uwm.data.action_pairs import all_action_pairs, check_action_sizes
from uwm.data.corpora import BUNDLED, IN_DOMAIN
from uwm.data.splits import Split
from uwm.evaluation.controllability import command_metrics, commandable
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
from uwm.evaluation.gripper import gripper_measures, gripper_places, places_known
from uwm.evaluation.measure import FramePairs, Measuring, frame_distances, measure_pairs, region_distances
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
    predict_pairs,
)
from uwm.evaluation.probes import eef_errors, eef_probe, has_eef_pos, latent_measures, probe_real_actions
from uwm.evaluation.records import column, estimate, method_metrics, publish_curves, write_samples
from uwm.evaluation.rollouts import roll_out, rollout_measures
from uwm.evaluation.summary import measured_rows, protocol_of, table_text
from uwm.evaluation.transfer import transfer_metrics
from uwm.methods import (
    AHEAD,
    COPY,
    DIRECT,
    FICC,
    FICC_LATENT,
    LPIPS_DECODER,
    MAE_DECODER,
    NO_ACTION,
    NO_STATE,
    ORACLE,
    R_GT,
    R_GT_TARGETS,
    R_LA,
    SHUFFLED,
    STEPS_AHEAD,
    Variant,
    parse,
)
from uwm.metrics.perceptual import LPIPS, ProtocolName, load_lpips
from uwm.models.world import World
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, CellResult, Context, Estimate, Experiment, SkipCell, StageJob
from uwm.stages.adapter import ADAPTER, AdapterRecipe, obtain_adapter
from uwm.stages.baselines import (
    DYNAMICS,
    FICC_RECIPE,
    DynamicsRecipe,
    FICCRecipe,
    ficc_frames,
    obtain_dynamics,
    obtain_ficc,
    obtain_ficc_adapter,
)
from uwm.stages.decoder import DECODER, DecoderRecipe, obtain_decoder
from uwm.stages.finetune import FINETUNE, Domain, FinetuneRecipe, measured_corpora
from uwm.stages.mae import MAE, MAERecipe
from uwm.stages.preflight import nodes_lack
from uwm.stages.pretrained import corpus_of, pretrain_job
from uwm.stages.world_model import PRETRAIN, PretrainRecipe
from uwm.training.distributed import default_device, environment_ranks
from uwm.training.objectives import derangement

SHOWN = ("lpips_to_next", "lpips_region", "lpips_hand", "psnr_hand", "code_accuracy", "hand_error_mm")
TILES = ("o_t", "o_next", R_LA.name, R_GT.name)
ROLLED = (COPY, ORACLE, R_LA, R_GT, DIRECT, NO_ACTION, NO_STATE)
WITH_STEPS = (R_LA, R_GT, SHUFFLED, NO_STATE, DIRECT, NO_ACTION)  # measured some steps ahead too
COMMANDED = (R_GT, DIRECT, NO_STATE)
PUBLISHED = (R_GT, DIRECT, NO_ACTION, FICC)  # whose training curves of the first seed are kept
R = TypeVar("R", FinetuneRecipe, AdapterRecipe, DynamicsRecipe, FICCRecipe)


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
    curve: Counts = (100, 500, 2000)  # further numbers of labelled pairs
    seeds: Seeds = (0, 1, 2)
    test_split: Split = "test"
    test_pairs: Count = 1000
    test_seed: Natural = 0
    probe_pairs: Count = 2000  # training pairs that linear probes are fitted to
    horizon: Count = 10  # steps of a rollout
    rollouts: Count = 60  # at most, evenly over the test clips
    panel_steps: SomeCounts = (1, 2, 4, 7, 10)  # of a rollout, shown as panels
    lpips: ProtocolName = "alex"


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
        pretrain=PRETRAIN["mini-1960"],
        finetune=FINETUNE["mini"],
        adapter=ADAPTER["mini"],
        decoder=DECODER["mini"],
        dynamics=DYNAMICS["mini"],
        ficc=FICC_RECIPE["mini"],
    ),
    "paper": Config(),
}


# Cells


def adapters(config: Config) -> dict[str, AdapterRecipe]:
    """The adapters of the methods that have one."""
    recipe = config.adapter
    others = {target: method for target, method in R_GT_TARGETS.items() if target != recipe.model.target}
    return {
        R_GT.name: recipe,
        NO_STATE.name: with_network(recipe, use_state=False),
        **{method.name: with_network(recipe, target=target) for target, method in others.items()},
        **{R_GT.with_pairs(pairs): replace(recipe, pairs=pairs) for pairs in config.curve},
        SHUFFLED.name: recipe,  # not next to r_gt: of two processes one would wait for the other's training
    }


def with_network(recipe: AdapterRecipe, **changes: Any) -> AdapterRecipe:
    """The recipe with another network or target."""
    return replace(recipe, model=replace(recipe.model, **changes))


def dynamics(config: Config) -> dict[str, DynamicsRecipe]:
    """The dynamics without latent actions."""
    recipe = config.dynamics
    return {
        DIRECT.name: recipe,
        NO_ACTION.name: replace(recipe, kind="no-action"),
        **{DIRECT.with_pairs(pairs): replace(recipe, pairs=pairs) for pairs in config.curve},
    }


def decoder(config: Config, variant: Variant | None) -> DecoderRecipe | None:
    """What shows the states of a method's variant; None: the MAE's own decoder."""
    if variant == LPIPS_DECODER:
        return replace(config.decoder, objective="mse+lpips", lpips=config.lpips)
    return None if variant == MAE_DECODER else config.decoder


def seeds(config: Config) -> dict[str, tuple[int, ...]]:
    """The seeds of each trained method: all, or for what is beside the paper's point the first."""
    found = dict.fromkeys([R_LA.name, *adapters(config), *dynamics(config)], config.seeds)
    once = [method.name for target, method in R_GT_TARGETS.items() if target != config.adapter.model.target]
    once += [DIRECT.with_pairs(pairs) for pairs in config.curve]
    once += [FICC.name, FICC_LATENT.name]
    once += [method.variant(end) for end in (MAE_DECODER, LPIPS_DECODER) for method in (R_LA, R_GT)]
    found |= dict.fromkeys(once, config.seeds[:1])
    return found | {method.variant(AHEAD): found[method.name] for method in WITH_STEPS}


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    """Methods x corpora x seeds."""
    variants = (None, MAE_DECODER, LPIPS_DECODER, AHEAD)
    fixed = [method.variant(end) for end in variants for method in (COPY, ORACLE)]
    found, trained = [], seeds(config)
    for name in measured_corpora(config, data):
        found += [Cell(method, name) for method in fixed]
        # Seed by seed: cells that follow each other in a process share states and latent actions.
        for seed in config.seeds:
            found += [Cell(method, name, seed) for method in trained if seed in trained[method]]
    return found


def reads(config: Config, cell: Cell) -> dict[str, Any]:
    """What of the config changes a cell's numbers: its own recipes, not those of other methods."""
    parsed, fields = parse(cell.method), ("mae", "pretrain_on", "pretrain", "test_split", "test_pairs")
    found = {name: getattr(config, name) for name in (*fields, "test_seed", "probe_pairs", "lpips")}
    found |= {"gap": config.adapter.gap, "short_side": config.adapter.short_side}
    found["decoder"] = decoder(config, parsed.variant)
    if cell.seed is not None:
        found["finetune"] = seeded(config.finetune, cell.seed)
    if parsed.method in ROLLED and not parsed.variant and not parsed.short_pairs:
        found |= {"horizon": config.horizon, "rollouts": config.rollouts}
    base = base_name(cell.method)
    if base in dynamics(config):
        found["dynamics"] = seeded(dynamics(config)[base], cell.seed)
    elif parsed.method in (FICC, FICC_LATENT):
        found["ficc"] = seeded(config.ficc, cell.seed)
    if base in adapters(config) or parsed.method == FICC:
        found["adapter"] = seeded(adapters(config).get(base, config.adapter), cell.seed)
    return found


def base_name(method: str) -> str:
    """The name without the variant: of `r_gt-500-5-steps`, `r_gt-500`."""
    parsed = parse(method)
    return method.removesuffix(f"-{parsed.variant.suffix}") if parsed.variant else method


# What a cell works with


class CellModels(NamedTuple):
    """The trained parts of a cell: `domain.world` predicts `steps` states, `shown` decodes them.

    `method` is the cell's without its variant.
    """

    method: str
    steps: int
    domain: Domain
    shown: World
    setting: EvalSetting
    device: torch.device

    @property
    def world(self) -> World:
        """The world model, and the MAE whose states it predicts."""
        return self.domain.world


def prepare(context: Context, cell: Cell) -> CellModels:
    """The trained parts of a cell. `copy` and `oracle` need the MAE alone."""
    config: Config = context.config
    finetuned = None if cell.seed is None else seeded(config.finetune, cell.seed)
    domain = Domain(context, corpus_of(context, cell.corpus), finetuned)
    variant = parse(cell.method).variant
    recipe = decoder(config, variant)
    shown = domain.world if recipe is None else obtain_decoder(recipe, domain)
    device = default_device(environment_ranks())
    domain.world.to(device)
    steps = STEPS_AHEAD if variant == AHEAD else 1
    setting = EvalSetting(domain.encoder, domain.corpus, config.adapter.short_side, config.adapter.gap)
    return CellModels(base_name(cell.method), steps, domain, shown.to(device), setting, device)


def obtain_predictor(context: Context, cell: Cell, models: CellModels) -> Predictor:
    """How the cell's method predicts: cached, or trained now."""
    config, method, domain = context.config, models.method, models.domain
    world_model = domain.world.world_model
    if method in (COPY.name, ORACLE.name):
        return copy_predictor if method == COPY.name else oracle_predictor
    if method == R_LA.name:
        return latent_action_predictor(world_model)
    if method in dynamics(config):
        trained = obtain_dynamics(seeded(dynamics(config)[method], cell.seed), domain)
        return dynamics_predictor(trained.model.to(models.device))
    adapter = obtain_adapter(seeded(adapters(config)[method], cell.seed), domain)
    return adapter_predictor(world_model, adapter.model.to(models.device))


def predict_by_ficc(
    context: Context, cell: Cell, models: CellModels, test: EvalPairs
) -> tuple[Prediction, dict[str, Tensor]]:
    """FICC's frames as the MAE sees and shows them, like all others; and how right its codes are."""
    config, domain = context.config, models.domain
    recipe = seeded(config.ficc, cell.seed)
    ficc, adapter = obtain_ficc(recipe, domain), None
    if cell.method == FICC.name:
        fitted = obtain_ficc_adapter(seeded(config.adapter, cell.seed), recipe, domain)
        adapter = fitted.model.to(models.device)
    frames, used, own = ficc_frames(ficc.model.to(models.device), adapter, test.images, *test.controls)
    state = torch.cat([models.world.encode(part) for part in frames.mul(255).round().byte().split(64)])
    return Prediction(state), latent_measures(used, own) if adapter else {}


def seeded(recipe: R, seed: int | None) -> R:
    """The recipe with the cell's seed, 0 for a cell without."""
    return replace(recipe, train=replace(recipe.train, seed=seed or 0))


# Measures


def run_cell(context: Context, cell: Cell) -> CellResult:
    """Train, or find, what the cell needs, and measure its predictions of the test pairs."""
    config: Config = context.config
    refuse_small(context, cell)
    models = prepare(context, cell)
    network = load_lpips(config.lpips).to(models.device)
    test, segments = test_pairs(context, models)
    predictor: Predictor | None = None
    right: dict[str, Tensor] = {}
    further: dict[str, Estimate] = {}
    if parse(cell.method).method in (FICC, FICC_LATENT):
        predicted, right = predict_by_ficc(context, cell, models, test)
    elif segments:
        rolled = roll_out(
            obtain_predictor(context, cell, models), segments, models.device, others(models, test)
        )
        predicted = Prediction(rolled[:, -1])
    else:
        predictor = obtain_predictor(context, cell, models)
        predicted, right = predict_states(models, predictor, test)
        further = beyond_frames(context, cell, models, network, predictor, test)
    pairs, shown = measure(context, cell, models, network, test, predicted, right)
    measured = method_metrics(pairs, column(cell), network.protocol)
    write_panels(context, cell, models, predictor, pairs, test, shown)
    if cell.method in [method.name for method in PUBLISHED] and cell.seed == config.seeds[0]:
        publish_curves(context)
    weights = {**models.shown.weights, "lpips": network.weights_sha256}
    samples = write_samples(context, cell, pairs)
    return CellResult(measured | further, samples, test.pairs.manifest.sha256, weights)


def refuse_small(context: Context, cell: Cell) -> None:
    """Skip a cell that wants more labelled pairs than there are. UserError for a corpus without actions."""
    recipe = {**adapters(context.config), **dynamics(context.config)}.get(cell.method, context.config.adapter)
    there = len(all_action_pairs(corpus_of(context, cell.corpus), recipe.gap, recipe.clips))
    if recipe.pairs is not None and recipe.pairs > there:
        raise SkipCell(f"{cell.corpus} has {there} labelled pairs, fewer than {recipe.pairs}")


def test_pairs(context: Context, models: CellModels) -> tuple[EvalPairs, RolloutSegments | None]:
    """The frozen test pairs, with the single steps where there are several. Their actions are like those of
    the training pairs."""
    config: Config = context.config
    choice = config.test_pairs, config.test_seed
    if models.steps == 1:
        test, segments = load_eval_pairs(models.setting, config.test_split, *choice), None
    else:
        test, segments = load_pairs_ahead(models.setting, config.test_split, models.steps, *choice)
    known = all_action_pairs(models.domain.corpus, config.adapter.gap, config.adapter.clips).actions
    check_action_sizes((segments.pairs if segments else test).pairs, *known.actions.shape[1:])
    return test, segments


def predict_states(
    models: CellModels, predictor: Predictor, test: EvalPairs
) -> tuple[Prediction, dict[str, Tensor]]:
    """The method's predictions, and how right its latent actions are."""
    predicted = predict_pairs(predictor, test, models.device, others(models, test))
    if predicted.latents is None or models.method == R_LA.name:
        return predicted, {}
    wanted = predict_pairs(latent_action_predictor(models.world.world_model), test, models.device).latents
    assert wanted is not None
    return predicted, latent_measures(predicted.latents, wanted)


def others(models: CellModels, test: EvalPairs) -> Tensor | None:
    """The pairs whose actions the test pairs get, where not their own."""
    if models.method != SHUFFLED.name:
        return None
    return derangement(len(test.images), torch.Generator().manual_seed(0))


@torch.no_grad()
def measure(
    context: Context,
    cell: Cell,
    models: CellModels,
    network: LPIPS,
    test: EvalPairs,
    predicted: Prediction,
    right: Mapping[str, Tensor],
) -> tuple[pd.DataFrame, Tensor]:
    """Numbers per pair, and the frames (n, 3, S, S) that the cell predicts."""
    config: Config = context.config
    mine, device = column(cell), models.device
    states = {COPY.name: test.states[:, 0].to(device), ORACLE.name: test.states[:, 1].to(device)}
    states[mine] = predicted.state
    how = Measuring(models.shown, network, (frame_distances, region_distances))
    shown = list(dict.fromkeys([ORACLE.name, mine]))
    observed = FramePairs(test.pairs.manifest, test.images, cell.name)
    pairs, frames = measure_pairs(how, observed, states, only=[mine], shown=shown)
    columns = dict(right)
    if places_known(test.pairs):
        places = gripper_places(test.pairs, config.adapter.short_side, models.world.image_size)
        o_next = test.images[:, 1] / 255
        columns |= gripper_measures(network, frames[mine], frames[ORACLE.name], o_next, places)
    if has_eef_pos(test.pairs):
        probe = eef_probe(models.setting, config.probe_pairs)
        columns["hand_error_mm"] = eef_errors(probe, test.pairs, test.states[:, 0], predicted.state)
    for name, values in columns.items():
        pairs[f"{mine}/{name}"] = values.double().cpu().numpy()
    return pairs, frames[mine]


def beyond_frames(
    context: Context, cell: Cell, models: CellModels, network: LPIPS, predictor: Predictor, test: EvalPairs
) -> dict[str, Estimate]:
    """Rollouts, commands, transfer and the reverse probe, for the methods that each is about."""
    config: Config = context.config
    found: dict[str, Estimate] = {}
    if cell.method in [method.name for method in ROLLED]:
        found |= rollouts(context, cell, models, network, predictor)
    if cell.method == R_LA.name:
        fitted, held_out = (
            load_eval_pairs(models.setting, split, config.probe_pairs, 0) for split in ("train", "validation")
        )
        r2 = probe_real_actions(predictor, (fitted, held_out, test), models.device)
        found["probe_r2"] = estimate(r2, "probe_r2", network.protocol)
    if not commandable(test.pairs):
        return found
    probe, world_model = (
        eef_probe(models.setting, config.probe_pairs),
        models.world.world_model,
    )
    if cell.method == R_LA.name:
        errors = transfer_metrics(world_model, probe, test, models.device)
        found |= {name: estimate(interval, name, network.protocol) for name, interval in errors.items()}
    if cell.method in [method.name for method in COMMANDED]:
        effects = command_metrics(as_dynamics(predictor), probe, test, models.device)
        found |= {name: estimate(interval, name, network.protocol) for name, interval in effects.items()}
    return found


def rollouts(
    context: Context, cell: Cell, models: CellModels, network: LPIPS, predictor: Predictor
) -> dict[str, Estimate]:
    """Errors 1 to `horizon` steps ahead; the adapter's first seed leaves pictures and animations too."""
    config: Config = context.config
    segments = load_rollout_segments(models.setting, config.test_split, config.horizon, config.rollouts)
    states = roll_out(predictor, segments, models.device)
    if cell.method == R_GT.name and cell.seed == config.seeds[0]:
        latent = roll_out(latent_action_predictor(models.world.world_model), segments, models.device)
        show_rollouts(
            {R_LA.name: latent, R_GT.name: states},
            segments,
            models.shown,
            config.panel_steps,
            context.out,
            cell.corpus,
        )
    steps = rollout_measures(network, models.shown, segments, states)
    return {
        f"{name}_{k}": estimate(interval, f"{name}_{k}", network.protocol)
        for name, intervals in steps.items()
        for k, interval in enumerate(intervals, start=1)
    }


# Files


def write_panels(
    context: Context,
    cell: Cell,
    models: CellModels,
    predictor: Predictor | None,
    pairs: pd.DataFrame,
    test: EvalPairs,
    shown: Tensor,
) -> None:
    """The cell's column of Figure 5, of the first seed, and what its actions do elsewhere."""
    config: Config = context.config
    if cell.method not in TILES or cell.seed != config.seeds[0] or predictor is None:
        return
    folder, rows = context.out / "panels" / cell.corpus, panel_rows(pairs)
    show_pairs(cell.method, test, shown, rows, config.adapter.short_side, folder)
    write_panel_rows(pairs, rows, folder)
    if commandable(test.pairs) and cell.method == R_GT.name:
        show_commands(
            as_dynamics(predictor), test, rows, models.shown, folder.with_name(f"{cell.corpus}-commands")
        )
    if commandable(test.pairs) and cell.method == R_LA.name:
        show_transfer(test, rows, models.shown, folder.with_name(f"{cell.corpus}-transfer"))


def summarize(context: Context) -> None:
    """Print the numbers of this run, write `rollouts/<corpus>.csv`, and draw each panel as one picture."""
    config: Config = context.config
    for name in measured_corpora(config, context.data):
        rows = measured_rows(context, name)
        if rows:
            print(f"\nFigure 5, {name} (moving half; {protocol_of(rows)}; mean [95% interval over clips])")
            print(table_text(rows, SHOWN))
        write_rollout_table(rows, config.horizon, context.out / "rollouts" / f"{name}.csv")
        picture = draw_tiles(context.out / "panels" / name, TILES)
        if picture:
            print(f"Figure 5: {picture}")


def stages(config: Config, data: Mapping[str, Path]) -> list[StageJob]:
    """What all cells of a cluster run wait for. Each cell finds or trains the rest."""
    return [pretrain_job()]


EXPERIMENT = Experiment(
    name="figure5",
    version=2,
    configs=CONFIGS,
    cells=cells,
    run_cell=run_cell,
    reads=reads,
    summarize=summarize,
    stages=stages,
    checks=nodes_lack,
    description=(__doc__ or "").splitlines()[0],
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
