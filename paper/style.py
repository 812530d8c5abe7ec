"""One look for all figures: sizes, colours, fonts, deterministic saving. Matplotlib without pyplot: no state."""

import os
from pathlib import Path

import matplotlib
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

COLUMN_INCHES = 3.4  # one column of a two-column page
PAGE_INCHES = 6.5
# Okabe and Ito's palette: told apart by colour-blind readers and, in this order, in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", "-.", ":", "-", "--", "-.")

matplotlib.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": 7,
        "axes.titlesize": 7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.1,
        "legend.edgecolor": "none",
        "legend.framealpha": 0.8,
        "pdf.fonttype": 42,
        "svg.hashsalt": "uwm",
        "figure.dpi": 200,
        "figure.constrained_layout.use": True,
        "axes.prop_cycle": cycler(color=COLOURS, linestyle=DASHES),
    }
)


def save(figure: Figure, stem: Path) -> None:
    """Write `stem`.pdf and `stem`.png with the same bytes for the same content: no date, no producer."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    nothing = {"CreationDate": None, "Creator": None, "Producer": None}
    FigureCanvasPdf(figure).print_pdf(stem.with_name(f"{stem.name}.pdf"), metadata=nothing)
    figure.set_layout_engine("none")  # laid out once, for both
    figure.dpi = matplotlib.rcParams["figure.dpi"]  # the PDF has 72
    FigureCanvasAgg(figure).print_png(stem.with_name(f"{stem.name}.png"), metadata={"Software": None})
