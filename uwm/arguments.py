"""Command lines: every mistake is one line, and every number and folder says what it may be."""

import argparse
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from uwm.errors import UserError, nearest
from uwm.files import home_path

INT64 = 2**63 - 1  # what NumPy, torch and the files hold


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `UserError` instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{' '.join(message.split())}; see --help")


def whole(low: int | None = None, high: int = INT64) -> Callable[[str], int]:
    """An argparse type: a whole number from `low` to `high`, both included."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        return int(_within(number, low, high))

    return parse


def real(low: float | None = None, high: float | None = None) -> Callable[[str], float]:
    """An argparse type: a finite number from `low` to `high`, both included."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if number - number != 0:
            raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
        return _within(number, low, high)

    return parse


def _within(number: float, low: float | None, high: float | None) -> float:
    if low is not None and number < low:
        raise argparse.ArgumentTypeError(f"{number:g} is too small; at least {low:g} is needed")
    if high is not None and number > high:
        raise argparse.ArgumentTypeError(f"{number:g} is too large; at most {high:g} is allowed")
    return number


def named_path(text: str) -> Path:
    """An argparse type: a path that can be named, `~` included."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty path; name a file or folder")
    try:
        return home_path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


CORPUS_NAME = re.compile(r"[A-Za-z0-9]([._-]?[A-Za-z0-9])*")  # a part of a cell's name, and of file names


def check_corpus_name(name: str, where: str) -> None:
    """UserError for a name that a cell or a file cannot bear; `where` is the option and what it said."""
    if not CORPUS_NAME.fullmatch(name):
        raise UserError(
            f"{where}: the name may hold letters and digits, and between them a dot, dash or underscore"
        )


def one_of(known: Iterable[str]) -> Callable[[str], str]:
    """An argparse type: a word of a list; the nearest one is named for another."""
    words = tuple(known)

    def parse(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"there is no {text!r}{nearest(text, words)}")
        return text

    return parse
