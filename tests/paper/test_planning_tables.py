"""Planning's tables and targets, by hand."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats
from toy_records import CONFIG, toy_record

from paper.check import missed_targets
from paper.items import MISSING, NOT_REACHED, REACHED
from paper.planning_pairs import PairedSuccess, paired_success, paired_tables
from paper.planning_tables import planning_tables
from paper.planning_targets import planning_targets
from paper.store import Results
from uwm.runs.record import file_sha256

# Hand error of Figure 5 after one step, and share of goals reached.
MEASURED = {"r_gt": (40.0, 0.9), "r_gt-500": (48.0, 0.35), "direct": (37.0, 0.7), "copy": (46.0, 0.0)}


def entry(value: float) -> dict:
    return {"value": value, "n": 20, "better": "higher", "ci": [value / 2, value], "protocol": None}


def test_measures_are_set_against_success_and_parts_are_replaced(tmp_path: Path) -> None:
    planned, offline = tmp_path / "mini" / "planning", tmp_path / "mini" / "figure5"
    config = {**CONFIG, "corpus": "sim-panda", "solver": {"samples": 32, "iterations": 3}}
    others = {"random": 0.05, "simulator": 0.95, "r_gt-few-samples": 0.8, "r_gt-plain-reader": 0.6}
    for method, success in {**others, **{name: share for name, (_, share) in MEASURED.items()}}.items():
        seed = "/s0" if method.startswith(("r_gt", "direct")) else ""
        cell = f"{method}/reach{seed}"
        metrics = {"success": entry(success)}
        toy_record("mini", "planning", cell, None, metrics=metrics, config=config).write(planned)
        for other in (0, 1) if method in MEASURED else ():
            name = f"{method}/sim-panda" + (f"/s{other}" if seed else "")
            error = MEASURED[method][0] + 50 * other  # another seed's weights are not those that planned
            metrics = {"hand_error_px": entry(error)}
            if seed or not other:
                toy_record("mini", "figure5", name, None, metrics=metrics, config=config).write(offline)
    predictors, parts = planning_tables(Results(tmp_path), "mini", "reach")
    assert [row[0] for row in predictors.rows] == ["Hand error in the picture, px"]
    # By error: direct, r_gt, copy, r_gt-500; by success: copy, r_gt-500, direct, r_gt. d = (2, 2, 2, 2).
    assert predictors.rows[0][1].startswith("-0.60 [-1.00, ")
    assert predictors.rows[0][2] == "4"
    assert parts.rows == [
        ["R_GT", "learned", "32 x 3", "90.0 [45.0, 90.0]", "20"],
        ["R_GT", "learned", "32 x 3", "80.0 [40.0, 80.0]", "20"],
        ["R_GT", "learned, true states", "32 x 3", "60.0 [30.0, 60.0]", "20"],
        ["direct dynamics", "learned", "32 x 3", "70.0 [35.0, 70.0]", "20"],
        ["the simulator", "learned", "32 x 3", "95.0 [47.5, 95.0]", "20"],
    ]
    assert list(planning_tables(Results(tmp_path), "mini", "push")) == []


GOALS = {  # of ten episodes: reached or not
    "r_gt": "1111110000",
    "direct": "1111111110",
    "random": "0000000000",
    "simulator": "1111111111",
    "r_gt-few-samples": "1110000000",
    "r_gt-500": "0111110001",
}


def plan(
    folder: Path, method: str, task: str, reached: str, *, solver: dict[str, int], shift: float = 0
) -> None:
    """A record whose samples name an episode by its seed and by how long it took."""
    seed = "/s0" if method.startswith(("r_gt", "direct")) else ""
    path = folder / "mini" / "planning" / "samples" / f"{method}__{task}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        rows = [
            (f"episode-{k}", 0, 10 - len(method) % 7 * int(x), True, x, 100 + k + shift)
            for k, x in enumerate(reached)
        ]
        writer = csv.writer(file)
        own = [f"{method}{seed}/{name}" for name in ("success", "start_distance_mm")]
        writer.writerow(["video", "t0", "t1", "moving", *own])
        writer.writerows(rows)
    share = reached.count("1") / len(reached)
    success = {"value": share, "n": len(reached), "better": "higher", "ci": [share, share], "protocol": None}
    config, cell = {**CONFIG, "solver": solver}, f"{method}/{task}{seed}"
    record = toy_record("mini", "planning", cell, None, metrics={"success": success}, config=config)
    samples = {"path": f"samples/{path.name}", "sha256": file_sha256(path)}
    replace(record, samples=samples).write(folder / "mini" / "planning")


@pytest.fixture
def planned(tmp_path: Path) -> Results:
    for method, reached in GOALS.items():
        few = method in ("r_gt-few-samples",)
        plan(tmp_path, method, "reach", reached, solver={"samples": 12 if few else 32, "iterations": 2})
    return Results(tmp_path)


def test_planners_are_paired_by_episode_however_long_each_took(planned: Results) -> None:
    found = paired_success(planned, "mini", "reach", "r_gt", "direct")
    assert found == PairedSuccess(0.6, 0.9, only_first=0, only_second=3, n=10)
    assert found.p == pytest.approx(2 * 0.5**3)
    assert PairedSuccess(0.5, 0.5, 0, 0, 10).p == 1
    assert paired_success(planned, "mini", "reach", "r_gt", "cloning") is None


def test_episodes_that_start_elsewhere_are_no_pairs(planned: Results, tmp_path: Path) -> None:
    plan(tmp_path, "cloning", "reach", GOALS["r_gt"], solver={"samples": 32, "iterations": 2}, shift=0.05)
    assert paired_success(Results(tmp_path), "mini", "reach", "r_gt", "cloning") is None


def test_one_part_at_a_time_is_replaced(planned: Results) -> None:
    compared, replaced = paired_tables(planned, "mini", "reach")
    assert [row[0] for row in compared.rows] == [
        "R_GT and Direct dynamics, no adapter",
        "R_GT, 500 pairs and Direct dynamics, no adapter",
    ]
    # Not: the simulator by R_GT, fewer samples, or few samples and another model at once.
    assert [[*row[:2], row[2].split()[0], row[3].split()[0], *row[4:6]] for row in replaced.rows] == [
        ["R_GT, cost learned, 32 x 2: the simulator as the model", "10", "60.0", "100.0", "0", "4"],
        ["R_GT, cost learned, 12 x 2: 32 x 2 samples x rounds", "10", "30.0", "60.0", "0", "3"],
        [
            "direct dynamics, cost learned, 32 x 2: the simulator as the model",
            "10",
            "90.0",
            "100.0",
            "0",
            "1",
        ],
    ]
    low, high = (f"{100 * x:.1f}" for x in stats.binomtest(6, 10).proportion_ci(method="wilson"))
    assert replaced.rows[0][2] == f"60.0 [{low}, {high}]"


def test_targets_say_what_a_replaced_part_would_reach(planned: Results) -> None:
    items = {item.id.removeprefix("mini/planning/target/"): item for item in planning_targets(planned)}
    verdicts = {name: item.verdict for name, item in items.items() if name.endswith("reach")}
    assert verdicts == {"simulator/reach": REACHED, "r_gt/reach": NOT_REACHED, "r_gt-500/reach": NOT_REACHED}
    assert items["r_gt/push"].verdict == MISSING
    assert "100.0] with the simulator as the model." in items["r_gt/reach"].why
    assert items["r_gt-500/reach"].reported == "≥ 80.0"  # ten points below direct dynamics
    assert "it alone reached 1 goals, the other alone 4. " in items["r_gt-500/reach"].why
    assert "with probability 0.38 (exact sign test)" in items["r_gt-500/reach"].why


def test_missed_targets_stand_in_a_table_of_their_own(planned: Results) -> None:
    rows = missed_targets([*planning_targets(planned)]).rows
    assert [row[0].partition(",")[0] for row in rows] == ["reach: R_GT", "reach: R_GT"]
    assert "with the simulator as the model" in rows[0][3]
