"""The command line that all experiment files share."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from uwm.env import launched_rank, site_file
from uwm.errors import UserError, run_cli
from uwm.garbage import resume_collection
from uwm.runs import launch, queries, ranks, report
from uwm.runs.data_notes import measured_on_others
from uwm.runs.experiment import Cell, Context, Experiment, SkipCell, StageJob
from uwm.runs.external_methods import methods_setting, refuse_committed
from uwm.runs.gpus import visible_gpus
from uwm.runs.listing import FILE, Listing, listing_of, read_listing
from uwm.runs.options import build_parser, check_flags, data_folders, flag
from uwm.runs.patterns import chosen_names, matches
from uwm.runs.plan import RunPlan, make_plan, named_places, planned_stage, recomputing, say
from uwm.runs.preflight import preflight, reason_to_skip, unusable_corpora
from uwm.runs.slurm import submit as slurm
from uwm.runs.slurm.dry_run import show_jobs
from uwm.runs.slurm.site import Resources, Site, load_site


def main(experiment: Experiment, argv: Sequence[str] | None = None) -> int:
    """The command line of an experiment. Returns 0, 1 if a cell failed, 2 for bad input."""
    resume_collection()
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_cli(lambda: run_experiment(experiment, arguments))


def run_experiment(experiment: Experiment, argv: list[str]) -> int:
    """Do what a command line asks. Returns the exit code; raises UserError for bad input."""
    launched_rank()
    options = build_parser(experiment.name, experiment.description).parse_args(argv)
    check_flags(options)
    launch.refuse_jobs_of_ranks(options.jobs or 1)
    site = site_of(options)
    plan = plan_of(experiment, options, argv, site)
    context = plan.context(experiment)
    if not context.cells:
        raise UserError("these settings and data leave no cell: no method, or no corpus to measure on")
    cells = choose(context.cells, options.only)
    if queries.reads_nothing(options):
        unusable = {}
    else:
        unusable = unusable_corpora(context, cells)
        cells = [cell for cell in cells if cell.corpus not in unusable]
    listing = listing_of(context, queries.run_options(options))
    if queries.asked(options):
        return queries.answer(options, read_listing(context.work / FILE) or listing)
    if options.collect:
        return report.collect(context, cells, as_json=options.json)
    if launched_rank()[0] == 0:
        sends = options.submit or (options.dry_run and site is not None)
        warn_of_other_data(context, cells, listing, options, sends=sends)
    if options.missing:
        done = listing.done()
        cells = [cell for cell in cells if cell.name not in done]
    if cells:
        preflight(context, cells, sends=options.submit)
    try:
        if options.dry_run:
            code = dry_run(context, cells, site, listing, options)
        elif options.submit:
            assert site is not None
            then = slurm.Then(options.wait, options.follow, queries.status_command(options, experiment.file))
            code = slurm.submit(plan, context, cells, site, listing, rerun=options.rerun, then=then)
        else:
            code = run_here(plan, context, cells, listing, options.jobs or 1)
    finally:
        for message in unusable.values():
            say(f"error: {message}")
    return 2 if unusable else code


def warn_of_other_data(
    context: Context, cells: list[Cell], listing: Listing, options: argparse.Namespace, *, sends: bool
) -> None:
    """Say which cells that are not measured again were measured on other files than there are now."""
    if options.missing or (sends and not (options.rerun or options.recompute)):
        on_a_cluster = "--submit --rerun measures them again"
        mend = on_a_cluster if sends else "without --missing they are measured again"
        for line in measured_on_others(context, cells, listing.done()):
            say(f"warning: {line}; {mend}")


def stages_behind(context: Context, cells: list[Cell]) -> list[StageJob]:
    """The stages that some cells read, and those that these need in turn, in their order."""
    names = [cell.name for cell in cells if not reason_to_skip(context, cell)]
    jobs: list[StageJob] = []
    for job in reversed(context.experiment.stages(context.config, context.data)):
        needed = any(job.name in other.needs for other in jobs)
        if needed or any(matches(name, job.cells) for name in names):
            jobs.append(job)
    return jobs[::-1]


def site_of(options: argparse.Namespace) -> Site | None:
    """Where jobs go: `--site`, else `UWM_SITE`, else (with `--submit`) the cluster's own defaults."""
    file = options.site or site_file()
    if not (file or options.submit):
        return None
    if not file:
        say("no --site and no UWM_SITE: jobs go to the default partition with 1 process, 1 CPU and 1 hour")
    site = load_site(Path(file)) if file else Site("default", Resources(), Resources())
    if options.max_parallel is not None:
        site = dataclasses.replace(site, max_parallel=options.max_parallel)
    return site


def dry_run(
    context: Context, cells: list[Cell], site: Site | None, listing: Listing, options: argparse.Namespace
) -> int:
    """Print what would run: here, or with a site file on its cluster."""
    if site is not None:
        return show_jobs(
            context,
            cells,
            site,
            set() if options.rerun or options.recompute else listing.done(),
            check=options.check,
            as_json=options.json,
            tree=options.graph,
        )
    for name in ("check", "graph", "json", "max_parallel", "rerun"):
        if getattr(options, name):
            raise UserError(f"{flag(name)} needs to know the cluster: --site slurm/NAME.toml, or --submit")
    for job in stages_behind(context, cells):
        stage = planned_stage(context, job)
        if isinstance(stage, SkipCell):
            print(f"stage {job.name}: not needed, {stage}")
            continue
        artifact = context.artifacts.find(stage) if stage else None
        print(f"stage {job.name}: {artifact.origin if artifact else 'to be computed'}")
    for cell in cells:
        print(f"cell {cell.name}")
    print(f"records: {context.out}")
    return 0


def plan_of(
    experiment: Experiment, options: argparse.Namespace, argv: list[str], site: Site | None
) -> RunPlan:
    """The plan of parsed options. Folders of `--data` come before those of the site file."""
    settings = list(options.set)
    if options.pretrain_on == "":
        raise UserError("--pretrain-on names no corpus")
    if options.pretrain_on:
        settings.append(f"pretrain_on={options.pretrain_on}")
    if options.method:
        settings.append(methods_setting(experiment, options.method))
        refuse_committed(options.out, experiment.root / "results")
    given = data_folders(options.data, options.action_range, must_exist=not queries.reads_nothing(options))
    site_data = named_places(experiment, options.scale, tuple(settings), site.data) if site else {}
    plan = make_plan(
        experiment,
        argv,
        scale=options.scale,
        settings=tuple(settings),
        data={**site_data, **given},
        out=str(options.out) if options.out else None,
        recompute=options.recompute,
    )
    return dataclasses.replace(plan, max_bad_share=options.max_bad_share)


def choose(cells: list[Cell], patterns: list[str]) -> list[Cell]:
    """The cells that `--only` means; UserError as `chosen_names`."""
    chosen = chosen_names([cell.name for cell in cells], patterns)
    return [cell for cell in cells if cell.name in chosen]


def run_here(plan: RunPlan, context: Context, cells: list[Cell], listing: Listing, jobs: int) -> int:
    """Run cells on this machine, then summarise. Exit code 1 if a cell failed.

    Raises:
        UserError: cells found bad input. The others were measured, and the table was printed.
    """
    launch.check_writable(context.work)
    if launched_rank()[0] == 0:
        warn_of_gpus(context, cells, jobs)
        listing.write()
    with recomputing(plan):
        failed, bad_input = launch.run_local(plan, context, cells, jobs)
        # All ranks wait for it: one that ended with an error would have the launcher stop the others.
        ranks.together("summary", partial(_summarise, context))
        for name, error in failed.items():
            say(f"failed: {name}: {error}")
        if bad_input:
            in_order = {cell.name: bad_input[cell.name] for cell in cells if cell.name in bad_input}
            raise UserError("; ".join(_by_message(in_order, len(cells))))
    return 1 if failed else 0


def _summarise(context: Context) -> None:
    """Print the table, on one rank."""
    if launched_rank()[0] == 0:
        with ranks.alone("summary"):
            context.experiment.summarize(context)
        say(f"records: {context.out}")


def warn_of_gpus(context: Context, cells: list[Cell], jobs: int) -> None:
    """Say where trainings lack the GPUs that they want: all of them, or all but one of several."""
    if context.scale in slurm.GPU_SCALES and not visible_gpus():
        say(f"warning: no GPU is seen here: at scale {context.scale} trainings take weeks without")
    if jobs == 1 or len(visible_gpus()) < 2:
        return
    trainings = [job for job in stages_behind(context, cells) if job.trains and not job.small and job.stage]
    left = [job.name for job in trainings if _is_untrained(context, job)]
    if left:
        say(f"warning: with --jobs {jobs} one GPU trains {', '.join(left)} while other processes wait; "
            "torchrun in place of --jobs trains on all GPUs: slurm/README.md")  # fmt: skip


def _is_untrained(context: Context, job: StageJob) -> bool:
    """Whether a training is wanted and not there; no for one that bad input keeps from being planned."""
    try:
        stage = planned_stage(context, job)
    except UserError:
        return False
    return not isinstance(stage, SkipCell) and not (stage and context.artifacts.find(stage))


def _by_message(bad_input: dict[str, str], cells: int) -> Iterator[str]:
    """Each message once, after the cells that it is about where these are not all."""
    for message in dict.fromkeys(bad_input.values()):
        names = [name for name, text in bad_input.items() if text == message]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield message if len(names) == cells else f"{', '.join(names[:3])}{more}: {message}"
