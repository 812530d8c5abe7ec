"""What a command writes never takes the place of a file that somebody else made; its own it makes anew."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from paper import build
from tests.data.video_files import write_video
from uwm import actions, bench
from uwm.data import inspect, manifest, prepare
from uwm.errors import run_cli

VIDEOS = "mine={videos}"
SHARDS = ("settings.json", "index.json", "skipped.csv", "manifest.csv", "manifest.csv.skipped.csv")
COMMANDS: dict[str, tuple[Callable[[list[str]], int | None], list[str], tuple[str, ...]]] = {
    "manifest": (manifest.main, [VIDEOS, "--split=train", "--pairs=3", "--out=m.csv"], ("m.csv",)),
    "inspect": (inspect.main, [VIDEOS, "--out=."], ("mine-train.png",)),
    "prepare": (prepare.main, [VIDEOS, "--size=32", "--out=."], (*SHARDS, "00000.tar", "00000.json")),
    "actions": (actions.main, [VIDEOS, "--out=a.parquet"], ("a.parquet",)),
    "bench": (bench.main, ["--scale=smoke", "--steps=2", "--out=b.json"], ("b.json",)),
    "report": (build.main, ["--source=."], ("out/report.pdf",)),
}
CASES = [(name, file) for name, (_, _, files) in COMMANDS.items() for file in files]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for i in range(6):
        write_video(folder / f"{i}.mp4", 10, size=(48, 48))
    (folder / "splits.csv").write_text("path,split\n" + "".join(f"{i}.mp4,train\n" for i in range(6)))
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, which tests that search `tmp_path`'s neighbours do not find."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run(name: str, videos: Path) -> int:
    command, words, _ = COMMANDS[name]
    return run_cli(lambda: command([word.format(videos=videos) for word in words]) or 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("foreign", ["of mine\n", "{}\n", "PAR1", ""])
@pytest.mark.parametrize(("name", "file"), CASES)
def test_a_file_of_somebody_else_stays(
    videos: Path, here: Path, capsys: pytest.CaptureFixture,
    name: str, file: str, foreign: str,
) -> None:  # fmt: skip
    if name == "report":
        (here / "main.tex").write_text("")
    (here / file).parent.mkdir(exist_ok=True)
    (here / file).write_text(foreign)
    before = contents(here)
    assert run(name, videos) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert file in errors[0]
    assert contents(here) == before


def test_a_table_of_somebody_else_stays(videos: Path, here: Path) -> None:
    pd.DataFrame({"codes": [1]}).to_parquet("a.parquet")
    before = contents(here)
    assert run("actions", videos) == 2
    assert contents(here) == before


@pytest.mark.parametrize("name", ["manifest", "inspect", "prepare"])
def test_its_own_file_is_made_anew(videos: Path, here: Path, name: str) -> None:
    assert run(name, videos) == 0
    first = contents(here)
    assert set(first) >= {COMMANDS[name][2][0]}
    assert run(name, videos) == 0
    assert set(contents(here)) == set(first)


def test_a_folder_without_a_report_is_left_alone(here: Path) -> None:
    assert run("report", here) == 2
    assert list(here.iterdir()) == []


def test_a_list_of_skipped_clips_does_not_outlive_its_manifest(videos: Path, here: Path) -> None:
    mine = shutil.copytree(videos, here / "videos")
    whole = (mine / "3.mp4").read_bytes()
    (mine / "3.mp4").write_bytes(b"")
    assert run("manifest", mine) == 0
    assert [file for file, _ in manifest.read_skipped(here / "m.csv")] == ["3.mp4"]
    (mine / "3.mp4").write_bytes(whole)
    assert run("manifest", mine) == 0
    assert manifest.read_skipped(here / "m.csv") == []
