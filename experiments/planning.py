"""Planning with a robot's own actions in Robosuite: what section 6 of the paper leaves to do.

Claim to test (section 6): a world model "should be tested by a model-based RL algorithm in simulation
environments". Here a Panda must reach what a goal picture shows, from pictures of one fixed camera, by
model-predictive control: a solver asks a model what action sequences lead to, and takes the one that ends
nearest to the goal. The paper has no such experiment, so nothing is compared with it.

    python experiments/planning.py --jobs 2                           # mini: every cell, of three tasks
    python experiments/planning.py --only r_gt/reach,direct/reach,random/reach,simulator/reach --jobs 2
    python experiments/planning.py --set episodes=5 --only random     # a quick look

Rows: `simulator` (the simulator as the model: what cost and solver allow), `r_gt` (adapter from all
labelled pairs), `direct` (dynamics from all labelled pairs), both from fewer of them (`r_gt-100`, `r_gt-500`,
`r_gt-2k`, `direct-100`, ...), `no-action`, `shuffled-plans` (another plan's consequences), `copy` (nothing
ever moves), `cloning-500`, `cloning` (behaviour cloning from 500 and from all labelled pairs, whose goals are
what was reached 0.2 s later), `random`. On `reach` also R_GT by the latent actions of other families,
`r_gt-laq` and so on: the world models of experiments/families.py, trained briefly and alike, each with an
adapter from all labelled pairs.
What is minimised is the distance of the hand (`reach`), or of hand and block (`push`, `lift`), as small
networks read them off predicted state and goal, and that of the states themselves, all as shares of those at
the start. These networks are the same for all rows; half of what they are trained on are states that the
fine-tuned world model predicts, which may favour R_GT. `r_gt-plain-reader` and `direct-plain-reader` have
networks that were trained on true states alone.
`X-state-cost` and `X-changed-cost` minimise the distance of MAE states alone, over all tokens and over those
that differ most between start and goal; `simulator-true-cost` the simulator's own distance. Where a row
fails is shown by `r_gt-true-goal` (the simulator tells the goal's place, and predictions alone are read) and
`r_gt-few-samples` (the simulator rows' solver); `simulator-more-samples` has that of the other rows.

An episode is drawn by its seed, the same for all rows. It ends when the goal is reached, or after `steps`.
Settings were chosen on seeds from 1000 on; the rows are measured on those from `first_seed` on.
Each finished episode is kept: a run that was killed goes on with the next one. `--jobs` shares a cell's
episodes between processes, which changes nothing but the time.
"""

from uwm.runs.queries import answer_early

if __name__ == "__main__":
    answer_early(__file__)  # --status and its like need no torch

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

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
)
from uwm.data.action_pairs import all_action_pairs
from uwm.data.corpora import BUNDLED, IN_DOMAIN, INCLUDED
from uwm.data.simulation.corpora import check_renderer
from uwm.data.simulation.robot_scene import WORKSPACE_CAMERA
from uwm.data.simulation.task_config import TaskConfig
from uwm.data.simulation.tasks import MILLIMETRES, TaskEnvironment, kept_environment
from uwm.errors import UserError
from uwm.evaluation.episodes import cropped, episode_metrics, sample_table, show_episodes, told
from uwm.evaluation.predictors import adapter_predictor, as_dynamics
from uwm.evaluation.records import write_samples
from uwm.evaluation.summary import measured_rows, table_text
from uwm.methods import (
    CHANGED_COST,
    CLONING,
    COPY,
    DIRECT,
    FEW_SAMPLES,
    MORE_SAMPLES,
    NO_ACTION,
    PLAIN_READER,
    R_GT,
    RANDOM,
    SHUFFLED_PLANS,
    SIMULATOR,
    STATE_COST,
    TRUE_COST,
    TRUE_GOAL,
    parse,
)
from uwm.methods.families import PLANNERS
from uwm.models.dynamics import DynamicsFunction
from uwm.planning import cost as costs
from uwm.planning import dynamics as forward_models
from uwm.planning.episodes import Player, kept_player
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
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, CellResult, Context, Experiment, Parts, StageJob
from uwm.runs.jobs import shared_jobs
from uwm.runs.record import digest_of
from uwm.runs.source_digest import MEASURING, measuring_code
from uwm.stages.action_training import AS_ON_ALL, MINI_FEW_PAIRS, FewPairs, skip_where_fewer
from uwm.stages.adapter import ADAPTER, AdapterRecipe, family_adapter
from uwm.stages.baselines import DYNAMICS, DynamicsRecipe
from uwm.stages.finetune import FINETUNE, Domain, FinetuneRecipe
from uwm.stages.jobs import domain_job, finetune_job, obtain, operations_of, pretrain_jobs
from uwm.stages.mae import MAE, MAERecipe
from uwm.stages.manifest_jobs import listed_first
from uwm.stages.preflight import trainings_lack
from uwm.stages.pretrained import corpus_of, in_domain_corpus, obtain_pretrained, pretrain_stage
from uwm.stages.reader import PLANNING_READER, ReaderRecipe
from uwm.stages.world_model import PRETRAIN, PretrainRecipe, varied

PRINTED = ("success", "final_distance_mm", "steps", "calls_per_decision", "seconds_per_decision")
PLAYS = (*MEASURING, "planning")  # packages of `uwm` whose code an episode depends on
Recipe = AdapterRecipe | DynamicsRecipe | ReaderRecipe
COUNTED = ("episodes", "first_seed")  # say which episodes are played, and change none
REACH, LIFT = "reach", "lift"
READ = {REACH: ("hand",), "push": ("hand", "block"), LIFT: ("hand", "block")}  # off the goal picture


@dataclass(frozen=True)
class Config(Bounded):
    """Everything that changes a number of the planning experiment."""

    tasks: SomeNames = ("reach",)  # reach, push, lift
    camera: str = WORKSPACE_CAMERA
    controller: str = "OSC_POSE"
    episodes: Count = 100
    simulator_episodes: Count | None = None  # of rows that plan by it, which is slow; None: as many
    first_seed: Natural = 0
    steps: Count = 10  # of an episode, of 0.2 s each
    # The numbers of an action that are searched: the translation. Lifting adds the gripper.
    chosen: tuple[Natural, ...] = (0, 1, 2)
    solver: SolverConfig = SolverConfig(samples=64, iterations=3, horizon=2)
    simulator_solver: SolverConfig = SolverConfig(samples=32, iterations=3, horizon=2)
    planner: PlannerConfig = PlannerConfig()
    cost: costs.CostConfig = costs.CostConfig()
    corpus: str = "robosuite"  # in-domain, with actions: what adapter and direct dynamics are trained on
    pretrain_on: Names = ("ssv2", "ego4d")
    mae: MAERecipe = MAE["paper"]
    pretrain: PretrainRecipe = PRETRAIN["paper"]
    finetune: FinetuneRecipe = FINETUNE["paper"]
    adapter: AdapterRecipe = ADAPTER["paper"]
    dynamics: DynamicsRecipe = DYNAMICS["paper"]
    reader: ReaderRecipe = PLANNING_READER["paper"]
    curve: Counts = (100, 500, 2000)  # numbers of labelled pairs, besides all
    curve_seeds: Seeds = (0,)  # on `reach`: of the draw of these few and of what is trained on them
    few: FewPairs = AS_ON_ALL  # how these few are trained on
    families: Names = ()  # of latent actions, whose adapters plan too
    family_seeds: Seeds = (0,)
    family_pretrain: PretrainRecipe = PRETRAIN["mini-families"]  # the base, as experiments/families.py has it
    family_adapter: AdapterRecipe = family_adapter("mini", 600)
    cloned: SomeCounts = (500,)
    seeds: Seeds = (0,)

    def __post_init__(self) -> None:
        check_bounds(self)
        sizes = {self.adapter.short_side, self.dynamics.short_side, self.reader.short_side}
        if len(sizes) > 1:
            raise OutOfBounds(
                "adapter, dynamics and reader see pictures of one size: set their short_side alike"
            )
        known = [family.name for family in PLANNERS.values()]
        unknown = [name for name in self.families if name not in known]
        if unknown:
            raise OutOfBounds(f"families: {unknown[0]!r} is none of {', '.join(known)}")


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
        reader=PLANNING_READER["smoke"],
        curve=(8,),
        families=("laq",),
        family_pretrain=PRETRAIN["smoke"],
        family_adapter=family_adapter("smoke", 3),
        cloned=(8,),
    ),
    "mini": Config(
        tasks=("reach", "push", "lift"),
        episodes=50,
        few=MINI_FEW_PAIRS,
        families=tuple(family.name for family in PLANNERS.values()),
        # Of the three that are compared: the one that was trained on a CPU, as all else here.
        family_seeds=(2,),
        solver=_ONE_ACTION,
        # Fewer, for the simulator plays out each look ahead.
        simulator_solver=replace(_ONE_ACTION, samples=12, iterations=2, elites=3),
        corpus=IN_DOMAIN,
        pretrain_on=BUNDLED,
        mae=MAE["mini"],
        pretrain=PRETRAIN["mini"],
        finetune=FINETUNE["mini"],
        adapter=ADAPTER["mini"],
        dynamics=DYNAMICS["mini"],
        reader=PLANNING_READER["mini"],
    ),
    "paper": Config(),
}


# Cells


@lru_cache(maxsize=4)
def trained(config: Config) -> Mapping[str, Recipe]:
    """The methods that are trained on labelled pairs: adapters, dynamics without latent actions, cloning. A
    plan asks for each cell's several times."""
    # Goals of one gap ahead: with goals up to an episode's steps ahead (`goals_ahead`) cloning reached fewer.
    cloning = replace(config.reader, reads="action", pairs=None, predicted_share=0.0)
    by_pairs = {R_GT: config.adapter, DIRECT: config.dynamics}
    return {
        **{
            m.with_pairs(pairs): recipe.with_pairs(pairs, config.few)
            for m, recipe in by_pairs.items()
            for pairs in config.curve
        },
        **{name: config.family_adapter for name, f in PLANNERS.items() if f.name in config.families},
        R_GT.name: config.adapter,
        SHUFFLED_PLANS.name: config.adapter,
        DIRECT.name: config.dynamics,
        NO_ACTION.name: replace(config.dynamics, kind="no-action"),
        **{CLONING.with_pairs(pairs): cloning.with_pairs(pairs, config.few) for pairs in config.cloned},
        CLONING.name: cloning,
    }


def own_recipe(config: Config, cell: Cell) -> Recipe:
    """What the cell's method is trained by."""
    return trained(config)[parse(cell.method).base].seeded(cell.seed)


def readers(config: Config, cell: Cell) -> dict[str, ReaderRecipe]:
    """What the cell's cost reads off states: the places that the goal picture shows."""
    parsed = parse(cell.method)
    if parsed.method in (CLONING, RANDOM) or parsed.variant in (TRUE_COST, STATE_COST, CHANGED_COST):
        return {}
    recipe = cost_reader(config, cell)
    end = "" if recipe == config.reader else f"-{PLAIN_READER.suffix}"
    return {f"reader-{reads}{end}": replace(recipe, reads=reads) for reads in READ.get(cell.corpus, ())}


def cost_reader(config: Config, cell: Cell) -> ReaderRecipe:
    """How the networks that read places for the cell's cost are trained."""
    plain = parse(cell.method).variant == PLAIN_READER
    return replace(config.reader, predicted_share=0.0) if plain else config.reader


def cells(config: Config, data: Mapping[str, Path]) -> list[Cell]:
    """Methods x tasks x seeds. `lift` has the main rows alone, and `reach` all of them."""
    learned = [name for name in trained(config) if name not in PLANNERS]
    listed = []
    for task in config.tasks:
        fixed = [SIMULATOR.name, SIMULATOR.variant(TRUE_COST), RANDOM.name, COPY.name]
        rows = [name for name in learned if task != LIFT or not parse(name).short_pairs]
        if task != LIFT:
            fixed.append(SIMULATOR.variant(MORE_SAMPLES))
        if task == REACH:
            fixed += [SIMULATOR.variant(end) for end in (STATE_COST, CHANGED_COST)]
            rows += [R_GT.variant(end) for end in (TRUE_GOAL, FEW_SAMPLES)]
            rows += [
                m.variant(end) for end in (STATE_COST, CHANGED_COST, PLAIN_READER) for m in (R_GT, DIRECT)
            ]
        listed += [Cell(method, task) for method in fixed]
        listed += [Cell(method, task, seed) for seed in config.seeds for method in rows]
        if task == REACH:
            listed += further_seeds(config, learned)
    return listed


def further_seeds(config: Config, learned: list[str]) -> list[Cell]:
    """On `reach`: further draws of few pairs, and the families, each of seeds of its own."""
    few = [name for name in learned if parse(name).short_pairs and parse(name).method != CLONING]
    further = [seed for seed in config.curve_seeds if seed not in config.seeds]
    families = [name for name in trained(config) if name in PLANNERS]
    return [
        *(Cell(name, REACH, seed) for seed in further for name in few),
        *(Cell(name, REACH, seed) for seed in config.family_seeds for name in families),
    ]


def reads(config: Config, cell: Cell) -> dict[str, Any]:
    """What of the config changes a cell's numbers."""
    names = ["camera", "controller", "first_seed", "steps", "chosen", "planner"]
    read = {name: getattr(config, name) for name in names} | {"episodes": len(episode_seeds(config, cell))}
    method = parse(cell.method).method
    if method == RANDOM:
        return read
    read |= {name: getattr(config, name) for name in ("cost", "mae", "corpus", "pretrain_on")}
    if method != CLONING:
        read["solver"] = solver_of(config, cell)
    if readers(config, cell):
        read["reader"] = reader = cost_reader(config, cell)
        if reader.predicted_share:
            read |= {"pretrain": config.pretrain, "reader_finetune": config.finetune}
    if cell.seed is not None:
        recipe = own_recipe(config, cell)
        kinds = {AdapterRecipe: "adapter", DynamicsRecipe: "dynamics", ReaderRecipe: "cloning"}
        read[kinds[type(recipe)]] = recipe
    if (family := family_recipe(config, cell)) is not None:
        read["family_pretrain"] = family
    if (tuned := finetuning(config, cell)) is not None:
        read |= {"pretrain": config.pretrain, "finetune": tuned}
    return read


def solver_of(config: Config, cell: Cell) -> SolverConfig:
    """The budget of a planner: a look ahead in the simulator takes long."""
    parsed = parse(cell.method)
    few = parsed.method == SIMULATOR and parsed.variant != MORE_SAMPLES
    return config.simulator_solver if few or parsed.variant == FEW_SAMPLES else config.solver


def family_recipe(config: Config, cell: Cell) -> PretrainRecipe | None:
    """The pre-training of the family that the cell plans by: as it is, without fine-tuning."""
    family = PLANNERS.get(cell.method)
    return (
        varied(config.family_pretrain, family.preset, family.settings).seeded(cell.seed) if family else None
    )


def finetuning(config: Config, cell: Cell) -> FinetuneRecipe | None:
    """Of the world model: for what plans by it."""
    if (
        cell.seed is None
        or cell.method in PLANNERS
        or not isinstance(own_recipe(config, cell), AdapterRecipe)
    ):
        return None
    return replace(config.finetune, train=replace(config.finetune.train, seed=cell.seed))


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


def lacks(context: Context) -> Iterator[str]:
    """What trainings lack, and the simulator. UserError as for trainings, or where there is none."""
    yield from trainings_lack(context)
    if importlib.util.find_spec("robosuite") is None:
        check_renderer()


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

    def goal_place(self) -> Tensor:
        """Where the simulator has the goal, (3,) mm."""
        return torch.from_numpy(self.environment.goal_place * MILLIMETRES)

    def encode(self, picture: Picture) -> Tensor:
        """A picture (S, S, 3) -> its state (1+N, D), as those of the corpus."""
        return self.encode_all(picture[None])[0]

    def encode_all(self, pictures: Picture) -> Tensor:
        """Pictures (n, S, S, 3) -> states (n, 1+N, D)."""
        return self.domain.world.encode(cropped(pictures, self.domain.world.image_size))


def make_policy(setting: Setting) -> Policy:
    """The cell's policy."""
    config, cell, environment = setting.config, setting.cell, setting.environment
    gripper = (environment.config.action_size - 1,) if cell.corpus == LIFT else ()
    space = space_of(environment.limits, environment.held, (*config.chosen, *gripper))
    method = parse(cell.method).method
    if method == RANDOM:
        return RandomPolicy(space, config.planner.hold)
    if method == CLONING:
        return CloningPolicy(setting.encode, obtain(own_recipe(config, cell), setting.domain).model, space)
    solver = SamplingSolver(solver_of(config, cell))
    parts = make_dynamics(setting), make_cost(setting), solver, space, config.planner
    return PlanningPolicy(setting.encode, *parts, ends=config.cost.discount == 0)


def make_dynamics(setting: Setting) -> forward_models.ForwardModel:
    """What the cell's planner believes."""
    method, variant = parse(setting.cell.method).method, parse(setting.cell.method).variant
    if method == SIMULATOR:
        environment = setting.environment
        if variant == TRUE_COST:
            return forward_models.SimulatedDynamics(environment.distances_ahead, forward_models.as_distances)
        return forward_models.SimulatedDynamics(environment.pictures_ahead, setting.encode_all)
    steps = setting.environment.config.control_steps
    if method == COPY:
        return forward_models.LearnedDynamics(forward_models.copied, steps)
    learned = forward_models.LearnedDynamics(learned_dynamics(setting), steps)
    return forward_models.ShuffledDynamics(learned) if method == SHUFFLED_PLANS else learned


def learned_dynamics(setting: Setting) -> DynamicsFunction:
    """A trained model: cached, or trained now."""
    config, cell, world = setting.config, setting.cell, setting.domain.world
    recipe = own_recipe(config, cell)
    model: Any = obtain(recipe, setting.domain).model
    if isinstance(recipe, DynamicsRecipe):
        direct: DynamicsFunction = model
        return direct
    known = len(model.config.controller.low)
    if known != setting.environment.config.action_size:
        raise UserError(f"the adapter takes actions of {known} numbers; set controller to one of that size")
    return as_dynamics(adapter_predictor(world.world_model, model))


def make_cost(setting: Setting) -> costs.MakeCost:
    """What the cell's planner minimises, once start and goal are known."""
    config, variant = setting.config, parse(setting.cell.method).variant
    if variant == TRUE_COST:
        return lambda start, goal: costs.MeasuredDistance(config.cost)
    if variant in (STATE_COST, CHANGED_COST):
        return (costs.state_cost if variant == STATE_COST else costs.changed_cost)(config.cost)
    recipes = readers(config, setting.cell).values()
    domain = reader_domain(setting.context, setting.cell)
    heads = [in_millimetres(obtain(recipe, domain).model) for recipe in recipes]
    return costs.read_cost(heads, config.cost, setting.goal_place if variant == TRUE_GOAL else None)


def in_millimetres(model: Callable[[Tensor], Tensor]) -> costs.ReadOff:
    """A reader of places as a cost takes it: states (n, 1+N, D) -> places (n, 3)."""
    return lambda states: model(states[:, None].float()) * MILLIMETRES


# Measures


def run_cell(context: Context, cell: Cell) -> CellResult:
    """Run the cell's episodes, or take those that are there, and measure them."""
    config: Config = context.config
    check_task(context, cell.corpus)
    check_renderer()
    for job in needs(config, cell):  # those of the record, also where every episode is there
        job.run(context)
    player, episodes = player_of(context, cell), []
    for seed in episode_seeds(config, cell):
        episodes.append(player.episode(seed))
        print(f"{cell.name}: {told(episodes[-1])}", flush=True)
    world = domain_of(context, cell).world
    if cell.method == R_GT.name:
        seconds = task_of(context, cell.corpus).seconds
        show_episodes(world, episodes, context.out, cell.corpus, seconds)
    samples = write_samples(context, cell, sample_table(cell, episodes, config.steps))
    planned = cell.method in PLANNERS or finetuning(context.config, cell) is not None
    read = [] if parse(cell.method).method == RANDOM else [*world.weights] if planned else ["mae"]
    weights = {name: world.weights[name] for name in read}
    return CellResult(episode_metrics(episodes, config.steps), samples, weights=weights)


def episode_seeds(config: Config, cell: Cell) -> range:
    """Of the cell's episodes: the same for all rows; those by the simulator may have the first ones alone."""
    fewer = config.simulator_episodes if parse(cell.method).method == SIMULATOR else None
    return range(config.first_seed, config.first_seed + (fewer or config.episodes))


def domain_of(context: Context, cell: Cell) -> Domain:
    """The robot's domain, with the cell's fine-tuned world model where its method plans by it.

    Raises:
        SkipCell: there are fewer labelled pairs than the cell's method wants.
    """
    config: Config = context.config
    corpus = in_domain_corpus(context, config.corpus, config.adapter)
    if cell.seed is not None:
        recipe = own_recipe(config, cell)
        field = "dynamics.pairs" if isinstance(recipe, DynamicsRecipe) else "adapter.pairs"
        if parse(cell.method).short_pairs:
            field = "cloned" if isinstance(recipe, ReaderRecipe) else "curve"
        skip_where_fewer(recipe, corpus, "family_adapter.pairs" if cell.method in PLANNERS else field)
    return Domain(context, corpus, finetuning(config, cell), family_recipe(config, cell))


def reader_domain(context: Context, cell: Cell) -> Domain:
    """That of the cost's readers: where they are trained on predictions, one world model's for all rows."""
    config: Config = context.config
    recipe = config.finetune if cost_reader(config, cell).predicted_share else None
    return Domain(context, in_domain_corpus(context, config.corpus, config.adapter), recipe)


def player_of(context: Context, cell: Cell) -> Player:
    """Plays the cell's episodes, or takes those that this run has."""
    folder = context.work / "episodes" / cell.file_name
    return kept_player(folder, episodes_identity(context, cell), partial(make_play, context, cell))


def make_play(context: Context, cell: Cell) -> tuple[TaskEnvironment, Policy]:
    """What an episode of the cell takes."""
    environment = kept_environment(task_of(context, cell.corpus))
    return environment, make_policy(Setting(context, cell, domain_of(context, cell), environment))


def play_part(context: Context, cell: Cell, part: str) -> None:
    """The episode of a seed, ahead of the cell."""
    player_of(context, cell).episode(int(part))


def episodes_identity(context: Context, cell: Cell) -> str:
    """Digest of all that a cell's episodes depend on: they are taken for finished where it is the same.

    How many are played is no part of it, so that more of them are added to those that are there.
    """
    jobs = {job.name: job.stage(context) for job in needs(context.config, cell) if job.stage}
    trained = {name: stage.digest for name, stage in jobs.items() if stage}
    code = measuring_code(make_policy, packages=PLAYS)
    config = {name: value for name, value in context.cell_config(cell).items() if name not in COUNTED}
    identity = {"cell": cell.name, "config": config, "stages": trained, "played_by": code}
    return digest_of({**identity, "version": EXPERIMENT.version})


def summarize(context: Context) -> None:
    """Print the numbers of this run."""
    config: Config = context.config
    for task in config.tasks:
        rows = measured_rows(context, task)
        if rows:
            print(f"\nPlanning, {task} (mean [95% interval over episodes])")
            print(table_text(rows, PRINTED, ""))


# Jobs of a cluster run


def stages(config: Config, data: Mapping[str, Path]) -> list[StageJob]:
    """The trainings of a cluster run; cells then find them."""
    listed = listed_first(partial(needs, config), data, lambda cell: config.corpus)
    return shared_jobs(cells(config, data), listed)


def needs(config: Config, cell: Cell) -> Iterator[StageJob]:
    """The trainings behind a cell, each after those that it needs itself."""
    parsed, domain = parse(cell.method), partial(domain_of, cell=cell)
    if parsed.method == RANDOM:
        return
    planned = [family_recipe(config, other) for other in cells(config, {})]
    yield from pretrain_jobs(config, further=[recipe for recipe in planned if recipe])
    yield from reader_jobs(config, cell)
    if cell.seed is None:
        return
    tuned, parent = finetuning(config, cell), "pretrain"
    if cell.method in PLANNERS:
        parent = f"pretrain-{cell.method}-s{cell.seed}"
        yield family_job(config, cell, parent)
    if tuned is not None:
        parent = f"finetune-s{cell.seed}"
        yield finetune_job(parent, tuned, domain)
    base = R_GT.name if parsed.method == SHUFFLED_PLANS else parsed.base
    yield domain_job(f"{base}-s{cell.seed}", own_recipe(config, cell), domain, parent)


def family_job(config: Config, cell: Cell, name: str) -> StageJob:
    """The pre-training of the family that a cell plans by."""
    recipe = family_recipe(config, cell)
    assert recipe is not None
    return StageJob(
        name,
        partial(obtain_pretrained, recipe=recipe),
        partial(pretrain_stage, recipe=recipe),
        needs=("pretrain",),  # it leaves the MAE and the lists, and each cell waits for it anyway
        operations=operations_of(recipe),
    )


def reader_jobs(config: Config, cell: Cell) -> Iterator[StageJob]:
    """The cost's readers, after the world model whose predictions they are trained on."""
    recipes, parent, domain = readers(config, cell), "pretrain", partial(reader_domain, cell=cell)
    if recipes and cost_reader(config, cell).predicted_share:
        parent = f"finetune-s{config.finetune.train.seed}"
        yield finetune_job(parent, config.finetune, domain)
    for name, recipe in recipes.items():
        yield domain_job(name, recipe, domain, parent)


EXPERIMENT = Experiment(
    name="planning",
    version=1,
    configs=CONFIGS,
    cells=cells,
    run_cell=run_cell,
    reads=reads,
    summarize=summarize,
    stages=stages,
    checks=lacks,
    check_corpus=check_task,
    check_cell=domain_of,
    parts=Parts(lambda config, cell: [str(seed) for seed in episode_seeds(config, cell)], play_part),
    included=INCLUDED,
    description=(__doc__ or "").splitlines()[0],
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
