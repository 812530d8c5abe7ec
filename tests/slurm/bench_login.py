"""What a corpus of SSv2's size costs on a login node, beside a bare start of Python: `make bench` runs it.

220,847 names of a few files, a random MAE of the published size, and Slurm's commands replaced by scripts.
"""

import json
import os
import resource
import subprocess
import sys
import time

from tests.bench.tables import write_table
from tests.data.video_files import write_video
from tests.documents import ROOT
from tests.paper_world import write_ego4d, write_lpips, write_published
from tests.runs.fake_slurm import fake_slurm  # noqa: F401 (a fixture)
from uwm.stages.mae import MAE

LINKS = 20_000  # names of one file: a file system takes no more than some ten thousand
ROUNDS = 3  # of what may be done again, of which the quickest counts
CLIPS = {"train": 168_913, "validation": 24_777, "test": 27_157}


# Within a process that has imported what it needs: seconds, and of CPU, as the last line on stderr.
OPENED = """
import json, sys, time
from pathlib import Path
from uwm.data.corpora import open_corpus
began = time.perf_counter(), time.process_time()
open_corpus("ssv2", Path(sys.argv[1]))
spent = time.perf_counter() - began[0], time.process_time() - began[1]
print(json.dumps(spent), file=sys.stderr)
"""
CHECKED = """
import json, sys, time
from pathlib import Path
from uwm.runs import cli
from uwm.runs.experiment import load_experiment
spent = [0.0, 0.0]

def timed(function):
    def call(*arguments, **options):
        began = time.perf_counter(), time.process_time()
        found = function(*arguments, **options)
        for place, clock in enumerate((time.perf_counter, time.process_time)):
            spent[place] += clock() - began[place]
        return found
    return call

cli.unusable_corpora, cli.preflight = timed(cli.unusable_corpora), timed(cli.preflight)
cli.run_experiment(load_experiment(Path(sys.argv[1])), sys.argv[2:])
print(json.dumps(spent), file=sys.stderr)
"""


def write_names(folder):
    videos, labels, first = folder / "videos", folder / "labels", 1
    videos.mkdir(parents=True)
    labels.mkdir()
    for split, count in CLIPS.items():
        ids = [str(number) for number in range(first, first + count)]
        (labels / f"{split}.json").write_text(json.dumps([{"id": name, "label": "x"} for name in ids]))
        for name in ids:
            if (int(name) - 1) % LINKS == 0:
                kept = write_video(folder.with_name("kept") / f"{name}.webm", 24)
            os.link(kept, videos / f"{name}.webm")  # some of each split are looked into
        first += count


def timed(words, environment, folder):
    """Wall and CPU seconds of a command, the CPU of the processes that it started included; of a script that
    times a part of itself, what it says."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    assert done.returncode == 0, done.stderr[-2000:]
    if words[:1] == ["-c"] and words[1] in (OPENED, CHECKED):
        return json.loads(done.stderr.splitlines()[-1])
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_all_of_ssv2(tmp_path, fake_slurm, capsys):  # noqa: F811
    write_names(tmp_path / "SSV2")
    write_ego4d(tmp_path / "EGO4D")
    write_published(tmp_path / "weights" / "mae_visualize_vit_base.pth", MAE["paper"].model, seed=0)
    write_lpips(tmp_path / "weights")
    site = tmp_path / "site.toml"
    site.write_text(f'[data]\nssv2 = "{tmp_path}/SSV2"\nego4d = "{tmp_path}/EGO4D"\n')
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {f"UWM_{name.upper()}": str(tmp_path / name) for name in ("cache", "runs", "weights")}
    environment.pop("UWM_SITE", None)
    table1 = [str(ROOT / "experiments" / "table1.py"), "--scale", "paper"]
    asked = {
        "bare Python": ["-c", "pass"],
        "import torch": ["-c", "import torch"],
        "open_corpus, with the walk over the folder": ["-c", OPENED, str(tmp_path / "SSV2")],
        "the checks of --dry-run alone": ["-c", CHECKED, *table1, "--site", str(site), "--dry-run"],
        "--dry-run": [*table1, "--site", str(site), "--dry-run"],
        "--submit": [*table1, "--site", str(site), "--submit"],
        "--status": [*table1, "--site", str(site), "--status"],
    }
    found = {
        name: min(timed(words, environment, tmp_path) for _ in range(ROUNDS if words[0] == "-c" else 1))
        for name, words in asked.items()
    }
    bare = found["bare Python"][1]
    rows = [(name, f"{wall:.1f}", f"{cpu:.1f}", f"{cpu / bare:.0f}") for name, (wall, cpu) in found.items()]
    columns = ("Command", "s", "s of CPU", "Bare starts of Python")
    with capsys.disabled():
        write_table("login", f"A plan over {sum(CLIPS.values()):,} names", columns, rows)
