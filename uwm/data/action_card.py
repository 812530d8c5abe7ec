"""What a robot's actions look like: their range, scale and rate, and whether the hand follows them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from uwm.data.corpora import Corpus
from uwm.data.manifest import Manifest
from uwm.data.robomimic.actions import PairActions, demos_of, pair_actions
from uwm.data.robomimic.demo_clips import camera_name, cameras_of
from uwm.data.robomimic.hdf5 import control_rate, demo_names, open_demos
from uwm.data.robomimic.limits import TOLERANCE, WAYS, ActionRange

FAR = 4.0  # times; an assumed range that is off by more makes the actions look all alike, or cut
LARGE = 99.5  # percentile that stands for the largest value, so that a single outlier does not


@dataclass(frozen=True)
class ActionCard:
    """Actions of a sample: values (n,A), the assumed range, control steps a second, cameras."""

    values: NDArray[np.float32]
    range: ActionRange
    rate: float
    cameras: list[str]
    follows: NDArray[np.float64] | None

    @property
    def fill(self) -> NDArray[np.float64]:
        """Of each number (A,): its largest values over those that the range allows; 1 fills it."""
        low, high = self.range.low, self.range.high
        middle, half = (high + low) / 2, (high - low) / 2
        return np.percentile(np.abs(self.values - middle), LARGE, axis=0) / half


def make_action_card(corpus: Corpus, manifest: Manifest) -> ActionCard:
    """Of the demos of a manifest, whatever their range. `UserError` as `pair_actions` for anything else."""
    as_they_are = replace(corpus, choices=replace(corpus.choices, actions="measured"))
    actions = pair_actions(as_they_are, manifest)
    known, chosen = demos_of(as_they_are), demos_of(corpus).range
    videos = manifest.table["video"].unique()
    values = np.concatenate([known.demos[str(video)].actions for video in videos])
    values = values * np.float32(chosen.factor)
    values = np.clip(values, chosen.low, chosen.high) if chosen.clip else values
    with open_demos(known.sources[str(videos[0])].file) as opened:
        rate, cameras = control_rate(opened), cameras_of(opened, demo_names(opened)[0])
    names = [camera_name(key) for key in cameras]
    return ActionCard(values, chosen, rate, names, hand_follows(actions))


def hand_follows(actions: PairActions) -> NDArray[np.float64] | None:
    """Correlation (3,) of the first three numbers' sums with the hand's way in x, y, z; None if unknown."""
    way = actions.eef_pos[:, 1] - actions.eef_pos[:, 0]  # (n, 3)
    sums = actions.actions.sum(axis=1)[:, :3]  # (n, 3)
    if sums.shape[1] < 3 or len(sums) < 3 or not np.isfinite(way).all():
        return None
    with np.errstate(invalid="ignore", divide="ignore"):  # of what never moves
        correlations = [np.corrcoef(sums[:, i], way[:, i])[0, 1] for i in range(3)]
    return np.nan_to_num(np.asarray(correlations))


def describe_actions(card: ActionCard) -> list[str]:
    """The card as lines of text, with a warning where the assumed range is far off."""
    size, cameras = card.values.shape[1], ", ".join(card.cameras) or "none"
    lines = [f"actions  {size} numbers, {card.rate:g} control steps/s; cameras: {cameras}"]
    for i in range(size):
        values, low, high = card.values[:, i], card.range.low[i], card.range.high[i]
        lines.append(f"  {i:2d}  {values.min():9.4f} to {values.max():9.4f}, deviation {values.std():.4f}, "
                     f"range [{low:g}, {high:g}] filled to {card.fill[i]:.0%}")  # fmt: skip
    if card.follows is not None:
        correlations = ", ".join(
            f"{axis} {value:.2f}" for axis, value in zip("xyz", card.follows, strict=True)
        )
        lines.append(f"hand     correlation of numbers 0 to 2 with its way: {correlations}")
    return lines + warnings_of(card)


def range_warnings(corpus: Corpus) -> list[str]:
    """As `warnings_of`, of every action of a corpus whose actions were checked."""
    known = demos_of(corpus)
    values = np.concatenate([demo.actions for demo in known.demos.values()])
    return warnings_of(ActionCard(values, known.range, 0.0, [], None))


def warnings_of(card: ActionCard) -> list[str]:
    """One line where values lie beyond a range that is not measured, one where it is off by more than `FAR`
    times."""
    low, high = card.range.low - TOLERANCE, card.range.high + TOLERANCE
    moving = np.ptp(card.values, axis=0) > 0  # a number that never changes says nothing of the range
    beyond = ((card.values < low) | (card.values > high)).any(axis=0) & (not card.range.measured)
    far = moving & ((card.fill < 1 / FAR) | (card.fill > FAR))
    problems = {
        "are beyond the assumed range": beyond,
        f"have a range assumed more than {FAR:g} times off": far,
    }
    return [
        f"warning  numbers {', '.join(map(str, np.flatnonzero(which)))} {what}; choose {WAYS}"
        for what, which in problems.items()
        if which.any()
    ]
