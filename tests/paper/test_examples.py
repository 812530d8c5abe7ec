"""Records of data that lie elsewhere are checked as ours are, and their page shows what they hold."""

import json
from pathlib import Path

import pytest
from toy_records import sign, toy_results

from paper import examples
from paper.check import main as check
from paper.integrity import UNSAMPLED
from paper.readme import marks
from paper.store import ROOT, Results
from uwm.errors import UserError
from uwm.runs.record import EXAMPLES, record_problems, validate_folder

RECORDS = sorted((ROOT / "results" / EXAMPLES).glob("*/*/*.json"))
BEGIN, END = marks(examples.TABLES_MARK)
PAGE = f"# Page\n\n{BEGIN}\n{END}\n\nAfter.\n"


@pytest.fixture
def shown(results: Path) -> Path:
    """Results with an example of the same shape beside them, and its page."""
    toy_results(results / EXAMPLES)
    (results / EXAMPLES / "README.md").write_text(PAGE)
    return results


def test_the_committed_ones_hold():
    for path in RECORDS:
        assert list(record_problems(path)) == []
        command = json.loads(path.read_text())["run"]["command"]
        assert not any(mark in command for mark in (" /", "=/", "~"))  # no path of the one who measured
    assert examples.example_faults(Results()) == []


def test_the_committed_page_is_up_to_date():
    page = ROOT / "results" / EXAMPLES / "README.md"
    assert page.read_text(encoding="utf-8") == examples.refreshed_examples(page, Results())


def test_the_page_has_a_table_for_each_corpus(shown: Path):
    assert examples.main(["--results", str(shown), "--scale", "mini"]) == 0
    text = (shown / EXAMPLES / "README.md").read_text()
    assert text.startswith("# Page\n")
    assert text.endswith("\nAfter.\n")
    for corpus in ("sim-third-person", "sim-ego"):
        assert f"**table1, {corpus}, scale mini**" in text
    assert "48 pairs of 12 clips" in text
    assert "those of the committed records" in text
    assert examples.refreshed_examples(shown / EXAMPLES / "README.md", Results(shown, ("mini",))) == text


def test_an_altered_example_fails_the_check(shown: Path, tmp_path: Path, capsys):
    (tmp_path / "none").touch()
    folders = [
        "--results",
        str(shown),
        "--experiments",
        str(tmp_path),
        "--deviations",
        str(tmp_path / "none"),
    ]
    assert check(folders) == 0
    path = shown / EXAMPLES / "mini" / "table1" / "uwm__sim-ego.json"
    record = json.loads(path.read_text())
    record["metrics"]["lpips_to_next"]["value"] *= 0.9
    path.write_text(json.dumps(record))
    capsys.readouterr()
    assert check(folders) == 1
    assert "examples/mini/table1/uwm__sim-ego.json: altered: lpips_to_next" in capsys.readouterr().out
    path.write_text("{")
    assert any(EXAMPLES in line for line in validate_folder(shown))


def test_an_example_of_no_scale_of_ours_or_excused_by_a_list_fails(shown: Path):
    folder = shown / EXAMPLES
    (folder / "mini").rename(folder / "huge")
    assert examples.example_faults(Results(shown)) == [
        f"{EXAMPLES}/huge: there are no committed records of such a scale; take the folder out"
    ]
    (folder / "huge").rename(folder / "mini")
    name = "mini/table1/uwm__sim-ego.json"
    entry = {"value": 0.99, "n": 48, "better": "higher", "ci": None, "protocol": None}
    sign(folder / name, lambda record: record["metrics"].update(probe_r2=entry))
    (folder / UNSAMPLED).write_text(f"{name}\n")
    assert f"{EXAMPLES}/{name}: no samples for probe_r2; run it again" in examples.example_faults(
        Results(shown)
    )


def test_a_folder_without_examples_is_none_missing(results: Path):
    assert examples.example_faults(Results(results)) == []
    with pytest.raises(UserError, match="no file"):
        examples.main(["--results", str(results), "--scale", "mini"])
