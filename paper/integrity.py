"""Whether the records can be trusted: unaltered, complete, current, finite. No torch, no jsonschema."""

import ast
import math
import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from paper.pool import process_pool
from paper.samples import sample_names
from paper.store import ROOT, RecordedCell, Results, scales_at
from uwm.errors import UserError
from uwm.methods import AHEAD
from uwm.metrics.spec import MOVING, metric_of, versions
from uwm.metrics.statistics import perplexity
from uwm.runs.record import config_digest, file_sha256, file_stem, sample_files

CHUNK = 4  # records at a time
MANY = 40  # records; below, starting processes takes longer than what they do
FAULTS = (LookupError, TypeError, ValueError, OSError, UserError)  # of files that are not what they should be
UNSAMPLED = "without_samples.txt"
SAMPLED_SINCE = "2026-11-26"  # no record that was measured later is excused
LATE = re.compile(
    r"(rollout|control|transfer|distance_mm)_.+|probe_r2(_mlp|_movement)?|perplexity|code_bits|calls_per_decision"
)
RELATIVE, ABSOLUTE = 1e-4, 1e-6  # records hold 6 significant digits
# The bootstrap's draws are seeded and Wilson's interval is a formula, so limits come out again but for those
# digits: of the interval's width, and of the estimate where the width is next to nothing beside it.
OF_WIDTH, OF_ESTIMATE = 0.01, 1e-5
CLIPS_OF_INTERVAL = 5  # clips of which a record states an interval (uwm/evaluation/records.py)


def record_faults(
    results: Results, experiments: Path = ROOT / "experiments", *, excuse: bool = True
) -> list[str]:
    """One line per record that is altered, orphaned, stale or not finite, as `file: what`.

    Without `excuse`, as for records by others, no list in their folder excuses one.
    """
    faults = [f"{_relative(path, results.root)}: {reason}" for path, reason in results.unreadable]
    current = {name: declared_version(experiments / f"{name}.py") for _, name in results.cells}
    cells = [cell for group in results.cells.values() for cell in group]
    listed = excused(results.root) if excuse else []
    work = partial(_lines, results.root, current, listed=listed)
    if len(cells) > MANY:
        with process_pool() as pool:
            faults += chain.from_iterable(pool.map(work, cells, chunksize=CHUNK))
    else:
        faults += chain.from_iterable(map(work, cells))
    try:
        of_all = unread, removed, other_pairs
        return [*faults, *chain.from_iterable(check(results) for check in of_all), *needless(results, listed)]
    except FAULTS as error:
        return [*faults, f"samples: {type(error).__name__}: {error}"]


def _lines(
    root: Path, current: Mapping[str, int | None], cell: RecordedCell, *, listed: Collection[str] = ()
) -> list[str]:
    """The problems of one record; runs in a process of its own."""
    try:
        lines = list(cell_problems(Results(root, ()), cell, current[cell.path.parent.name], listed))
    except FAULTS as error:
        lines = [f"{type(error).__name__}: {error}"]
    return [f"{_relative(cell.path, root)}: {line}" for line in lines]


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def cell_problems(
    results: Results, cell: RecordedCell, current: int | None, listed: Collection[str] = ()
) -> Iterator[str]:
    """Problems of one record, of an experiment that is at version `current`. `listed`: see `excused`."""
    record = cell.record
    if cell.path.stem != file_stem(record["cell"]):
        yield f"holds cell {record['cell']}"
    folders = (cell.path.parent.parent.name, cell.path.parent.name)
    if (record["scale"], record["experiment"]) != folders:
        yield f"is of {record['scale']}/{record['experiment']} but lies in {'/'.join(folders)}"
    if current is not None and record["version"] != current:
        yield f"stale: version {record['version']}, the experiment is at version {current}; run it again"
    parts = (record[name] for name in ("experiment", "version", "config", "cell", "measures"))
    if record["config_digest"] != config_digest(*parts):
        yield "altered: config_digest is not that of its config, measures, version and cell"
    yield from _measures_problems(record)
    yield from _metric_problems(results, cell)
    if cell.samples_path is not None:
        yield from _sample_problems(results, cell, listed)
    elif record["status"] == "ok":
        yield "has status ok and no samples, so nothing backs its numbers"


def _measures_problems(record: dict[str, Any]) -> Iterator[str]:
    """`measures` names the present version of each metric of the record, and of no other."""
    stated, now = record["measures"], versions(record["metrics"])
    for name in sorted(stated.keys() & now.keys()):
        if stated[name] != now[name]:
            yield f"stale: {name} is of version {stated[name]}, now it is {now[name]}; run it again"
    if lacking := sorted(now.keys() - stated.keys()):
        yield f"altered: measures names no version of {', '.join(lacking)}"
    if foreign := sorted(stated.keys() - now.keys()):
        yield f"altered: measures names {', '.join(foreign)}, and no metric is of it"


def _metric_problems(results: Results, cell: RecordedCell) -> Iterator[str]:
    record = cell.record
    for name, entry in record["metrics"].items():
        declared = metric_of(name)
        if entry["better"] != declared.better:
            yield f"altered: {name} is said to be better {entry['better']}, it is {declared.better}"
        can_have_ci = not declared.counted and (declared.sampled or results.has_samples(cell, name))
        if entry["ci"] and not can_have_ci:
            yield f"altered: {name} has an interval, and no samples that could give one"
        numbers = [entry["value"], *(entry["ci"] or [])]
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
            yield f"{name} is not finite"
        elif entry["ci"] and not entry["ci"][0] <= entry["ci"][1]:
            yield f"{name}: interval {entry['ci']} runs backwards"
    if record["status"] == "ok" and not record["metrics"]:
        yield "has status ok and no metric"


def _sample_problems(results: Results, cell: RecordedCell, listed: Collection[str]) -> Iterator[str]:
    """The files of samples are the recorded ones, and the metrics follow from them."""
    record, lost = cell.record, False
    for path, named in zip(cell.sample_paths, sample_files(record["samples"]), strict=True):
        lost |= not path.exists()
        if not path.exists():
            yield f"samples file {named['path']} is missing"
        elif file_sha256(path) != named["sha256"]:
            yield f"altered: samples file {named['path']} has another SHA-256"
    if lost:
        return
    bare = without_samples(results, cell)
    if bare and not is_excused(results, cell, listed):
        yield f"no samples for {', '.join(bare)}; run it again"
    for name, entry in record["metrics"].items():
        if name in bare or not (metric_of(name).sampled or results.has_samples(cell, name)):
            continue
        if metric_of(name).counted:
            yield from _count_problems(results, cell, name, entry)
            continue
        again = results.interval([cell], name)
        if again is None:
            yield f"{name} cannot be computed from its samples"
            continue
        if not _close(entry["value"], again.estimate):
            yield f"altered: {name} is {entry['value']:g}, its samples give {again.estimate:g}"
        if entry["n"] != again.n:
            yield f"altered: {name} has n = {entry['n']}, its samples {again.n}"
        if not entry["ci"] and again.clusters >= CLIPS_OF_INTERVAL:
            yield f"altered: {name} has no interval, its samples give {again.low:g} to {again.high:g}"
        tolerance = max(OF_WIDTH * (again.high - again.low), ABSOLUTE, OF_ESTIMATE * abs(again.estimate))
        for limit, ours in zip(entry["ci"] or [], again.ci, strict=False):
            if abs(limit - ours) > tolerance:
                yield f"altered: {name} has interval limit {limit:g}, its samples give {ours:g}"


def _count_problems(results: Results, cell: RecordedCell, name: str, entry: dict[str, Any]) -> Iterator[str]:
    """A metric of how often each code occurs follows from those counts, of whole pairs."""
    counts, pairs = results.code_counts(cell), results.samples(cell.sample_paths[0]).pairs
    assert counts is not None
    if not len(pairs):
        yield f"{name} is of {entry['n']} pairs, and its file of samples has none"
        return
    tokens, rest = divmod(int(counts.sum()), len(pairs))
    if rest or entry["n"] != len(pairs):
        sampled = f"{len(pairs)} with {counts.sum()} codes"
        yield f"altered: {name} is of {entry['n']} pairs, its samples of {sampled}"
    again = perplexity(counts) if name == "perplexity" else tokens * math.log2(perplexity(counts))
    if not _close(entry["value"], again):
        yield f"altered: {name} is {entry['value']:g}, its samples give {again:g}"


def without_samples(results: Results, cell: RecordedCell) -> list[str]:
    """The metrics that records were once written for without samples, of those that this one states: measures
    of runs of pairs, commands, transfer, probes and codes."""
    late = [name for name in cell.record["metrics"] if LATE.fullmatch(name.removesuffix(MOVING))]
    return [name for name in late if not results.has_samples(cell, name)]


def is_excused(results: Results, cell: RecordedCell, listed: Collection[str]) -> bool:
    """Whether a record is on the list of those that are older than samples for all metrics, and is so old."""
    named = _relative(cell.path, results.root) in listed
    return named and cell.record["run"]["started_utc"] < SAMPLED_SINCE


def excused(root: Path) -> list[str]:
    """The names of those records: the lines of `results/without_samples.txt`."""
    path = root / UNSAMPLED
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line for line in lines if line and not line.startswith("#")]


def needless(results: Results, listed: Collection[str]) -> Iterator[str]:
    """Lines of that list which excuse nothing any more: it can only shrink."""
    there = {_relative(cell.path, results.root): cell for group in results.cells.values() for cell in group}
    for name in listed:
        if name.partition("/")[0] not in results.scales:
            continue
        if name not in there or not without_samples(results, there[name]):
            yield f"{UNSAMPLED}: {name} is no record that lacks samples; take the line out"


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def unread(results: Results) -> Iterator[str]:
    """Files below the scales that look like records, and lie or are named so that none reads them."""
    read = {cell.path for group in results.cells.values() for cell in group}
    read |= {path for path, _ in results.unreadable}
    for scale in results.scales:
        for path in sorted((results.root / scale).rglob("*.json")):
            if path not in read and not read & set(path.parents):
                yield f"{_relative(path, results.root)}: nothing reads it; name it <experiment>/<cell>.json"


def unknown_scales(sent: Results, committed: Results) -> Iterator[str]:
    """Folders of records by others that are of no scale of ours, so that nothing reads them."""
    known = {*scales_at(committed.root), *committed.scales}
    for folder in sorted(path for path in sent.root.glob("*") if path.is_dir()):
        if folder.name not in known:
            yield f"{folder.name}: there are no committed records of such a scale; take the folder out"


def removed(results: Results) -> Iterator[str]:
    """Samples whose record is gone: a column `<method>[/sSEED]/...` with no record of that cell."""
    for (scale, experiment), cells in results.cells.items():
        folder = results.root / scale / experiment
        known = {(cell.column, cell.corpus) for cell in cells}
        for path in sorted([*(folder / "samples").glob("*.csv"), *(folder / "samples").glob("*/*.csv")]):
            users = {cell.corpus for cell in cells if path in cell.sample_paths}
            corpus = users.pop() if users else path.stem
            columns = {name.rpartition("/")[0] for name in sample_names(path) if "/" in name}
            for column in sorted(columns):
                if (column, corpus) not in known:
                    where = _relative(path, results.root)
                    yield f"{where}: the record of {column} on {corpus} was removed"


def other_pairs(results: Results) -> Iterator[str]:
    """Tables whose records of a corpus are of several lists of pairs, as where files came or went between two
    runs. Rows that predict a second ahead have a list of their own."""
    for (scale, experiment), cells in results.cells.items():
        lists: dict[tuple[str, bool], dict[str, list[str]]] = {}
        for cell in cells:
            digest = cell.record["inputs"].get("manifest_sha256")
            if cell.status == "ok" and digest:
                ahead = cell.method.endswith(f"-{AHEAD.suffix}")
                lists.setdefault((cell.corpus, ahead), {}).setdefault(digest, []).append(cell.record["cell"])
        for (corpus, _), by_list in lists.items():
            if len(by_list) > 1:
                *fewer, most = sorted(by_list.values(), key=len)
                named = ", ".join(sorted(name for names in fewer for name in names))
                yield (
                    f"{scale}/{experiment}: {named} on other pairs of {corpus} than {len(most)} more records "
                    "of it: the digests of their lists differ; run all on the same files"
                )


def declared_version(experiment: Path) -> int | None:
    """The literal `version=` of the file's `Experiment(...)`, read without importing it; None without one."""
    if not experiment.exists():
        return None
    tree = ast.parse(experiment.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Experiment":
            for keyword in node.keywords:
                value = keyword.value
                if keyword.arg == "version" and isinstance(value, ast.Constant | ast.Name):
                    version = value.value if isinstance(value, ast.Constant) else constants.get(value.id)
                    return version if isinstance(version, int) else None
    return None
