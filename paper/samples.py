"""Files of samples: the rows that a record's numbers are means over."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paper.reading import read_table
from uwm.errors import UserError


@dataclass(frozen=True)
class Samples:
    """A file of samples: per pair its name, its clip's number, whether it moves, and columns, all (n,)."""

    pairs: np.ndarray
    clips: np.ndarray
    moving: np.ndarray
    columns: Mapping[str, np.ndarray]

    def column(self, method: str, metric: str) -> np.ndarray | None:
        """A method's column; the success rates follow from the distances."""
        then = self.columns.get(f"{method}/lpips_to_next")
        other = {"success_vs_current": f"{method}/lpips_to_current", "success_vs_copy": "lpips_of_copy"}
        if metric in other:
            limit = self.columns.get(other[metric])
            return None if then is None or limit is None else (then < limit).astype(float)
        return self.columns.get(f"{method}/{metric}")


def sample_names(path: Path) -> list[str]:
    """The names of a file's columns."""
    return [str(name) for name in read_table(path, rows=0)]


def read_samples(path: Path) -> Samples:
    """A CSV with a row per pair: columns `video,t0,t1,moving,motion` and `<method>/<metric>`. UserError for
    another file."""
    table = read_table(path)
    missing = [name for name in ("video", "t0", "t1", "moving") if name not in table]
    if missing:
        raise UserError(f"{path}: the columns {', '.join(missing)} are missing; run its cell again")
    columns = {str(name): table[name].to_numpy() for name in table}
    pairs = zip(columns["video"], columns["t0"], columns["t1"], strict=True)
    return Samples(
        np.array([f"{video} {t0} {t1}" for video, t0, t1 in pairs]),
        np.unique(columns["video"], return_inverse=True)[1],
        np.array([str(moving).lower() in ("1", "true", "1.0") for moving in columns["moving"]]),
        columns,
    )
