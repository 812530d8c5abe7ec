"""The table on the terminal."""

import re

from uwm.evaluation.summary import table_text


def entry(value: float) -> dict:
    return {"value": value, "ci": [value - 1, value + 1]}


def test_columns_stay_apart_whatever_their_content():
    rows = {
        "uwm": {"lpips_ratio_moving": entry(51472.309), "psnr_moving": entry(30.0)},
        "a-method-with-a-name-longer-than-all-others": {"psnr_moving": entry(7.0)},
    }
    lines = table_text(rows, ("lpips_ratio", "psnr")).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [len(re.split(r" {2,}", line)) for line in lines] == [3, 3, 3]
    assert re.split(r" {2,}", lines[1]) == [
        "uwm",
        "51472.309 [51471.309, 51473.309]",
        "30.000 [29.000, 31.000]",
    ]
    assert re.split(r" {2,}", lines[2])[1] == "-"


def test_no_rows_leave_the_heading():
    assert table_text({}, ("psnr",)) == "method  psnr"
