"""Numbers in prose: those of the records, and no others."""

import re
from pathlib import Path

import pytest
from toy_records import toy_figure5

from paper.quoted import PAGE, QUOTED, main, with_numbers
from paper.store import Results
from uwm.errors import UserError

EFFECT = re.compile(r"(?ms)^- Effect: (.*?)(?=\n\n|\n- |\Z)")
DECIMAL = re.compile(r"\d+\.\d+")


def loose_numbers(text: str) -> list[str]:
    """Decimals in the effects of a page that stand beside no record."""
    return [number for effect in EFFECT.findall(text) for number in DECIMAL.findall(QUOTED.sub("", effect))]


def test_each_measured_number_of_the_page_is_that_of_its_record() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(QUOTED.findall(text)) > 50
    assert with_numbers(text, Results()) == text
    assert loose_numbers(text) == []


def test_a_typed_number_is_noticed() -> None:
    assert loose_numbers("- Effect: 0.13 (`figure5/r_gt lpips_to_next`), and 0.07 of it.\n") == ["0.07"]


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


@pytest.mark.parametrize("source", ["figure5/none psnr", "figure5/r_gt/lift psnr", "table1/uwm psnr"])
def test_a_source_without_a_record_is_refused(tmp_path: Path, source: str) -> None:
    toy_figure5(tmp_path)
    with pytest.raises(UserError, match=source.replace("/", ".")):
        with_numbers(f"0.5 (`{source}`)", Results(tmp_path))
