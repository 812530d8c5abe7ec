"""Latent actions as Parquet: those that the model infers, pair by pair, and what the file says of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from uwm.actions import main, write_actions
from uwm.data.corpora import BUNDLED, bundled
from uwm.data.crops import center_crop
from uwm.data.manifest import Manifest
from uwm.data.pairs import load_pairs
from uwm.errors import UserError
from uwm.models import MAE_PRESETS, BottleneckConfig, MaskedAutoencoder, WorldModel
from uwm.models.world import World
from uwm.stages.world_model import PLACED


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("weights")
    MaskedAutoencoder(MAE_PRESETS["tiny"]).save(folder / "mae.safetensors")
    WorldModel(PLACED.fitted(MAE_PRESETS["tiny"])).save(folder / "wm.safetensors")
    return folder / "mae.safetensors", folder / "wm.safetensors"


def test_each_pair_has_its_own_action(
    weights: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uwm.actions.PAIRS_AT_ONCE", 7)
    corpus = bundled(BUNDLED[0])
    corpus = replace(corpus, clips=corpus.of("test")[:2])
    world = World.load(*weights)
    count = write_actions(world, corpus, tmp_path / "a.parquet", 0.2)
    table = pq.read_table(tmp_path / "a.parquet")
    assert len(table) == count > 7
    about = json.loads(table.schema.metadata[b"uwm"])
    assert (about["num_action_tokens"], about["codes"], set(about["weights"])) == (
        24,
        1024,
        {"mae", "world-model"},
    )
    rows = table.to_pandas()
    first = rows.iloc[[9]].reset_index(drop=True)
    pairs = first.assign(
        frame0=(first["t0"] * 5).round().astype(int), frame1=(first["t1"] * 5).round().astype(int)
    )
    images = center_crop(load_pairs(corpus, Manifest(pairs), 73), 64, 64)
    with torch.no_grad():
        actions = world.world_model.infer_actions(*world.encode(images).unbind(1))
    np.testing.assert_array_equal(first["codes"][0], actions.codes[0])
    np.testing.assert_allclose(first["vectors"][0], actions.quantized[0].flatten(), rtol=1e-6)


def test_without_a_codebook_the_file_has_the_actions_before_any_noise(
    weights: tuple[Path, Path], tmp_path: Path
) -> None:
    placed = PLACED.fitted(MAE_PRESETS["tiny"])
    WorldModel(replace(placed, bottleneck=BottleneckConfig(kind="noise"), continuous_steps=0)).save(
        tmp_path / "noisy.safetensors"
    )
    world = World.load(weights[0], tmp_path / "noisy.safetensors")
    corpus = bundled(BUNDLED[0])
    corpus = replace(corpus, clips=corpus.of("test")[:1])
    files = [tmp_path / name for name in ("a.parquet", "b.parquet")]
    for path in files:
        write_actions(world, corpus, path, 0.2)
    table = pq.read_table(files[0])
    assert json.loads(table.schema.metadata[b"uwm"])["codes"] is None
    assert {len(codes) for codes in table["codes"].to_pylist()} == {0}
    sizes = placed.tokens.num_action_tokens * placed.tokens.action_width
    assert {len(vector) for vector in table["vectors"].to_pylist()} == {sizes}
    assert table.equals(pq.read_table(files[1]))


def test_the_command_and_its_mistakes(weights: tuple[Path, Path], tmp_path: Path) -> None:
    mae, world_model = map(str, weights)
    folder = tmp_path / "none"
    folder.mkdir()
    command = ["--mae", mae, "--world-model", world_model, "--out", str(tmp_path / "x.parquet")]
    with pytest.raises(UserError, match="no video"):
        main([f"mine={folder}", *command])
    with pytest.raises(UserError, match="expected the weights of a WorldModel"):
        main(["sim-ego", *command[:2], "--world-model", mae, *command[4:]])
    assert not (tmp_path / "x.parquet").exists()
