"""What tests of the experiments' stages share."""

import shutil

import pytest

from uwm.data.corpora import BUNDLED, bundled


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """The lists of the bundled corpora's pairs: each is made by the first test that needs it."""
    return tmp_path_factory.mktemp("lists")


@pytest.fixture
def folders(lists, tmp_path, monkeypatch):
    """Runs and cache of the test's own, in which the lists lie that are there by now."""
    monkeypatch.setenv("UWM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    kept = shutil.copytree(lists, tmp_path / "cache" / "manifests")
    yield
    for path in kept.glob("sim-*"):
        shutil.copyfile(path, lists / path.name)


@pytest.fixture
def wild(tmp_path, monkeypatch):
    """A dozen clips, which count as many."""
    folder = tmp_path / "wild"
    folder.mkdir()
    corpus = bundled(BUNDLED[0])
    for clip in corpus.of("test")[:12]:
        shutil.copy(corpus.file(clip), folder)
    monkeypatch.setattr("uwm.stages.pretrained.MANY_CLIPS", 3)
    return folder
