"""A cell's numbers that are not means over its pairs, with the tables from which they are computed."""

from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from uwm.runs.experiment import Estimate

ACTION_ROWS, ROLLOUT_ROWS, CODE_ROWS = (
    "actions",
    "rollouts",
    "codes",
)  # folders of `samples`: by pair, by run, by code


KEYS = ("video", "t0", "t1", "moving", "code")  # columns that name a row; all others are measures


@dataclass(frozen=True)
class FurtherMetrics:
    """Metrics, and by kind the tables from which `paper.check` computes them again.

    A table has a row per pair or run (video, t0, t1, moving, and a column per measure), or per code (code,
    count).
    """

    metrics: dict[str, Estimate] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    def __or__(self, other: "FurtherMetrics") -> "FurtherMetrics":
        """Both. Tables of one kind must have the same rows."""
        tables = dict(self.tables)
        for kind, table in other.tables.items():
            if kind in tables:
                keys = [name for name in KEYS if name in table]
                assert tables[kind][keys].equals(table[keys])
                table = pd.concat([tables[kind], table.drop(columns=keys)], axis=1)
            tables[kind] = table
        return FurtherMetrics(self.metrics | other.metrics, tables)


def code_table(codes: Tensor) -> pd.DataFrame:
    """How often each code occurs in codes (n, L), of those that do: code, count."""
    used, counts = torch.unique(codes, return_counts=True)
    return pd.DataFrame({"code": used.cpu().numpy(), "count": counts.cpu().numpy()})
