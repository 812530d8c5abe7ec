"""What a run asks before it computes anything: here, on a cluster, and for a plan alone."""

from dataclasses import replace

from uwm.env import launched_rank
from uwm.errors import UserError
from uwm.files import check_ours
from uwm.runs.artifacts import NotThere
from uwm.runs.experiment import Cell, Context, SkipCell
from uwm.runs.plan import say
from uwm.runs.record import is_record


def unusable_corpora(context: Context, cells: list[Cell]) -> dict[str, str]:
    """What is wrong with each corpus that can't be measured; the others are measured without it.

    Raises:
        UserError: none can be.
    """
    names = dict.fromkeys(cell.corpus for cell in cells)
    problems = {}
    for name in names:
        try:
            context.experiment.check_corpus(context, name)
        except UserError as error:
            problems[name] = str(error)
            say(f"without {name}: {error}")
    if names and len(problems) == len(names):
        raise UserError("; ".join(problems.values()))
    return problems


def preflight(context: Context, cells: list[Cell], *, sends: bool) -> None:
    """Say what else is known before anything is computed: weights that lack, and cells that will be skipped.

    What is sent to a cluster asks for weights itself, once something is left to be sent.

    Raises:
        UserError: something lacks that the run can't do without, or a file that is no record bears a
            record's name.
    """
    lines = [] if sends else [f"warning: {text}" for text in context.experiment.checks(context)]
    for cell in cells:
        check_ours(context.out / f"{cell.file_name}.json", is_record)
    skipped: dict[str, list[str]] = {}
    for cell in cells:
        reason = reason_to_skip(context, cell)
        if reason:
            skipped.setdefault(reason, []).append(cell.name)
    lines += [f"will be skipped, {reason}: {', '.join(names)}" for reason, names in skipped.items()]
    if launched_rank()[0] == 0:
        for line in lines:
            say(line)


def reason_to_skip(context: Context, cell: Cell) -> str:
    """Why a cell will be skipped; nothing where it won't be, or where it would take long to know."""
    planned = replace(context, artifacts=replace(context.artifacts, find_only=True))

    def ask() -> str:
        try:
            context.experiment.check_cell(planned, cell)
        except SkipCell as reason:
            return str(reason)
        except NotThere:
            pass
        return ""

    return context.once(("reason to skip", cell.name), ask)
