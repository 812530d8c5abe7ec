"""The clips of a corpus that cannot be used, and how many of them a run puts up with."""

from pathlib import Path

from uwm.data.corpora import Corpus
from uwm.env import max_bad_share as told_bad_share
from uwm.errors import UserError

MAX_BAD_FEW = 5  # so many bad clips never stop a run, however small the corpus
Skipped = list[tuple[str, str]]


def allowed_bad_share() -> float:
    """The share of clips that may be bad where no option says it: UWM_MAX_BAD_SHARE, or a fifth."""
    text = told_bad_share()
    try:
        share = float(text or 0.2)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"UWM_MAX_BAD_SHARE={text}: give a share from 0 to 1")
    return share


class BadClips:
    """Collects the clips that cannot be used; too many of them stop the run."""

    def __init__(self, max_share: float | None = None) -> None:
        self.max_share = allowed_bad_share() if max_share is None else max_share
        self.skipped: Skipped = []
        self.not_read: Skipped = []  # those of them at which the machine failed: they need not be damaged

    def add(self, clip: str, reason: str, *, machine: bool = False) -> None:
        self.skipped.append((clip, reason))
        if machine:
            self.not_read.append((clip, reason))

    def too_many(self, bad: int, clips: int) -> bool:
        """Are `bad` of `clips` clips more than the allowed share?"""
        return bad > MAX_BAD_FEW and bad > self.max_share * clips

    def check(self, clips: int) -> None:
        """Raise `UserError` when more than the allowed share of the `clips` clips is bad."""
        bad = len(self.skipped)
        if self.too_many(bad, clips):
            clip, reason = self.skipped[0]
            raise UserError(
                f"{bad} of {clips} clips cannot be used, more than the allowed share "
                f"{self.max_share:g} (--max-bad-share, UWM_MAX_BAD_SHARE); the first is {clip}: {reason}"
            )

    def check_read(self, journal: Path | None) -> None:
        """Raise `UserError` where the machine failed at a clip: a list of the others would be taken for that
        of these files."""
        if not self.not_read:
            return
        clip, reason = self.not_read[0]
        kept = f"; what was read is kept in {journal}" if journal else ""
        raise UserError(
            f"{len(self.not_read)} of the clips could not be read, though they need not be damaged; "
            f"the first is {clip}: {reason}; mend that or move them away, and start again{kept}"
        )

    def none_left(self, corpus: Corpus, split: str) -> UserError:
        clip, reason = self.skipped[0]
        return UserError(
            f"no usable clip in the {split} split of {corpus.name!r}; "
            f"the first of {len(self.skipped)} is {clip}: {reason}"
        )
