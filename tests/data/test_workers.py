import multiprocessing
import os
import signal
import time

import pytest

from uwm.data.decoders import BadVideo
from uwm.data.workers import Failure, crash_proof_map


def square_or_worse(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)  # what a decoder does on a file it can't take
    if number == 5:
        raise BadVideo("5.mp4", "is bad")
    if number == 7:
        time.sleep(60)
    if number == 9:
        os.kill(os.getpid(), signal.SIGKILL)  # what the system does for lack of memory
    if number == 100:
        raise ZeroDivisionError("a bug")
    return number**2


def test_crashes_and_hangs_cost_one_item_each():
    results = list(crash_proof_map(square_or_worse, range(10), workers=2, timeout=8))
    assert [item for item, _ in results] == list(range(10))
    by_item = dict(results)
    assert [by_item[i] for i in (0, 1, 2, 4, 6, 8)] == [0, 1, 4, 16, 36, 64]
    assert by_item[3] == Failure("the decoder crashed (exit code -11)")
    assert by_item[5] == Failure("is bad")
    assert by_item[7] == Failure("the decoder did not return within 8 s", machine=True)
    assert by_item[9] == Failure("the decoder crashed (exit code -9)", machine=True)


def test_a_worker_killed_while_idle_is_replaced():
    results = crash_proof_map(square_or_worse, iter([1, 2, 4]), workers=1)
    first = next(results)
    for child in multiprocessing.active_children():
        child.kill()
        child.join()
    later = [result for _, result in results]
    assert first == (1, 1)
    assert later[-1] == 16


def test_bugs_are_raised():
    for workers in (0, 1):
        with pytest.raises(ZeroDivisionError):
            list(crash_proof_map(square_or_worse, [1, 100], workers))


def test_in_this_process():
    assert list(crash_proof_map(square_or_worse, [2, 5], 0)) == [(2, 4), (5, Failure("is bad"))]
