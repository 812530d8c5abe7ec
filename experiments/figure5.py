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

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import pandas as pd
import torch
from torch import Tensor

from uwm.data.action_pairs import all_action_pairs, check_action_sizes
from uwm.data.corpora import BUNDLED, IN_DOMAIN
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
from uwm.evaluation.measure import frame_distances, measure_pairs, region_distances
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
from uwm.evaluation.records import column, method_metrics, metric, publish_curves, write_samples
from uwm.evaluation.rollouts import roll_out, rollout_measures
from uwm.evaluation.summary import measured_rows, protocol_of, table_text
from uwm.evaluation.transfer import transfer_metrics
from uwm.metrics.perceptual import LPIPS, load_lpips
from uwm.models.adapter import Target
from uwm.models.world import World
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, CellResult, Context, Experiment, Metric, SkipCell, StageJob
from uwm.stages.action_training import mae_encoder
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
from uwm.stages.finetune import FINETUNE, FinetuneRecipe, finetune, measured_corpora, short
from uwm.stages.mae import MAE, MAERecipe
from uwm.stages.pretrained import corpus_of, obtain_pretrained, pretrain_job
from uwm.stages.world_model import PRETRAIN, PretrainRecipe
from uwm.training.distributed import default_device, environment_ranks
from uwm.training.objectives import derangement

SHOWN = ("lpips_to_next", "lpips_region", "lpips_hand", "psnr_hand", "code_accuracy", "hand_error_mm")
TILES = ("o_t", "o_next", "r_la", "r_gt")
TARGETS: tuple[Target, ...] = ("continuous", "quantized", "codes", "prediction")  # eq. 13's first
ROLLED = ("copy", "oracle", "r_la", "r_gt", "direct", "no-action", "no-state")
AHEAD = ("r_la", "r_gt", "shuffled", "no-state", "direct", "no-action")  # some steps ahead too
STEPS = 5  # how many; the methods' names say it
COMMANDED = ("r_gt", "direct", "no-state")
PUBLISHED = ("r_gt", "direct", "no-action", "ficc")  # whose training curves of the first seed are kept
R = TypeVar("R", FinetuneRecipe, AdapterRecipe, DynamicsRecipe, FICCRecipe)


@dataclass(frozen=True)
class Config:
    """Everything that changes a number of Figure 5. The defaults are the paper's setting where it says."""

    corpora: tuple[str, ...] = ("robosuite",)  # in-domain, with actions; those of --data are added
    pretrain_on: tuple[str, ...] = ("ssv2", "ego4d")
    mae: MAERecipe = MAE["paper"]
    pretrain: PretrainRecipe = PRETRAIN["paper"]
    finetune: FinetuneRecipe = FINETUNE["paper"]
    adapter: AdapterRecipe = ADAPTER["paper"]
    decoder: DecoderRecipe = DECODER["paper"]
    dynamics: DynamicsRecipe = DYNAMICS["paper"]
    ficc: FICCRecipe = FICC_RECIPE["paper"]
    curve: tuple[int, ...] = (100, 500, 2000)  # further numbers of labelled pairs
    seeds: tuple[int, ...] = (0, 1, 2)
    test_split: str = "test"
    test_pairs: int = 1000
    test_seed: int = 0
    probe_pairs: int = 2000  # training pairs that linear probes are fitted to
    horizon: int = 10  # steps of a rollout
    rollouts: int = 60  # at most, evenly over the test clips
    panel_steps: tuple[int, ...] = (1, 2, 4, 7, 10)  # of a rollout, shown as panels
    lpips: str = "alex"


CONFIGS = {
    "smoke": Config(
        corpora=(IN_DOMAIN,),
        pretrain_on=BUNDLED[:1],
        mae=MAE["smoke"],
        pretrain=PRETRAIN["smoke"],
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
        pretrain=PRETRAIN["mini"],
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
    """What each method with an adapter to the world model is trained by, but for the seed."""
    recipe = config.adapter
    return {
        "r_gt": recipe,
        "no-state": replace(recipe, use_state=False),
        **{f"r_gt-{target}": replace(recipe, target=target) for target in TARGETS if target != recipe.target},
        **{f"r_gt-{short(pairs)}": replace(recipe, pairs=pairs) for pairs in config.curve},
        "shuffled": recipe,  # not next to r_gt: of two processes one would wait for the other's training
    }


def rivals(config: Config) -> dict[str, DynamicsRecipe]:
    """The dynamics without latent actions."""
    recipe = config.dynamics
    return {
        "direct": recipe,
        "no-action": replace(recipe, kind="no-action"),
        **{f"direct-{short(pairs)}": replace(recipe, pairs=pairs) for pairs in config.curve},
    }


def decoders(config: Config) -> dict[str, DecoderRecipe | None]:
    """What shows the states, by the end of a cell's method; None: the MAE's own decoder."""
    lpips = replace(config.decoder, objective="mse+lpips", lpips=config.lpips)
    return {"": config.decoder, "-mae-decoder": None, "-lpips-decoder": lpips}


def steps_ahead(method: str) -> int:
    """How many steps a cell's method predicts, by the end of its name."""
    return STEPS if method.endswith(f"-{STEPS}-steps") else 1


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    """Methods x corpora; the trained ones with each seed, what is beside the paper's point with the first."""
    endings = [ending for ending in decoders(config) if ending]
    every = ["r_la", *adapters(config), *rivals(config)]
    once = [f"r_gt-{target}" for target in TARGETS if target != config.adapter.target]
    once += [f"direct-{short(pairs)}" for pairs in config.curve]
    once += ["ficc", "ficc-la", *(method + ending for ending in endings for method in ("r_la", "r_gt"))]
    seeds = dict.fromkeys(every, config.seeds) | dict.fromkeys(once, config.seeds[:1])
    seeds |= {f"{method}-{STEPS}-steps": seeds[method] for method in AHEAD if method in seeds}
    ends = "", *endings, f"-{STEPS}-steps"
    fixed = [method + ending for ending in ends for method in ("copy", "oracle")]
    found = []
    for name in measured_corpora(config, data):
        found += [Cell(method, name) for method in fixed]
        # Seed by seed: cells that follow each other in a process share states and latent actions.
        found += [
            Cell(method, name, seed) for seed in config.seeds for method in seeds if seed in seeds[method]
        ]
    return found


# What a cell works with


class Setting(NamedTuple):
    """`method` is the cell's without its ending; `world` predicts `steps` states, `shown` decodes them."""

    method: str
    steps: int
    world: World
    shown: World
    eval_setting: EvalSetting
    device: torch.device


def prepare(context: Context, cell: Cell) -> Setting:
    """The trained parts of a cell. `copy` and `oracle` need the MAE alone."""
    config: Config = context.config
    corpus = corpus_of(context, cell.corpus)
    world = (
        obtain_pretrained(context)
        if cell.seed is None
        else finetune(context, seeded(config.finetune, cell.seed), corpus)
    )
    ending = next(e for e in reversed(decoders(config)) if cell.method.endswith(e))
    recipe = decoders(config)[ending]
    shown = world if recipe is None else obtain_decoder(context, recipe, corpus, world)
    device = default_device(environment_ranks())
    eval_setting = EvalSetting(mae_encoder(world), corpus, config.adapter.short_side, config.adapter.gap)
    steps = steps_ahead(cell.method)
    method = cell.method.removesuffix(ending).removesuffix(f"-{STEPS}-steps")
    return Setting(method, steps, world.to(device), shown.to(device), eval_setting, device)


def obtain_act(context: Context, cell: Cell, setting: Setting) -> Predictor:
    """How the cell's method predicts: cached, or trained now."""
    config, method, world = context.config, setting.method, setting.world
    recipe = seeded(config.finetune, cell.seed)
    corpus = setting.eval_setting.corpus
    if method in ("copy", "oracle"):
        return {"copy": copy_predictor, "oracle": oracle_predictor}[method]
    if method == "r_la":
        return latent_action_predictor(world.world_model)
    if method in rivals(config):
        chosen = seeded(rivals(config)[method], cell.seed)
        return dynamics_predictor(
            obtain_dynamics(context, chosen, recipe, corpus, world).model.to(setting.device)
        )
    adapter = obtain_adapter(context, seeded(adapters(config)[method], cell.seed), recipe, corpus, world)
    return adapter_predictor(world.world_model, adapter.model.to(setting.device))


def ficc_acted(
    context: Context, cell: Cell, setting: Setting, test: EvalPairs
) -> tuple[Prediction, dict[str, Tensor]]:
    """FICC's frames as the MAE sees and shows them, like all others; and how right its codes are."""
    config: Config = context.config
    corpus, recipe = setting.eval_setting.corpus, seeded(config.ficc, cell.seed)
    ficc = obtain_ficc(context, recipe, corpus, setting.world.image_size)
    adapter = None
    if cell.method == "ficc":
        fitted = obtain_ficc_adapter(context, seeded(config.adapter, cell.seed), recipe, corpus, ficc)
        adapter = fitted.model.to(setting.device)
    frames, used, own = ficc_frames(ficc.model.to(setting.device), adapter, test.images, *test.controls)
    state = torch.cat([setting.world.encode(part) for part in frames.mul(255).round().byte().split(64)])
    return Prediction(state), latent_measures(used, own) if adapter else {}


def seeded(recipe: R, seed: int | None) -> R:
    """The recipe with the cell's seed, 0 for a cell without."""
    return replace(recipe, train=replace(recipe.train, seed=seed or 0))


# Measures


def run_cell(context: Context, cell: Cell) -> CellResult:
    """Train, or find, what the cell needs, and measure its predictions of the test pairs."""
    config: Config = context.config
    refuse_small(context, cell)
    setting = prepare(context, cell)
    network = load_lpips(config.lpips).to(setting.device)
    test, segments = test_pairs(context, setting)
    predictor, right, further = None, {}, {}
    if cell.method.startswith("ficc"):
        predicted, right = ficc_acted(context, cell, setting, test)
    elif segments:
        rolled = roll_out(obtain_act(context, cell, setting), segments, setting.device, others(setting, test))
        predicted = Prediction(rolled[:, -1])
    else:
        predictor = obtain_act(context, cell, setting)
        predicted, right = state_acted(setting, predictor, test)
        further = beyond_frames(context, cell, setting, network, predictor, test)
    pairs, shown = measure(context, cell, setting, network, test, predicted, right)
    measured = method_metrics(pairs, column(cell), network.protocol)
    for name in [name for name in measured if name.startswith("code_accuracy")]:
        measured[name] = replace(measured[name], better="higher")
    write_panels(context, cell, setting, predictor, pairs, test, shown)
    if cell.method in PUBLISHED and cell.seed == config.seeds[0]:
        publish_curves(context)
    weights = {**setting.shown.weights, "lpips": network.weights_sha256}
    samples = write_samples(context, cell, pairs)
    return CellResult(measured | further, samples, test.pairs.manifest.sha256, weights)


def refuse_small(context: Context, cell: Cell) -> None:
    """Skip a cell that wants more labelled pairs than there are. UserError for a corpus without actions."""
    recipe = {**adapters(context.config), **rivals(context.config)}.get(cell.method, context.config.adapter)
    there = len(all_action_pairs(corpus_of(context, cell.corpus), recipe.gap, recipe.clips))
    if recipe.pairs is not None and recipe.pairs > there:
        raise SkipCell(f"{cell.corpus} has {there} labelled pairs, fewer than {recipe.pairs}")


def test_pairs(context: Context, setting: Setting) -> tuple[EvalPairs, RolloutSegments | None]:
    """The frozen test pairs, with the single steps where there are several. Their actions are like those of
    the training pairs."""
    config: Config = context.config
    choice = config.test_pairs, config.test_seed
    if setting.steps == 1:
        test, segments = load_eval_pairs(setting.eval_setting, config.test_split, *choice), None
    else:
        test, segments = load_pairs_ahead(setting.eval_setting, config.test_split, setting.steps, *choice)
    known = all_action_pairs(setting.eval_setting.corpus, config.adapter.gap, config.adapter.clips).actions
    check_action_sizes((segments.pairs if segments else test).pairs, *known.actions.shape[1:])
    return test, segments


def state_acted(
    setting: Setting, predictor: Predictor, test: EvalPairs
) -> tuple[Prediction, dict[str, Tensor]]:
    """The method's predictions, and how right its latent actions are."""
    predicted = predict_pairs(predictor, test, setting.device, others(setting, test))
    if predicted.latents is None or setting.method == "r_la":
        return predicted, {}
    wanted = predict_pairs(latent_action_predictor(setting.world.world_model), test, setting.device).latents
    assert wanted is not None
    return predicted, latent_measures(predicted.latents, wanted)


def others(setting: Setting, test: EvalPairs) -> Tensor | None:
    """The pairs whose actions the test pairs get, where not their own."""
    if setting.method != "shuffled":
        return None
    return derangement(len(test.images), torch.Generator().manual_seed(0))


@torch.no_grad()
def measure(
    context: Context,
    cell: Cell,
    setting: Setting,
    network: LPIPS,
    test: EvalPairs,
    predicted: Prediction,
    right: Mapping[str, Tensor],
) -> tuple[pd.DataFrame, Tensor]:
    """Numbers per pair, and the frames (n, 3, S, S) that the cell predicts."""
    config: Config = context.config
    mine, device = column(cell), setting.device
    states = {"copy": test.states[:, 0].to(device), "oracle": test.states[:, 1].to(device)}
    states[mine] = predicted.state
    pairs, frames = measure_pairs(
        setting.shown,
        network,
        test.pairs.manifest,
        test.images,
        states,
        measures=(frame_distances, region_distances),
        shown=list(dict.fromkeys(["oracle", mine])),
        only=[mine],
        name=cell.name,
    )
    columns = dict(right)
    if places_known(test.pairs):
        places = gripper_places(test.pairs, config.adapter.short_side, setting.world.image_size)
        o_next = test.images[:, 1] / 255
        columns |= gripper_measures(network, frames[mine], frames["oracle"], o_next, places)
    if has_eef_pos(test.pairs):
        probe = eef_probe(setting.eval_setting, config.probe_pairs)
        columns["hand_error_mm"] = eef_errors(probe, test.pairs, test.states[:, 0], predicted.state)
    for name, values in columns.items():
        pairs[f"{mine}/{name}"] = values.double().cpu().numpy()
    return pairs, frames[mine]


def beyond_frames(
    context: Context, cell: Cell, setting: Setting, network: LPIPS, predictor: Predictor, test: EvalPairs
) -> dict[str, Metric]:
    """Rollouts, commands, transfer and the reverse probe, for the methods that each is about."""
    config: Config = context.config
    found: dict[str, Metric] = {}
    if cell.method in ROLLED:
        found |= rollouts(context, cell, setting, network, predictor)
    if cell.method == "r_la":
        fitted, held_out = (
            load_eval_pairs(setting.eval_setting, split, config.probe_pairs, 0)
            for split in ("train", "validation")
        )
        r2 = probe_real_actions(predictor, fitted, held_out, test, setting.device)
        found["probe_r2"] = Metric(r2.estimate, r2.n, "higher", (r2.low, r2.high))
    if not commandable(test.pairs):
        return found
    probe, world_model = eef_probe(setting.eval_setting, config.probe_pairs), setting.world.world_model
    if cell.method == "r_la":
        errors = transfer_metrics(world_model, probe, test, setting.device)
        found |= {name: metric(interval, name) for name, interval in errors.items()}
    if cell.method in COMMANDED:
        effects = command_metrics(as_dynamics(predictor), probe, test, setting.device)
        found |= {name: replace(metric(i, name), better="higher") for name, i in effects.items()}
    return found


def rollouts(
    context: Context, cell: Cell, setting: Setting, network: LPIPS, predictor: Predictor
) -> dict[str, Metric]:
    """Errors 1 to `horizon` steps ahead; the adapter's first seed leaves pictures and animations too."""
    config: Config = context.config
    segments = load_rollout_segments(setting.eval_setting, config.test_split, config.horizon, config.rollouts)
    states = roll_out(predictor, segments, setting.device)
    if cell.method == "r_gt" and cell.seed == config.seeds[0]:
        latent = roll_out(latent_action_predictor(setting.world.world_model), segments, setting.device)
        show_rollouts(
            {"r_la": latent, "r_gt": states},
            segments,
            setting.shown,
            config.panel_steps,
            context.out,
            cell.corpus,
        )
    steps = rollout_measures(network, setting.shown, segments, states)
    protocols = {"rollout_lpips": network.protocol}
    return {
        f"{name}_{k}": metric(interval, name.removeprefix("rollout_"), protocols.get(name))
        for name, intervals in steps.items()
        for k, interval in enumerate(intervals, start=1)
    }


# Files


def write_panels(
    context: Context,
    cell: Cell,
    setting: Setting,
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
    if commandable(test.pairs) and cell.method == "r_gt":
        show_commands(
            as_dynamics(predictor), test, rows, setting.shown, folder.with_name(f"{cell.corpus}-commands")
        )
    if commandable(test.pairs) and cell.method == "r_la":
        show_transfer(test, rows, setting.shown, folder.with_name(f"{cell.corpus}-transfer"))


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
    version=1,
    configs=CONFIGS,
    cells=cells,
    run_cell=run_cell,
    summarize=summarize,
    stages=stages,
    description=(__doc__ or "").splitlines()[0],
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
