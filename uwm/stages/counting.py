"""What one step of a training costs, counted on its real networks: operations, and memory of the device; and
the operations of measuring a pair.

No training is run. Numbers of operations do not depend on the device. What is kept for the backward pass does
a little, by the kernels: it is counted with the fused attention that CPUs and GPUs both have.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from uwm.baselines.direct import DirectDynamics, direct_config
from uwm.baselines.ficc import FICC
from uwm.data.draws import Draws
from uwm.metrics.perceptual import LPIPS, ProtocolName, load_lpips
from uwm.models import ActionAdapter, ControllerConfig, MAEConfig, MaskedAutoencoder, WorldModel
from uwm.stages.action_training import ActionRecipe
from uwm.stages.adapter import AdapterRecipe
from uwm.stages.baselines import DynamicsRecipe, FICCRecipe
from uwm.stages.decoder import DecoderRecipe
from uwm.stages.finetune import FROZEN, FinetuneRecipe, PartialTraining
from uwm.stages.mae import MAERecipe
from uwm.stages.pair_training import PairRecipe
from uwm.stages.world_model import PretrainRecipe
from uwm.training.adaptation import AdapterRegression, CycleConsistency, DecoderReconstruction, NextState
from uwm.training.objectives import PictureLoss

COUNTED_PAIRS = 2  # counted together: a batch of one has no variance to standardise by
ROBOT = ControllerConfig(low=(-1.0,) * 7, high=(1.0,) * 7, steps=4)  # an arm with a gripper, 0.2 s at 20 Hz
TrainedRecipe = PretrainRecipe | FinetuneRecipe | AdapterRecipe | DecoderRecipe | DynamicsRecipe | FICCRecipe


class StepCost(NamedTuple):
    """A training step: floating-point operations and bytes for each pair; a multiply-add is two operations.

    Where a recipe computes states once (`views`), `encode` is zero: the encoder works before the first step.
    """

    encode: int  # frozen MAE, both frames
    forward: int  # all else: extractor, quantiser, dynamics
    backward: int
    parameters: int  # that are trained
    frozen: int  # parameters that are only read
    kept: int  # bytes that a pair keeps for the backward pass
    kept_once: int  # bytes kept for it whatever the batch: the weights in bf16

    @property
    def total(self) -> int:
        """Operations for a pair."""
        return self.encode + self.forward + self.backward

    def memory(self, pairs: int) -> int:
        """Bytes on a device that has so many pairs of a batch: fp32 weights, gradients and two moments, and
        what is kept for the backward pass. What an allocator and a framework take besides is not counted."""
        return 4 * self.frozen + 16 * self.parameters + self.kept_once + pairs * self.kept


def step_cost(recipe: TrainedRecipe, mae_recipe: MAERecipe, pretrain: PretrainRecipe) -> StepCost:
    """Counts one step of `recipe` on the CPU, with fresh weights. `pretrain`: of the world model that it
    starts from, or reads."""
    mae = _mae_beside(recipe, mae_recipe)
    objective, batch_of = _step(recipe, mae, pretrain)
    encode, forward, backward = _operations(recipe, mae_recipe, objective, batch_of)
    precision = recipe.train.precision
    few, more = (_kept_bytes(objective, batch_of(n), precision) for n in (COUNTED_PAIRS, COUNTED_PAIRS + 1))
    kept = more - few
    read = [mae] if _encodes(recipe) or isinstance(recipe, DecoderRecipe) else []
    # Frozen networks hide in tuples, so that they are no part of the training's state.
    hidden = [module for value in vars(objective).values() if isinstance(value, tuple) for module in value]
    picture = getattr(objective, "picture", None)
    hidden += [picture.decoder] if isinstance(picture, PictureLoss) else []
    modules = [objective, *read, *(module for module in hidden if isinstance(module, nn.Module))]
    weights = {id(parameter): parameter for module in modules for parameter in module.parameters()}
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    frozen = sum(parameter.numel() for parameter in weights.values()) - trained
    return StepCost(encode, forward, backward, trained, frozen, kept, few - COUNTED_PAIRS * kept)


def _mae_beside(recipe: TrainedRecipe, mae_recipe: MAERecipe) -> MaskedAutoencoder:
    """The MAE of a training's objective: without weights where it shows no states, so that none are drawn."""
    shows = isinstance(recipe, DecoderRecipe) or getattr(recipe, "picture_weight", 0.0) > 0
    with torch.device("cpu" if shows else "meta"):
        return MaskedAutoencoder(mae_recipe.model).eval()


def _encodes(recipe: TrainedRecipe) -> bool:
    """Whether each step encodes its frames."""
    return not isinstance(recipe, FICCRecipe | DecoderRecipe) and not recipe.views


def _operations(
    recipe: TrainedRecipe, mae: MAERecipe, objective: nn.Module, batch_of: Callable[[int], Any]
) -> tuple[int, int, int]:
    """Of a pair: to encode it, of the rest of the forward pass, and of the backward pass."""
    draws = Draws(torch.Generator().manual_seed(0))
    output, forward = _counted(lambda: objective(batch_of(COUNTED_PAIRS), draws)["loss"])
    _, backward = _counted(output.backward)
    return encode_cost(mae) if _encodes(recipe) else 0, forward, backward


def held_memory(recipe: PairRecipe | ActionRecipe, mae: MAEConfig, frames: int) -> int:
    """Bytes of frames and states that each rank's host holds at most; none where batches are read live.

    `frames`: of its training clips, all of which are decoded, as square pictures. Those that its pairs need
    are copied, unless they are all. With `views` there are their crops, and the states in fp16.
    """
    if isinstance(recipe, PairRecipe) and not recipe.views:
        return 0
    used = min(frames, 2 * recipe.pairs) if recipe.pairs else frames
    pictures = frames + (used if used < frames else 0)
    state = 2 * math.prod(mae.state_size)
    return 3 * recipe.short_side**2 * pictures + recipe.views * used * (3 * mae.image_size**2 + state)


def training_operations(recipe: TrainedRecipe, mae: MAERecipe, pretrain: PretrainRecipe) -> int:
    """Operations of a whole training but for what it does before its first step."""
    train = recipe.train
    return _operations_of_alike(bare(recipe), mae, bare(pretrain)) * train.batch_size * train.steps


@lru_cache(maxsize=64)
def _operations_of_alike(recipe: TrainedRecipe, mae: MAERecipe, pretrain: PretrainRecipe) -> int:
    """Of a pair, once for each `bare` recipe, without its memory: that takes longer to count."""
    return sum(_operations(recipe, mae, *_step(recipe, _mae_beside(recipe, mae), pretrain)))


def bare(recipe: Any) -> Any:
    """The recipe without what changes no cost of a pair, so that each network is counted once."""
    train = replace(recipe.train, steps=1, batch_size=1, warmup_steps=0, seed=0)
    fewer = {} if isinstance(recipe, PretrainRecipe) else {"pairs": None}
    starts = {"start": "pretrained"} if hasattr(recipe, "start") else {}
    return replace(recipe, train=train, **fewer, **starts)


@lru_cache(maxsize=64)
def cost_of_alike(recipe: TrainedRecipe, mae: MAERecipe, pretrain: PretrainRecipe) -> StepCost:
    """`step_cost`, once for each `bare` recipe."""
    return step_cost(recipe, mae, pretrain)


@lru_cache(maxsize=4)
def encode_cost(recipe: MAERecipe) -> int:
    """Operations of the frozen encoder for the two frames of a pair."""
    mae, size = MaskedAutoencoder(recipe.model).eval(), recipe.model.image_size
    with torch.no_grad():
        return _counted(lambda: mae.encode(torch.rand(2 * COUNTED_PAIRS, 3, size, size)))[1]


@lru_cache(maxsize=64)
def measure_cost(mae_recipe: MAERecipe, pretrain: PretrainRecipe, lpips: ProtocolName) -> int:
    """Operations of measuring one predicted pair: both frames are encoded, the latent action is inferred and
    O_t+1 predicted, S_t, S_t+1 and the prediction are shown, and LPIPS reads these and the frames."""
    model = WorldModel(pretrain.model.fitted(mae_recipe.model)).eval()
    state = torch.randn(COUNTED_PAIRS, *mae_recipe.model.state_size)
    with torch.no_grad():
        predicted = _counted(lambda: model.predict(state, model.infer_actions(state, state).quantized))[1]
    return encode_cost(mae_recipe) + predicted + _showing_cost(mae_recipe, lpips)


@lru_cache(maxsize=4)
def _showing_cost(recipe: MAERecipe, lpips: ProtocolName) -> int:
    """Of the part of `measure_cost` that is the same for every world model: pictures and LPIPS."""
    mae, network = MaskedAutoencoder(recipe.model).eval(), _costing_alike(lpips)
    state = torch.randn(COUNTED_PAIRS, *recipe.model.state_size)
    pictures = torch.rand(COUNTED_PAIRS, 3, recipe.model.image_size, recipe.model.image_size)
    with torch.no_grad():
        decoded = _counted(lambda: mae.decode(state))[1]
        compared = _counted(lambda: network.features(pictures))[1]
    return 3 * decoded + 5 * compared


def measured_pairs(read: Mapping[str, Any]) -> int:
    """By what a cell reads of the config: test pairs, those that probes are fitted to, steps of rollouts."""
    ahead: int = read.get("horizon", 0) * read.get("rollouts", 0)
    return int(read["test_pairs"]) + int(read.get("probe_pairs", 0)) + ahead


def measuring_operations(read: Mapping[str, Any]) -> int | None:
    """Operations of measuring a cell, by what it reads of the config, as if it encoded all its pairs anew.

    None for models over pixels, which predict by networks of other sizes.
    """
    if read["mae"].pixels or "reads" in read:
        return None
    return measured_pairs(read) * measure_cost(read["mae"], bare(read["pretrain"]), read["lpips"])


def _costing_alike(lpips: str) -> LPIPS:
    """The LPIPS of a protocol, or in the place of AlexNet's an untrained one: as dear, and without a file."""
    return load_lpips("random" if lpips in ("alex", "lpips-alex") else lpips)


def _step(
    recipe: TrainedRecipe, mae: MaskedAutoencoder, pretrain: PretrainRecipe
) -> tuple[nn.Module, Callable[[int], Any]]:
    """The objective of a recipe in training mode, on states, and its batches of n pairs."""
    model = recipe.model if isinstance(recipe, PretrainRecipe) else pretrain.model
    world_model = WorldModel(model.fitted(mae.config))

    def states(pairs: int) -> Tensor:
        return torch.randn(pairs, 2, *mae.config.state_size)

    def images(pairs: int, *frames: int) -> Tensor:
        return torch.zeros(pairs, *frames, 3, mae.config.image_size, mae.config.image_size, dtype=torch.uint8)

    def labelled(pairs: int) -> dict[str, Tensor]:
        actions, mask = torch.zeros(pairs, 4, 7), torch.ones(pairs, 4, dtype=torch.bool)
        return {"states": states(pairs), "actions": actions, "mask": mask}

    def with_latents(pairs: int) -> dict[str, Tensor]:
        tokens = world_model.config.tokens
        latents = torch.zeros(pairs, tokens.num_action_tokens, tokens.action_width)
        return {**labelled(pairs), "latents": latents, "codes": latents[..., 0].int()}

    if isinstance(recipe, PretrainRecipe | FinetuneRecipe):
        kept = FROZEN[recipe.trained] if isinstance(recipe, FinetuneRecipe) else ()
        picture = PictureLoss(mae, recipe.picture_weight)
        return PartialTraining(world_model, None, kept, picture).train(), states
    if isinstance(recipe, AdapterRecipe):
        adapter = ActionAdapter(recipe.model.fitted(world_model.config, ROBOT))
        weights = recipe.change_weight, recipe.commitment
        batch = with_latents if recipe.views else labelled  # computed with the states
        return AdapterRegression(adapter, world_model, None, *weights).train(), batch
    if isinstance(recipe, DynamicsRecipe):
        fitted, dynamics = recipe.model.fitted(world_model.config, ROBOT), world_model.config.dynamics
        direct = direct_config(fitted, dynamics, use_action=recipe.kind == "direct")
        picture = PictureLoss(mae, recipe.picture_weight)
        return NextState(DirectDynamics(direct), None, picture).train(), labelled
    if isinstance(recipe, DecoderRecipe):
        network = _costing_alike(recipe.lpips) if recipe.objective == "mse+lpips" else None
        decoded = DecoderReconstruction(mae, network, recipe.lpips_weight)
        return decoded.train(), lambda n: {"states": states(n)[:, 0], "images": images(n)}
    ficc = FICC(recipe.model.fitted(mae.config.image_size))
    return CycleConsistency(ficc).train(), lambda n: images(n, 2)


def _counted(work: Callable[[], Any]) -> tuple[Any, int]:
    """What `work` gives, and its operations for a pair."""
    # The fused attention of a CPU is not known to the counter; the plain one has the same operations.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = work()
    return result, counter.get_total_flops() // COUNTED_PAIRS


def _kept_bytes(objective: nn.Module, batch: Any, precision: str) -> int:
    """Bytes that one forward pass keeps for its backward pass, besides the weights themselves."""
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in (*objective.parameters(), *objective.buffers())}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    alive = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with alive, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = objective(batch, Draws(torch.Generator().manual_seed(0)))["loss"]
    del loss  # alive until here, so that no address was given twice
    return sum(kept.values())
