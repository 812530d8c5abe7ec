"""Does a model keep to `LatentActionModel`? One line for each thing that is wrong.

It is asked for actions and frames of a few made-up pairs: a picture of soft blobs, and the same moved by some
pixels and darker. No weights or data of this project are needed.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from uwm.methods.protocol import (
    action_problem,
    codebook_size,
    declaration_problems,
    device_problem,
    feature_problem,
    frame_problem,
)

PAIRS = 4
BATCH_TOLERANCE = 1e-3  # between the same pair in batches of two sizes: kernels sum in other orders


def problems(model: Any) -> Iterator[str]:
    """`error: ...` and `warning: ...` lines about a model; none where all is well."""
    declared = list(declaration_problems(model))
    yield from (f"error: {text}" for text in declared)
    if declared:
        return
    if hasattr(model, "eval"):
        model.eval()
    try:
        with torch.no_grad():
            yield from _call_problems(model)
    except Exception as error:
        where = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        yield f"error: it stopped with {where}"


def made_up_pairs(size: int, count: int = PAIRS, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Frames (count, 3, size, size) in [0, 1], and the same moved by a few pixels and darkened a little."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((count, 3, 6, 6), generator=generator)
    frames = interpolate(coarse, size=(size, size), mode="bilinear", align_corners=True)
    moves = torch.randint(1, max(2, size // 8), (count, 2), generator=generator).tolist()
    moved = [frame.roll(move, dims=(1, 2)) for frame, move in zip(frames, moves, strict=True)]
    lights = 0.8 + 0.2 * torch.rand((count, 3, 1, 1), generator=generator)
    return frames, torch.stack(moved) * lights


def _call_problems(model: Any) -> Iterator[str]:
    size = model.image_size
    now, then = made_up_pairs(size)
    actions = model.infer(now, then)
    problem = device_problem(actions, now) or action_problem(actions, PAIRS)
    if problem:
        yield f"error: infer gave {problem}"
        return
    yield from _bits_problems(actions, model.bits)
    yield from _codebook_problems(actions, model.bits)
    yield from _repeat_problems("infer", model.infer, (now, then), actions)
    if hasattr(model, "embed"):
        features = model.embed(actions)
        problem = device_problem(features, now) or feature_problem(features, PAIRS)
        yield from [f"error: embed gave {problem}"] if problem else []
        yield from [] if problem else _repeat_problems("embed", model.embed, (actions,), features)
    elif not actions.is_floating_point():
        yield "warning: the actions are codes and there is no embed: probes read the codes as numbers"
    frames = model.predict(now, actions)
    problem = device_problem(frames, now) or frame_problem(frames, PAIRS, size)
    if problem:
        yield f"error: predict gave {problem}"
        return
    yield from _repeat_problems("predict", model.predict, (now, actions), frames)
    other = model.predict(now, actions.roll(1, 0))
    if torch.equal(other, frames) and not torch.equal(actions, actions.roll(1, 0)):
        yield "warning: predict gave the same frames with the actions of other pairs: it ignores them"


def _bits_problems(actions: Tensor, bits: float) -> Iterator[str]:
    different = len(torch.unique(actions.reshape(PAIRS, -1), dim=0))
    if different == 1:
        yield f"warning: infer gave one and the same action for {PAIRS} different pairs"
    if different > 2 ** min(bits, 64):
        yield f"error: {different} different actions among {PAIRS} pairs are more than {bits:g} bits can tell"


def _codebook_problems(actions: Tensor, bits: float) -> Iterator[str]:
    codes = actions.reshape(PAIRS, -1)
    if not actions.is_floating_point() and codebook_size(bits, codes) is None:
        text = f"{bits:g} bits for {codes.shape[1]} codes up to {int(codes.max())}"
        yield f"warning: {text} are of no one codebook: no random codes are drawn, and delta-PSNR is left out"


def _repeat_problems(
    name: str, call: Callable[..., Any], inputs: tuple[Tensor, ...], expected: Tensor
) -> Iterator[str]:
    """Again, and in batches of one and two: the same must come out."""
    if not torch.equal(call(*inputs), expected):
        yield f"error: {name} is not deterministic: the same input gave something else"
        return
    for batch in (1, 2):
        part = call(*(tensor[:batch] for tensor in inputs))
        if not _alike(part, expected[:batch]):
            yield f"error: {name} gave something else for the same pair in a batch of {batch} than of {PAIRS}"
            return


def _alike(a: Any, b: Tensor) -> bool:
    if not isinstance(a, Tensor) or a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    return torch.allclose(a, b, rtol=BATCH_TOLERANCE, atol=BATCH_TOLERANCE)
