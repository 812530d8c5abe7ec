"""Whether the records are of the recipes that `experiments/` declares now.

Loading these takes torch, which `paper` does without: a process of its own does it, where torch is installed.
"""

import importlib.util
import subprocess
import sys

from paper.store import ROOT, Results


def recipe_faults(results: Results) -> list[str]:
    """One line per record of another recipe, as `file: what`. Without torch none, and stderr says so."""
    if importlib.util.find_spec("torch") is None:
        print("note: no torch here, so no record is compared with the recipes of today", file=sys.stderr)
        return []
    command = [sys.executable, "-m", "uwm.runs.stale", str(results.root.resolve())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode != bool(lines):
        errors = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return [f"experiments: no record is compared with their recipes: {errors[-1]}"]
    return [line for line in lines if line.partition("/")[0] in results.scales]
