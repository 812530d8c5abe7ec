"""Bad command lines of the data commands: one line, exit 2, and nothing written."""

from pathlib import Path

import pytest

from uwm.data import inspect, manifest, prepare
from uwm.errors import run_cli

COMMANDS = {"manifest": manifest.main, "prepare": prepare.main, "inspect": inspect.main}
NUMBERS = {
    "manifest": ("--pairs", "--pairs-per-clip", "--pairs-per-visit", "--gap", "--seed", "--workers"),
    "prepare": ("--size", "--quality", "--pairs-per-clip", "--gap", "--seed", "--shard-pairs", "--workers"),
    "inspect": ("--clips", "--gap", "--seed"),
}
BAD_NUMBERS = ("-1", "x", "", "nan", "inf", "1e400", "99999999999999999999", "0x10")
LINES = [
    *((name, f"{flag}={bad}") for name, flags in NUMBERS.items() for flag in flags for bad in BAD_NUMBERS),
    ("prepare", "--quality=101"), ("prepare", "--shard-pairs=0"), ("manifest", "--pairs=0"),
    ("manifest", "--pairs-per-clip=0"), ("manifest", "--gap=0"), ("prepare", "--part=2/1"),
    ("manifest", "--out="), ("prepare", "--out="), ("manifest", "--max-bad-share=2"),
    ("manifest", "--max-bad-share=-1"), ("manifest", "--split=tset"), ("prepare", "--decoder=vlc"),
    ("manifest", "--nonsense"), ("inspect", "--split="),
]  # fmt: skip


@pytest.mark.parametrize(("name", "argument"), LINES)
def test_a_bad_argument_is_one_line(
    name: str, argument: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["sim-ego", argument]
    if name == "prepare" and not argument.startswith("--out"):
        arguments += ["--out", "shards"]
    code = run_cli(lambda: COMMANDS[name](arguments) or 0)
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1), error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    "data",
    ["a/b=.", "..=.", "é=.", "a b=.", "a__b=.", "x\0=.", "x=~nobody-here/y", "x=a\0b", "x=\ud800", "x:=."],
)
def test_a_bad_corpus_is_one_line(
    name: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = run_cli(lambda: COMMANDS[name]([data, "--out", "out"]) or 0)
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1), error
    assert list(tmp_path.iterdir()) == []
