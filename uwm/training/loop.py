"""One loop for every training of the suite: AdamW, warm-up and cosine, and a resume that leaves no trace.

Everything random is a function of (seed, step, micro-step) and a sample's place in the batch: so checkpoints
hold no random state, and several processes train what one would. A run that was killed at any moment and
started again ends with the same bits as one that wasn't (one process, CPU, same number of threads).
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from uwm.data.draws import Draws
from uwm.errors import Interrupted, UserError
from uwm.models.boundary import shapes_alone
from uwm.training import distributed
from uwm.training.batches import BatchSource, micro_batch_size, seeded_generator
from uwm.training.checkpoint import checkpoint_files, newest_file, read_checkpoint, save_checkpoint
from uwm.training.denormals import flushed_denormals
from uwm.training.device import DeviceBatches, Graphs, Speed, arithmetic, compile_blocks, counting_flops
from uwm.training.distributed import Ranks
from uwm.training.logs import TrainingLog
from uwm.training.optimizer import TrainConfig, learning_rate, parameter_groups


class NonFiniteLoss(RuntimeError):  # noqa: N818 (the name says what happened)
    """The loss, the gradient norm or a logged number became infinite or NaN."""


@dataclass(frozen=True)
class TrainResult:
    """What a finished training leaves: the trained weights are in the objective itself."""

    steps: int
    seconds: float  # of training, over all attempts, up to their last checkpoints
    metrics: dict[str, float] = field(default_factory=dict)  # last logged value of each number


def train(
    objective: nn.Module,
    source: BatchSource,
    config: TrainConfig,
    run_dir: Path,
    *,
    validate: Callable[[], dict[str, float]] | None = None,
    name: str = "training",
    stop: Callable[[], bool] | None = None,
    device: torch.device | None = None,
    tensorboard: bool = True,
) -> TrainResult:
    """Train `objective` in place, from the newest valid checkpoint in `run_dir` on; return at once when done.

    `objective(batch, draws)` returns scalars: "loss", the mean over the batch, and what is to be logged. Its
    random numbers are `draws` only. Submodules named in its attribute `frozen` (a tuple of names) are not
    stored in checkpoints: their weights come from the caller. Under several processes, modules with running
    statistics synchronise these themselves. A measurement, without gradients, may be what calls.

    `validate` runs on rank 0 in eval mode, every `validate_every` steps and after the last one; its numbers
    are logged as "val/...". `stop` is asked at each step; when any rank's says so, all save and end.

    Raises `NonFiniteLoss`, `Interrupted`, and `UserError` (batch not divisible, folder of another training,
    checkpoint that can't be written).
    """
    ranks = distributed.environment_ranks()
    micro_batch_size(config.batch_size, config.accumulate, ranks.world_size)  # refuses what can't be split
    device = device or distributed.default_device(ranks)
    distributed.join(ranks, device)
    (run_dir := Path(run_dir)).mkdir(parents=True, exist_ok=True)
    training = _Training(objective, config, run_dir, name, ranks, device)
    # NonFiniteLoss notices what isn't finite.
    with torch.enable_grad(), shapes_alone(), flushed_denormals(), arithmetic(device, config.precision):
        return training.run(source, validate, stop, tensorboard)


class _Training:
    """The state of one call of `train`."""

    def __init__(
        self,
        objective: nn.Module,
        config: TrainConfig,
        run_dir: Path,
        name: str,
        ranks: Ranks,
        device: torch.device,
    ) -> None:
        self.config, self.run_dir, self.name, self.ranks, self.device = config, run_dir, name, ranks, device
        self.objective = objective.to(device)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(objective, config.weight_decay),
            lr=config.learning_rate,
            betas=config.betas,
            fused=device.type == "cuda",
        )
        self.speed = Speed(device, config.precision)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.metrics: dict[str, float] = {}
        self.step, self.log_length, self.seconds, self.compiled = 0, 0, 0.0, not config.compiled
        self.graphs = Graphs(device, config.precision, ranks.world_size)
        self.resume()
        self.model = distributed.parallel(self.objective, ranks, device)

    # Checkpoints

    def resume(self) -> None:
        """Load the newest valid checkpoint: rank 0 chooses, so that all ranks start at the same step."""
        path = distributed.from_leader(newest_file(self.run_dir) if self.ranks.leads else None, self.ranks)
        if path is None:
            return
        if not path.exists():
            raise UserError(
                f"rank {self.ranks.rank} doesn't see {path}; the folder must be shared by all nodes"
            )
        state = read_checkpoint(path)
        self.step = state["step"]
        if state["identity"] != self.identity():
            differences = {k for k, v in self.identity().items() if state["identity"].get(k) != v}
            raise UserError(
                f"{self.run_dir} holds another training (differs in {', '.join(sorted(differences))}); "
                "choose another folder or remove it"
            )
        self.load_objective(state["objective"])
        for group in state["optimizer"]["param_groups"]:  # of another device, perhaps; moments follow this
            group["fused"] = self.device.type == "cuda"
        self.optimizer.load_state_dict(state["optimizer"])
        self.log_length, self.seconds, self.metrics = state["log_length"], state["seconds"], state["metrics"]

    def identity(self) -> dict[str, Any]:
        """What must not change between the attempts of one training: not how the same steps are computed."""
        what = {name: value for name, value in asdict(self.config).items() if name != "compiled"}
        return {**what, "checkpoint_every": None, "name": self.name}

    def is_frozen(self, key: str) -> bool:
        return any(key.startswith(f"{part}.") for part in getattr(self.objective, "frozen", ()))

    def load_objective(self, state: dict[str, torch.Tensor]) -> None:
        try:
            missing, unexpected = self.objective.load_state_dict(state, strict=False)
        except RuntimeError as error:  # a shape differs
            raise UserError(f"the checkpoint in {self.run_dir} is of another model: {error}") from error
        wrong = [*(key for key in missing if not self.is_frozen(key)), *unexpected]
        if wrong:
            raise UserError(f"the checkpoint in {self.run_dir} is of another model: it differs in {wrong[0]}")

    def save(self, log: TrainingLog) -> None:
        """Rank 0 saves and the others wait: a rank that ended first might make the launcher kill rank 0."""
        if self.ranks.leads:
            weights = {k: v for k, v in self.objective.state_dict().items() if not self.is_frozen(k)}
            state = {
                "identity": self.identity(),
                "step": self.step,
                "objective": weights,
                "optimizer": self.optimizer.state_dict(),
                "log_length": log.sync(),
                "metrics": self.metrics,
                "seconds": self.seconds,
            }
            save_checkpoint(self.run_dir, self.step, state)
        distributed.from_leader(None, self.ranks)

    # Steps

    def run(
        self,
        source: BatchSource,
        validate: Callable[[], dict[str, float]] | None,
        stop: Callable[[], bool] | None,
        tensorboard: bool,
    ) -> TrainResult:
        if self.step < self.config.steps:
            log = TrainingLog(
                self.run_dir,
                self.name,
                self.step,
                self.config.steps,
                self.log_length,
                enabled=self.ranks.leads,
                tensorboard=tensorboard,
            )
            try:
                self.run_steps(source, validate, stop, log)
            finally:
                log.close()
        return TrainResult(self.step, self.seconds, dict(self.metrics))

    def run_steps(
        self,
        source: BatchSource,
        validate: Callable[[], dict[str, float]] | None,
        stop: Callable[[], bool] | None,
        log: TrainingLog,
    ) -> None:
        steps, world_size = self.config.steps, self.ranks.world_size
        facts = {"compiled": self.config.compiled, "graphs": self.graphs.wanted}
        log.start(step=self.step, steps=steps, world_size=world_size, device=self.device.type, **facts)
        batches = DeviceBatches(source.batches(self.step, self.ranks.rank, world_size), self.device)
        self.speed.start(self.step, 0.0)
        began = time.monotonic() - self.seconds
        self.objective.train()
        while self.step < self.config.steps:
            values, stopping = self.take_step(batches, stop)
            self.metrics |= values
            log.write(self.step, values)
            log.advance(values["loss"], lambda: self.speed.facts(self.step, batches.waited))
            last = self.step == self.config.steps
            if validate and (last or _due(self.step, self.config.validate_every)):
                self.validate(validate, log)
            self.seconds = time.monotonic() - began
            if last or stopping or _due(self.step, self.config.checkpoint_every):
                self.save(log)
            if stopping and not last:
                raise Interrupted(
                    f"{self.name}: stopped as asked after step {self.step}; {self.last_checkpoint()}"
                )

    def take_step(
        self, batches: DeviceBatches, stop: Callable[[], bool] | None
    ) -> tuple[dict[str, float], bool]:
        """One optimiser step; returns its means over ranks and micro-batches, and whether to stop."""
        rate = learning_rate(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        sums = self.accumulate_gradients(batches)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        asked = float(stop is not None and stop())
        names = list(sums)
        stacked = torch.stack([*sums.values(), norm.double(), norm.new_tensor(asked, dtype=torch.float64)])
        *means, norm_mean, asked = (
            distributed.sum_over_ranks(stacked, self.ranks) / self.ranks.world_size
        ).tolist()
        values = dict(zip(names, means, strict=True))
        values = {"loss": values.pop("loss"), **values, "grad_norm": norm_mean}
        self.check_finite(values, self.step + 1)
        self.optimizer.step()
        self.step += 1
        return {"lr": rate, **values}, asked > 0

    def accumulate_gradients(self, batches: DeviceBatches) -> dict[str, torch.Tensor]:
        """Forward and backward of this step's micro-batches; returns the mean of each number, as float64."""
        counter = counting_flops(self.device) if self.speed.flops is None else None
        if not self.compiled and not counter:  # the counter would not see into compiled blocks
            self.compiled = compile_blocks(self.objective) > 0
        with counter or nullcontext():
            sums = self.sum_micro_batches(batches)
        if counter:
            self.speed.flops = counter.get_total_flops()
        return sums

    def sum_micro_batches(self, batches: DeviceBatches) -> dict[str, torch.Tensor]:
        sums: dict[str, torch.Tensor] = {}
        bf16 = self.config.precision == "bf16"
        for micro in range(self.config.accumulate):
            batch = batches.next()
            if batch is None:
                raise UserError(f"{self.name}: the source ran out of batches at step {self.step + 1}")
            if self.speed.flops is not None:  # after the step whose operations are counted
                self.graphs.record(self.objective, batch)
            generator = seeded_generator(self.config.seed, self.step, micro, 0)  # on all ranks
            draws = Draws(generator, self.ranks.rank, self.ranks.world_size)
            last = micro == self.config.accumulate - 1
            with nullcontext() if last else distributed.without_exchange(self.model):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                    output = self.model(batch, draws)
                (output["loss"] / self.config.accumulate).backward()
            batches.fetch()
            for key, value in output.items():
                share = value.detach().double() / self.config.accumulate
                sums[key] = sums[key] + share if key in sums else share
        return sums

    def validate(self, validate: Callable[[], dict[str, float]], log: TrainingLog) -> None:
        if self.ranks.leads:
            self.objective.eval()
            with torch.no_grad():
                values = {f"val/{key}": float(value) for key, value in validate().items()}
            self.objective.train()
            self.check_finite(values, self.step)
            self.metrics |= values
            log.write(self.step, values)
        self.metrics = distributed.from_leader(self.metrics, self.ranks)

    def check_finite(self, values: dict[str, float], step: int) -> None:
        for key, value in values.items():
            if not math.isfinite(value):
                raise NonFiniteLoss(f"{self.name}: {key} is {value} at step {step}; {self.last_checkpoint()}")

    def last_checkpoint(self) -> str:
        files = checkpoint_files(self.run_dir)
        return f"the last good checkpoint is {files[-1]}" if files else "there is no checkpoint yet"


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
