"""The alarm for ignored actions: when it warns, and what it says."""

import logging

import pytest

from uwm.training.alarm import ActionAlarm

ALARM = ActionAlarm(after=0.5, margin=0.02)
IGNORED = {
    "state_mse/a": 1.0,
    "state_mse_shuffled/a": 1.019,
    "state_mse_copy/a": 2.0,
    "state_mse/b": 2.0,
    "state_mse_shuffled/b": 1.99,
    "perplexity/a": 800.0,
}


def test_ignored_means_on_every_corpus() -> None:
    assert ALARM.ignored(IGNORED)
    assert not ALARM.ignored(IGNORED | {"state_mse_shuffled/a": 1.03})
    assert ALARM.ignored({f"val/{key}": value for key, value in IGNORED.items()})
    assert ALARM.ignored({"state_mse": 1.0, "state_mse_shuffled": 1.0})
    assert not ALARM.ignored({"psnr": 1.0})


def test_it_warns_once_training_is_under_way(caplog: pytest.LogCaptureFixture) -> None:
    done = 0.4
    watched = ALARM.watching(lambda: dict(IGNORED), lambda: done)
    with caplog.at_level(logging.WARNING):
        assert watched() == IGNORED
        assert not caplog.records
        done = 0.5
        assert watched() == IGNORED
    (record,) = caplog.records
    assert "ignore the action after 50% of the steps" in record.message
    assert "+1.9% on a, -0.5% on b" in record.message


def test_a_share_is_one() -> None:
    with pytest.raises(ValueError, match="share"):
        ActionAlarm(after=2.0)
