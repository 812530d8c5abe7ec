"""`python -m uwm.methods check`: one line for each thing that is wrong, none where all is well."""

import os
from pathlib import Path

import pytest
import torch

from tests.documents import ROOT
from tests.methods import models
from tests.warm import run_python
from uwm.methods.conformance import made_up_pairs, problems

FILE = Path(models.__file__)
FAULTS = {
    "NoBits": "error: bits is inf",
    "NoSize": "error: image_size is 0",
    "NoPredict": "error: it has no method predict",
    "FewBits": "error: 4 different actions among 4 pairs are more than 1 bits",
    "List": "error: infer gave a list",
    "OneAction": "error: infer gave actions of shape (1, 3, 32, 32) for a batch of 4",
    "NotFinite": "error: infer gave actions that are NaN or infinite",
    "Complex": "error: infer gave actions of torch.complex64",
    "Negative": "error: infer gave codes below 0",
    "Random": "error: infer is not deterministic",
    "BatchNorm": "error: infer gave something else for the same pair in a batch of 1",
    "Small": "error: predict gave frames of shape (4, 3, 16, 16), not (4, 3, 32, 32)",
    "Bytes": "error: predict gave frames are torch.uint8",
    "Signed": "error: predict gave frames run from -",
    "NaNs": "error: predict gave frames run from nan",
    "Noisy": "error: predict is not deterministic",
    "BadEmbed": "error: embed gave features are torch.int64",
    "Stops": "error: it stopped with RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    "Copy": "warning: predict gave the same frames with the actions of other pairs",
    "Constant": "warning: infer gave one and the same action for 4 different pairs",
    "Elsewhere": "error: predict gave a tensor on meta for one on cpu",
    "Levels": "warning: 4 bits for 2 codes up to 7 are of no one codebook",
    "NoEmbed": "warning: the actions are codes and there is no embed",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_a_line(name: str) -> None:
    lines = list(problems(getattr(models, name)()))
    assert any(line.startswith(FAULTS[name]) for line in lines), lines
    assert all(line.startswith(("error: ", "warning: ")) and "\n" not in line for line in lines)


def test_a_model_without_a_fault_has_no_line() -> None:
    assert list(problems(models.Perfect())) == []


def test_the_made_up_pairs_move_and_are_always_the_same() -> None:
    now, then = made_up_pairs(48)
    assert now.shape == then.shape == (4, 3, 48, 48)
    assert 0 <= now.min() <= now.max() <= 1
    assert all((then[k] - now[k]).abs().max() > 0.05 for k in range(4))
    assert torch.equal(made_up_pairs(48)[1], then)


@pytest.mark.parametrize(("name", "code"), [("Perfect", 0), ("Copy", 0), ("Random", 1), ("Nothing", 2)])
def test_the_command_says_it_by_its_exit_code(name: str, code: int) -> None:
    done = run_python(["-m", "uwm.methods", "check", f"{FILE}:{name}"], ROOT, os.environ)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("error: ") == (code == 2)
    assert ("1 errors" in done.stdout) == (code == 1)
