"""What a pre-training costs: against the formula of a ViT, and what the page on clusters says of it."""

import pytest

from tests.documents import ROOT
from uwm.cost import main, pair_cost
from uwm.stages.mae import MAE
from uwm.stages.world_model import PRETRAIN


def test_the_encoder_costs_what_the_formula_says():
    config = MAE["paper"].model
    width, tokens = config.encoder_width, config.tokens + 1
    # A multiply-add is two: projections and MLP 12 D^2 of them a token, scores and their use 2 N D.
    block = 2 * tokens * (12 * width**2 + 2 * tokens * width)
    patches = 2 * config.tokens * width * 3 * config.patch_size**2
    found = pair_cost(MAE["paper"], PRETRAIN["paper"])
    assert found.encode == 2 * (config.encoder_depth * block + patches)
    assert found.backward == pytest.approx(2 * found.forward, rel=0.05)


def test_the_page_on_clusters_shows_the_counted_cost(capsys):
    words = ["--gpus", "8", "--tflops", "400"]
    assert main(words) == 0
    shown = f"$ python -m uwm.cost {' '.join(words)}\n{capsys.readouterr().out}"
    assert shown in (ROOT / "slurm" / "README.md").read_text()
