"""What a cached evaluation bears: the code that measures, of the experiment's file and of `uwm`."""

import importlib.util
import shutil
from pathlib import Path

import pytest

import uwm
from uwm.runs.source_digest import MEASURING, measuring_code, used_of_own_file

EVALUATION = """
import functools
import torch

WEIGHTS = {"first": 1}
WEIGHTS |= {}
UNUSED = 3

class Config:
    size: int = 4

class Kept:
    value = 2

@torch.no_grad()
def evaluate(x, config: Config):
    return [outer(y) for y in x], (lambda: inner(0))

def outer(x):
    return inner(x) if x else evaluate(x, None)

@functools.lru_cache
def inner(x):
    return x + WEIGHTS["first"] + Kept.value

def other(x):
    return evaluate(x, Config()) + UNUSED
"""


def evaluation(folder, text):
    """The function `evaluate` of a file with that text."""
    (folder / "evaluation.py").write_text(text)
    spec = importlib.util.spec_from_file_location("evaluation", folder / "evaluation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.evaluate


def test_what_is_used_of_the_own_file(tmp_path):
    found = [text.split("\n")[-1].strip() for text in used_of_own_file(evaluation(tmp_path, EVALUATION))]
    assert found == [
        "value = 2",
        'WEIGHTS = {"first": 1}',
        "WEIGHTS |= {}",
        "return [outer(y) for y in x], (lambda: inner(0))",
        'return x + WEIGHTS["first"] + Kept.value',
        "return inner(x) if x else evaluate(x, None)",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return inner(x) if x", "return inner(x) if not x"),
        ("return x + WEIGHTS", "return x - WEIGHTS"),  # behind a cache
        ('"first": 1', '"first": 2'),
        ("WEIGHTS |= {}", "WEIGHTS |= {3: 4}"),
        ("value = 2", "value = 3"),
        ("@functools.lru_cache", "@functools.lru_cache(1)"),
    ],
)
def test_a_change_of_what_is_used_is_noticed(tmp_path, old, new):
    before = used_of_own_file(evaluation(tmp_path, EVALUATION))
    assert EVALUATION.count(old) == 1
    assert used_of_own_file(evaluation(tmp_path, EVALUATION.replace(old, new))) != before


@pytest.mark.parametrize(
    ("old", "new"),
    [("UNUSED = 3", "UNUSED = 4"), ("evaluate(x, Config())", "0"), ("size: int = 4", "size: int = 5")],
)
def test_a_change_of_what_is_not_used_is_none(tmp_path, old, new):
    before = used_of_own_file(evaluation(tmp_path, EVALUATION))
    assert EVALUATION.count(old) == 1
    assert used_of_own_file(evaluation(tmp_path, EVALUATION.replace(old, new))) == before


def test_a_changed_metric_is_noticed(tmp_path, monkeypatch):
    """Any file of what measures, of what is measured, and of the pairs that are drawn."""
    for package in MEASURING:
        shutil.copytree(Path(uwm.__file__).parent / package, tmp_path / "uwm" / package)
    monkeypatch.setattr(uwm, "__file__", str(tmp_path / "uwm" / "__init__.py"))
    function = evaluation(tmp_path, EVALUATION)
    digests = {measuring_code(function)}
    changed = ["metrics/image.py", "evaluation/predictors.py", "baselines/probe.py", "models/dynamics.py"]
    changed += ["methods/protocol.py", "data/crops.py", "training/objectives.py"]
    changed += ["training/convergence.py", "stages/comparison_pairs.py", "data/robomimic/limits.py"]
    for name in changed:
        with (tmp_path / "uwm" / name).open("a") as file:
            file.write("# changed\n")
        digests.add(measuring_code(function))
    text = EVALUATION.replace("value = 2", "value = 3")
    digests.add(measuring_code(evaluation(tmp_path, text)))
    assert len(digests) == 2 + len(changed)
