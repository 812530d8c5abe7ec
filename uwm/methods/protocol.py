"""What a latent-action model of others must offer to become a row of Table 1: frames in, frames out.

    class Mine:
        bits, image_size, weights = 12.0, 64, ("mine.pt",)

        def infer(self, frames_t, frames_next): ...
        def predict(self, frames_t, actions): ...

One file with such a class is enough; nothing of this package need be imported. What is wrong with it says
`python -m uwm.methods check FILE.py:CLASS`; it is measured by `experiments/table1.py --method
NAME=FILE.py:CLASS`.
"""

import math
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from uwm.errors import BadInput
from uwm.models.boundary import check_images, check_tensor

MOST_CODE_BITS = 40  # of one code; more is no codebook
ROUNDED_BITS = 1e-3  # bits may be written with a few digits
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8)


class LatentActionModel(Protocol):
    """Infers an action between two frames, and predicts the second from the first and the action.

    Frames are floats (B, 3, S, S) in [0, 1], RGB, S = `image_size`, on any device: the results are on the
    same one. The same input gives the same output, whatever else is in the batch. The class is called
    without arguments; `to(device)` and `eval()` are called where it has them.
    """

    bits: float
    """Of one transition's action: L log2 K of L codes among K. Of continuous actions what their numbers are
    stored in, such as 32 for each float32; or the rate that a noise leaves, where `predict` reads them with
    it (uwm/models/bottleneck.py)."""
    image_size: int
    """S, in pixels. Frames of another size are resized: bicubic, with antialias, clipped to [0, 1]."""
    weights: tuple[str, ...]
    """The files that the class reads, relative to its own: their digests stand in the records."""

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        """Actions (B, ...): floats, or whole numbers (codes)."""
        ...

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        """The next frames (B, 3, S, S) in [0, 1], from actions as `infer` gives them."""
        ...


class Embeds(Protocol):
    """The optional third method, for codes: what probes read."""

    def embed(self, actions: Tensor) -> Tensor:
        """Floats (B, F). Without this method, the actions themselves, as floats in a row."""
        ...


class Fits(Protocol):
    """The optional fourth method: a trainer of its own. The class also has `state_dict` and
    `load_state_dict`, as every torch.nn.Module."""

    def fit(self, corpora: Any, budget: int, seed: int) -> None:
        """Train on `corpora.batches(batch_size)`, pairs of frames (B, 3, S, S) each, `budget` of them in all
        (uwm/stages/external.py)."""
        ...


class CheckedModel:
    """A model behind its boundary: what goes in and comes out is checked, once, at each call.

    Raises BadInput, which names the method, the call and what is wrong.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name
        problem = next(declaration_problems(model), None)
        if problem:
            raise BadInput(f"method {name}: {problem}")
        self.bits, self.image_size = float(model.bits), int(model.image_size)
        if hasattr(model, "eval"):
            model.eval()

    def to(self, device: torch.device) -> "CheckedModel":
        """Move the model where it can be moved."""
        if hasattr(self.model, "to"):
            self.model.to(device)
        return self

    @torch.no_grad()
    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        """As the protocol has it."""
        actions = self.model.infer(frames_t, frames_next)
        self._refuse(device_problem(actions, frames_t), "infer")
        self._refuse(action_problem(actions, len(frames_t)), "infer")
        return actions

    @torch.no_grad()
    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        """As the protocol has it, clipped to [0, 1]."""
        frames = self.model.predict(frames_t, actions)
        self._refuse(device_problem(frames, frames_t), "predict")
        self._refuse(frame_problem(frames, len(frames_t), self.image_size), "predict")
        return frames.float().clamp(0, 1)

    @torch.no_grad()
    def embed(self, actions: Tensor) -> Tensor:
        """Floats (B, F) for probes."""
        if not hasattr(self.model, "embed"):
            return actions.reshape(len(actions), -1).float()
        features = self.model.embed(actions)
        self._refuse(device_problem(features, actions), "embed")
        self._refuse(feature_problem(features, len(actions)), "embed")
        return features.float()

    def codebook(self, codes: Tensor) -> int | None:
        """K, where actions are codes (n, L) among K by the model's `bits`; else None."""
        return codebook_size(self.bits, codes)

    @property
    def parameters(self) -> int | None:
        """How many numbers were trained; None where the model doesn't tell."""
        if not callable(getattr(self.model, "parameters", None)):
            return None
        return sum(parameter.numel() for parameter in self.model.parameters())

    def _refuse(self, problem: str | None, call: str) -> None:
        if problem:
            raise BadInput(
                f"method {self.name}: {call} gave {problem}; python -m uwm.methods check tells more"
            )


def resize_frames(frames: Tensor, size: int) -> Tensor:
    """Square frames (B, 3, S, S) in [0, 1] -> (B, 3, size, size): bicubic, with antialias, clipped to [0, 1].
    Frames of that size are left as they are."""
    if frames.shape[-1] == size:
        return frames
    return interpolate(frames, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


def codebook_size(bits: float, codes: Tensor) -> int | None:
    """K, where `bits` are L log2 K and all codes (n, L) are below K: then codes can be drawn by chance. None
    where there are no codes, or they are of several codebooks of different sizes."""
    tokens = codes.shape[1]
    if not tokens or not codes.numel() or bits / tokens > MOST_CODE_BITS:
        return None
    size = round(2 ** (bits / tokens))
    whole = math.isclose(size, 2 ** (bits / tokens), rel_tol=ROUNDED_BITS)
    return size if whole and size > 1 and int(codes.max()) < size else None


# What is wrong with what a model declares or gives; None or nothing where all is well.


def declaration_problems(model: Any) -> Any:
    """Yields what is missing from the class or makes no sense."""
    for call in ("infer", "predict"):
        if not callable(getattr(model, call, None)):
            yield f"it has no method {call}"
    bits, size = getattr(model, "bits", None), getattr(model, "image_size", None)
    if not isinstance(bits, int | float) or not 0 <= bits < float("inf"):
        yield f"bits is {bits!r}: give the bits of one transition's action, a finite number"
    if not isinstance(size, int) or size < 8:
        yield f"image_size is {size!r}: give the side of its frames in pixels, at least 8"


def device_problem(result: Any, given: Tensor) -> str | None:
    """Of where a result lies: it must be where the input was."""
    if isinstance(result, Tensor) and result.device != given.device:
        return f"a tensor on {result.device} for one on {given.device}: keep to the device of the input"
    return None


def action_problem(actions: Any, batch: int) -> str | None:
    """Of what `infer` gave for a batch."""
    if not isinstance(actions, Tensor):
        return f"a {type(actions).__name__} for a tensor of actions"
    if actions.ndim < 1 or len(actions) != batch:
        return f"actions of shape {tuple(actions.shape)} for a batch of {batch}"
    if actions.is_floating_point():
        return None if torch.isfinite(actions).all() else "actions that are NaN or infinite"
    if actions.dtype not in INTEGERS:
        return f"actions of {actions.dtype}: floats or integers are needed"
    return "codes below 0" if actions.numel() and int(actions.min()) < 0 else None


def frame_problem(frames: Any, batch: int, size: int) -> str | None:
    """Of what `predict` gave for a batch."""
    if not isinstance(frames, Tensor):
        return f"a {type(frames).__name__} for a tensor of frames"
    if tuple(frames.shape) != (batch, 3, size, size):
        return f"frames of shape {tuple(frames.shape)}, not {(batch, 3, size, size)}"
    try:
        check_images("frames", frames.float() if frames.is_floating_point() else frames, size)
    except BadInput as error:
        return str(error)
    return None


def feature_problem(features: Any, batch: int) -> str | None:
    """Of what `embed` gave for a batch."""
    try:
        check_tensor("features", features, (None, None), batch)
    except BadInput as error:
        return str(error)
    return None
