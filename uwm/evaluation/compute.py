"""What a prediction costs: floating-point operations from two frames to the frame that is predicted."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from uwm.evaluation.frame_models import FrameModel
from uwm.models.world import World
from uwm.runs.experiment import Estimate


def world_cost(world: World, images: Tensor) -> dict[str, Estimate]:
    """Of a world model over states: both frames of the first pair of uint8 `images` (n, 2, 3, S, S) encoded,
    the action inferred, the next state predicted and decoded."""
    model = world.world_model

    def drawn() -> Tensor:
        s_t, s_next = world.encode(images[:1]).unbind(1)
        return world.mae.decode(model.predict(s_t, model.infer_actions(s_t, s_next).quantized))

    return _cost(drawn)


def frame_model_cost(model: FrameModel, images: Tensor) -> dict[str, Estimate]:
    """Of a model that reads and draws frames, its own alone."""
    now, then = images[:1].unbind(1)
    return _cost(lambda: model.draw(now, model.infer_actions(now, then).quantized))


@torch.no_grad()
def _cost(work: Callable[[], Any]) -> dict[str, Estimate]:
    """GFLOP, with a multiply-add as two operations. Empty where none can be counted, as in a TorchScript
    program."""
    # The fused attention of a CPU is not known to the counter; the plain one has the same operations.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    operations = counter.get_total_flops()
    return {"gflop": Estimate(operations / 1e9, 1)} if operations else {}
