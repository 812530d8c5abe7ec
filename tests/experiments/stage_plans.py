"""Plans of the experiments at scale smoke."""

from importlib import import_module
from pathlib import Path

from uwm.runs.cli import choose, plan_of
from uwm.runs.experiment import load_experiment
from uwm.runs.options import build_parser
from uwm.runs.slurm.plan import plan_jobs
from uwm.runs.slurm.resources import Resources
from uwm.runs.slurm.site import Site

ROOT = Path(__file__).resolve().parents[2]
SITE = Site("site", Resources(), Resources())


def context_of(name, *words):
    experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
    options = build_parser(experiment.name).parse_args(["--scale", "smoke", *words])
    return plan_of(experiment, options, [], None).context(experiment)


def planned(context, pattern):
    return plan_jobs(context, choose(context.cells, [pattern]), SITE, {}, set()).jobs


def counted(monkeypatch, name):
    """The arguments of each call of a function, which does what it did before."""
    module, _, attribute = name.rpartition(".")
    calls, real = [], getattr(import_module(module), attribute)
    monkeypatch.setattr(name, lambda *words, **options: (calls.append(words), real(*words, **options))[1])
    return calls
