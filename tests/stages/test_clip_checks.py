"""Clips of a corpus that a plan opens before anything is computed: how many may be bad."""

import math
from dataclasses import replace

import pytest

from tests.data.video_files import write_video
from uwm.data.corpora import open_corpus
from uwm.errors import UserError
from uwm.stages import preflight
from uwm.stages.preflight import check_clips


@pytest.fixture
def no_hurry(monkeypatch):
    """As many clips are opened on a slow machine as on a fast one."""
    monkeypatch.setattr(preflight, "ENOUGH_SECONDS", math.inf)


@pytest.fixture
def corpus(tmp_path, no_hurry):
    """Makes a corpus of 100 test clips; of the first ones some are `bad`: short, or no video."""

    def make(bad, content=b"no video"):
        folder = tmp_path / "wild"
        for name, frames in (("good", 6), ("short", 2)):
            write_video(tmp_path / f"{name}.mp4", frames)
        folder.mkdir()
        for number in range(100):
            file = folder / f"{number:03}.mp4"
            if number in bad and content is not None:
                file.write_bytes(content)
            else:
                file.symlink_to(tmp_path / ("short.mp4" if number in bad else "good.mp4"))
        return open_corpus("wild", folder, splits="all-test")

    return make


def test_a_plan_says_as_what_a_corpus_is_read(corpus, capsys):
    check_clips(replace(corpus(()), name="spoken"), "test", 0.2)
    assert "spoken: read as folder" in capsys.readouterr().err


def test_a_few_bad_clips_are_let_pass_wherever_they_are(corpus):
    check_clips(corpus(range(12)), "test", 0.2)


@pytest.mark.parametrize("content", [b"no video", None], ids=["broken", "short"])
@pytest.mark.parametrize("first", [0, 40])
def test_more_bad_clips_than_are_allowed_are_refused(corpus, content, first, monkeypatch):
    made = corpus(range(first, first + 60), content)
    with pytest.raises(UserError, match=r"\d+ of 40 clips tried cannot be used.*share is 0.2 .*UWM_MAX_BAD"):
        check_clips(made, "test", 0.2)
    monkeypatch.setenv("UWM_MAX_BAD_SHARE", "0.7")
    check_clips(made, "test", 0.2)


def test_clips_without_a_pair_of_that_gap_are_refused(corpus):
    made = corpus(range(100), None)
    with pytest.raises(UserError, match=r"none of 40 clips tried can be used; .*no two frames 0\.2 s apart"):
        check_clips(made, "test", 0.2)
    check_clips(made, "test", 1 / 12)


def test_long_clips_are_not_all_opened(corpus, monkeypatch, capsys):
    """With no time left, no clip is opened after the first one that can be used."""
    monkeypatch.setattr(preflight, "ENOUGH_SECONDS", -1.0)
    opened = []
    monkeypatch.setattr(preflight, "clip_pairs", lambda file, *_: opened.append(file))
    check_clips(corpus(()), "test", 0.2)
    assert len(opened) == 1


def test_a_small_split_is_judged_whole(tmp_path, no_hurry):
    for number in range(20):
        write_video(tmp_path / f"{number:02}.mp4", 6 if number < 14 else 2)
    with pytest.raises(UserError, match="6 of 20 clips tried cannot be used"):
        check_clips(open_corpus("wild", tmp_path, splits="all-test"), "test", 0.2)
    write_video(tmp_path / "14.mp4", 6)
    check_clips(open_corpus("wild", tmp_path, splits="all-test"), "test", 0.2)
