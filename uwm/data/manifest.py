"""Frozen lists of frame pairs: which two frames of which video, `gap` seconds apart.

A manifest is a table with one row per pair, sorted by video and frame, the same bytes for the same files,
arguments and seed. Columns: video (path in the corpus's folder), t0, t1 (s from the first frame), gap (true,
s), frame0, frame1, width, height, fps, sha256 (`content_hash` of the file).
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from uwm.data.corpora import Clip, Corpus
from uwm.data.video import BadVideo, VideoInfo, content_hash, probe
from uwm.errors import UserError

COLUMNS = ["video", "t0", "t1", "gap", "frame0", "frame1", "width", "height", "fps", "sha256"]
GAP_TOLERANCE = 0.5  # a pair's true gap is within this share of the wanted one, else the frames make no pair
MAX_BAD_SHARE = 0.2
MAX_BAD_FEW = 5  # so many bad clips never stop a run, however small the corpus
Skipped = list[tuple[str, str]]


@dataclass(frozen=True)
class Manifest:
    """The pairs, and the clips that gave none with the reason."""

    table: pd.DataFrame
    skipped: Skipped = field(default_factory=list)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(to_csv(self.table)).hexdigest()


class BadClips:
    """Collects the clips that cannot be used; too many of them stop the run."""

    def __init__(self, max_share: float = MAX_BAD_SHARE) -> None:
        self.max_share = max_share
        self.skipped: Skipped = []

    def add(self, clip: str, reason: str) -> None:
        self.skipped.append((clip, reason))

    def check(self, seen: int) -> None:
        """Raise `UserError` when more than the allowed share of the `seen` clips is bad."""
        bad = len(self.skipped)
        if bad > MAX_BAD_FEW and bad > self.max_share * seen:
            clip, reason = self.skipped[0]
            raise UserError(f"{bad} of {seen} clips cannot be used, more than the allowed share "
                            f"{self.max_share:g}; the first is {clip}: {reason}")

    def none_left(self, corpus: Corpus, split: str) -> UserError:
        clip, reason = self.skipped[0]
        return UserError(f"no usable clip in the {split} split of {corpus.name!r}; "
                         f"the first of {len(self.skipped)} is {clip}: {reason}")


def nearest_pairs(timestamps: NDArray[np.float64], gap: float) -> NDArray[np.int64]:
    """All (frame, frame nearest to `gap` s later): (n,2) indices, by timestamp; needs ascending timestamps.

    The later of two equally near frames is taken. Frames whose partner would lie beyond the end make no pair.
    """
    if len(timestamps) < 2:
        return np.empty((0, 2), np.int64)
    wanted = timestamps + gap
    after = np.searchsorted(timestamps, wanted).clip(1, len(timestamps) - 1)
    before = after - 1
    half_frame = np.median(np.diff(timestamps)) / 2
    # a nanosecond, so that rounding errors don't decide between equally near frames
    nearest = np.where(wanted - timestamps[before] < timestamps[after] - wanted - 1e-9, before, after)
    start = np.arange(len(timestamps))
    true_gap = timestamps[nearest] - timestamps
    inside = wanted <= timestamps[-1] + half_frame
    fits = inside & (nearest > start) & (np.abs(true_gap - gap) <= GAP_TOLERANCE * gap)
    return np.stack([start[fits], nearest[fits]], axis=1)  # (n, 2)


def build_manifest(
    corpus: Corpus,
    split: str,
    *,
    pairs: int | None = None,
    pairs_per_clip: int | None = None,
    gap: float = 0.2,
    seed: int = 0,
    max_bad_share: float = MAX_BAD_SHARE,
) -> Manifest:
    """Draw pairs from a split's clips: `pairs` in all, or `pairs_per_clip` of each, or every pair there is.

    `pairs` are spread evenly over the clips; where clips are too short or bad, others give more. A clip's own
    draw depends on `seed` and its path alone. `UserError` when too many clips are bad or none has a pair.
    """
    clips = list(corpus.of(split))
    quota = pairs_per_clip
    if pairs is not None:  # more clips than pairs: a random share of them is enough
        np.random.default_rng(seed).shuffle(clips)
        quota = None
    bad = BadClips(max_bad_share)
    offers = _offers(corpus, clips, gap, seed, bad)
    chosen = _take(offers, pairs, len(clips)) if pairs is not None else [offer[:quota] for offer in offers]
    bad.check(len(clips))
    if not chosen:
        raise bad.none_left(corpus, split)
    table = pd.concat(chosen).sort_values(["video", "frame0"], ignore_index=True)
    return Manifest(table[COLUMNS], sorted(bad.skipped))


def _offers(
    corpus: Corpus, clips: list[Clip], gap: float, seed: int, bad: BadClips
) -> Iterator[pd.DataFrame]:
    """For each good clip, all of its pairs in a random order."""
    for clip in clips:
        try:
            info = probe(corpus.file(clip))
        except BadVideo as error:
            bad.add(clip.path, error.reason)
            continue
        found = nearest_pairs(info.timestamps, gap)
        if len(found) == 0:
            bad.add(clip.path, f"no two frames {gap:g} s apart")
            continue
        draw = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(clip.path.encode()).digest()[:8])])
        yield _rows(clip.path, info, draw.permutation(found), content_hash(corpus.file(clip)))


def _rows(video: str, info: VideoInfo, found: NDArray[np.int64], sha256: str) -> pd.DataFrame:
    t0, t1 = info.timestamps[found[:, 0]], info.timestamps[found[:, 1]]
    columns = {
        "video": video, "t0": t0.round(6), "t1": t1.round(6), "gap": (t1 - t0).round(6),
        "frame0": found[:, 0], "frame1": found[:, 1],
        "width": info.width, "height": info.height, "fps": round(info.fps, 6), "sha256": sha256,
    }  # fmt: skip
    return pd.DataFrame(columns)


def _take(offers: Iterator[pd.DataFrame], pairs: int, clips: int) -> list[pd.DataFrame]:
    """`pairs` rows: an even share of each clip, then what is missing from the clips with rows to spare."""
    quota = -(-pairs // clips)
    taken: list[pd.DataFrame] = []
    spare: list[pd.DataFrame] = []
    missing = pairs
    for offer in offers:
        share = min(quota, missing)
        taken.append(offer[:share])
        spare.append(offer[share:])
        missing -= len(taken[-1])
        if missing == 0:
            break
    rank = 0
    while missing > 0 and any(rank < len(rows) for rows in spare):  # one more of each clip per round
        extra = [rows[rank : rank + 1] for rows in spare if rank < len(rows)][:missing]
        taken += extra
        missing -= len(extra)
        rank += 1
    return taken


def to_csv(table: pd.DataFrame) -> bytes:
    """The one text form of a manifest: CSV with `\\n`, times and fps with 6 decimals."""
    buffer = StringIO()
    table[COLUMNS].to_csv(buffer, index=False, lineterminator="\n", float_format="%.6f")
    return buffer.getvalue().encode()


def write_manifest(manifest: Manifest, path: Path | str) -> None:
    """Write the table as CSV, atomically."""
    partial = Path(f"{path}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(to_csv(manifest.table))
    os.replace(partial, path)


def read_manifest(path: Path | str) -> Manifest:
    """Read what `write_manifest` wrote; `UserError` for anything else."""
    try:
        table = pd.read_csv(path, dtype={"video": str, "sha256": str})
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no manifest ({' '.join(str(error).split())[:120]})") from None
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise UserError(f"{path}: no manifest, the columns {', '.join(missing)} are missing")
    return Manifest(table[COLUMNS])
