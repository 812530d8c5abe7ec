"""Python's search for garbage, put off while very many objects are made that all stay.

It would visit them again and again, as when libraries are imported or a corpus of SSv2's size is opened.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_search() -> Iterator[None]:
    """No search inside; after it as before."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def put_off_search() -> None:
    """No search from here until `begin_search`."""
    gc.disable()


def begin_search() -> None:
    """End what `put_off_search` began: search again, but not in what was made meanwhile. Else nothing."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
