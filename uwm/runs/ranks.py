"""What the processes of one job do together outside of a training: the one owner of such steps.

Every step has a label, and the ranks compare labels when they enter it: ranks that went different ways end
with an error that names both, where they would else wait for each other for ever. While rank 0 works `alone`
no step communicates, so that code written for one process can be run there as it is.

Without a process group all of this is for one process. The module imports no torch.
"""

import copy
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE_S = 60.0  # that a rank which failed waits for the others, which may be inside a training

_alone: list[str] = []


class RanksDiffer(RuntimeError):  # noqa: N818
    """The ranks entered different steps."""


def rank() -> int:
    """This process's number; 0 where it is the only one."""
    group = _group()
    return int(_distributed().get_rank()) if group else 0


def together(label: str, action: Callable[[], T]) -> T:
    """Run `action` on rank 0 once all ranks are here; its result, or its error, is that of all ranks.

    Raises:
        RanksDiffer: another rank entered another step.
    """
    group = _group()
    if group is None or _alone:
        return action()
    _compare(label, group)
    box: list[Any] = [_outcome(action) if rank() == 0 else None]
    _distributed().broadcast_object_list(box, src=0, group=group)
    value, error = box[0]
    if error is not None:
        raise error
    return value


@contextmanager
def alone(label: str) -> Iterator[None]:
    """Rank 0 works by itself: the steps in this block are not shared with other ranks."""
    _alone.append(label)
    try:
        yield
    finally:
        _alone.pop()


def working_alone() -> str | None:
    """What rank 0 does by itself while other ranks wait; None in one process, or when all work together."""
    return _alone[-1] if _alone and _group() else None


def meet(label: str, *, failed: bool) -> None:
    """Wait for all ranks at the end of an item.

    Where one rank `failed` alone, the others wait for it inside a training, and it would wait for them here.
    So its process ends after `PATIENCE_S`, and the launcher ends the others.
    """
    if _group() is None:
        return
    timer = threading.Timer(PATIENCE_S, _end_process, (label,))
    timer.daemon = True
    if failed:
        timer.start()
    try:
        together(label, lambda: None)
    finally:
        timer.cancel()


def _end_process(label: str) -> None:
    print(f"rank {rank()} failed alone ({label}); it ends, so that the launcher ends the others",
          file=sys.stderr, flush=True)  # fmt: skip
    os._exit(1)


def _compare(label: str, group: Any) -> None:
    distributed = _distributed()
    labels = [""] * distributed.get_world_size()
    distributed.all_gather_object(labels, label, group=group)
    other = next((number for number, text in enumerate(labels) if text != labels[0]), None)
    if other is not None:
        raise RanksDiffer(
            f"rank 0 is at {labels[0]!r} and rank {other} at {labels[other]!r}: "
            "all ranks must obtain the same artifacts in the same order"
        )


def _outcome(action: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return action(), None
    except Exception as error:
        return None, _portable(error)


def _portable(error: Exception) -> Exception:
    """The error itself where it can be sent to other processes, else one that says the same."""
    try:
        pickle.dumps(error)
        copy.copy(error)  # builds it anew, as the receiver will
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _distributed() -> Any:
    return sys.modules["torch.distributed"]


def _group() -> Any:
    """The group of `uwm.training.distributed` for messages between ranks; None in one process."""
    module = sys.modules.get("uwm.training.distributed")
    return module.messages() if module else None
