"""One look for all figures: sizes, fonts, colours, axes, deterministic saving. No pyplot, hence no state."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from uwm.methods import METHODS
from uwm.methods.spec import PALETTE, Method

COLUMN_INCHES = 3.4  # one column of a two-column page
DASHES = ("-", "--", "-.", ":", "-", "--", "-.")
Drawing = Callable[[], Figure]
# Inches around and between plots that share an x axis.
LEFT, RIGHT, BOTTOM, TOP = 0.52, 0.1, 0.38, 0.06
LEGEND_ROW, TITLE = 0.14, 0.17
WIDEST = 62  # letters of two labels that fit beside each other above a plot

matplotlib.rcParams.update(
    {
        "font.family": "STIXGeneral",  # like the report's text, and small to embed
        "mathtext.fontset": "stix",
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "axes.prop_cycle": cycler(color=2 * PALETTE, linestyle=DASHES + DASHES[1:] + DASHES[:1]),
        "lines.linewidth": 1.1,
        "lines.markersize": 3,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "legend.borderpad": 0,
        "legend.borderaxespad": 0,
        "legend.labelspacing": 0.2,
        "legend.columnspacing": 1.0,
        "figure.dpi": 200,
        "pdf.fonttype": 42,
    }
)


def look(method: str) -> dict[str, Any]:
    """Colour, dashes and marker of a method's line."""
    style = METHODS[method].style if method in METHODS else Method(method, method).style
    return {"color": style.colour, "linestyle": style.dashes, "marker": style.marker}


def plots(
    count: int, height: float, *, above: float = 0.0, between: float = 0.12, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` plots, each `height` inches high, in so many columns of a page: row by row.

    `above` the first and `between` the plots, inches are left free for a legend or titles.
    """
    rows, across = -(-count // columns), columns * COLUMN_INCHES
    total = BOTTOM + rows * height + (rows - 1) * between + above + TOP
    figure = Figure(figsize=(across, total))
    edges = {
        "left": LEFT / across,
        "right": 1 - RIGHT / across,
        "bottom": BOTTOM / total,
        "top": 1 - (above + TOP) / total,
        "hspace": between / height,
        "wspace": (LEFT + RIGHT) / (COLUMN_INCHES - LEFT - RIGHT),
    }
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False, gridspec_kw=edges).flat
    for empty in axes[count:]:
        empty.remove()
    for last in axes[max(0, count - columns) : count]:  # each column's, under which another may be empty
        last.tick_params(labelbottom=True)
    return figure, list(axes[:count])


def log_scale(axis: Axes) -> None:
    """A logarithmic y axis with plain numbers. They stand at powers of ten, in a short range at 1, 2 and 5
    too, and evenly in a very short one."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    powers = LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5), numticks=12)
    axis.yaxis.set_major_locator(powers if high > 4 * low else MaxNLocator(4))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def short_number(number: float) -> str:
    """A tick's number in three digits: 269k, 1.02M."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return f"{number:g}"


def legend_columns(labels: Sequence[str]) -> int:
    """Two, or one where the labels beside each other are wider than the figure."""
    half = -(-len(labels) // 2)
    widths = [max(map(len, part), default=0) for part in (labels[:half], labels[half:])]
    return 2 if sum(widths) <= WIDEST else 1


def legend_height(labels: Sequence[str]) -> float:
    """What `legend_above` needs for labels above the first plot, inches."""
    return -(-len(labels) // legend_columns(labels)) * LEGEND_ROW + 0.05


def legend_above(axis: Axes, columns: int, **entries: Sequence[Any]) -> None:
    """The legend over the plot, where no line is: of its labelled lines, or of `handles` and `labels`."""
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1.02), ncols=columns, **entries)


def draw(drawing: Drawing, stem: Path) -> None:
    """Draw and save one figure, in a process of its own."""
    save_figure(drawing(), stem)


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `stem`.pdf and `stem`.png with the same bytes for the same content: no date, no producer."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    nothing = {"CreationDate": None, "Creator": None, "Producer": None}
    png = {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 4}}
    FigureCanvasAgg(figure).print_png(stem.with_name(f"{stem.name}.png"), **png)
    FigureCanvasPdf(figure).print_pdf(stem.with_name(f"{stem.name}.pdf"), metadata=nothing)
