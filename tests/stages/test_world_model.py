"""The trainings that experiments share: on real video files, killed and resumed, found again by digest."""

import json
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.stages.mae_and_world import MAE, PRETRAIN, obtain_mae_and_world
from tests.stages.moving_videos import write_video
from uwm.bounds import OutOfBounds
from uwm.data import prepare, stream
from uwm.data.corpora import Corpus, open_corpus
from uwm.data.decoders import BadVideo
from uwm.data.procedural_video import PROCEDURAL
from uwm.errors import UserError
from uwm.models import MAE_PRESETS, MaskedAutoencoder
from uwm.runs.artifacts import Artifacts
from uwm.stages.mae import MAERecipe, published_mae
from uwm.stages.pair_training import live_video
from uwm.stages.stand_ins import telling_stand_ins
from uwm.stages.trained import thinned_curve
from uwm.stages.world_model import world_model_stage


def weights_and_log(folder: Path) -> tuple[bytes, str]:
    return (folder / "weights.safetensors").read_bytes(), (folder / "run" / "log.jsonl").read_text()


def test_a_world_is_trained_once_and_found_again(corpus: Corpus, tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path / "cache", tmp_path / "released")
    world = obtain_mae_and_world(MAE, PRETRAIN, {"made": corpus}, artifacts, lambda: False)
    assert {name: a.origin for name, a in artifacts.obtained.items()} == {
        "mae": "computed",
        "world-model": "computed",
    }
    images = torch.randint(0, 256, (3, 2, 3, 64, 64), dtype=torch.uint8)
    assert world.encode(images).shape == (3, 2, 17, 48)
    again = Artifacts(tmp_path / "cache", tmp_path / "released")
    assert (
        obtain_mae_and_world(MAE, PRETRAIN, {"made": corpus}, again, lambda: False).weights == world.weights
    )
    assert {a.origin for a in again.obtained.values()} == {"cached"}
    other = replace(PRETRAIN, train=replace(PRETRAIN.train, steps=2))
    changed = Artifacts(tmp_path / "cache", tmp_path / "released")
    obtain_mae_and_world(MAE, other, {"made": corpus}, changed, lambda: False)
    assert {name: a.origin for name, a in changed.obtained.items()} == {
        "mae": "cached",
        "world-model": "computed",
    }
    curve = pd.read_csv(changed.obtained["world-model"].path / "curve.csv")
    assert {"step", "loss", "perplexity", "val/action_gap/made"} <= set(curve.columns)


@pytest.mark.slow
def test_a_killed_pretraining_ends_with_the_same_bits(corpus: Corpus, tmp_path: Path) -> None:
    """SIGKILL a training of the real world model (codebook, EMA, AdamW) at two moments, and go on."""
    script = textwrap.dedent(
        f"""
        import sys, torch
        from pathlib import Path
        torch.set_num_threads(1)
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from uwm.data.corpora import open_corpus
        from uwm.runs.artifacts import Artifacts
        from tests.stages.mae_and_world import MAE, PRETRAIN, obtain_mae_and_world
        root = Path(sys.argv[1])
        corpora = {{"made": open_corpus("made", {str(corpus.folder)!r})}}
        artifacts = Artifacts(root, root / "none", stale_s=1.0)
        obtain_mae_and_world(MAE, PRETRAIN, corpora, artifacts, lambda: False)
        """
    )

    def start(root: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", script, str(root)], stderr=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait(timeout=240) == 0
    for least in (1, 7):  # lines of the log at which to kill
        process = start(tmp_path / "killed")
        while process.poll() is None and lines_of_log(tmp_path / "killed") < least:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "killed").wait(timeout=240) == 0
    whole, killed = (
        next((tmp_path / name).glob("world-model-*/weights.safetensors")).parent
        for name in ("whole", "killed")
    )
    assert weights_and_log(killed) == weights_and_log(whole)


def lines_of_log(root: Path) -> int:
    logs = list(root.glob("world-model-*/run/log.jsonl"))
    return logs[0].read_text().count("\n") if logs else 0


@pytest.mark.slow
def test_live_video_trains_too(corpus: Corpus, tmp_path: Path) -> None:
    recipe = replace(PRETRAIN, views=0, pairs=40, train=replace(PRETRAIN.train, steps=2, checkpoint_every=2))
    artifacts = Artifacts(tmp_path / "cache", tmp_path / "released")
    world = obtain_mae_and_world(MAE, recipe, {"made": corpus}, artifacts, lambda: False)
    batches = live_video(recipe, world.mae, {"a": corpus, "b": corpus}).batches(0, 0, 1)
    batch = next(batches)
    assert batch.shape == (4, 2, 3, 64, 64)
    assert batch.dtype == torch.uint8
    with pytest.raises(UserError, match="multiple of the 3 corpora"):
        live_video(recipe, world.mae, {"a": corpus, "b": corpus, "c": corpus})


@pytest.mark.slow
def test_training_reads_the_shards_of_its_own_pairs_or_says_how_to_make_them(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UWM_SHARDS", str(tmp_path / "shards"))
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    train = replace(PRETRAIN.train, steps=2, checkpoint_every=2)
    recipe = replace(PRETRAIN, views=0, pairs=40, train=train, shards=90)
    mae = MaskedAutoencoder(MAE_PRESETS["tiny"])
    with pytest.raises(UserError, match=r"make them: python -m uwm\.data\.prepare ") as caught:
        live_video(recipe, mae, {"made": corpus})
    arguments = shlex.split(str(caught.value).split("uwm.data.prepare ")[1])
    assert prepare.main(arguments) == 0
    batch = next(live_video(recipe, mae, {"made": corpus}).batches(0, 0, 1))
    assert batch.shape == (PRETRAIN.train.batch_size, 2, 3, 64, 64)
    for other in (replace(recipe, shards=0), replace(recipe, pairs=30)):
        with pytest.raises(UserError, match="no folder holds shards"):
            live_video(other, mae, {"made": corpus})


def test_what_a_training_could_not_read_is_told(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(PRETRAIN, views=0, pairs=40, train=replace(PRETRAIN.train, steps=2, checkpoint_every=2))
    monkeypatch.setattr("uwm.stages.pair_training.decoding_workers", lambda: 0)
    source = live_video(recipe, MaskedAutoencoder(MAE_PRESETS["tiny"]), {"made": corpus})
    with telling_stand_ins(source, tmp_path):  # nothing to tell
        next(source.batches(0, 0, 1))
    assert not list(tmp_path.iterdir())
    decode, lost = stream.decode_visit, corpus.of("train")[0].path

    def losing(folder: Path, short_side: int, decoder: object, visit: stream.Visit) -> torch.Tensor:
        if visit.video == lost:
            raise BadVideo(lost, "is gone")
        return decode(folder, short_side, decoder, visit)

    monkeypatch.setattr(stream, "decode_visit", losing)
    capsys.readouterr()
    with suppress(KeyboardInterrupt), telling_stand_ins(source, tmp_path):
        next(source.batches(0, 0, 1))
        raise KeyboardInterrupt
    told = json.loads((tmp_path / "replaced.jsonl").read_text())
    assert (told["corpus"], told["rank"], told["skipped"]) == ("made", 0, [[lost, "is gone"]])
    line = f"made: others stood in for {told['pairs_replaced']} of {told['pairs_read']} training pairs"
    assert line in capsys.readouterr().err


def test_a_published_mae_that_is_absent_names_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UWM_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match=r"mae_visualize_vit_base\.pth.*UWM_WEIGHTS") as caught:
        published_mae(MAERecipe())
    assert "\n" not in str(caught.value)


def test_a_curve_is_thinned_by_means(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows = [f'{{"step": {i}, "loss": {i}.0}}' for i in range(1, 11)] + ['{"step": 10, "val/x": 5.0}']
    log.write_text("\n".join(rows) + "\n")
    curve = thinned_curve(log, rows=2)
    assert curve["step"].tolist() == [3, 8]
    assert curve["loss"].tolist() == [3, 8]
    assert curve["val/x"].tolist()[1] == 5


def test_pairs_of_a_visit_are_decoded_together(tmp_path: Path) -> None:
    """Of two minutes of video: eight pairs are in eight places, or by fours in two."""
    for i in range(3):
        write_video(tmp_path / f"{i}.mp4", seed=i, frames=240, fps=2)
    long = open_corpus("long", tmp_path)
    scattered = replace(PRETRAIN, views=0, pairs=8 * len(long.of("train")), gap=0.5)
    grouped = replace(scattered, pairs_per_visit=4)
    mae = MaskedAutoencoder(MAE_PRESETS["tiny"])
    visits = {
        recipe.pairs_per_visit: [
            len(unit) for unit in live_video(recipe, mae, {"long": long}).streams["long"].units
        ]
        for recipe in (scattered, grouped)
    }
    assert sum(visits[1]) == sum(visits[4]) == grouped.pairs
    assert max(visits[4]) == 4
    assert len(visits[4]) < len(visits[1]) / 2
    with pytest.raises(OutOfBounds, match="pairs_per_visit must be at most 8"):
        replace(scattered, pairs_per_visit=9)
    default, other = (world_model_stage(r, MAE_PRESETS["tiny"], {}) for r in (scattered, grouped))
    assert "pairs_per_visit" not in default.fields
    assert other.fields["pairs_per_visit"] == 4


def test_sources_are_corpora_of_the_pretraining_or_drawn_video(corpus: Corpus, tmp_path: Path) -> None:
    """Each choice is another training over the same MAE; procedural video alone needs no corpus."""
    artifacts = Artifacts(tmp_path / "cache", tmp_path / "released")
    corpora = {"made": corpus, "other": replace(corpus, name="other")}
    choices = {(): 0, ("made",): 0, ("made", PROCEDURAL): 6, (PROCEDURAL,): 6}
    worlds = []
    for sources, drawn in choices.items():
        recipe = replace(PRETRAIN, sources=sources, procedural_pairs=drawn or PRETRAIN.procedural_pairs)
        worlds.append(obtain_mae_and_world(MAE, recipe, corpora, artifacts, lambda: False))
    assert len({world.weights["mae"] for world in worlds}) == 1
    assert len({world.weights["world-model"] for world in worlds}) == len(choices)
    curve = pd.read_csv(artifacts.obtained["world-model"].path / "curve.csv")
    watched = {name.rpartition("/")[2] for name in curve if "state_mse/" in name}
    assert watched == {"made", "other"}


def test_sources_that_cannot_be(corpus: Corpus, tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path / "cache", tmp_path / "released")
    recipe = replace(PRETRAIN, sources=("maid",))
    with pytest.raises(UserError, match=r"'maid' is none of made, procedural"):
        obtain_mae_and_world(MAE, recipe, {"made": corpus}, artifacts, lambda: False)
    with pytest.raises(OutOfBounds, match="views"):
        replace(PRETRAIN, views=0, sources=(PROCEDURAL,))
