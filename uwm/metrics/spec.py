"""What a metric is: its name, label, unit, direction, protocol and version, declared once. No torch in here.

A new metric is one line here, or `declare_metric(Metric(...))` in the file that measures it. Raise a metric's
`version` when its old numbers stop being comparable: records that hold it are stale then, no others.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from uwm.errors import UserError

UnitName = Literal["", "dB", "mm", "px", "share", "count", "bits"]
MeasuredBy = Literal["", "lpips", "fvd"]
MOVING = "_moving"  # ends the names of metrics over the moving half of the pairs
DECIMALS: dict[UnitName, int] = {"": 3, "dB": 1, "mm": 1, "px": 2, "share": 1, "count": 1, "bits": 0}


@dataclass(frozen=True)
class Metric:
    """A number per pair or per cell; `per_step` ones have the names `<name>_1`, `<name>_2`, ...

    `ratio`: two measures per pair; the metric is the ratio of their means, or with `gain` 1 minus it.
    """

    name: str
    label: str  # in tables; a share is shown as a percentage
    better: Literal["lower", "higher"]
    unit: UnitName = ""
    protocol: MeasuredBy = ""  # the kind of network that measures it; the record names which one
    per_step: bool = False
    sampled: bool = True  # columns of a record's samples give it; else a fact of the model or the machine
    counted: bool = False  # follows from how often each code occurs, which the samples hold instead
    ratio: tuple[str, str] | None = None
    gain: bool = False
    control: bool = False  # of how well actions tell where the gripper goes: probes, transfer, commands
    binomial: bool = False  # a share of successes: Wilson's interval
    version: int = 1

    def text(self, value: float) -> str:
        """A value as tables show it."""
        scaled = 100 * value if self.unit == "share" else value
        decimals = DECIMALS[self.unit]
        return f"{round(scaled, decimals) + 0.0:.{decimals}f}"  # + 0.0: no minus before a zero


_COMMANDS = ("forward", "back", "left", "right", "up", "down")
_DECLARED = (
    # Frames, against the observations as the MAE shows them (R_t, R_t+1), or (`_true`) as they are.
    Metric("lpips_to_current", "LPIPS to O_t", "lower", protocol="lpips"),
    Metric("lpips_to_next", "LPIPS to O_t+1", "lower", protocol="lpips"),
    Metric("lpips_ratio", "Ratio", "lower", protocol="lpips", ratio=("lpips_to_next", "lpips_to_current")),
    # What a video codec shows in as many bytes as the method's action has (uwm/evaluation/codec_baseline.py).
    Metric("lpips_to_next_codec", "LPIPS to O_t+1 of x264 at its bits", "lower", protocol="lpips"),
    Metric(
        "lpips_over_codec",
        "LPIPS / x264's at its bits",
        "lower",
        protocol="lpips",
        ratio=("lpips_to_next", "lpips_to_next_codec"),
    ),
    Metric("success_vs_current", "Nearer to O_t+1 than to O_t, %", "higher", "share", protocol="lpips"),
    Metric("success_vs_copy", "Nearer to O_t+1 than a copy, %", "higher", "share", protocol="lpips"),
    Metric("lpips_to_current_true", "LPIPS to sharp O_t", "lower", protocol="lpips"),
    Metric("lpips_to_next_true", "LPIPS to sharp O_t+1", "lower", protocol="lpips"),
    Metric("psnr", "PSNR, dB", "higher", "dB"),
    Metric("ssim", "SSIM", "higher"),
    Metric("psnr_blurred", "PSNR to blurred O_t+1, dB", "higher", "dB"),
    Metric("ssim_blurred", "SSIM to blurred O_t+1", "higher"),
    # Where the two frames differ (uwm/metrics/region.py), and around the gripper.
    Metric("lpips_region", "LPIPS, region", "lower", protocol="lpips"),
    Metric("lpips_region_true", "LPIPS to sharp O_t+1, region", "lower", protocol="lpips"),
    Metric("psnr_region", "PSNR, region, dB", "higher", "dB"),
    Metric("lpips_hand", "LPIPS, gripper", "lower", protocol="lpips"),
    Metric("lpips_hand_true", "LPIPS to sharp O_t+1, gripper", "lower", protocol="lpips"),
    Metric("psnr_hand", "PSNR, gripper, dB", "higher", "dB"),
    Metric("ssim_hand", "SSIM, gripper", "higher"),
    # States, codes and what can be read off them.
    Metric("state_mse", "State MSE", "lower"),
    Metric("latent_mse", "Latent action MSE", "lower"),
    Metric("code_accuracy", "Right codes, %", "higher", "share"),
    Metric("hand_error_mm", "Hand error, mm", "lower", "mm"),
    Metric("hand_error_px", "Hand error in the picture, px", "lower", "px"),
    Metric("still_px", "The same, standing still, px", "lower", "px"),
    # By an adapter from the robot's actions, of all labelled pairs; `adapter_500_px`: of so many.
    Metric("adapter_px", "Hand error by real actions, px", "lower", "px"),
    Metric("perplexity", "Code perplexity", "higher", "count", counted=True),
    Metric(
        "probe_r2",
        "R2 of real from latent actions",
        "higher",
        ratio=("probe_r2_residual", "probe_r2_total"),
        gain=True,
        control=True,
    ),
    # Whether a latent action is one (uwm/evaluation/actions.py). The leak is of stitched pairs, 1 = none.
    Metric("bits", "Bits", "lower", "bits", sampled=False),
    Metric("code_bits", "Bits by entropy", "lower", "bits", counted=True),
    Metric("parameters", "Parameters, million", "lower", "count", sampled=False),
    Metric("gflop", "GFLOP a prediction", "lower", "count", sampled=False),
    Metric("state_ratio", "State error / copy's", "lower", ratio=("state_mse", "state_mse_copy")),
    Metric("own_over_shuffled", "Own / other action", "lower", ratio=("state_mse", "state_mse_shuffled")),
    Metric(
        "gain_over_no_action",
        "Gain over no action",
        "higher",
        ratio=("state_mse", "state_mse_no_action"),
        gain=True,
    ),
    Metric("leak", "Leak, state (1 = none)", "higher", ratio=("stitched_mse", "stitched_mse_copy")),
    Metric(
        "leak_of_colour", "Leak of mean colour", "higher", ratio=("stitched_mse_colour", "stitched_mse_copy")
    ),
    Metric(
        "leak_lpips",
        "Leak, LPIPS (1 = none)",
        "higher",
        protocol="lpips",
        ratio=("stitched_lpips", "stitched_lpips_copy"),
    ),
    Metric("cycle", "Cycle, state", "lower", ratio=("cycle_mse", "state_mse_copy")),
    Metric("reversal", "Reversal", "lower", ratio=("reversal_sum", "reversal_parts")),
    Metric("delta_psnr", "Delta-PSNR, dB", "higher", "dB"),
    Metric("state_mse_copy", "State MSE of the copy", "lower"),
    Metric("state_mse_shuffled", "State MSE, other action", "lower"),
    Metric("state_mse_no_action", "State MSE, no action", "lower"),
    Metric("stitched_mse", "State MSE, stitched", "lower"),
    Metric("stitched_mse_colour", "State MSE of the mean colour, stitched", "lower"),
    Metric("stitched_mse_copy", "State MSE of the copy, stitched", "lower"),
    Metric("stitched_lpips", "LPIPS, stitched", "lower", protocol="lpips"),
    Metric("stitched_lpips_copy", "LPIPS of the copy, stitched", "lower", protocol="lpips"),
    # Of the validation error; below 1% a training counts as converged (uwm/training/convergence.py).
    Metric("last_gain", "Gained in the last quarter, %", "lower", "share", sampled=False),
    Metric(
        "probe_r2_mlp",
        "The same, by an MLP",
        "higher",
        ratio=("probe_r2_mlp_residual", "probe_r2_mlp_total"),
        gain=True,
        control=True,
    ),
    Metric(
        "probe_r2_movement",
        "R2 off the true movement",
        "higher",
        ratio=("probe_r2_movement_residual", "probe_r2_movement_total"),
        gain=True,
        control=True,
    ),
    # Several steps ahead.
    Metric("rollout_lpips", "LPIPS to O_t+k", "lower", protocol="lpips", per_step=True),
    Metric("rollout_psnr", "PSNR to O_t+k, dB", "higher", "dB", per_step=True),
    Metric("rollout_state_mse", "State MSE", "lower", per_step=True),
    # Of rollouts as clips, under the protocol that the record names (uwm/metrics/fvd.py).
    Metric("fvd", "FVD", "lower", "count", protocol="fvd", sampled=False),
    Metric("fvd_true", "FVD to sharp frames", "lower", "count", protocol="fvd", sampled=False),
    # The gripper under commands, and with latent actions of another clip.
    Metric("control_success", "Moves as told, %", "higher", "share", control=True),
    *(
        Metric(f"control_{name}_mm", f"Moved {name} when told, mm", "higher", "mm", control=True)
        for name in _COMMANDS
    ),
    Metric("control_open", "Opened when told, share", "higher", control=True),
    Metric("control_close", "Closed when told, share", "higher", control=True),
    Metric("transfer_mm", "Error of a transferred action, mm", "lower", "mm", control=True),
    Metric("transfer_random_mm", "The same, any donor, mm", "lower", "mm", control=True),
    Metric("transfer_still_mm", "The same, standing still, mm", "lower", "mm", control=True),
    Metric("transfer", "Transferred / standing still", "lower", ratio=("transfer_mm", "transfer_still_mm")),
    Metric("transfer_px", "Error of a transferred action, px", "lower", "px", control=True),
    Metric("transfer_still_px", "The same, standing still, px", "lower", "px", control=True),
    Metric(
        "transfer_picture",
        "Transferred / standing still, in the picture",
        "lower",
        ratio=("transfer_px", "transfer_still_px"),
        control=True,
    ),
    # Episodes of a planner, each a row of the samples. A decision's time is no property of the method alone.
    Metric("success", "Success, %", "higher", "share", binomial=True),
    Metric("final_distance_mm", "Distance at the end, mm", "lower", "mm"),
    Metric("start_distance_mm", "Distance at the start, mm", "lower", "mm"),
    Metric("steps", "Steps", "lower", "count"),
    Metric("distance_mm", "Distance to the goal, mm", "lower", "mm", per_step=True),
    Metric("seconds_per_decision", "Processor seconds per decision", "lower", sampled=False),
    Metric("calls_per_decision", "Model calls per decision", "lower", "count", ratio=("calls", "decisions")),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _DECLARED}
_STEP = re.compile(r"_\d+$")
_LABELLED = re.compile(r"adapter_([1-9]\d*)_px")


def metric_of(name: str) -> Metric:
    """The metric that a record's name belongs to: `lpips_to_next_moving`, `rollout_lpips_3`.

    One of `adapter_px` by fewer pairs, such as `adapter_500_px`, is a metric of its own.

    Raises:
        UserError: no such metric is declared.
    """
    base = name.removesuffix(MOVING)
    declared = METRICS.get(base)
    if declared is not None and not declared.per_step:
        return declared
    if pairs := _LABELLED.fullmatch(base):
        label = f"The same, {pairs[1]} labelled pairs, px"
        return replace(METRICS["adapter_px"], name=base, label=label)
    declared = METRICS.get(_STEP.sub("", base))
    if declared is None or not declared.per_step:
        raise UserError(f"metric {name!r} is not declared; add it to uwm/metrics/spec.py")
    return declared


def declare_metric(metric: Metric) -> Metric:
    """Add a metric of an experiment's own. ValueError where the name means something else."""
    if METRICS.setdefault(metric.name, metric) != metric:
        raise ValueError(f"metric {metric.name!r} is declared already, as {METRICS[metric.name]}")
    return metric


def known_metric(name: str) -> Metric | None:
    """As `metric_of`, also without a step; None for what only an experiment's own file declares."""
    try:
        return METRICS.get(name) or metric_of(name)
    except UserError:
        return None


def metric_label(name: str) -> str:
    """As tables show it."""
    metric = known_metric(name)
    return metric.label if metric else name.replace("_", " ")


def metric_text(name: str, value: float) -> str:
    """A metric's value as tables show it."""
    return (known_metric(name) or Metric(name, name, "lower")).text(value)


def versions(names: Iterable[str]) -> dict[str, int]:
    """Name and version of each metric that some names of a record belong to."""
    metrics = (metric_of(name) for name in names)
    return {metric.name: metric.version for metric in sorted(metrics, key=lambda metric: metric.name)}
