"""The reported numbers are the paper's, and nothing measured stands among them."""

import pytest

from paper.claims import COMPARISONS, RATIO_CLAIM
from paper.reported import Reported


def test_table1_has_all_twenty_numbers():
    table = Reported().table1
    assert len(table) == 20
    assert table["id"].is_unique
    assert (table["decimals"] == 3).all()


@pytest.mark.parametrize(("corpus", "ratio"), [("ssv2", 0.560), ("ego4d", 0.686)])
def test_ratios_of_means(corpus, ratio):
    assert Reported().ratio(corpus) == pytest.approx(ratio, abs=5e-4)
    assert Reported().share_nearer_to_next(corpus) == 1


def test_tolerance_of_the_ratio_is_half_the_spread_of_the_pairs():
    reported = Reported()
    for row in reported.items[reported.items["statistic"] == "ratio_of_means"].itertuples():
        then, now = (
            reported.row(row.corpus, m)["value"].to_numpy() for m in ("lpips_to_next", "lpips_to_current")
        )
        ratios = then / now
        assert row.tolerance == pytest.approx((ratios.max() - ratios.min()) / 2, abs=5e-3)


def test_every_measured_claim_is_a_reported_one():
    assert {*COMPARISONS, RATIO_CLAIM} <= set(Reported().claims["id"])
    assert Reported().claims["source"].str.len().min() > 20
