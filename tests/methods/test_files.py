"""`NAME=FILE.py:CLASS`: what is read from it, and what is refused in one line."""

import hashlib
from pathlib import Path

import pytest

from uwm.errors import UserError
from uwm.methods import parse
from uwm.methods.files import ClassFile, external_method

SOURCE = """
from neighbour import SIZE

class Mine:
    bits, image_size, weights = 1.0, SIZE, ("a.bin", "folder/b.bin")

class Away(Mine):
    weights = ("../a.bin",)

class Text(Mine):
    weights = "a.bin"

class Missing(Mine):
    weights = ("c.bin",)

class Stops(Mine):
    def __init__(self):
        raise ValueError("no\\nGPU")

NOT_A_CLASS = 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.bin").write_bytes(b"a")
    (tmp_path / "folder" / "b.bin").write_bytes(b"b")
    (tmp_path / "neighbour.py").write_text("SIZE = 32\n")
    (tmp_path / "model.py").write_text(SOURCE)
    return tmp_path / "model.py"


def test_a_record_is_told_file_class_and_digests_and_no_folder(file: Path) -> None:
    given = external_method(f"told={file}:Mine")
    assert given.identity() == {
        "file": "model.py",
        "class": "Mine",
        "sha256": hashlib.sha256(SOURCE.encode()).hexdigest(),
        "weights": {
            name: hashlib.sha256(name[-5:-4].encode()).hexdigest() for name in ("a.bin", "folder/b.bin")
        },
    }
    assert given.source.build().image_size == 32
    assert parse("told").label == "told"
    assert external_method(f"told={file}:Mine") == given


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Away", "leads out"),
        ("Text", "give a tuple"),
        ("Missing", "no weights file"),
        ("Nothing", "no class"),
    ],
)
def test_wrong_weights_are_one_line(file: Path, name: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        ClassFile.parse(f"{file}:{name}").weights()


def test_what_a_class_raises_is_one_line(file: Path) -> None:
    with pytest.raises(UserError, match="ValueError: no GPU"):
        ClassFile.parse(f"{file}:Stops").build()
    with pytest.raises(UserError, match="no class NOT_A_CLASS"):
        ClassFile.parse(f"{file}:NOT_A_CLASS").build()


def test_a_file_that_fails_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    with pytest.raises(UserError, match="ModuleNotFoundError: No module named 'no_such_package'"):
        ClassFile.parse(f"{tmp_path / 'broken.py'}:Mine").build()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("mine", "NAME=FILE.py:CLASS"),
        ("Mine=model.py:Mine", "small letters"),
        ("mi__ne=model.py:Mine", "small letters"),
        ("mine=model.py", "FILE.py:CLASS"),
        ("mine=model.txt:Mine", "FILE.py:CLASS"),
        ("mine=nowhere.py:Mine", "no file nowhere.py"),
        ("uwm=model.py:Mine", "uwm already"),
        ("r_gt=model.py:Mine", "small letters"),
        ("copy-mae-decoder=model.py:Mine", "already"),
    ],
)
def test_what_is_no_method_is_one_line(text: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        external_method(text)
