"""The pages' commands work: each is planned and run at scale smoke, or its options are looked up."""

import importlib.util
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT, blocks, commands
from tests.robot_toy import write_toy
from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment

PAGES = [
    *("README.md", "CONTRIBUTING.md", "experiments/README.md", "uwm/data/README.md", "slurm/README.md"),
    *("uwm/assets/weights/README.md", "results/examples/README.md"),
]
RUNBOOK = "docs/paper-scale.md"  # its commands are run by tests/test_paper_scale.py
YOUR_MODEL = "docs/your-model.md"  # tests/test_your_model.py
YOUR_PLANNER = "docs/your-planner.md"  # tests/test_your_planner.py
PROGRAMS = ("python", "make", "pip")
INLINE = re.compile(r"`(python [^`]+)`")
# Not run, and why.
LEFT_OUT = {
    "pip install": "changes the environment",
    "ssv2=DIR": "needs the owners' label files",
    "--submit": "needs a cluster: tests/slurm",
    "--status": "of a submitted run: tests/slurm",
    "--logs": "of a submitted run: tests/slurm",
    "--collect": "of a submitted run: tests/slurm",
    "--cancel": "of a submitted run: tests/slurm",
    "--check": "asks a cluster: tests/slurm",
    "mine.py:Shift": "made by docs/your-model.md: tests/test_contributing.py",
    "mean-action": "made by CONTRIBUTING.md: tests/test_contributing.py",
    "codebook-64": "made by CONTRIBUTING.md: tests/test_contributing.py",
    "experiments/motion.py": "made by CONTRIBUTING.md: tests/test_contributing.py",
    "tests/bench": "minutes: make bench",
}
# Run from end to end at scale smoke by the experiment's own test, whatever the number of processes.
WHOLE = re.compile(r"python experiments/(\w+)\.py( --scale smoke)?( --jobs 2)?( --recompute)?")
# Settings whose numbers are for scale mini.
SMALLER = re.compile(r"^(test_pairs|[a-z_.]+\.(?:pairs|steps))=\d+$")


def is_shell(kind: str, text: str) -> bool:
    """Is a block one of commands? Some pages do not name the language."""
    return kind == "sh" or (not kind and text.startswith(PROGRAMS))


def commands_of(page: str) -> list[list[str]]:
    """All commands in the blocks and in the tables of a page."""
    path = ROOT / page
    shell = [words for kind, text in blocks(path) if is_shell(kind, text) for words in commands(text)]
    inline = [shlex.split(text) for text in INLINE.findall(path.read_text(encoding="utf-8"))]
    return [words for words in [*shell, *inline] if words[0] in PROGRAMS]


ALL = sorted({" ".join(words) for page in PAGES for words in commands_of(page)})
KEPT = [text for text in ALL if not any(reason in text for reason in LEFT_OUT)]
PLANNED = [text for text in KEPT if text.startswith("python experiments/")]
RUN = [text for text in PLANNED if "--dry-run" not in text and not WHOLE.fullmatch(text)]
TOOLS = [text for text in (*KEPT, *map(" ".join, commands_of(RUNBOOK))) if text.startswith("python -m ")]


def test_no_page_has_commands_that_are_not_tried():
    """Pages that are generated aside: those have none of their own."""
    tried = {*PAGES, RUNBOOK, YOUR_MODEL, YOUR_PLANNER}
    folders = ("docs", "experiments", "paper", "results", "slurm", "uwm")
    pages = [*ROOT.glob("*.md"), *(page for folder in folders for page in (ROOT / folder).rglob("*.md"))]
    names = {page.relative_to(ROOT).as_posix() for page in pages}
    names -= {name for name in names if name.startswith("paper/out/")}
    assert names >= tried
    assert [name for name in sorted(names - tried) if list(blocks(ROOT / name))] == []


def test_every_exception_is_needed():
    assert [reason for reason in LEFT_OUT if not any(reason in text for text in ALL)] == []
    assert len(PLANNED) > 8


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the pages' placeholders stand for, and a cache for the lists of pairs."""
    found = placeholders(tmp_path_factory.mktemp("data"), demos=90)  # Figure 5 takes 2,000 pairs
    return {**found, "cache": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same of fewer demonstrations, and a cache for all that is trained from them."""
    folder = tmp_path_factory.mktemp("few")
    (folder / "data").mkdir()
    return {**placeholders(folder / "data", demos=10), "cache": str(folder / "cache")}


def placeholders(folder: Path, demos: int) -> dict[str, str]:
    """A folder of videos, and robot data of so many demonstrations."""
    videos = ROOT / "uwm" / "assets" / "corpora" / "sim-ego" / "test"
    toy = write_toy(folder / "toy.hdf5", demos=demos)
    robots = {"robosuite-demos": str(folder), "robosuite-wipe.hdf5": str(toy), "FILE.hdf5": str(toy)}
    return {**robots, "DIR": str(videos), "SITE.toml": "cpu.toml"}


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written into the repository, and no site file is taken from the environment."""
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UWM_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("UWM_SITE", raising=False)
    monkeypatch.chdir(ROOT)


def filled(text: str, names: dict[str, str]) -> list[str]:
    """The words of a command, with what its placeholders stand for."""
    places = re.compile(r"(?<![\w-])(DIR|FILE\.hdf5|SITE\.toml|(?<==)robosuite-demos|robosuite-wipe\.hdf5)\b")
    return [places.sub(lambda m: names[m[0]], word) for word in shlex.split(text)]


@pytest.mark.slow
@pytest.mark.parametrize("text", PLANNED)
@pytest.mark.usefixtures("folders")
def test_experiments_plan_what_the_pages_say(text, names, monkeypatch, capsys):
    monkeypatch.setenv("UWM_CACHE", names["cache"])
    words = filled(text, names)
    arguments = [*words[2:], *([] if "--dry-run" in words else ["--dry-run"])]
    code = main(load_experiment(ROOT / words[1]), arguments)
    assert code == 0, capsys.readouterr().err[-1000:]


@pytest.mark.slow
@pytest.mark.parametrize("text", RUN)
@pytest.mark.usefixtures("folders")
def test_experiments_run_as_the_pages_say(text, few, tmp_path, monkeypatch, capsys):
    """From end to end at scale smoke: every cell that is asked for ends well. Of a run with data of one's own
    only their cells, for the others are run elsewhere."""
    monkeypatch.setenv("UWM_CACHE", few["cache"])
    words = [SMALLER.sub(lambda m: f"{m[1]}=4", word) for word in filled(text, few)]
    out = str(tmp_path / "out")
    if "--out" in words:
        words[words.index("--out") + 1] = out
    else:
        words += ["--out", out]
    own = [words[k + 1].partition("=")[0] for k, word in enumerate(words) if word == "--data"]
    if own and "--only" not in words:
        words += ["--only", f"*/{own[0]}*"]
    scale = [] if "--scale" in words else ["--scale", "smoke"]
    code = main(load_experiment(ROOT / words[1]), [*words[2:], *scale])
    assert code == 0, capsys.readouterr().err[-1000:]
    records = [json.loads(path.read_text()) for path in Path(out).glob("*.json")]
    assert records
    assert {record["status"] for record in records} == {"ok"}


def test_whole_experiments_are_run_by_their_own_tests():
    named = [WHOLE.fullmatch(text) for text in PLANNED]
    names = {found[1] for found in named if found}
    assert names
    for name in names:
        text = (ROOT / "tests" / "experiments" / f"test_{name}.py").read_text(encoding="utf-8")
        assert '"--scale", "smoke"' in text, name


@pytest.mark.parametrize("text", TOOLS)
@pytest.mark.usefixtures("folders")
def test_tools_have_the_options_that_the_pages_name(text, monkeypatch, capsys):
    words = text.split()
    sub = words[3:4] if words[3:] and words[3].isalpha() and words[3].islower() else []
    monkeypatch.setattr(sys, "argv", [words[2], *sub, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(words[2], run_name="__main__")
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert [word for word in words if word.startswith("--") and word not in shown] == []


@pytest.mark.parametrize("text", [text for text in KEPT if text.startswith("make ")])
def test_targets_exist(text):
    done = subprocess.run(["make", "-n", *text.split()[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_modules_that_are_named_exist():
    """`python -m X` of the Makefile, and each `uwm.x.y` of a page or a docstring."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "uwm").rglob("*.py")]
    texts += [(ROOT / page).read_text(encoding="utf-8") for page in PAGES if page != "CHANGELOG.md"]
    named = {name for text in texts for name in re.findall(r"`(?:python -m )?(uwm(?:\.\w+)+)", text)}
    named |= set(re.findall(r"-m (uwm(?:\.\w+)+)", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert len(named) > 20
    assert [name for name in sorted(named) if not _resolves(name)] == []


def _resolves(name):
    """Whether it is a module, or something in one."""
    module, _, last = name.rpartition(".")
    try:
        if importlib.util.find_spec(name):
            return True
    except ModuleNotFoundError:
        pass
    return hasattr(importlib.import_module(module), last)


@pytest.mark.slow
@pytest.mark.parametrize("text", [text for _, text in blocks(ROOT / "README.md", "python")])
def test_python_of_the_readme_runs(text):
    """With the model of the paper's bits, not the one of more."""
    text += "\nassert actions.codes.shape == (4, 24), actions.codes.shape\n"
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]


@pytest.mark.parametrize("page", [*PAGES, RUNBOOK, YOUR_MODEL])
def test_links_lead_somewhere(page):
    path = ROOT / page
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_readme_is_two_screens_long_before_its_reference():
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("# Reference")[0]
    assert len(text.splitlines()) <= 60
    [width] = re.findall(r'<img [^>]*width="(\d+)"', text)  # one picture, and a small one
    assert int(width) <= 480
    assert "![" not in text


def test_the_tree_in_the_readme_is_the_tree():
    tree = next(text for _, text in blocks(ROOT / "README.md") if text.startswith("uwm/"))
    for name in re.findall(r"^(\w+)/", tree, flags=re.MULTILINE):
        assert (ROOT / name).is_dir(), name
    for path in sorted((ROOT / "uwm").glob("*/__init__.py")):
        assert re.search(rf"\b{path.parent.name}\b", tree), f"{path.parent.name} is not in README's tree"


def test_the_public_workflow_does_what_ci_does():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "run: .ci/run" in text
    assert "UWM_NO_SKIPS: 1" in text
    assert Path(ROOT / ".ci" / "run").stat().st_mode & 0o100


@pytest.mark.parametrize(("set_to", "outcome"), [(None, "skipped"), ("1", "failed")])
def test_where_nothing_may_be_skipped_a_skip_is_a_failure(set_to, outcome, tmp_path):
    (tmp_path / "test_one.py").write_text("import pytest\ndef test_one(): pytest.skip('no chromium')\n")
    shutil.copyfile(ROOT / "tests" / "conftest.py", tmp_path / "conftest.py")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UWM_", "PYTEST"))}
    environment = kept | ({"UWM_NO_SKIPS": set_to} if set_to else {})
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rsf"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert f"1 {outcome}" in done.stdout, done.stdout
    assert "no chromium" in done.stdout


@pytest.mark.slow
def test_a_machine_without_a_gpu_skips_no_test_for_it(tmp_path):
    """Nothing could be installed for it, and the public workflow's machines have none."""
    (tmp_path / "test_one.py").write_text(
        "import pytest\n@pytest.mark.gpu\ndef test_one(): pass\ndef test_two(): pass\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  gpu: needs a GPU\n")
    shutil.copyfile(ROOT / "tests" / "conftest.py", tmp_path / "conftest.py")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UWM_", "PYTEST"))}
    environment = kept | {"UWM_NO_SKIPS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "1 passed, 1 deselected" in done.stdout, done.stdout
