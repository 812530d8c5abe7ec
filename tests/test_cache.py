"""`python -m uwm.cache`: what it lists, what it notices, and that it removes nothing else."""

from pathlib import Path

import pytest

from uwm.cache import main
from uwm.errors import run_cli
from uwm.runs.artifacts import Artifacts, Stage
from uwm.runs.lock import Lock

STAGE = Stage("weights", 1, {})
NAME = STAGE.folder_name


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A finished stage, one set aside, a manifest, and files of somebody else."""
    root = tmp_path / "cache"
    Artifacts(root, tmp_path / "none").obtain(STAGE, lambda folder: fill(folder / "run") or fill(folder))
    fill(root / f"{NAME}.aside-1")
    fill(root / f"other-{'0' * 16}.partial" / "run")
    fill(root / "thesis")
    (root / "manifests").mkdir()
    name = f"sim.ego-train-{'1' * 16}"
    for end in (".csv", ".csv.skipped.csv", ".digests.json"):
        (root / "manifests" / f"{name}{end}").write_text("{}")
    (root / "manifests" / "mine.csv").write_text("x")
    return root


def fill(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text("x" * 10)


def run(cache: Path, *arguments: str) -> int:
    return run_cli(lambda: main(["--cache", str(cache), *arguments]))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_ls_names_what_is_ours(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cache, "ls") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[-1] for line in lines[:-1]] == [
        f"other-{'0' * 16}.partial", NAME, f"{NAME}.aside-1", f"manifests/sim.ego-train-{'1' * 16}.csv",
    ]  # fmt: skip


@pytest.mark.parametrize("text", [None, "y" * 10, "y"])
def test_verify_notices_damage(cache: Path, text: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    if text:
        (cache / NAME / "file").write_text(text)
    assert run(cache, "verify") == bool(text)
    assert f"4 entries, {int(bool(text))} damaged" in capsys.readouterr().out


def test_rm_removes_entries_and_nothing_else(cache: Path) -> None:
    before = names(cache)
    assert run(cache, "rm", NAME, f"manifests/sim.ego-train-{'1' * 16}.csv") == 0
    gone = before - names(cache)
    assert {name for name in gone if "/" not in name.removeprefix(f"{NAME}/").removeprefix("run/")} == {
        f"{NAME}/file", f"{NAME}/run/file", f"{NAME}/stage.json",
    }  # fmt: skip
    assert len(gone) == 6
    assert not (cache / NAME).exists()


@pytest.mark.parametrize(
    "name", ["thesis", "..", "", "/", ".", "manifests", "manifests/mine.csv", f"{NAME}/../thesis"]
)
def test_rm_refuses_other_names(cache: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(cache)
    assert run(cache, "rm", NAME, name) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert names(cache) == before


def test_rm_leaves_a_stage_that_is_worked_on(cache: Path) -> None:
    before = names(cache)
    with Lock(cache / f"{NAME}.lock"):
        assert run(cache, "rm", NAME) == 2
    assert names(cache) == before


@pytest.mark.parametrize("arguments", [[], ["rm"], ["remove"], ["ls", "x"], ["ls", "--all"]])
def test_bad_command_lines_are_one_line(
    cache: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cache, *arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert run(cache / "none", "ls") == 2
