"""Latent actions as Parquet: those that the model infers, pair by pair, and what the file says of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from uwm.actions import main, write_actions
from uwm.data.corpora import BUNDLED, bundled
from uwm.data.crops import center_crop
from uwm.data.decoders import BadVideo
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
    for alone in (command[:2], command[2:4]):
        with pytest.raises(UserError, match=r"alone; name the other's file too, or neither"):
            main(["sim-ego", *alone, *command[4:]])
    assert not (tmp_path / "x.parquet").exists()


@pytest.mark.slow
def test_parts_hold_what_one_file_does_and_are_not_made_again(
    weights: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of them decoded by another process."""
    for clip in bundled(BUNDLED[0]).of("test")[:3]:
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / Path(clip.path).name).symlink_to(bundled(BUNDLED[0]).file(clip))
    mae, world_model = map(str, weights)
    models = ["--mae", mae, "--world-model", world_model]
    command = [f"mine={tmp_path / 'mine'}", *models, "--out"]
    assert main([*command, str(tmp_path / "whole.parquet")]) == 0
    parts = [[*command, str(tmp_path / "x.parquet"), "--part", f"{number}/2"] for number in range(2)]
    assert [main([*words, "--workers", workers]) for words, workers in zip(parts, "01", strict=True)] == [
        0,
        0,
    ]
    files = [tmp_path / f"x-{number}-of-2.parquet" for number in range(2)]
    found = pa.concat_tables([pq.read_table(file).replace_schema_metadata() for file in files])
    whole = pq.read_table(tmp_path / "whole.parquet").replace_schema_metadata()
    order = [("video", "ascending"), ("t0", "ascending")]
    found, whole = found.sort_by(order), whole.sort_by(order)
    assert found["codes"].equals(whole["codes"])
    np.testing.assert_allclose(found["vectors"].to_pylist(), whole["vectors"].to_pylist(), atol=1e-5)
    assert found["t1"].equals(whole["t1"])
    with monkeypatch.context() as patched:
        patched.setattr("uwm.actions.write_actions", None)  # is not called
        capsys.readouterr()
        assert main(parts[1]) == 0
    assert capsys.readouterr().out == f"{files[1]} is there already\n"
    with pytest.raises(UserError, match="actions of other pairs or weights"):
        main([*parts[1], "--gap", "0.3"])
    with pytest.raises(UserError, match="--part 3/4: corpus 'mine' has 3 clips"):
        main([*command, str(tmp_path / "y.parquet"), "--part", "3/4"])


def test_a_video_that_breaks_off_is_named_by_another_process_too(
    weights: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise BadVideo("a/b.mp4", "frame 7 cannot be decoded")

    corpus = bundled(BUNDLED[0])
    corpus = replace(corpus, clips=corpus.of("test")[:1])
    monkeypatch.setattr("uwm.actions.load_pairs", broken)
    with pytest.raises(UserError, match=r"a/b\.mp4: frame 7 cannot be decoded"):
        write_actions(World.load(*weights), corpus, tmp_path / "a.parquet", 0.2)
    assert not (tmp_path / "a.parquet").exists()
