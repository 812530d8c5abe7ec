from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.video_files import truncate, write_video
from uwm.data.corpora import Clip, Corpus
from uwm.data.inspect import contact_sheet, describe_card, histogram, main, make_card
from uwm.errors import UserError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    write_video(folder / "a.mp4", 30, fps=10, size=(64, 48))
    write_video(folder / "b.webm", 24, fps=12, size=(80, 60))
    truncate(write_video(folder / "cut.mp4", 40), 0.5)
    return Corpus("wild", folder, tuple(Clip(name, "train") for name in ("a.mp4", "b.webm", "cut.mp4")))


def test_card_tells_what_is_there(corpus):
    card = make_card(corpus, "train")
    np.testing.assert_allclose(card.clips.seconds, [3.0, 2.0], atol=0.01)
    assert card.clips[["width", "height", "fps"]].to_numpy().tolist() == [[64, 48, 10], [80, 60, 12]]
    np.testing.assert_allclose(card.gaps, [0.2, 1 / 6], atol=1e-3)
    by_hand = np.abs(card.pairs[:, 0].numpy().astype(float) - card.pairs[:, 1].numpy()).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(card.motion, by_hand, rtol=1e-5)
    assert [name for name, _ in card.skipped] == ["cut.mp4"]
    text = describe_card(corpus, "train", card)
    for part in ("3 train", "64x48 (1)", "12 (1)", "cut.mp4", "2 readable of 3"):
        assert part in text


def test_sample_of_a_large_corpus(corpus):
    good = Corpus("wild", corpus.folder, corpus.clips[:2])
    assert len(make_card(good, "train", clips=1).clips) == 1


def test_sheet_and_histogram(corpus):
    card = make_card(corpus, "train")
    assert contact_sheet(card, columns=2).shape == (112, 2 * (3 * 112 + 8), 3)
    lines = histogram(np.array([0.0, 0.0, 0.0, 9.0]))
    assert lines[0].rstrip().endswith(" 3")
    assert sum(int(line.split()[-1]) for line in lines) >= 3


def test_command_line(tmp_path: Path, capsys):
    for name in ("a", "b", "c"):
        write_video(tmp_path / "videos" / f"{name}.mp4", 20)
    assert main([f"wild={tmp_path / 'videos'}", "--split", "train", "--out", str(tmp_path / "card")]) == 0
    assert "clips    3" in capsys.readouterr().out
    with Image.open(tmp_path / "card" / "wild-train.png") as image:
        assert image.width > 800
    with pytest.raises(UserError, match="at least 1"):
        main([f"wild={tmp_path / 'videos'}", "--clips", "0"])
