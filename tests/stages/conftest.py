"""What tests of trainings share."""

import pytest

from tests.stages.moving_videos import write_video
from uwm.data.corpora import Corpus, open_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Ten videos of a square that wanders: a corpus to train on."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(10):
        write_video(folder / f"{i}.mp4", seed=i)
    return open_corpus("made", folder)
