"""Read the numbers that the paper reports, below `results/reported/`."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from paper.store import ROOT


@dataclass(frozen=True)
class Reported:
    """What the paper reports: `results/reported/*.csv`. Nothing measured in there."""

    root: Path = ROOT / "results" / "reported"

    @cached_property
    def table1(self) -> pd.DataFrame:
        return pd.read_csv(self.root / "table1.csv")

    @cached_property
    def items(self) -> pd.DataFrame:
        return pd.read_csv(self.root / "items.csv")

    @cached_property
    def claims(self) -> pd.DataFrame:
        return pd.read_csv(self.root / "claims.csv")

    def row(self, corpus: str, metric: str) -> pd.DataFrame:
        """The five reported numbers of one row of Table 1, in the paper's order."""
        table = self.table1
        return table[(table["corpus"] == corpus) & (table["metric"] == metric)]

    def mean(self, corpus: str, metric: str) -> float:
        return float(self.row(corpus, metric)["value"].mean())

    def ratio(self, corpus: str) -> float:
        """Mean of row O_t+1 over mean of row O_t."""
        return self.mean(corpus, "lpips_to_next") / self.mean(corpus, "lpips_to_current")

    def share_nearer_to_next(self, corpus: str) -> float:
        nearer = (
            self.row(corpus, "lpips_to_next")["value"].to_numpy()
            < self.row(corpus, "lpips_to_current")["value"].to_numpy()
        )
        return float(nearer.mean())
