"""Planning's tables of several records, by hand."""

from pathlib import Path

from toy_records import CONFIG, toy_record

from paper.planning_tables import planning_tables
from paper.store import Results

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
        ["the simulator's", "learned", "32 x 3", "95.0 [47.5, 95.0]", "20"],
    ]
    assert list(planning_tables(Results(tmp_path), "mini", "push")) == []
