"""What is checked before jobs are sent: the published weights that nodes without internet could not fetch."""

from collections.abc import Iterator
from typing import Protocol

from uwm.env import weights_folder
from uwm.errors import UserError
from uwm.metrics.perceptual import weights_at_hand
from uwm.runs.experiment import Context
from uwm.stages.mae import MAERecipe, published_mae


class Needs(Protocol):
    """The fields of an experiment's config that name published weights."""

    @property
    def mae(self) -> MAERecipe: ...
    @property
    def lpips(self) -> str: ...


def nodes_lack(context: Context) -> Iterator[str]:
    """A warning for LPIPS weights that a job would have to download.

    Raises:
        UserError: no MAE file; at scale `paper`, no LPIPS weights either.
    """
    config: Needs = context.config
    if config.mae.train is None:
        published_mae(config.mae)
    if weights_at_hand(config.lpips, weights_folder()):
        return
    text = (
        f"no weights of LPIPS ({config.lpips}) in UWM_WEIGHTS or torch's cache: nodes without internet "
        "measure with lpips-random; fetch them here: python -m uwm.prefetch --to DIR, and set UWM_WEIGHTS=DIR"
    )
    if context.scale == "paper":
        raise UserError(text)
    yield text
