"""CONTRIBUTING.md works: its blocks are applied to a copy of the repository and run at scale smoke."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.documents import BLOCK, ROOT, apply_diff, blocks, commands, run, section
from tests.robot_toy import write_toy

PAGE = ROOT / "CONTRIBUTING.md"
CORPORA = ROOT / "uwm" / "assets" / "corpora"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of code and committed records; what is large and never written is linked."""
    copy = tmp_path / "tree"
    for part in ("uwm", "experiments", "paper"):
        shutil.copytree(
            ROOT / part, copy / part, ignore=shutil.ignore_patterns("assets", "out", "__pycache__")
        )
    shutil.copytree(ROOT / "results" / "mini" / "table1", copy / "results" / "mini" / "table1")
    shutil.copyfile(ROOT / "results" / "schema.json", copy / "results" / "schema.json")
    (copy / "uwm" / "assets").symlink_to(ROOT / "uwm" / "assets")
    return copy


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos."""
    folder = tmp_path_factory.mktemp("wild")
    for path in sorted((CORPORA / "sim-ego").rglob("*.mp4"))[:24]:
        shutil.copyfile(path, folder / path.name)
    return folder


def do(title: str, tree: Path, cache: Path, names: dict[str, str] | None = None) -> list[str]:
    """Apply a section's blocks in order. Returns the files changed; every command must succeed."""
    changed = []
    for language, text in BLOCK.findall(section(PAGE, title)):
        if language == "diff":
            apply_diff(text, tree)
            changed.append(text.partition("\n")[0])
        elif language == "python":
            name, _, code = text.partition("\n")
            changed.append(name.removeprefix("# "))
            (tree / changed[-1]).write_text(code)
        else:
            for words in commands(text):
                given = [re.sub(r"DIR|FILE\.hdf5", lambda m: (names or {})[m[0]], word) for word in words]
                done = run(given, tree, cache)
                assert done.returncode == 0, f"{' '.join(given)}\n{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    return sorted(set(changed))


def records(tree: Path, experiment: str) -> dict[str, dict]:
    folder = tree / "results" / "smoke" / experiment
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def missing_at_mini(tree: Path, cache: Path) -> set[str]:
    """Cells of Table 1 at scale mini without a current record."""
    words = ["python", "experiments/table1.py", "--missing", "--dry-run"]
    done = run(words, tree, cache)
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"\S+/sim-[\w-]+", done.stdout))


@pytest.mark.slow
def test_a_method_is_one_file_and_leaves_other_records_valid(tree, cache):
    before = missing_at_mini(tree, cache)
    assert do("A method", tree, cache) == ["experiments/table1.py"]
    found = records(tree, "table1")
    assert found["mean-action__sim-ego"]["status"] == "ok"
    assert found["mean-action__sim-ego"]["metrics"]["lpips_to_next"]["ci"]
    new = missing_at_mini(tree, cache) - before
    assert {name.partition("/")[0] for name in new} == {"mean-action"}


@pytest.mark.slow
def test_a_metric_is_one_file_and_is_measured_in_spite_of_a_cache(tree, cache):
    stale = missing_at_mini(tree, cache)
    command = ["python", "experiments/table1.py", "--scale", "smoke", "--only", "uwm"]
    assert run(command, tree, cache).returncode == 0  # fills the cache without the metric
    assert do("A metric", tree, cache) == ["uwm/evaluation/measure.py"]
    record = records(tree, "table1")["uwm__sim-ego"]
    for name in ("pixel_error", "pixel_error_moving"):
        assert record["metrics"][name]["better"] == "lower"
        assert 0 < record["metrics"][name]["value"] < 1
    assert record["measures"]["pixel_error"] == 1
    assert missing_at_mini(tree, cache) == stale


@pytest.mark.slow
def test_a_record_by_others_is_taken_until_it_is_falsified(tree, cache):
    """The section's commands, at scale smoke instead of mini, beside a record of ours at that scale."""
    (_, text), *_ = blocks(ROOT / "docs" / "your-model.md", "python")
    (tree / "mine.py").write_text(text)
    words = ["python", "experiments/table1.py", "--scale", "smoke", "--only", "copy"]
    for given in (["python", "mine.py"], words):
        done = run(given, tree, cache)
        assert done.returncode == 0, done.stderr[-2000:]
    for _, shell in BLOCK.findall(section(PAGE, "A row of the leaderboard")):
        for words in commands(shell):
            scale = ["--scale", "smoke"] if words[1:2] != ["-m"] or words[2] == "paper.community" else []
            given = [word.replace("community/mini", "community/smoke") for word in words]
            done = run([*given, *scale], tree, cache)
            assert done.returncode == 0, f"{given}\n{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    assert done.stdout == "2 records by others, 0 problems\n"
    path = tree / "results" / "community" / "smoke" / "table1" / "mine__sim-ego.json"
    record = json.loads(path.read_text())
    record["metrics"]["lpips_to_next"]["value"] /= 2
    path.write_text(json.dumps(record))
    done = run(["python", "-m", "paper.community", "--scale", "smoke"], tree, cache)
    assert done.returncode == 1
    assert "altered: lpips_to_next is" in done.stdout


def test_an_experiment_is_one_file(tree, cache):
    assert do("An experiment", tree, cache) == ["experiments/motion.py"]
    found = records(tree, "motion")
    assert {record["status"] for record in found.values()} == {"ok"}
    assert len(found) == 2


@pytest.mark.slow
def test_a_dataset_is_no_file(tree, cache, wild):
    names = {"DIR": str(wild), "FILE.hdf5": str(write_toy(tree / "toy.hdf5"))}
    assert do("A dataset", tree, cache, names) == []
