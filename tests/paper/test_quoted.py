"""Numbers in prose: those of the records, and no others."""

import json
import re
from pathlib import Path

import pytest
from toy_records import toy_figure5

from paper.quoted import PAGE, QUOTED, main, with_absences, with_numbers
from paper.store import Results
from uwm.errors import UserError

EFFECT = re.compile(r"(?ms)^- Effect: (.*?)(?=\n\n|\n- |\Z)")
DECIMAL = re.compile(r"\d+\.\d+")


def loose_numbers(text: str) -> list[str]:
    """Decimals in the effects of a page that stand beside no record."""
    return [number for effect in EFFECT.findall(text) for number in DECIMAL.findall(QUOTED.sub("", effect))]


def loose_steps(text: str) -> list[str]:
    """Lengths of trainings that stand beside no config's field; what was only tried once has none."""
    return re.findall(r"\d[\d,]*\s+steps", QUOTED.sub("", text.partition("## Tried")[0]))


def test_each_measured_number_of_the_page_is_that_of_its_record() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(QUOTED.findall(text)) > 50
    assert with_numbers(text, Results()) == text
    assert main(["--check"]) == 0
    assert loose_numbers(text) == []
    assert loose_steps(text) == []


def test_a_typed_number_is_noticed() -> None:
    assert loose_numbers("- Effect: 0.13 (`figure5/r_gt lpips_to_next`), and 0.07 of it.\n") == ["0.07"]
    assert loose_steps("- Ours: 600 (`figure5/ficc ficc.train.steps`) steps, then 1,200 steps.") == [
        "1,200 steps"
    ]


def test_a_number_of_a_recipe_is_that_of_the_records(tmp_path: Path) -> None:
    toy_figure5(tmp_path)
    for path in (tmp_path / "mini" / "figure5").glob("r_gt__*.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"config": {"adapter": {"steps": 6000, "rate": 0.003}}}))
    text = "9 (`figure5/r_gt adapter.steps`) steps at 1 (`figure5/r_gt adapter.rate`)"
    wanted = "6,000 (`figure5/r_gt adapter.steps`) steps at 0.003 (`figure5/r_gt adapter.rate`)"
    assert with_numbers(text, Results(tmp_path)) == wanted


def test_a_cell_without_a_record_is_named_as_such(tmp_path: Path) -> None:
    toy_figure5(tmp_path)
    text = "`figure5/r_gt` (no record), `figure5/ficc-la`"
    found = with_absences(text, Results(tmp_path))
    assert found == "`figure5/r_gt`, `figure5/ficc-la` (no record)"
    assert with_absences(found, Results(tmp_path)) == found


def test_an_old_number_is_noticed_and_mended(tmp_path: Path) -> None:
    results, page = tmp_path / "results", tmp_path / "page.md"
    toy_figure5(results)
    page.write_text("Near (9.999 (`figure5/r_gt\nlpips_to_next`)), and 1.5 times as far.\n")
    words = ["--file", str(page), "--results", str(results)]
    assert main(["--check", *words]) == 1
    assert main(words) == 0
    value = Results(results).measure("mini", "figure5", "r_gt", "sim-panda", "lpips_to_next")
    assert page.read_text() == (
        f"Near ({value.value:.3f} (`figure5/r_gt\nlpips_to_next`)), and 1.5 times as far.\n"
    )
    assert main(["--check", *words]) == 0


@pytest.mark.parametrize(
    "source", ["figure5/none psnr", "figure5/r_gt/lift psnr", "table1/uwm psnr", "figure5/r_gt adapter.none"]
)
def test_a_source_without_a_record_is_refused(tmp_path: Path, source: str) -> None:
    toy_figure5(tmp_path)
    with pytest.raises(UserError, match=source.replace("/", ".")):
        with_numbers(f"0.5 (`{source}`)", Results(tmp_path))
