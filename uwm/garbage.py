"""Python's garbage collection, paused while very many objects are made that all stay.

It would visit them again and again, as when libraries are imported or a corpus of SSv2's size is opened.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """No collection inside; after it as before."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def pause_collection() -> None:
    """No collection from here until `resume_collection`."""
    gc.disable()


def resume_collection() -> None:
    """Collect again after `pause_collection`; never what was made meanwhile. Nothing where it is on."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
