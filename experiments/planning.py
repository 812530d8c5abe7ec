"""Planning with a robot's own actions in Robosuite: what section 6 of the paper leaves to do.

Claim to test (section 6): a world model "should be tested by a model-based RL algorithm in simulation
environments". Here a Panda must reach what a goal picture shows, from pictures of one fixed camera, by
model-predictive control: a solver asks a model what action sequences lead to, and takes the one that ends
nearest to the goal. The paper has no such experiment, so nothing is compared with it.

    python experiments/planning.py --jobs 2                                      # mini: every cell
    python experiments/planning.py --only simulator,r_gt-500,direct,random --jobs 2
    python experiments/planning.py --set episodes=5 --only random                # a quick look

Rows: `simulator` (the simulator as the model: what cost and solver allow), `r_gt-500` (adapter from 500
labelled pairs), `r_gt`, `r_gt-100`, `r_gt-2k`, `direct` (dynamics from all labelled pairs),
`no-action`, `shuffled` (another plan's consequences), `copy`, `cloning-500` (behaviour cloning), `random`.
What is minimised is the distance of the hand, as a small network reads it off predicted state and goal, and
that of the states themselves, both as shares of those at the start.
That is for `reach`; `push` and `lift` have the distance of the states that changes most.
`X-state-cost` and `X-changed-cost` minimise the distance of MAE states instead, over all tokens and over
those that differ most between start and goal; `simulator-true-cost` the simulator's own distance.

An episode is drawn by its seed, the same for all rows. It ends when the goal is reached, or after `steps`.
Each finished episode is kept: a run that was killed goes on with the next one.
"""

from uwm.runs.asking import answer_early

if __name__ == "__main__":
    answer_early(__file__)  # --status and its like need no torch

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from uwm.bounds import Bounded, Count, Counts, Names, Natural, Seeds, SomeCounts, SomeNames
from uwm.data.action_pairs import all_action_pairs
from uwm.data.corpora import BUNDLED, IN_DOMAIN
from uwm.data.crops import center_crop
from uwm.data.simulation.corpora import check_renderer
from uwm.data.simulation.robot_scene import WORKSPACE_CAMERA
from uwm.data.simulation.tasks import TaskConfig, TaskEnvironment
from uwm.errors import UserError
from uwm.evaluation.filmstrips import Film, write_film, write_filmstrip
from uwm.evaluation.predictors import adapter_predictor, as_dynamics
from uwm.evaluation.records import column, estimate, write_samples
from uwm.evaluation.summary import measured_rows, table_text
from uwm.methods import (
    CHANGED_COST,
    CLONING,
    COPY,
    DIRECT,
    NO_ACTION,
    R_GT,
    RANDOM,
    SHUFFLED,
    SIMULATOR,
    STATE_COST,
    TRUE_COST,
    parse,
)
from uwm.metrics.statistics import bootstrap_mean, bootstrap_ratio, wilson
from uwm.models.dynamics import DynamicsFunction
from uwm.planning.cost import (
    Cost,
    CostConfig,
    MeasuredDistance,
    ReadOffDistance,
    StateDistance,
    Sum,
    changed_tokens,
)
from uwm.planning.dynamics import Dynamics, LearnedDynamics, ShuffledDynamics, SimulatedDynamics, copied
from uwm.planning.episodes import Episode, held_distances, run_episode
from uwm.planning.policies import (
    CloningPolicy,
    Picture,
    PlannerConfig,
    PlanningPolicy,
    Policy,
    RandomPolicy,
    space_of,
)
from uwm.planning.solvers import SamplingSolver, SolverConfig
from uwm.runs.artifacts import Stage
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, CellResult, Context, Estimate, Experiment, StageJob
from uwm.runs.jobs import shared_jobs
from uwm.runs.record import digest_of
from uwm.stages.adapter import ADAPTER, AdapterRecipe, adapter_stage, obtain_adapter
from uwm.stages.baselines import DYNAMICS, DynamicsRecipe, dynamics_stage, obtain_dynamics
from uwm.stages.finetune import FINETUNE, Domain, FinetuneRecipe
from uwm.stages.mae import MAE, MAERecipe
from uwm.stages.pretrained import corpus_of, pretrain_jobs
from uwm.stages.reader import READER, ReaderRecipe, obtain_reader, reader_stage
from uwm.stages.world_model import PRETRAIN, PretrainRecipe

SHOWN = ("success", "final_distance_mm", "steps", "calls_per_decision", "seconds_per_decision")
MILLIMETRES = 1000.0
REACH, LIFT = "reach", "lift"


@dataclass(frozen=True)
class Config(Bounded):
    """Everything that changes a number of the planning experiment."""

    tasks: SomeNames = ("reach",)  # reach, push, lift
    camera: str = WORKSPACE_CAMERA
    controller: str = "OSC_POSE"
    episodes: Count = 100
    first_seed: Natural = 0
    steps: Count = 10  # of an episode, of 0.2 s each
    # The numbers of an action that are searched: the translation. Lifting adds the gripper.
    chosen: tuple[Natural, ...] = (0, 1, 2)
    solver: SolverConfig = SolverConfig(samples=64, iterations=3, horizon=2)
    simulator_solver: SolverConfig = SolverConfig(samples=32, iterations=3, horizon=2)
    planner: PlannerConfig = PlannerConfig()
    cost: CostConfig = CostConfig()
    corpus: str = "robosuite"  # in-domain, with actions: what adapter and direct dynamics are trained on
    pretrain_on: Names = ("ssv2", "ego4d")
    mae: MAERecipe = MAE["paper"]
    pretrain: PretrainRecipe = PRETRAIN["paper"]
    finetune: FinetuneRecipe = FINETUNE["paper"]
    adapter: AdapterRecipe = ADAPTER["paper"]
    dynamics: DynamicsRecipe = DYNAMICS["paper"]
    reader: ReaderRecipe = READER["paper"]
    curve: Counts = (100, 500, 2000)  # numbers of labelled pairs, besides all
    cloned: SomeCounts = (500,)
    seeds: Seeds = (0,)


_ONE_ACTION = SolverConfig(samples=32, iterations=3, horizon=1, elites=6, spread=0.3)
CONFIGS = {
    "smoke": Config(
        episodes=2,
        steps=2,
        solver=SolverConfig(samples=4, iterations=2, horizon=1, elites=2),
        simulator_solver=SolverConfig(samples=2, iterations=1, horizon=1, elites=2),
        corpus=IN_DOMAIN,
        pretrain_on=BUNDLED[:1],
        mae=MAE["smoke"],
        pretrain=PRETRAIN["smoke-high-rate"],
        finetune=FINETUNE["smoke"],
        adapter=ADAPTER["smoke"],
        dynamics=DYNAMICS["smoke"],
        reader=READER["smoke"],
        curve=(8,),
        cloned=(8,),
    ),
    "mini": Config(
        episodes=20,
        solver=_ONE_ACTION,
        # A look ahead in the simulator takes 0.14 s.
        simulator_solver=replace(_ONE_ACTION, samples=12, iterations=2, elites=3),
        corpus=IN_DOMAIN,
        pretrain_on=BUNDLED,
        mae=MAE["mini"],
        pretrain=PRETRAIN["mini-1960"],
        finetune=FINETUNE["mini"],
        adapter=ADAPTER["mini"],
        dynamics=DYNAMICS["mini"],
        reader=READER["mini"],
    ),
    "paper": Config(),
}


# Cells


def adapters(config: Config) -> dict[str, AdapterRecipe]:
    """The methods with an adapter."""
    few = {R_GT.with_pairs(pairs): replace(config.adapter, pairs=pairs) for pairs in config.curve}
    return {**few, R_GT.name: config.adapter, SHUFFLED.name: config.adapter}


def dynamics(config: Config) -> dict[str, DynamicsRecipe]:
    """The dynamics without latent actions."""
    return {DIRECT.name: config.dynamics, NO_ACTION.name: replace(config.dynamics, kind="no-action")}


def clones(config: Config) -> dict[str, ReaderRecipe]:
    """Behaviour cloning."""
    recipe = replace(config.reader, reads="action")
    return {CLONING.with_pairs(pairs): replace(recipe, pairs=pairs) for pairs in config.cloned}


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    """Methods x tasks x seeds."""
    trained = [*adapters(config), *dynamics(config), *clones(config)]
    planned = [name for name in trained if parse(name).method in (R_GT, DIRECT)]
    trained += [f"{name}-{end.suffix}" for end in (STATE_COST, CHANGED_COST) for name in planned]
    fixed = [SIMULATOR.variant(end) for end in (None, TRUE_COST, STATE_COST, CHANGED_COST)]
    fixed += [RANDOM.name, COPY.name]
    found = []
    for task in config.tasks:
        found += [Cell(method, task) for method in fixed]
        found += [Cell(method, task, seed) for seed in config.seeds for method in trained]
    return found


def base_name(method: str) -> str:
    """The name without the variant: of `r_gt-500-state-cost`, `r_gt-500`."""
    variant = parse(method).variant
    return method.removesuffix(f"-{variant.suffix}") if variant else method


def reads_hand(cell: Cell) -> bool:
    """Whether the cell's cost reads the hand's place off states: where the hand must come to a place."""
    parsed = parse(cell.method)
    return cell.corpus == REACH and parsed.variant is None and parsed.method not in (CLONING, RANDOM)


def reads(config: Config, cell: Cell) -> dict[str, Any]:
    """What of the config changes a cell's numbers."""
    names = ["camera", "controller", "episodes", "first_seed", "steps", "chosen", "planner"]
    method, base = parse(cell.method).method, base_name(cell.method)
    if method == RANDOM:
        return {name: getattr(config, name) for name in names}
    names += ["cost", "mae", "corpus", "pretrain_on", "pretrain"]
    found = {name: getattr(config, name) for name in names}
    if method == SIMULATOR:
        found["solver"] = config.simulator_solver
    elif method != CLONING:
        found["solver"] = config.solver
    if reads_hand(cell):
        found["reader"] = config.reader
    if cell.seed is not None:
        found["finetune"] = seeded(config.finetune, cell.seed)
    for name, recipes in (("adapter", adapters), ("dynamics", dynamics), ("cloning", clones)):
        if base in recipes(config):
            found[name] = seeded(recipes(config)[base], cell.seed)
    return found


def seeded(recipe: Any, seed: int | None) -> Any:
    """The recipe with the cell's seed, 0 for a cell without."""
    return replace(recipe, train=replace(recipe.train, seed=seed or 0))


# What is checked before anything starts


def task_of(context: Context, name: str) -> TaskConfig:
    """A task as the config wants it. UserError for a task, camera or controller that there is none of."""
    config: Config = context.config
    size = config.adapter.short_side
    return TaskConfig(name, config.camera, config.controller, size=size, steps=config.steps)


def check_task(context: Context, name: str) -> None:
    """UserError where a task cannot be planned for: it is asked before the simulator starts."""
    config: Config = context.config
    task = task_of(context, name)
    chosen = config.chosen
    if not chosen or max(chosen) >= task.action_size:
        raise UserError(
            f"chosen={chosen}: an action of {task.controller} has the numbers 0 to {task.action_size - 1}"
        )
    corpus = corpus_of(context, config.corpus)
    low, _ = all_action_pairs(corpus, config.adapter.gap, config.adapter.clips).limits
    if len(low) != task.action_size:
        raise UserError(
            f"{task.controller} takes actions of {task.action_size} numbers, and what is trained on "
            f"{config.corpus} those of {len(low)}: set controller to one of the same size"
        )


# Policies


class Setting(NamedTuple):
    """What a cell's policy is made of."""

    context: Context
    cell: Cell
    domain: Domain
    environment: TaskEnvironment

    @property
    def config(self) -> Config:
        config: Config = self.context.config
        return config

    def encode(self, picture: Picture) -> Tensor:
        """A picture (S, S, 3) -> its state (1+N, D), as those of the corpus."""
        return self.encode_all(picture[None])[0]

    def encode_all(self, pictures: Picture) -> Tensor:
        """Pictures (n, S, S, 3) -> states (n, 1+N, D)."""
        side = self.domain.world.image_size
        images = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
        return self.domain.world.encode(center_crop(images, side, side))


def make_policy(setting: Setting) -> Policy:
    """The cell's policy."""
    config, cell, environment = setting.config, setting.cell, setting.environment
    gripper = (environment.config.action_size - 1,) if cell.corpus == LIFT else ()
    space = space_of(environment.limits, environment.held, (*config.chosen, *gripper))
    method = parse(cell.method).method
    if method == RANDOM:
        return RandomPolicy(space, config.planner.hold)
    if method == CLONING:
        recipe = seeded(clones(config)[base_name(cell.method)], cell.seed)
        return CloningPolicy(setting.encode, obtain_reader(recipe, setting.domain).model, space)
    solver = config.simulator_solver if method == SIMULATOR else config.solver
    parts = make_dynamics(setting), make_cost(setting), SamplingSolver(solver), space, config.planner
    return PlanningPolicy(setting.encode, *parts)


def make_dynamics(setting: Setting) -> Dynamics:
    """What the cell's planner believes."""
    method, variant = parse(setting.cell.method).method, parse(setting.cell.method).variant
    if method == SIMULATOR:
        if variant == TRUE_COST:
            return SimulatedDynamics(partial(measured, setting.environment))
        return SimulatedDynamics(partial(looked_at, setting))
    steps = setting.environment.config.control_steps
    if method == COPY:
        return LearnedDynamics(copied, steps)
    learned = LearnedDynamics(learned_dynamics(setting), steps)
    return ShuffledDynamics(learned) if method == SHUFFLED else learned


def learned_dynamics(setting: Setting) -> DynamicsFunction:
    """A trained model: cached, or trained now."""
    config, cell, domain = setting.config, setting.cell, setting.domain
    base = base_name(cell.method)
    if base in dynamics(config):
        direct: DynamicsFunction = obtain_dynamics(seeded(dynamics(config)[base], cell.seed), domain).model
        return direct
    adapter = obtain_adapter(seeded(adapters(config)[base], cell.seed), domain).model
    known = len(adapter.config.controller.low)
    if known != setting.environment.config.action_size:
        raise UserError(f"the adapter takes actions of {known} numbers; set controller to one of that size")
    return as_dynamics(adapter_predictor(domain.world.world_model, adapter))


def looked_at(setting: Setting, actions: Tensor) -> Tensor:
    """States (H, 1+N, D) of what is seen after each action (H, A)."""
    return setting.encode_all(setting.environment.look_ahead(actions.double().numpy())[0])


def measured(environment: TaskEnvironment, actions: Tensor) -> Tensor:
    """Distances to the goal after each action, in the form of states (H, 1, 1)."""
    return torch.from_numpy(environment.look_ahead(actions.double().numpy())[1])[:, None, None]


def make_cost(setting: Setting) -> Callable[[Tensor, Tensor], Cost]:
    """What the cell's planner minimises, once start and goal are known."""
    config, variant = setting.config, parse(setting.cell.method).variant
    if variant == TRUE_COST:
        return lambda start, goal: MeasuredDistance(config.cost)
    if variant == STATE_COST:
        return lambda start, goal: StateDistance(goal, torch.ones(len(goal), dtype=torch.bool), config.cost)
    if not reads_hand(setting.cell):
        return lambda start, goal: StateDistance(
            goal, changed_tokens(start, goal, config.cost.left_out), config.cost
        )
    reader = obtain_reader(config.reader, setting.domain).model

    def hand(states: Tensor) -> Tensor:
        found: Tensor = reader(states[:, None].float()) * MILLIMETRES
        return found

    def both(start: Tensor, goal: Tensor) -> Cost:
        everything = torch.ones(len(goal), dtype=torch.bool)
        states = config.cost.state_weight, StateDistance(goal, everything, config.cost)
        return Sum([(1.0, ReadOffDistance(hand, goal, config.cost)), states], start)

    return both


# Measures


def run_cell(context: Context, cell: Cell) -> CellResult:
    """Run the cell's episodes, or take those that are there, and measure them."""
    config: Config = context.config
    check_task(context, cell.corpus)
    check_renderer()
    finetuned = None if cell.seed is None else seeded(config.finetune, cell.seed)
    domain = Domain(context, corpus_of(context, config.corpus), finetuned)
    environment = TaskEnvironment(task_of(context, cell.corpus))
    try:
        setting = Setting(context, cell, domain, environment)
        episodes = list(all_episodes(setting, make_policy(setting)))
    finally:
        environment.close()
    if cell.method == R_GT.with_pairs(min(config.cloned)):  # as few as behaviour cloning has
        show_episodes(setting, episodes)
    samples = write_samples(context, cell, sample_table(cell, episodes, config.steps))
    weights = {} if parse(cell.method).method == RANDOM else domain.world.weights
    return CellResult(metrics_of(episodes, config.steps), samples, weights=weights)


def all_episodes(setting: Setting, policy: Policy) -> Iterator[Episode]:
    """The episodes in the order of their seeds, each from its file where it is there."""
    context, cell, config = setting.context, setting.cell, setting.config
    identity = episodes_identity(context, cell)
    for seed in range(config.first_seed, config.first_seed + config.episodes):
        path = context.work / "episodes" / cell.file_name / f"{seed}.npz"
        episode = Episode.load(path, identity)
        if episode is None:
            episode = run_episode(setting.environment, policy, seed)
            episode.save(path, identity)
        print(f"{cell.name}: {told(episode)}", flush=True)
        yield episode


def episodes_identity(context: Context, cell: Cell) -> str:
    """Digest of all that a cell's episodes depend on: they are taken for finished where it is the same."""
    jobs = {job.name: job.stage(context) for job in needs(context.config, cell) if job.stage}
    trained = {name: stage.digest for name, stage in jobs.items() if stage}
    config = context.cell_config(cell)
    return digest_of({"cell": cell.name, "config": config, "stages": trained, "version": EXPERIMENT.version})


def told(episode: Episode) -> str:
    """An episode as a line of text."""
    first, last = episode.distances[0], episode.distances[-1]
    end = "reached" if episode.success else "not reached"
    return f"episode {episode.seed} {end} in {len(episode.actions)} steps, {first:.0f} to {last:.0f} mm"


def sample_table(cell: Cell, episodes: list[Episode], steps: int) -> pd.DataFrame:
    """A row per episode, named by its seed; no times, so that the same seeds give the same bytes."""
    mine, held = column(cell), held_distances(episodes, steps)  # (n, steps + 1)
    return pd.DataFrame(
        {
            "video": [f"episode-{episode.seed}" for episode in episodes],
            "t0": 0,
            "t1": [len(episode.actions) for episode in episodes],
            "moving": True,
            f"{mine}/success": [float(episode.success) for episode in episodes],
            f"{mine}/start_distance_mm": [episode.distances[0] for episode in episodes],
            f"{mine}/final_distance_mm": [episode.distances[-1] for episode in episodes],
            f"{mine}/steps": [float(len(episode.actions)) for episode in episodes],
            f"{mine}/calls": [decided(episode)[0] for episode in episodes],
            f"{mine}/decisions": [decided(episode)[1] for episode in episodes],
            **{f"{mine}/distance_mm_{k}": held[:, k] for k in range(1, steps + 1)},
        }
    )


def decided(episode: Episode) -> tuple[int, int]:
    """The model calls of an episode, and the decisions that they were for."""
    return int(episode.calls.sum()), int((episode.calls > 0).sum())


def metrics_of(episodes: list[Episode], steps: int) -> dict[str, Estimate]:
    """Success with Wilson's interval, all else as means with bootstrap intervals over episodes."""
    names = [f"episode-{episode.seed}" for episode in episodes]
    share = wilson(sum(episode.success for episode in episodes), len(episodes))
    found = {"success": Estimate(share.estimate, share.n, (share.low, share.high))}
    distances = held_distances(episodes, steps)  # (n, steps + 1)
    columns = {
        "start_distance_mm": distances[:, 0],
        "final_distance_mm": distances[:, -1],
        "steps": np.array([float(len(episode.actions)) for episode in episodes]),
        **{f"distance_mm_{k}": distances[:, k] for k in range(1, steps + 1)},
    }
    for name, values in columns.items():
        found[name] = estimate(bootstrap_mean(values, names), name, "")
    calls, decisions = (np.array(part, np.float64) for part in zip(*map(decided, episodes), strict=True))
    seconds = np.concatenate([episode.seconds[episode.calls > 0] for episode in episodes])
    if decisions.all():
        found["calls_per_decision"] = estimate(
            bootstrap_ratio(calls, decisions, names), "calls_per_decision", ""
        )
    if len(seconds):
        found["seconds_per_decision"] = Estimate(float(seconds.mean()), len(seconds))
    return found


# Files


@torch.no_grad()
def show_episodes(setting: Setting, episodes: list[Episode]) -> None:
    """Pictures of the first episode that reached its goal, and of the first that did not."""
    world, out, task = setting.domain.world, setting.context.out, setting.cell.corpus
    for name, success in (("reached", True), ("missed", False)):
        chosen = next((episode for episode in episodes if episode.success == success), None)
        if chosen is not None:
            side = world.image_size
            pictures = torch.from_numpy(np.concatenate([chosen.pictures, chosen.goal[None]]))
            frames = center_crop(pictures.permute(0, 3, 1, 2), side, side) / 255  # (T + 2, 3, S, S)
            imagined = world.mae.decode(torch.from_numpy(chosen.imagined).to(world.device)).cpu()
            film = Film(frames[:-1], imagined, frames[-1])
            write_filmstrip(film, out / "panels" / f"{task}-{name}")
            write_film(film, out / "animations" / f"{task}_{name}.gif", setting.environment.config.seconds)


def summarize(context: Context) -> None:
    """Print the numbers of this run."""
    config: Config = context.config
    for task in config.tasks:
        rows = measured_rows(context, task)
        if rows:
            print(f"\nPlanning, {task} ({config.episodes} episodes; mean [95% interval over episodes])")
            print(table_text(rows, SHOWN, ""))


# Jobs of a cluster run


def stages(config: Config, data: Mapping[str, Path]) -> list[StageJob]:
    """The trainings of a cluster run; cells then find them."""
    return shared_jobs(cells(config, data), partial(needs, config))


def needs(config: Config, cell: Cell) -> Iterator[StageJob]:
    """The trainings behind a cell, each after those that it needs itself."""
    parsed, base = parse(cell.method), base_name(cell.method)
    if parsed.method == RANDOM:
        return
    yield from pretrain_jobs(config)
    parent = "pretrain"
    if reads_hand(cell):
        obtain, stage = partial(obtain_reader, config.reader), partial(reader_stage, config.reader)
        yield training("reader-hand", cell, obtain, stage, parent)
    if cell.seed is None:
        return
    parent = f"finetune-s{cell.seed}"
    yield training(parent, cell, lambda domain: domain.world, lambda domain: domain.stage, "pretrain")
    kinds = (
        (adapters, obtain_adapter, adapter_stage),
        (dynamics, obtain_dynamics, dynamics_stage),
        (clones, obtain_reader, reader_stage),
    )
    for recipes, obtain, stage in kinds:
        if base in recipes(config):  # type: ignore[operator]
            mine = seeded(recipes(config)[base], cell.seed)  # type: ignore[operator]
            name = f"adapter-{R_GT}" if base == SHUFFLED.name else base
            yield training(f"{name}-s{cell.seed}", cell, partial(obtain, mine), partial(stage, mine), parent)


def training(
    name: str,
    cell: Cell,
    obtain: Callable[[Domain], object],
    stage: Callable[[Domain], Stage],
    parent: str,
) -> StageJob:
    """A training in the domain of a cell."""

    def domain(context: Context) -> Domain:
        config: Config = context.config
        finetuned = None if cell.seed is None else seeded(config.finetune, cell.seed)
        return Domain(context, corpus_of(context, config.corpus), finetuned)

    return StageJob(
        name,
        lambda context: obtain(domain(context)),
        lambda context: stage(domain(context)),
        needs=(parent,),
    )


EXPERIMENT = Experiment(
    name="planning",
    version=1,
    configs=CONFIGS,
    cells=cells,
    run_cell=run_cell,
    reads=reads,
    summarize=summarize,
    stages=stages,
    check_corpus=check_task,
    description=(__doc__ or "").splitlines()[0],
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
