"""Cached stages: what a training left behind, found again by a digest of everything that it depends on.

A stage is looked up among the released artifacts, then in the cache, and computed if it is in neither.
Experiments that declare the same stage share its artifact. Where a computation runs never enters a digest.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from uwm.env import RELEASED, cache_root
from uwm.errors import UserError
from uwm.runs import ranks
from uwm.runs.lock import Lock
from uwm.runs.record import digest_of
from uwm.runs.stage_folder import DamagedStage, clear, drop_checkpoints, verify_stage, write_stage

Origin = Literal["released", "cached", "computed"]
_MEND = "get them again (git checkout -- uwm/assets/weights), or train with --recompute"


@dataclass(frozen=True)
class Stage:
    """A computation by name: `fields` are the config values that it reads, `inputs` digests of what it reads.

    Raise `version` when the code changes what the same fields give.
    """

    name: str
    version: int
    fields: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Plain dict, the content that `digest` is taken of."""
        plain = {
            "name": self.name,
            "version": self.version,
            "fields": dict(self.fields),
            "inputs": dict(self.inputs),
        }
        return dict(json.loads(json.dumps(plain, allow_nan=False)))

    @property
    def digest(self) -> str:
        """16 hex digits."""
        return digest_of(self.describe())

    @property
    def folder_name(self) -> str:
        """`<name>-<digest>`, in the cache as among the released artifacts."""
        return f"{self.name}-{self.digest}"


@dataclass(frozen=True)
class Artifact:
    """A finished stage: the folder that it wrote, and where it came from."""

    path: Path
    digest: str
    origin: Origin


class NotThere(Exception):  # noqa: N818
    """A stage is not finished, and nothing may be computed here."""


@dataclass
class Artifacts:
    """The artifacts below `root` and the released ones.

    `recompute` ignores the released ones and those in the cache that were finished before `since` (seconds
    since the epoch; by default now), so that one run computes each stage once. An interrupted computation is
    always continued. `obtained` collects what `obtain` handed out, by stage name. With `find_only` nothing is
    computed: a plan asks for stages so. `code`, as in records, is noted in the `stage.json` of what is
    computed; it is no part of the identity. `released_for` tells whether something was released for this
    scale: a stage that differs from it says so.
    """

    root: Path = field(default_factory=cache_root)
    released: Path = RELEASED
    recompute: bool = False
    since: float = field(default_factory=time.time)
    stale_s: float = 120.0
    find_only: bool = False
    code: Mapping[str, Any] = field(default_factory=dict)
    released_for: bool = True
    obtained: dict[str, Artifact] = field(default_factory=dict)
    _locks: list[Lock] = field(default_factory=list)

    def find(self, stage: Stage) -> Artifact | None:
        """The finished artifact of `stage`, if there is one with all its bytes. Computes nothing.

        A damaged one of the cache counts as absent, and that is said.

        Raises:
            UserError: a released artifact is damaged.
        """
        released, cached = self.released / stage.folder_name, self.root / stage.folder_name
        if not self.recompute and released.is_dir():
            try:
                verify_stage(released)
            except DamagedStage as reason:
                raise UserError(f"released weights: {reason}; {_MEND}") from reason
            return Artifact(released, stage.digest, "released")
        if not cached.is_dir():
            return None
        try:
            finished = verify_stage(cached)["finished"]
        except DamagedStage as reason:
            _say_once(f"stage {stage.name} is damaged: {reason}; computing it again")
            return None
        return None if self.recompute and finished < self.since else Artifact(cached, stage.digest, "cached")

    def obtain(
        self,
        stage: Stage,
        compute: Callable[[Path], None],
        *,
        together: bool = True,
        first: Callable[[], object] = lambda: None,
    ) -> Artifact:
        """Find `stage`'s artifact, or let `compute` fill its working folder.

        The working folder `root/<name>-<digest>.partial` is kept when `compute` fails or is killed, so that
        the next attempt can continue there. Where a job has several processes, all call this together: rank 0
        looks and locks, all compute (a training; with `together=False` rank 0 alone), rank 0 finishes. What
        rank 0 alone computes may rest on trainings: all ranks obtain them in `first`.

        Raises:
            RanksDiffer: the ranks want different artifacts.
            RuntimeError: rank 0 alone needs a training that all ranks should have obtained before.
            NotThere: it is not finished, with `find_only`.
        """
        artifact = ranks.together(f"look for {stage.folder_name}", lambda: self.find(stage))
        if artifact is None and self.find_only:
            raise NotThere(stage.folder_name)
        if artifact is None:
            run = compute if together else _by_rank_zero(stage, compute, first)
            artifact = self._compute(stage, run, together)
        self.obtained[stage.name] = artifact
        return artifact

    def lock_lost(self) -> bool:
        """True when another process took over a stage that this one is computing: stop writing."""
        return any(lock.lost.is_set() for lock in self._locks)

    def _compute(self, stage: Stage, compute: Callable[[Path], None], together: bool) -> Artifact:
        if together and (task := ranks.working_alone()):
            raise RuntimeError(
                f"rank 0 alone needs stage {stage.name} for {task}: all ranks must obtain it first"
            )
        if ranks.rank() > 0:
            return self._compute_locked(stage, compute)
        _say_if_recipe_changed(stage, self)
        lock = Lock(self.root / f"{stage.folder_name}.lock", stale_s=self.stale_s)
        with lock:
            self._locks.append(lock)
            try:
                return self._compute_locked(stage, compute)
            finally:
                self._locks.remove(lock)

    def _compute_locked(self, stage: Stage, compute: Callable[[Path], None]) -> Artifact:
        label = stage.folder_name  # another process may have just finished it
        artifact = ranks.together(f"look again for {label}", lambda: self.find(stage))
        if artifact is not None:
            return artifact
        partial = self.root / f"{stage.folder_name}.partial"
        partial.mkdir(parents=True, exist_ok=True)
        compute(partial)
        return ranks.together(f"finish {label}", lambda: self._finish(stage, partial))

    def _finish(self, stage: Stage, partial: Path) -> Artifact:
        if self.lock_lost():
            raise RuntimeError(f"another process took over stage {stage.name} while this one was silent")
        final = self.root / stage.folder_name
        write_stage(partial, {**stage.describe(), "digest": stage.digest, "code": dict(self.code)})
        clear(final)  # with recompute, or a damaged one
        os.replace(partial, final)
        drop_checkpoints(final)
        return Artifact(final, stage.digest, "computed")


@cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _say_if_recipe_changed(stage: Stage, artifacts: Artifacts) -> None:
    others = sorted(artifacts.released.glob(f"{stage.name}-{'[0-9a-f]' * 16}"))
    if others and artifacts.released_for and not artifacts.recompute:
        print(f"stage {stage.name}: its recipe or data differ from those of the released {others[0].name}"
              f" (this one is {stage.digest}); computing it from scratch", file=sys.stderr)  # fmt: skip


def _by_rank_zero(
    stage: Stage, compute: Callable[[Path], None], first: Callable[[], object]
) -> Callable[[Path], None]:
    """`first` by all ranks, then `compute` by rank 0 while the others wait for its outcome."""

    def compute_alone(folder: Path) -> None:
        with ranks.alone(stage.name):
            compute(folder)

    def compute_by_one(folder: Path) -> None:
        first()
        ranks.together(f"compute {stage.folder_name}", lambda: compute_alone(folder))

    return compute_by_one
