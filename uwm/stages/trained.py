"""What a training leaves: weights in half precision and a curve, found again by the digest of its stage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from uwm.models import (
    MaskedAutoencoder,
    WorldModel,
)
from uwm.models.storage import WEIGHTS
from uwm.runs.artifacts import Stage
from uwm.runs.experiment import Context
from uwm.runs.record import file_sha256
from uwm.runs.settings import identity_fields
from uwm.training.distributed import default_device

ShouldStop = Callable[[], bool]


class TrainingRun(NamedTuple):
    """Where a stage trains, and what asks it to stop."""

    folder: Path
    stop: ShouldStop


def thinned_curve(log: Path, rows: int = 200) -> pd.DataFrame:
    """A training log as a table of about `rows` rows, each the mean over as many steps."""
    lines = pd.DataFrame([json.loads(line) for line in log.read_text().splitlines()])
    by_step = lines.groupby("step").first()  # a step's own row and its validation row
    bins = np.ceil(by_step.index / max(1, len(by_step) / rows)).astype(int)
    return by_step.reset_index().groupby(bins).mean().reset_index(drop=True).round(6)


def finish_training(model: MaskedAutoencoder | WorldModel, folder: Path, recipe: Any) -> None:
    """Leave the weights, in half precision, and the curve."""
    curve = thinned_curve(folder / "run" / "log.jsonl")
    curve.to_csv(folder / "curve.csv", index=False, lineterminator="\n")
    model.cpu().save(folder / WEIGHTS, dtype=torch.float16, card={"recipe": identity_fields(recipe)})


class Trained(NamedTuple):
    """A trained model, in eval mode on this process's device, and the sha256 of its weights."""

    model: Any
    sha256: str


def obtain_trained(context: Context, stage: Stage, kind: Any, compute: Callable[[Path], None]) -> Trained:
    """A stage's model, of the class `kind`: released, cached, or trained now."""
    weights = context.artifacts.obtain(stage, compute).path / WEIGHTS
    return Trained(kind.load(weights).to(default_device()), file_sha256(weights))
