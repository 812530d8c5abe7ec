"""`NAME=FILE.py:CLASS`, a method of others: its file, its class, the digests of its code and weights."""

import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from uwm.errors import UserError
from uwm.files import home_path, inside
from uwm.methods import METHODS, Method, declare_method, parse
from uwm.verified import sha256_of

METHOD_NAME = re.compile(r"[a-z][a-z0-9.+-]*")


@dataclass(frozen=True)
class ClassFile:
    """A class and the file that it stands in."""

    file: Path
    class_name: str

    @classmethod
    def parse(cls, text: str) -> "ClassFile":
        """`FILE.py:CLASS`. UserError where it isn't one, or the file isn't there."""
        file, colon, name = text.rpartition(":")
        if not (colon and file.endswith(".py") and name.isidentifier()):
            raise UserError(f"{text}: write FILE.py:CLASS, the file and the class in it")
        path = home_path(file).absolute()
        if not path.is_file():
            raise UserError(f"{text}: no file {file}")
        return cls(path, name)

    def __str__(self) -> str:
        return f"{self.file}:{self.class_name}"

    @property
    def type(self) -> type[Any]:
        """The class; its file is run. UserError where that fails, or there is no such class."""
        loaded = getattr(_module(self.file), self.class_name, None)
        if not isinstance(loaded, type):
            raise UserError(f"{self.file} has no class {self.class_name}")
        return loaded

    def build(self) -> Any:
        """The model: the class called without arguments. UserError where that fails."""
        try:
            return self.type()
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{self}: {type(error).__name__}: {_one_line(error)}") from error

    @property
    def fits(self) -> bool:
        """Has the class a trainer of its own?"""
        return callable(getattr(self.type, "fit", None))

    def weights(self) -> dict[str, str]:
        """sha256 of each weights file that the class declares, by its name there."""
        names = getattr(self.type, "weights", None)
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise UserError(
                f"{self}: weights is {names!r}: give a tuple of the files that it reads, () for none"
            )
        digests = {}
        for name in names:
            path = inside(self.file.parent, name)
            if not path.is_file():
                raise UserError(f"{self}: no weights file {path}")
            digests[name] = sha256_of(path)
        return digests


@dataclass(frozen=True)
class ExternalMethod:
    """A method that the command line gives, and where it stands."""

    method: Method
    source: ClassFile

    @property
    def name(self) -> str:
        return self.method.name

    def identity(self) -> dict[str, Any]:
        """What a record says of it: no folder of the user's machine."""
        source = self.source
        return {
            "file": source.file.name,
            "class": source.class_name,
            "sha256": sha256_of(source.file),
            "weights": source.weights(),
        }


def external_method(text: str) -> ExternalMethod:
    """`NAME=FILE.py:CLASS` -> the method, declared under its name.

    Raises:
        UserError: another form, a name that is taken, no such file.
    """
    name, equals, rest = text.partition("=")
    if not equals or not METHOD_NAME.fullmatch(name):
        raise UserError(
            f"--method {text}: write NAME=FILE.py:CLASS, the name of small letters, digits, dots and dashes"
        )
    method = Method(name, name)  # of none of our experiments
    if METHODS.get(name) != method and _is_taken(name):
        raise UserError(f"--method {text}: there is a method {name} already; choose another name")
    return ExternalMethod(declare_method(method), ClassFile.parse(rest))


def _is_taken(name: str) -> bool:
    try:
        return bool(parse(name))
    except UserError:
        return False


@cache
def _module(path: Path) -> Any:
    """The file as a module. Beside it may lie what it imports."""
    name = f"uwm_method_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and TorchScript look their module up
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path}: {type(error).__name__}: {_one_line(error)}") from error
    return module


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
