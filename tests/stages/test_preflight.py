"""What is checked before anything is computed, and the command that fetches weights."""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import pytest
import torch

from tests.data.video_files import write_video
from tests.paper_world import TINY, write_lpips, write_published
from tests.robot_toy import write_toy
from uwm import prefetch
from uwm.data.corpora import BUNDLED, open_corpus
from uwm.data.shards import ShardIndex
from uwm.errors import UserError
from uwm.metrics import backbones, perceptual
from uwm.metrics.perceptual import tensors_sha256
from uwm.models import MaskedAutoencoder
from uwm.stages.mae import MAE
from uwm.stages.preflight import check_all_actions, nodes_lack
from uwm.stages.world_model import PRETRAIN

ROOT = Path(__file__).resolve().parents[2]


def context(scale, mae=MAE["mini"], data=(), pretrain=PRETRAIN["mini"]):
    config = SimpleNamespace(mae=mae, lpips="alex", pretrain_on=(*BUNDLED, *data), pretrain=pretrain)
    return Asked(config, dict(data), scale)


@dataclass
class Asked:
    """What of a context the checks ask for."""

    config: Any
    data: dict[str, Path]
    scale: str = "mini"

    def once(self, key, find):
        return find()


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("UWM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def test_lpips_without_weights_is_a_warning_and_at_scale_paper_an_error(weights):
    (warning,) = nodes_lack(context("mini"))
    assert "lpips-random; fetch them here: python -m uwm.prefetch --to DIR" in warning
    with pytest.raises(UserError, match="lpips-random"):
        list(nodes_lack(context("paper")))
    write_lpips(weights)
    assert list(nodes_lack(context("paper"))) == []


def test_a_missing_mae_is_an_error_that_names_the_command(weights):
    with pytest.raises(UserError, match=r"no such MAE checkpoint; python -m uwm.prefetch --to DIR"):
        list(nodes_lack(context("mini", MAE["paper"])))


def test_a_published_mae_is_looked_at_and_not_built(weights, monkeypatch):
    """ViT-B takes seconds to draw and to fill, and a plan needs its sizes alone. Each value is asked once."""
    mae = replace(MAE["paper"], model=TINY)
    write_lpips(weights)
    write_published(weights / str(mae.file), TINY, seed=0)
    asked = []
    monkeypatch.setattr(MaskedAutoencoder, "load", lambda *_: pytest.fail("builds the MAE"))
    monkeypatch.setattr(
        torch, "isfinite", lambda found, f=torch.isfinite: asked.append(found.numel()) or f(found)
    )
    assert list(nodes_lack(context("paper", mae))) == []
    assert sum(asked) < 1000 < sum(t.numel() for t in torch.load(weights / str(mae.file))["model"].values())
    with pytest.raises(UserError, match=r"set mae\.model to it"):
        list(nodes_lack(context("paper", MAE["paper"])))


def test_a_file_of_other_contents_is_no_weights(weights):
    """Whatever the size of the corpora: a run would stop hours later."""
    mae = replace(MAE["paper"], model=TINY)
    path = weights / str(mae.file)
    write_lpips(weights)
    write_published(path, TINY, seed=0)
    assert list(nodes_lack(context("paper", mae))) == []
    write_published(path, replace(TINY, encoder_depth=2), seed=0)
    with pytest.raises(UserError, match=r"holds MAEConfig.*set mae.model to it"):
        list(nodes_lack(context("paper", mae)))
    path.write_bytes(b"")
    with pytest.raises(UserError, match=path.name):
        list(nodes_lack(context("paper", mae)))
    write_published(path, TINY, seed=0)
    (weights / "alexnet_features.pth").write_bytes(b"")
    perceptual._load.cache_clear()
    with pytest.raises(UserError, match=r"alexnet_features.pth is not a readable torch file"):
        list(nodes_lack(context("paper", mae)))


def test_a_corpus_to_train_on_is_opened(weights, tmp_path):
    write_lpips(weights)
    clips = tmp_path / "wild"
    for number in range(40):
        write_video(clips / f"{number}.mp4", 6)
    assert list(nodes_lack(context("mini", data={"wild": clips}))) == []
    for path in clips.iterdir():
        path.write_bytes(b"no video")
    with pytest.raises(
        UserError, match=r"'wild', train split: none of \d+ clips tried can be used; .*cannot be decoded"
    ):
        list(nodes_lack(context("mini", data={"wild": clips})))
    with pytest.raises(UserError, match="no corpus is called 'ssv2'"):
        list(nodes_lack(Asked(SimpleNamespace(pretrain_on=("ssv2",)), {})))


def test_an_assumed_range_that_is_far_off_is_said(tmp_path, capsys):
    """Physical units, of a thousandth of the controller's range."""
    file = write_toy(tmp_path / "toy.hdf5", demos=6)
    check_all_actions(open_corpus("toy", file))
    assert capsys.readouterr().err == ""
    with h5py.File(file, "r+") as opened:
        for demo in opened["data"].values():
            demo["actions"][...] = demo["actions"][()] / 1000
    check_all_actions(open_corpus("toy", file))
    error = capsys.readouterr().err
    assert "toy: warning  numbers 0, 1, 2 have a range assumed more than 4 times off; choose" in error
    check_all_actions(open_corpus("toy", Path(f"actions-measured:{file}")))
    assert capsys.readouterr().err == ""


def test_shards_that_no_folder_holds_are_a_warning_for_each_corpus(weights, tmp_path, monkeypatch):
    write_lpips(weights)
    monkeypatch.setenv("UWM_SHARDS", str(tmp_path / "shards"))
    reading = context("mini", pretrain=PRETRAIN["small"])
    for place, (name, quality) in enumerate([(BUNDLED[0], 90), (BUNDLED[1], 50)]):
        folder = tmp_path / "shards" / f"{place}"
        folder.mkdir(parents=True)
        ShardIndex(1, name, "train", "0" * 64, 256, quality, [], 0, 0).write(folder)
    (warning,) = nodes_lack(reading)
    assert f"no shards of {BUNDLED[1]} (short side 256, quality 90) below" in warning


def test_prefetch_leaves_the_files_that_are_looked_for(weights, monkeypatch, capsys):
    class Published:
        @staticmethod
        def get_state_dict(**options):
            return {"features.0.weight": torch.zeros(1)}

    source = weights.parent / "source"
    source.mkdir()
    (source / "mae_visualize_vit_base.pth").write_bytes(b"weights")
    monkeypatch.setitem(backbones.DOWNLOADS, "alex", Published)
    monkeypatch.setattr(prefetch, "MAE_SOURCE", source.as_uri() + "/")
    assert prefetch._main([]) == 0
    names = sorted(path.name for path in weights.iterdir())
    files = ["alexnet_features.pth", "mae_visualize_vit_base.pth"]
    assert names == sorted([*files, *(f"{name}.sha256" for name in files)])
    assert prefetch._main([]) == 0
    assert capsys.readouterr().out.count("is there already: its SHA-256 is right") == 2
    with pytest.raises(UserError, match=r"other.pth cannot be fetched"):
        prefetch._main(["--mae", "other.pth"])
    assert sorted(path.name for path in weights.iterdir()) == names


@pytest.fixture
def alexnet(weights):
    """A file with the right names and shapes, as somebody may have copied it here."""
    torch.manual_seed(0)
    state = backbones.build_network("alex").state_dict()
    named = {re.sub(r"^slice\d+\.", "features.", name): torch.rand(t.shape) for name, t in state.items()}
    torch.save(named, weights / "alexnet_features.pth")
    return weights / "alexnet_features.pth"


def test_a_file_that_is_there_is_what_was_fetched(weights, monkeypatch, capsys):
    source = weights.parent / "source"
    source.mkdir()
    (source / "mae.pth").write_bytes(b"weights")
    monkeypatch.setattr(prefetch, "MAE_SOURCE", source.as_uri() + "/")
    path, beside = weights / "mae.pth", weights / "mae.pth.sha256"

    def fetch():
        prefetch.fetch("mae.pth", weights, lambda target: prefetch.fetch_mae("mae.pth", target))

    fetch()
    assert beside.read_text() == f"{hashlib.sha256(b'weights').hexdigest()}  mae.pth\n"
    for content in (b"weighty", b"", b"weights and more"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"mae\.pth is not what was fetched"):
            fetch()
        assert path.read_bytes() == content
    path.write_bytes(b"weights")
    for content in (b"", b"\xff", b"0" * 63):
        beside.write_bytes(content)
        with pytest.raises(UserError, match=r"holds no SHA-256 of mae\.pth"):
            fetch()
    beside.unlink()
    capsys.readouterr()
    fetch()
    assert "not checked" in capsys.readouterr().out
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="is no file"):
        fetch()


def test_lpips_that_somebody_copied_is_compared_with_the_records(alexnet, monkeypatch, capsys):
    options = ["--mae", "none"]
    with pytest.raises(UserError, match="holds other values than torchvision's"):
        prefetch._main(options)
    state = backbones.folder_state("alex", alexnet.parent)
    monkeypatch.setitem(backbones.KNOWN_TENSORS, "alex", tensors_sha256(state))
    assert prefetch._main(options) == 0
    assert "its values are the known ones" in capsys.readouterr().out
    alexnet.write_bytes(b"cut")
    with pytest.raises(UserError, match="not a readable torch file"):
        prefetch._main(options)


def test_the_known_values_are_those_of_the_records():
    (path, *_) = sorted((ROOT / "results" / "mini" / "table1").glob("uwm__*.json"))
    assert json.loads(path.read_text())["inputs"]["weights"]["lpips"] == backbones.KNOWN_TENSORS["alex"]
