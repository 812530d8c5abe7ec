"""The families' table, figure and rank correlations, from made-up records."""

from pathlib import Path

import pytest
from toy_records import toy_record

from paper.families import (
    OVER_BITS,
    families_tables,
    rate_figure,
    rate_points,
)
from paper.family_control import control_tables, correlation_texts
from paper.leaderboard import leaderboard
from paper.store import Results
from uwm.methods.families import FAMILIES

MEASURED = list(FAMILIES)[:6]


def entry(value: float) -> dict:
    ci = [0.9 * value, 1.1 * value]
    return {"value": value, "n": 9, "better": "lower", "ci": ci, "protocol": None}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Six families, of which the one with more bits has the larger error by real actions; leak goes the other
    way; the state's ratio is the same for all."""
    folder = tmp_path / "mini" / "families"
    for k, name in enumerate(MEASURED):
        whole = {"bits": 3.0 * (k + 1), "gflop": 0.5, "probe_r2": 0.1, "last_gain": 0.004 * (k + 1)}
        frames = {"state_ratio_moving": 0.5, "leak_moving": 0.9 - 0.1 * k, "success_vs_copy_moving": 0.4}
        acted = {"adapter_px": 30.0 + k, "adapter_500_px": 40.0, "hand_error_px": 50.0 - k, "still_px": 46.0}
        for corpus, found in (("sim-third-person", whole | frames), ("sim-panda", whole | frames | acted)):
            metrics = {metric: entry(value) for metric, value in found.items()}
            record = toy_record("mini", "families", f"{name}/{corpus}/s0", None, metrics=metrics)
            record.write(folder)
    return Results(tmp_path, ("mini",))


def test_a_row_has_frames_and_control(results: Results) -> None:
    overview, costs = families_tables(results, "mini")
    assert [row[0] for row in overview.rows] == [FAMILIES[name].label for name in MEASURED]
    second = dict(zip(overview.columns, overview.rows[1], strict=True))
    assert second["Bits"] == "6 [5, 7]"
    assert second["State error / copy's"].startswith("0.500")
    assert second["Hand error by real actions, px"] == "31.00 [27.90, 34.10]"
    assert "by standing still 46.00 [41.40, 50.60]" in overview.note
    assert costs.topic
    assert all(len(row) == len(table.columns) for table in (overview, costs) for row in table.rows)


def test_the_note_tells_which_trainings_had_converged(results: Results) -> None:
    _, costs = families_tables(results, "mini")
    ended = "; ".join(FAMILIES[name].label for name in MEASURED[:2])  # the third gained 1.2 %
    assert costs.note.endswith(
        f"By the rule of 1 % 2 of 6 trainings had converged after these few steps: {ended}."
    )


def test_a_rank_correlation_is_of_better_with_better(results: Results) -> None:
    (table,) = control_tables(results, "mini")
    found = {row[0]: row[1:] for row in table.rows}
    assert found["More bits"] == ["-1.00", "-1.00 to -1.00", "no"]
    # A leak of 1 is none, and the first family has the largest number and the smallest error.
    assert found["Leak, state (1 = none)"][0] == "+1.00"
    assert found["Hand error in the picture, px"][0] == "-1.00"
    assert found["State error / copy's"] == ["–", "–", "–"]  # all alike
    assert "n = 6 families" in table.title


def test_a_wide_interval_says_so() -> None:
    *_, holds = correlation_texts([(1, 2), (2, 1), (3, 4), (4, 3), (5, 2), (6, 5)])
    assert holds == "yes"
    assert correlation_texts([(1, 1), (2, 2), (3, 3)]) == ["–"] * 3


def test_the_figure_has_a_marker_for_each_family(results: Results) -> None:
    points = rate_points(results, "mini")
    assert list(points) == ["State error / copy's", "Leak, state (1 = none)", "Hand error, px"]
    assert len(points) == len(OVER_BITS) - 1  # no ratio of LPIPS was measured
    figure = rate_figure(points)
    assert len(figure.axes) == 3
    assert all(len(axis.containers) == len(MEASURED) for axis in figure.axes)


def test_families_stand_among_all_rows(results: Results) -> None:
    board = leaderboard(results, "mini")
    assert board is not None
    rows = {row[0]: row for row in board.table.rows if row[1] == "sim Panda"}
    row = dict(zip(board.table.columns, rows[f"{FAMILIES[MEASURED[1]].label} (brief)"], strict=True))
    assert (row["Bits"], row["GFLOP a prediction"], row["Hand error by real actions, px"]) == (
        "6",
        "0.5",
        "31.00",
    )


def test_few_families_have_no_rank_correlation(results: Results, tmp_path: Path) -> None:
    for name in MEASURED[3:]:
        for path in (tmp_path / "mini" / "families").glob(f"{name}__*.json"):
            path.unlink()
    found = Results(tmp_path, ("mini",))
    assert [table.name for table in families_tables(found, "mini")] == ["families", "families_costs"]
    assert control_tables(found, "mini") == []


def test_without_records_there_is_nothing(tmp_path: Path) -> None:
    assert families_tables(Results(tmp_path, ("mini",)), "mini") == []
    assert control_tables(Results(tmp_path, ("mini",)), "mini") == []
    assert rate_points(Results(tmp_path, ("mini",)), "mini") == {}


def test_success_of_planning_is_told_by_family(results: Results, tmp_path: Path) -> None:
    """The family with more bits succeeds less often here; one planned on another corpus does not count."""
    folder = tmp_path / "mini" / "planning"
    for k, name in enumerate(MEASURED):
        if name == "pixels":
            continue
        share = 0.9 - 0.1 * k
        success = {**entry(share), "n": 50, "ci": [share - 0.1, share + 0.1]}
        metrics = {"success": success, "final_distance_mm": entry(100.0 - k)}
        config = {"corpus": "sim-panda" if k < 5 else "elsewhere"}
        toy_record("mini", "planning", f"r_gt-{name}/reach/s0", None, metrics=metrics, config=config).write(
            folder
        )
    *_, table = control_tables(Results(tmp_path, ("mini",)), "mini")
    assert table.name == "families_success"
    assert "n = 5 families" in table.title
    rows = {label: text for label, text, *_ in table.rows}
    assert rows["More bits"] == "-1.00"
    assert rows["Leak, state (1 = none)"] == "+1.00"  # more leaks less here, and succeeds more often
    assert rows["Hand error by real actions, px"] == "+1.00"
    nearer = {label: text for label, _, _, _, text, *_ in table.rows}
    assert nearer["More bits"] == "+1.00"  # the family with more bits ends nearer, and succeeds less often
