"""`--method NAME=FILE.py:CLASS`: methods given on the command line, and where their records may go."""

from pathlib import Path

from uwm.errors import UserError
from uwm.files import home_path
from uwm.runs.experiment import Experiment
from uwm.runs.record import COMMUNITY
from uwm.runs.settings import split_assignment


def methods_setting(experiment: Experiment, methods: list[str]) -> str:
    """`--method NAME=FILE.py:CLASS` options as a setting, their files absolute. UserError where the
    experiment takes none."""
    if not all(hasattr(config, "given_methods") for config in experiment.configs.values()):
        raise UserError(f"--method: {experiment.name} measures no methods of others; table1 does")
    assignments = []
    for text in methods:
        name, source = split_assignment(text, "--method")
        if "," in text:
            raise UserError(f"--method {text}: a comma in a name or path; rename it")
        assignments.append(f"{name}={home_path(source).absolute()}")
    return f"given_methods={','.join(assignments)}"


def refuse_committed(out: Path | None, results: Path) -> None:
    """UserError where records of methods of others would go among the committed ones of ours."""
    where = out.absolute().resolve() if out else None
    if where and where.is_relative_to(results) and not where.is_relative_to(results / COMMUNITY):
        raise UserError(
            f"--out {out}: records of methods of others go elsewhere, or below results/{COMMUNITY}"
        )
