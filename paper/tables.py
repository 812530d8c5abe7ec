"""Tables of one experiment at one scale: which methods, which numbers, in which order.

A missing cell is a dash, a failed one an F. What stands in the main text has at most `MOST_ROWS` rows; all
else is a table of its own by topic, which the page folds and the report has in its appendix.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from paper.counted import told_pairs
from paper.layout import (
    COMPARED,
    CONTROL,
    DIFFERENCE_NOTES,
    DIFFERENCES,
    EXPECTED_CORPORA,
    EXPERIMENTS,
    HALVES,
    MOST_ROWS,
    NOTES,
    OWN_TABLES,
    PAIR_COUNTS,
    TITLES,
    TOPICS,
    UNDIVIDED,
    USUAL,
    VIEWS,
    Topic,
    task_note,
)
from paper.names import corpus_label, experiment_label
from paper.planning_pairs import paired_tables
from paper.planning_tables import planning_tables
from paper.store import Results
from paper.table import Table, measured_text
from uwm.errors import UserError
from uwm.methods import METHODS, method_label, parse
from uwm.metrics.spec import known_metric, metric_label


def expected(experiment: str) -> list[str]:
    """The methods that an experiment's main table has a row for, measured or not."""
    names: list[str] = []
    for method in METHODS.values():
        if experiment in method.experiments and not method.optional:
            names.append(method.name)
            if experiment == "figure4":
                names += [method.with_pairs(pairs) for pairs in PAIR_COUNTS.get(method, ())]
    return names


def table_methods(results: Results, scale: str, experiment: str, corpus: str) -> list[str]:
    """The expected methods in their order, then others that have a record."""
    known = expected(experiment)
    further = list(dict.fromkeys(name for topic in TOPICS.get(experiment, ()) for name in topic.methods))
    measured = {c.method for c in results.cells.get((scale, experiment), []) if c.corpus == corpus}
    return (
        known
        + [m for m in further if m in measured and m not in known]
        + sorted(measured - {*known, *further})
    )


def topics(results: Results, scale: str, experiment: str, corpus: str) -> Iterator[Topic]:
    """The main rows, and then further ones where they were measured; rows of no topic are among the main
    ones as far as there is room."""
    main, named = expected(experiment), {m for topic in TOPICS.get(experiment, ()) for m in topic.methods}
    everything = table_methods(results, scale, experiment, corpus)
    others = [method for method in everything if method not in {*main, *named}]
    room = max(0, MOST_ROWS - 1 - len(main))  # one row is a heading
    order = {name: index for index, name in enumerate(METHODS)}
    yield Topic("", "", sorted([*main, *others[:room]], key=lambda name: order.get(_base(name), len(order))))
    for topic in TOPICS.get(experiment, ()):
        if set(topic.methods).intersection(everything) - {*main}:
            rows = [m for m in (*topic.methods, *topic.beside) if m in everything]
            yield Topic(topic.suffix, topic.title, rows)
    if others[room:]:
        yield Topic("_others", "other methods", others[room:])


def _base(name: str) -> str:
    """The method of which this is a variant; the name itself of one that is not declared."""
    try:
        return parse(name).method.name
    except UserError:
        return name


def corpora(results: Results, scale: str, experiment: str) -> list[str]:
    """The expected corpora in their order, then others that have a record."""
    known = EXPECTED_CORPORA.get((experiment, scale), [])
    return known + [corpus for corpus in results.corpora(scale, experiment) if corpus not in known]


def protocol(results: Results, scale: str, experiment: str, corpus: str) -> str:
    """The LPIPS protocols of the shown records, comma-separated."""
    cells = [c for c in results.cells.get((scale, experiment), []) if c.corpus == corpus]
    entries = [
        entry
        for c in cells
        for name, entry in c.record["metrics"].items()
        if (known := known_metric(name)) and known.protocol == "lpips"
    ]
    return ", ".join(sorted({str(entry.get("protocol")) for entry in entries}))


def method_tables(results: Results, scale: str, experiment: str, corpus: str) -> Iterator[Table]:
    """Topics by views. The main rows in the first view are two tables, and the moving half is for the main
    text; all other tables hold both halves."""
    for topic in topics(results, scale, experiment, corpus):
        for view, metrics in VIEWS.get(experiment, USUAL).items():
            source = (results, scale, experiment, corpus)
            if experiment in UNDIVIDED:
                yield method_table(*source, topic, view, ("",))
                continue
            if not topic.suffix and not view:
                yield method_table(*source, topic, view, ("_moving",))
                yield method_table(*source, topic, view, ("",))
                continue
            measured = [
                m for m in topic.methods if _has_any(results, (scale, experiment, m, corpus), metrics)
            ]
            if measured:
                yield method_table(*source, replace(topic, methods=measured), view, tuple(HALVES))


def _has_any(results: Results, key: tuple[str, str, str, str], metrics: Sequence[str]) -> bool:
    """Was any of the metrics measured for a method?"""
    return any(metric in cell.record["metrics"] for cell in results.find(*key) for metric in metrics)


def method_table(
    results: Results,
    scale: str,
    experiment: str,
    corpus: str,
    topic: Topic,
    view: str = "",
    halves: Sequence[str] = tuple(HALVES),
) -> Table:
    """Methods by metrics, over all pairs and over the moving half, or over one of them."""
    metrics = VIEWS.get(experiment, USUAL)[view]
    rows: list[list[str]] = []
    for half in halves:
        block, count = _block(
            results, (scale, experiment, corpus), topic.methods, [m + half for m in metrics]
        )
        if count or not rows:  # else none of these is a mean over pairs
            rows += [[f"{HALVES[half]}{count}"], *block]
    used = protocol(results, scale, experiment, corpus)
    note = NOTES[experiment] if experiment in NOTES and not view else NOTES[view]
    note += NOTES.get(topic.suffix, "") if topic.suffix else ""
    note += f"LPIPS: {used}." if used else "No record yet."
    note += told_pairs(results, (scale, experiment, corpus), topic.methods)
    if "lpips-random" in used:
        note += " Untrained backbone: not to be compared with reported numbers."
    if experiment in UNDIVIDED:
        _, count = _block(results, (scale, experiment, corpus), topic.methods, metrics[:1])
        rows[0] = [UNDIVIDED[experiment] + count]
        name, note = f"{experiment}_{corpus}{topic.suffix}{view}", NOTES[experiment] + task_note(corpus)
        columns = ["", *(metric_label(m) for m in metrics)]
        sources = origins(results, scale, experiment, corpus)
        title = ", ".join([_title(experiment, scale, corpus), *filter(None, [topic.title])])
        return Table(name, title, columns, rows, note, sources, topic=topic.title)
    both = len(halves) > 1
    about = [topic.title, TITLES[view], "" if both else HALVES[halves[0]].lower()]
    end = "" if both or "_moving" in halves else "_all"
    return Table(
        f"{experiment}_{corpus}{topic.suffix}{view}{end}",
        ", ".join([_title(experiment, scale, corpus), *filter(None, about)]),
        ["", *(metric_label(m) for m in metrics)],
        rows,
        note,
        origins(results, scale, experiment, corpus),
        topic="" if not both and not end else topic.title or "main methods",
    )


def _block(
    results: Results, key: tuple[str, str, str], names: Sequence[str], metrics: Sequence[str]
) -> tuple[list[list[str]], str]:
    """A row per method, and the number of pairs as text."""
    scale, experiment, corpus = key
    rows, counts = [], set()
    for name in names:
        status = results.status(scale, experiment, name, corpus)
        entries = {metric: results.measure(scale, experiment, name, corpus, metric) for metric in metrics}
        counts |= {entry.n for entry in entries.values() if entry}
        texts = (measured_text(entry, status, m.removesuffix("_moving")) for m, entry in entries.items())
        rows.append([method_label(name), *texts])
    return rows, f" (n = {', '.join(str(n) for n in sorted(counts))})" if counts else ""


def _title(experiment: str, scale: str, corpus: str) -> str:
    return f"{experiment_label(experiment)}, scale {scale}, {corpus_label(corpus)}"


def origins(results: Results, scale: str, experiment: str, corpus: str) -> dict[str, str]:
    """Per method's label: status, commit, seed and command of its records."""
    by_label: dict[str, str] = {}
    for cell in results.cells.get((scale, experiment), []):
        if cell.corpus == corpus:
            code, run = cell.record["code"], cell.record["run"]
            commit = f"commit {(code['commit'] or 'unknown')[:12]}{' (modified)' if code['dirty'] else ''}"
            seed = cell.seed or f"seed {cell.record['config'].get('seed', '–')}"
            text = f"{cell.status}; {commit}; {seed}; {run['command']}"
            label = method_label(cell.method)
            by_label[label] = "; ".join(filter(None, (by_label.get(label), text)))
    return by_label


def difference_tables(results: Results, scale: str, experiment: str, corpus: str) -> Iterator[Table]:
    """Paired differences between methods, with intervals over clips and seeds: those of the main text over
    the moving half, the others over all pairs, or over both."""
    for suffix, compared in DIFFERENCES.get(experiment, {}).items():
        for halves in [("",), ("_moving",)] if not suffix else [tuple(HALVES)]:
            yield _difference_table(results, (scale, experiment, corpus), suffix, compared, halves)


def _difference_table(
    results: Results,
    key: tuple[str, str, str],
    suffix: str,
    compared: Sequence[tuple[str, str]],
    halves: Sequence[str],
) -> Table:
    scale, experiment, corpus = key
    metrics = COMPARED[experiment]
    one = len({b for _, b in compared}) == 1 < len(compared)  # all against the same, which the title names
    rows: list[list[str]] = []
    for half in halves:
        rows.append([HALVES[half]])
        for a, b in compared:
            first, second = (results.find(scale, experiment, method, corpus) for method in (a, b))
            entries = [results.difference(first, second, metric + half) for metric in metrics]
            texts = [
                measured_text(entry, "missing", metric)
                for entry, metric in zip(entries, metrics, strict=True)
            ]
            rows.append([method_label(a) + ("" if one else f" minus {method_label(b)}"), *texts])
    main = tuple(halves) == ("_moving",)
    end = suffix or ("" if main else "_all")
    named = {topic.suffix: topic.title for topic in TOPICS.get(experiment, ())}
    about = HALVES[halves[0]].lower() if len(halves) == 1 else named[suffix]
    about += f", minus {method_label(compared[0][1])}" if one else ""
    note = DIFFERENCE_NOTES.get(experiment, DIFFERENCE_NOTES[""])
    share = "The moving half of " if main else ""
    note += told_pairs(results, key, [method for pair in compared for method in pair], share)
    return Table(
        f"{experiment}_{corpus}_differences{end}",
        f"{_title(experiment, scale, corpus)}, paired differences, {about}",
        ["", *(metric_label(metric) for metric in metrics)],
        rows,
        note,
        topic="" if main else "paired differences",
    )


def control_table(results: Results, scale: str, experiment: str, corpus: str) -> Table | None:
    """How the gripper follows commands, a column for each method. None where nothing was measured."""
    elsewhere = {metric for view in VIEWS.get(experiment, USUAL).values() for metric in view}
    metrics = [metric for metric in CONTROL if metric not in elsewhere]
    by_method = {
        method: [results.measure(scale, experiment, method, corpus, metric) for metric in metrics]
        for method in table_methods(results, scale, experiment, corpus)
    }
    by_method = {method: entries for method, entries in by_method.items() if any(entries)}
    rows = [
        [
            metric_label(metric),
            *(measured_text(entries[row], "missing", metric) for entries in by_method.values()),
        ]
        for row, metric in enumerate(metrics)
    ]
    title = f"{_title(experiment, scale, corpus)}, commands and transfer"
    note = "As a linear probe reads it off the predicted state, in pixels a small network; "
    note += "95% intervals over clips in brackets, of "
    note += "several seeds from the lowest to the highest limit."
    note += told_pairs(results, (scale, experiment, corpus), list(by_method))
    columns = ["", *(method_label(method) for method in by_method)]
    name = f"{experiment}_{corpus}_control"
    return Table(name, title, columns, rows, note, topic="commands and transfer") if by_method else None


def experiment_tables(results: Results, scale: str) -> Iterator[Table]:
    """Per experiment and corpus: the methods' tables, paired differences, commands."""
    names = dict.fromkeys([*EXPERIMENTS, *(name for s, name in results.cells if s == scale)])
    for experiment in (name for name in names if name not in OWN_TABLES):
        for corpus in corpora(results, scale, experiment):
            yield from method_tables(results, scale, experiment, corpus)
            yield from difference_tables(results, scale, experiment, corpus)
            control = control_table(results, scale, experiment, corpus)
            if control:
                yield control
            if experiment in UNDIVIDED:
                yield from planning_tables(results, scale, corpus)
                yield from paired_tables(results, scale, corpus)
