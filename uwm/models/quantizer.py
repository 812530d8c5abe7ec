"""The vector quantiser between action extractor and dynamics (eq. 4, 5, 9 and 12).

One codebook serves all action tokens. The random restart is Jukebox's (Dhariwal et al. 2020, section 3.1),
which the paper names in its implementation details, with one change: use is counted in multiples of the
expected use of a code and step (tokens / codes). Jukebox's threshold is an absolute 1.0 and presumes
thousands of tokens a step; with 192 tokens for 1024 codes no code can reach it on average, so that the
whole codebook would be replaced at every step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from uwm.bounds import Bounded, Codes, Count, Decay, Natural, NotNegative, Share, Width
from uwm.errors import BadInput
from uwm.models.boundary import check_codes, check_latents
from uwm.models.global_batch import processes, rows_of_all, samples_of_all
from uwm.models.tokens import LatentActions

# Spread of the copies where vectors must be drawn twice, in standard deviations of the batch's channel.
NOISE = 0.01
# Training steps between two looks at the collapse counter: each look waits for the GPU.
COLLAPSE_CHECK_EVERY = 50


@dataclass(frozen=True)
class QuantizerConfig(Bounded):
    """Defaults are the paper's text; `QUANTIZER_PRESETS` names both readings."""

    presets: ClassVar[Mapping[str, "QuantizerConfig"]]  # by name, for the command line

    codes: Codes = 1024  # implementation details: "a codebook of 1024 individual codes"
    width: Width = 64  # implementation details: "with 64 dimensions"
    codebook_update: Literal["gradient", "ema"] = "gradient"  # eq. 5 and 12; "ema" is the authors' code
    beta: NotNegative = 0.25  # weight of the commitment term, eq. 12; the authors' code has 0.02
    ema_decay: Decay = 0.99  # authors' code; also the window of the use counts (about 100 steps)
    # Fraction of the expected use below which a code restarts; 0 turns restarts off. The paper gives none;
    # the authors' 1.0 uses at 256 x 24 tokens for 1024 codes (6 expected uses) is 1/6. From 1 on most of an
    # evenly used codebook would restart.
    restart_threshold: Decay = 1 / 6
    data_init: bool = True  # first codebook out of the first training batch, as in Jukebox
    seed: Natural = 0  # of the first codebook and, together with the step, of every restart
    collapse_perplexity: Share = 0.02  # ours: fraction of the codes; lower perplexity counts as collapsed
    collapse_patience: Count = 500  # ours: consecutive collapsed training steps until the run stops


QUANTIZER_PRESETS: dict[str, QuantizerConfig] = {
    "paper": QuantizerConfig(),
    "authors": QuantizerConfig(codebook_update="ema", beta=0.02),
}
QuantizerConfig.presets = QUANTIZER_PRESETS


class CodebookCollapseError(RuntimeError):
    """Training went on too long with hardly any code in use. The message is one line."""


class QuantizerOutput(NamedTuple):
    """What one call gives. The last three are for logs, without gradient, over all ranks in training."""

    quantized: Tensor  # (B, L, W) float32, rows of the codebook (before this step moved it), straight-through
    codes: Tensor  # (B, L) int64 in [0, codes)
    loss: Tensor  # scalar: codebook term (0 with "ema") + beta * commitment term, means over all elements
    perplexity: Tensor  # scalar in [1, min(codes, tokens)]: exp(entropy) of this call's codes
    used: Tensor  # scalar int64: number of different codes in this call
    ema_perplexity: Tensor  # scalar in [1, codes]: the same over the last steps, for any batch size


class VectorQuantizer(nn.Module):
    """Nearest-neighbour quantiser with straight-through gradients and random restarts.

    In training, each call is one step: it may restart codes, moves the codebook ("ema"), and counts use. In
    eval nothing changes, and ranks don't talk to each other. To freeze the codebook (adapter, fine-tuning)
    call `.eval()` on this module; `requires_grad_(False)` alone stops neither restarts nor EMA.

    All state is in `codebook` (a parameter with "gradient", a buffer with "ema") and buffers, so that a
    saved and loaded module goes on bit for bit. (On CUDA this needs torch.use_deterministic_algorithms.)
    Under torch.distributed, counts and sums are added over ranks and restart vectors drawn from the batches
    of all of them as one process would from the whole batch. So every rank holds the same codebook, with or
    without DDP's buffer broadcast, and it does not depend on their number. Ranks must make the same number
    of training calls. Where they have equally many samples, rank r of w has r, r + w and so on of the whole
    batch; otherwise it has them one after the other. With "gradient" the optimiser's moments of a restarted
    row are left alone: they fade within some tens of steps.
    """

    codebook: Tensor
    ema_count: Tensor
    ema_use: Tensor
    step: Tensor
    collapsed_steps: Tensor

    def __init__(self, config: QuantizerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or QuantizerConfig()
        generator = torch.Generator().manual_seed(config.seed)
        codebook = torch.randn(config.codes, config.width, generator=generator)  # (K, W)
        if config.codebook_update == "gradient":
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
        # Moving mean of each code's use in multiples of the expected use; a code starts, and restarts, at 1,
        # so that an unused one has log(threshold) / log(decay) steps (178) to find its users.
        self.register_buffer("ema_count", torch.ones(config.codes))  # (K,)
        # The same without restarts' resets, from 0: only measures. Resets would hide a collapse.
        self.register_buffer("ema_use", torch.zeros(config.codes))  # (K,)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("collapsed_steps", torch.zeros((), dtype=torch.int64))
        self._host_step: int | None = None  # mirror of `step`, so that reading it doesn't wait for the GPU

    def forward(self, latents: Tensor) -> QuantizerOutput:
        """Quantise latents (B, L, W); ValueError if their last dimension isn't the codebook's."""
        shape = tuple(latents.shape) if isinstance(latents, Tensor) else ()
        if len(shape) != 3 or shape[-1] != self.config.width or 0 in shape:
            raise BadInput(f"latents have shape {shape}; give (batch, tokens, {self.config.width})")
        check_latents(latents, self.config.width)
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.to(self.codebook.dtype)
            vectors = latents.detach().flatten(0, 1)  # (B*L, W)
            if self.training and self._read_step() == 0 and self.config.data_init:
                self._initialise(latents.detach())
            codes = self._nearest(latents)
            chosen = self.lookup(codes)  # (B, L, W)
            loss = self._loss(latents, chosen)
            use = self._statistics(vectors, codes.flatten())
            if self.training:
                self._train_step(latents.detach(), use)
        counts = use[:, 0]
        # Straight-through: the bracket is exactly 0 and has gradient 1.
        quantized = chosen.detach() + (latents - latents.detach())  # (B, L, W)
        return QuantizerOutput(
            quantized, codes, loss, _perplexity(counts), (counts > 0).sum(), _perplexity(self.ema_use)
        )

    def infer(self, latents: Tensor) -> LatentActions:
        """Latents (B, L, W) and the rows of the codebook that are nearest to them. Changes nothing."""
        codes = self.encode(latents)
        return LatentActions(latents, self.lookup(codes), codes)

    settle = infer  # what an adapter gives is read like what an extractor gives

    def encode(self, latents: Tensor) -> Tensor:
        """Codes (...) int64 of the rows nearest to latents (..., W) by Euclidean distance, eq. 4 and 9.

        Raises BadInput, a ValueError, for latents of another width or not finite.
        """
        check_latents(latents, self.config.width)
        return self._nearest(latents)

    @torch.no_grad()
    def _nearest(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            vectors = latents.detach().to(self.codebook.dtype).flatten(0, -2)  # (n, W)
            norms = self.codebook.square().sum(dim=1)  # (K,)
            # |z - e|^2 without |z|^2, which is the same for every code.
            distances = torch.addmm(norms, vectors, self.codebook.T, alpha=-2)  # (n, K)
            return distances.argmin(dim=1).view(latents.shape[:-1])

    def lookup(self, codes: Tensor) -> Tensor:
        """Rows (..., W) of the codebook for codes (...) int64 in [0, codes)."""
        check_codes(codes, self.config.codes)
        return F.embedding(codes, self.codebook)

    def _loss(self, latents: Tensor, chosen: Tensor) -> Tensor:
        """Second and third term of eq. 5 and 12: ||sg[z] - e||^2 + beta ||z - sg[e]||^2."""
        loss = self.config.beta * F.mse_loss(latents, chosen.detach())
        if self.config.codebook_update == "gradient":
            loss = loss + F.mse_loss(chosen, latents.detach())
        return loss

    @torch.no_grad()
    def _statistics(self, vectors: Tensor, codes: Tensor) -> Tensor:
        """Per code the number of its vectors, then their sum (K, 1+W); over all ranks in training."""
        statistics = vectors.new_zeros(self.config.codes, 1 + self.config.width)
        statistics.index_add_(0, codes, F.pad(vectors, (1, 0), value=1.0))
        if self.training and processes() > 1:
            dist.all_reduce(statistics)
        return statistics

    @torch.no_grad()
    def _train_step(self, latents: Tensor, statistics: Tensor) -> None:
        """Count use, move the codebook, restart what is dead, look for collapse."""
        decay = self.config.ema_decay
        relative = statistics / statistics[:, 0].mean()  # in multiples of the expected use
        counts, sums = relative[:, 0], relative[:, 1:]  # (K,), (K, W)
        self.ema_use.lerp_(counts, 1 - decay)
        self.ema_count.lerp_(counts, 1 - decay)
        if self.config.codebook_update == "ema":
            # sum_new / count_new with sum = count * codebook written as a step: it needs no buffer for the
            # sums, and rows without users stay as they are. The clamp only guards 0 / 0.
            pull = torch.addcmul(sums, counts[:, None], self.codebook, value=-1)  # (K, W)
            self.codebook.addcdiv_(pull, self.ema_count.clamp(min=1e-20)[:, None], value=1 - decay)
        if self.config.restart_threshold > 0:
            self._restart(latents, self.ema_count < self.config.restart_threshold)
        self.step += 1
        self._host_step = self._read_step() + 1
        self._check_collapse()

    def _initialise(self, latents: Tensor) -> None:
        """First codebook: vectors of the first batch, as in Jukebox."""
        with torch.no_grad():
            self.codebook.copy_(self._candidates(latents))

    def _restart(self, latents: Tensor, dead: Tensor) -> None:
        """Replace the rows in `dead` (K,) bool by vectors of this batch, and give them a fresh count."""
        # On a GPU the question whether any is dead would cost more than the unneeded draw.
        if dead.device.type == "cpu" and not dead.any():
            return
        order = (dead.cumsum(0) - 1).clamp(min=0)  # the first dead code takes the first candidate, and so on
        fresh = self._candidates(latents)[order]  # (K, W)
        self.codebook.copy_(torch.where(dead[:, None], fresh, self.codebook))
        self.ema_count.masked_fill_(dead, 1.0)

    def _candidates(self, latents: Tensor) -> Tensor:
        """K vectors (K, W) drawn from the whole batch, of which this rank has `latents` (B, L, W).

        Without replacement as far as the vectors reach; after that they come again with a little noise, as
        in Jukebox, for equal rows would never share their users.
        """
        seed = np.random.SeedSequence((self.config.seed, self._read_step())).generate_state(1)
        generator = torch.Generator(latents.device).manual_seed(int(seed[0]))
        samples, codes = samples_of_all(latents), self.config.codes
        total = sum(samples) * latents.shape[1]
        order = torch.randperm(total, generator=generator, device=latents.device)
        if total >= codes:
            return rows_of_all(latents, samples, order[:codes])
        vectors = rows_of_all(latents, samples, torch.arange(total, device=latents.device))
        drawn = vectors[order.repeat(-(-codes // total))[:codes]]  # (K, W)
        noise = torch.empty_like(drawn[total:]).normal_(generator=generator)
        drawn[total:] += NOISE * vectors.std(dim=0, correction=0) * noise
        return drawn

    def _check_collapse(self) -> None:
        """Count consecutive collapsed steps; CodebookCollapseError once the patience is over."""
        limit = self.config.collapse_perplexity * self.config.codes
        perplexity = _perplexity(self.ema_use)
        self.collapsed_steps.add_(1).mul_(perplexity < limit)
        step = self._read_step()
        if step % COLLAPSE_CHECK_EVERY == 0 and int(self.collapsed_steps) >= self.config.collapse_patience:
            raise CodebookCollapseError(
                f"codebook collapse at step {step}: the perplexity of the codes in use, "
                f"{float(perplexity):.1f} of {self.config.codes}, was under {limit:.1f} for "
                f"{int(self.collapsed_steps)} training steps; standardise the latents before the quantiser, "
                "lower the learning rate or raise restart_threshold"
            )

    def _read_step(self) -> int:
        if self._host_step is None:
            self._host_step = int(self.step)
        return self._host_step

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._host_step = None


def _perplexity(counts: Tensor) -> Tensor:
    """exp(entropy) of non-negative counts (K,); 1 if all are 0."""
    shares = counts / counts.sum().clamp(min=1e-20)
    return torch.special.entr(shares).sum().exp()
