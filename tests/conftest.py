"""How the whole suite is run: what may be skipped, and which process gets which tests."""

import os
from collections.abc import Generator
from typing import Any

import pytest

SLURM = "tests/slurm"
# The longest of the other files, longest first: none of them is left to one process at the end.
LONG = (
    "tests/test_runbook.py",
    "tests/experiments/test_two_ranks.py",
    "tests/experiments/test_stage_jobs.py",
    "tests/data/test_robot_render.py",
    "tests/test_documents.py",
    "tests/test_small_scale.py",
    "tests/runs/test_slurm_docs.py",
    "tests/test_paper_scale.py",
    "tests/test_cost.py",
    "tests/test_contributing.py",
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With UWM_NO_SKIPS=1 a test that would be skipped fails: for machines where everything is installed."""
    report = yield
    if report.skipped and os.environ.get("UWM_NO_SKIPS") == "1":
        report.outcome, report.longrepr = "failed", f"not to be skipped here: {report.longrepr}"
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slurm's tests come first: they mostly wait, so that others can compute beside them. Then long files.

    Without a GPU the tests marked `gpu` are no part of the suite: nothing can be installed for them.
    """
    items.sort(key=_turn)
    needless = [item for item in items if item.get_closest_marker("gpu") and not _gpu()]
    if needless:
        config.hook.pytest_deselected(items=needless)
        items[:] = [item for item in items if item not in needless]


def _turn(item: pytest.Item) -> int:
    file = item.nodeid.partition("::")[0]
    if file.startswith(SLURM):
        return -1
    return LONG.index(file) if file in LONG else len(LONG)


def _gpu() -> bool:
    import torch  # only where a test asks

    return torch.cuda.is_available()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A process gets a whole file, which may have set-up of its own; one gets all of Slurm's tests, and so
    starts the only cluster."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return SLURM if nodeid.startswith(SLURM) else super()._split_scope(nodeid)

    return ByFile(config, log)
