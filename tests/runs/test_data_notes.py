"""A cell that was measured on other files than there are now does not count as done in silence."""

import pytest

from tests.runs.fake_slurm import fake_slurm  # noqa: F401 (a fixture)


@pytest.fixture
def folders(project, tmp_path):
    """`half` of a corpus and `full`, which the experiment itself names: no identity holds where it lies."""
    text = project.file.read_text()
    own = 'pretrain_on: tuple[str, ...] = ("wild",)'
    project.file.write_text(text.replace('pretrain_on: tuple[str, ...] = ("ours",)', own))
    for name, count in {"half": 1, "full": 3, "moved": 1}.items():
        (tmp_path / name / "train").mkdir(parents=True)
        for number in range(count):
            (tmp_path / name / "train" / f"{number}.mp4").write_text(str(number))
    return {name: f"wild={tmp_path / name}" for name in ("half", "full", "moved")}


TOLD = "count as done, measured on other files of wild (1 then, 3 now)"


def warnings(error):
    return [line for line in error.splitlines() if "other files" in line]


def test_missing_says_that_files_have_come(project, folders):
    assert project.run("--data", folders["half"])[0] == 0
    code, _, error = project.run("--data", folders["full"], "--missing")
    assert code == 0
    (line,) = warnings(error)
    assert line == f"warning: copy/ours and 5 more cells {TOLD}; without --missing they are measured again"
    assert warnings(project.run("--data", folders["moved"], "--missing")[2]) == []  # the same files
    assert warnings(project.run("--data", folders["full"], "--only", "copy/wild")[2]) == []  # measured again
    (line,) = warnings(project.run("--data", folders["full"], "--missing")[2])
    assert line.startswith("warning: copy/ours and 4 more cells ")


def test_files_that_come_into_a_folder_of_ones_own_are_seen(project, tmp_path):
    (tmp_path / "mine").mkdir()
    words = ("--data", f"mine={tmp_path / 'mine'}")
    project.run(*words)
    (tmp_path / "mine" / ".index").touch()  # no clip
    assert warnings(project.run(*words, "--missing")[2]) == []
    (tmp_path / "mine" / "late.mp4").touch()
    (line,) = warnings(project.run(*words, "--missing")[2])
    assert "copy/mine and 2 more cells" in line  # those of other corpora are as they were


def test_a_submission_says_it_too(project, folders, fake_slurm, tmp_path):  # noqa: F811
    site = tmp_path / "site.toml"
    site.write_text('partition = "gpu"\n')
    assert project.run("--data", folders["half"])[0] == 0
    for words in (["--submit"], ["--dry-run"], ["--dry-run", "--json"]):
        code, _, error = project.run("--data", folders["full"], "--site", str(site), *words)
        assert code == 0
        (line,) = warnings(error)
        assert f"{TOLD}; --submit --rerun measures them again" in line
    assert fake_slurm.scripts == []
    here = project.run("--data", folders["full"], "--site", str(site), "--only", "copy/ours")
    assert warnings(here[2]) == []  # measured again
    again = ("--data", folders["full"], "--site", str(site), "--submit", "--rerun")
    assert warnings(project.run(*again)[2]) == []
    assert fake_slurm.scripts
