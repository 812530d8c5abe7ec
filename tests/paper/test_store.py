"""Numbers of records over seeds and pairs: paired differences, and intervals without samples."""

import pytest
from toy_records import CLIPS, PAIRS, toy_experiment

from paper.store import Results


def test_seeds_are_paired_in_differences(results):
    models = {"w_ft": (0.1, 0.05), "w_tfs": (0.1, 0.03)}
    toy_experiment(results, "mini", "figure4", ["lift"], models, seeds=2)
    store = Results(results)
    ft, tfs = (store.find("mini", "figure4", method, "lift") for method in models)
    both = store.difference(ft, tfs, "lpips_to_next")
    by_hand = [
        (store.pairs([a], "lpips_to_next").table() - store.pairs([b], "lpips_to_next").table()).mean()
        for a, b in zip(ft, tfs, strict=True)
    ]
    assert both.value == pytest.approx(sum(by_hand) / 2)
    one = store.difference(ft, tfs[:1], "lpips_to_next")  # only s0 is there on both sides
    assert one.value == pytest.approx(by_hand[0])
    assert store.difference(ft[:1], tfs[1:], "lpips_to_next") is None


def test_seeds_stand_side_by_side(results):
    toy_experiment(results, "mini", "figure4", ["lift"], {"w_ft": (0.1, 0.05)}, seeds=2)
    store = Results(results)
    cells = store.find("mini", "figure4", "w_ft", "lift")
    one, two = (store.pairs([cell], "lpips_to_next_moving").table()[:, 0] for cell in cells)
    both = store.pairs(cells, "lpips_to_next_moving")
    assert both.table().T.tolist() == [one.tolist(), two.tolist()]
    assert len(both.pairs) == CLIPS * PAIRS / 2
    assert store.pairs(cells, "psnr") is None


def test_only_pairs_in_common_are_compared(results):
    """In another order and with a pair less, the differences are those of the same pairs."""
    folder = results / "mini" / "figure4"
    toy_experiment(results, "mini", "figure4", ["lift"], {"w_ft": (0.1, 0.05), "w_pre": (0.1, 0.08)})
    rows = (folder / "samples" / "lift.csv").read_text().splitlines()
    (folder / "samples" / "other.csv").write_text("\n".join([rows[0], *rows[:1:-1]]) + "\n")
    store = Results(results)
    ft, pre = (store.find("mini", "figure4", method, "lift")[0] for method in ("w_ft", "w_pre"))
    ft.record["samples"]["path"] = "samples/other.csv"
    names = rows[0].split(",")
    ours, theirs = (names.index(f"{method}/lpips_to_next") for method in ("w_ft", "w_pre"))
    by_hand = [float(cells[ours]) - float(cells[theirs]) for cells in (row.split(",") for row in rows[2:])]
    measured = store.difference([ft], [pre], "lpips_to_next")
    assert measured.n == len(by_hand) == CLIPS * PAIRS - 1
    assert measured.value == pytest.approx(sum(by_hand) / len(by_hand))


def test_without_samples_seeds_are_bounded_by_their_intervals(results, edit):
    toy_experiment(results, "mini", "figure5", ["lift"], {"r_gt": (0.1, 0.05)}, seeds=2)
    for seed, (value, ci) in enumerate(((0.2, [0.1, 0.4]), (0.4, [0.3, 0.5]))):
        entry = {"value": value, "n": 9, "better": "lower", "ci": ci, "protocol": None}
        path = results / "mini" / "figure5" / f"r_gt__lift__s{seed}.json"
        edit(path, lambda r, entry=entry: r["metrics"].update(rollout_lpips_1=entry))
    found = Results(results).measure("mini", "figure5", "r_gt", "lift", "rollout_lpips_1")
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.1, 0.5))


def test_a_difference_of_ratios_is_that_of_their_numbers(results):
    """lpips_ratio is a ratio of means: so is the difference, with the numbers that the records hold."""
    models = {"w_ft": (0.1, 0.05), "w_pre": (0.1, 0.08)}
    toy_experiment(results, "mini", "figure4", ["lift"], models, seeds=2)
    store = Results(results)
    ft, pre = (store.find("mini", "figure4", method, "lift") for method in models)
    for metric in ("lpips_ratio", "lpips_ratio_moving"):
        numbers = [store.measure("mini", "figure4", method, "lift", metric) for method in models]
        found = store.difference(ft, pre, metric)
        assert found.value == pytest.approx(
            numbers[0].value - numbers[1].value, rel=1e-3
        )  # the toy's are rounded
        assert found.low < found.value < found.high < 0
        back = store.difference(pre, ft, metric)
        assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
