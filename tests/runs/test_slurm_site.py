"""Site files: which keys and options they may hold, and what is said of one that asks for too little."""

from pathlib import Path

import pytest

from tests.runs.fake_slurm import fake_slurm  # noqa: F401 (a fixture)
from uwm.errors import UserError
from uwm.runs.slurm.resources import OWN_OPTIONS
from uwm.runs.slurm.site import load_site

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "slurm").glob("*.toml")))
def test_the_example_sites_can_be_read(name):
    assert load_site(ROOT / "slurm" / f"{name}.toml").name == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('partion = "gpu"', "unknown key 'partion'; did you mean 'partition'?"),
        ("[cells]\nhour = 3", "unknown key 'cells.hour'; did you mean 'hours'?"),
        ("nodes = 1.5", "nodes must be a int, not 1.5"),
        ("nodes = true", "nodes must be a int, not True"),
        ("hours = -1", "hours must not be negative, not -1"),
        ('setup = "module load cuda"', "setup must be a list of text"),
        ("data = 3", "data must be a table of folders by corpus name"),
        ('data = {ssv2 = ""}', "data.ssv2 is empty; write its folder"),
        ("cells = 3", "cells must be a table"),
        ("nodes = ", "Invalid value"),
        ("hours = nan", "hours must be a number, not nan"),
        ("hours = inf", "hours must be a number, not inf"),
        *((f"{key} = 0", f"{key} must be at least 1, not 0") for key in
          ("nodes", "cpus_per_task", "max_parallel", "cells_per_job")),
        *((f"{key} = 0", f"{key} must be more than 0; leave it out for its default") for key in
          ("hours", "tasks_per_node")),
        ("[cells]\nnodes = 0", "cells.nodes must be at least 1, not 0"),
        ('[stages."a/*"]\nhours = 0', "stages.a/*.hours must be more than 0"),
        ('[small."adapter*"]\nhours = 9', '[small."adapter*"]: patterns stand in [stages] and [cells]'),
        ('[reading."x"]\nhours = 9', '[reading."x"]: patterns stand in [stages] and [cells]'),
        ("time = 3", "unknown key 'time'; did you mean 'hours'?"),
        ("[cells]\nsignal = 3", "unknown key 'cells.signal'; signal_delay_s holds for all jobs, at the top"),
        ("requeue = true", "unknown key 'requeue'; the launcher sets this itself"),
        ('gpus_per_node = 8\n[sbatch]\ngres = "gpu:4"', "gpus_per_node and gres of [sbatch] both ask"),
        ('gpus_per_node = 8\n[cells.sbatch]\ngres = "gpu"', "gpus_per_node and gres of [sbatch] both"),
        ('[sbatch]\ngres = "gpu:many:of"', "sbatch.gres: 'many:of' is no number of GPUs"),
    ],
)  # fmt: skip
def test_a_wrong_site_file_is_one_line(tmp_path, text, message):
    path = tmp_path / "site.toml"
    path.write_text(text + "\n")
    with pytest.raises(UserError) as caught:
        load_site(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("table", ["sbatch", "cells.sbatch", 'stages."a-*".sbatch'])
@pytest.mark.parametrize("option", [*OWN_OPTIONS, "tim", "gpu"])
def test_the_launchers_own_options_are_no_options_of_a_site(tmp_path, option, table):
    """An option with a key of its own is named with it; sbatch takes shortened names as well."""
    path = tmp_path / "site.toml"
    key = {"tim": "hours", "gpu": "gpus_per_node"}.get(option, OWN_OPTIONS.get(option))
    for spelling in {option, option.replace("-", "_"), f"--{option}"}:
        path.write_text(f'[{table}]\n"{spelling}" = 3\n')
        with pytest.raises(UserError) as caught:
            load_site(path)
        assert "this option is the launcher's own" in str(caught.value)
        assert str(caught.value).endswith(
            f"; write {key} = ... outside of [sbatch]" if key else "; leave it out"
        )


def test_options_without_a_key_are_passed_on(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text('[sbatch]\ngres = "gpu:h100:4,disk:1"\nreservation = "a"\nnodelist = "n1"\n'
                    'exclusive = true\nmail_type = "END"\nmem_per_gpu = "9G"\nnice = 1\n')  # fmt: skip
    site = load_site(path)
    assert (site.cells.gpus, len(site.cells.sbatch)) == (4, 7)


def test_a_table_that_nothing_matches_is_said(project, fake_slurm, tmp_path):  # noqa: F811
    path = tmp_path / "mine.toml"
    path.write_text('[stages.weights]\nhours = 2\n[stages.nosuch]\nhours = 2\n[cells.copy]\nhours = 2\n'
                    '[cells."x/*"]\nhours = 2\n')  # fmt: skip
    for mode in ("--dry-run", "--submit"):
        code, _, error = project.run(mode, "--only", "uwm", "--site", str(path))
        assert code == 0
        assert [line for line in error.splitlines() if "warning" in line] == [
            'warning: mine: [stages."nosuch"] matches none of the stages of this run',
            'warning: mine: [cells."x/*"] matches none of the cells of this run',
        ]


@pytest.mark.parametrize(("scale", "gpus", "warned"), [("paper", 0, 1), ("paper", 1, 0), ("mini", 0, 0)])
def test_a_site_without_gpus_is_said_at_a_scale_that_wants_them(project, tmp_path, scale, gpus, warned):
    path = tmp_path / "mine.toml"
    path.write_text(f"gpus_per_node = {gpus}\n")
    code, _, err = project.run("--dry-run", "--scale", scale, "--site", str(path))
    assert (code, err.count("warning: mine asks for no GPU for trainings")) == (0, warned)


@pytest.mark.parametrize(("text", "warned"), [("", 1), ("[small]\ngpus_per_node = 1\n", 0)])
def test_a_site_whose_small_trainings_get_no_gpu_is_said(project, tmp_path, text, warned):
    path = tmp_path / "mine.toml"
    path.write_text(f"[stages]\ngpus_per_node = 8\n{text}")
    code, _, err = project.run("--dry-run", "--site", str(path))
    assert (code, err.count("warning: mine asks for no GPU for small trainings")) == (0, warned)
