"""Code blocks of the Markdown pages, and how tests apply and run them."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.warm import run_python

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
MOST_LINES = 60  # of a program that a page shows, and of an adapter


def blocks(page: Path, kind: str = "") -> list[tuple[str, str]]:
    """Language and text of a page's code blocks, all of them or those of one language."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(language, text) for language, text in found if kind in ("", language)]


def section(page: Path, title: str) -> Path | str:
    """The text below a heading of the second level, up to the next one."""
    text = page.read_text(encoding="utf-8")
    return next(part for part in re.split(r"^## ", text, flags=re.MULTILINE) if part.startswith(title))


def apply_diff(block: str, tree: Path) -> None:
    """Change the file that the block's first line names: the lines without a plus are there once."""
    name, *lines = block.splitlines()
    before = "\n".join(line[1:] for line in lines if not line.startswith("+"))
    after = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    path = tree / name
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{name} holds this {text.count(before)} times:\n{before}"
    path.write_text(text.replace(before, after), encoding="utf-8")


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in a shell block, comments left out."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def run(
    words: list[str], tree: Path, cache: Path, project: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of a page with this Python, in a copy of the repository or in a folder of a user's, with
    the repository `project`."""
    assert words[0] == "python", words
    environment = os.environ | {
        "PYTHONPATH": str(project or tree),
        "UWM_CACHE": str(cache),
        "UWM_RUNS": str(cache / "runs"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("UWM_SITE", None)
    return run_python(words[1:], tree, environment)
