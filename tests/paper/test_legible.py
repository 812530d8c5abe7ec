"""The committed figures can be read: nothing is cut off at their edges, no two labels of an axis touch."""

from itertools import pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from paper.captions import CAPTIONS, caption, caption_pattern
from paper.figures import OUT, drawings
from paper.grids import grids
from paper.measured_curves import MOST_LINES, spaced
from paper.store import Results
from paper.style import COLUMN_INCHES, legend_above, legend_columns, legend_height, plots

SLACK = 1.0  # pixels


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    """All that are plotted, not those that are put together from frames."""
    results = Results()
    experiments = {name for scale, name in results.cells if scale == "mini"}
    of_frames = {grid.name for name in experiments for grid in grids(results, "mini", name)}
    found = {name: drawing() for name, drawing in drawings(results, "mini") if name not in of_frames}
    for figure in found.values():
        FigureCanvasAgg(figure).draw()
    return found


def undrawn(figure: Figure) -> set[Text]:
    """Labels of ticks beyond the limits of their axis, which are kept and not drawn."""
    found = set()
    for axis in figure.axes:
        for which, limits in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            low, high = sorted(limits)
            for tick in (*which.get_major_ticks(), *which.get_minor_ticks()):
                if not low <= tick.get_loc() <= high:
                    found |= {tick.label1, tick.label2}
    return found


def texts(figure: Figure) -> list[Text]:
    hidden = undrawn(figure)
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [text for text in found if text not in hidden]


def cut_off(figure: Figure) -> list[str]:
    page = figure.bbox
    found = []
    for text in texts(figure):
        box = text.get_window_extent()
        if box.x0 < -SLACK or box.y0 < -SLACK or box.x1 > page.x1 + SLACK or box.y1 > page.y1 + SLACK:
            found.append(text.get_text())
    return found


def touching(figure: Figure) -> list[tuple[str, str]]:
    found, drawn = [], set(texts(figure))
    for axis in figure.axes:
        labels = [text for text in axis.get_xticklabels() if text in drawn]
        boxes = sorted(
            ((text.get_window_extent(), text.get_text()) for text in labels), key=lambda b: b[0].x0
        )
        found += [(left, right) for (one, left), (two, right) in pairwise(boxes) if one.x1 >= two.x0]
    return found


@pytest.mark.slow
def test_no_text_leaves_its_figure(figures) -> None:
    assert len(figures) > 20
    assert {name: cut for name, figure in figures.items() if (cut := cut_off(figure))} == {}


def test_no_two_ticks_touch(figures) -> None:
    assert {name: pairs for name, figure in figures.items() if (pairs := touching(figure))} == {}


def test_lines_can_be_told_apart(figures) -> None:
    for name, figure in figures.items():
        if "_rollout_curve_" in name or name == "families_rate":
            (legend,) = filter(None, (axis.get_legend() for axis in figure.axes))
            looks = [(h.get_color(), str(h.get_linestyle()), str(h.get_marker())) for h in legend.get_lines()]
            assert len(set(looks)) == len(looks), name
            assert name == "families_rate" or len(looks) <= MOST_LINES, name


def test_a_long_legend_has_one_column_and_is_seen() -> None:
    labels = [
        "The simulator as the model, the simulator's own distance",
        "Direct dynamics, no adapter, 2k pairs",
    ]
    assert legend_columns(labels) == 1
    assert legend_columns([label[:20] for label in labels]) == 2
    figure, (axis,) = plots(1, 1.0, above=legend_height(labels))
    for label in labels:
        axis.plot([0, 1], [0, 1], label=label)
    legend_above(axis, legend_columns(labels))
    FigureCanvasAgg(figure).draw()
    assert cut_off(figure) == []
    assert figure.get_size_inches()[0] == COLUMN_INCHES


def test_ticks_are_left_out_where_they_would_touch() -> None:
    assert spaced([0, 0.4, 1, 10], ["10k", "20k", "30k", "1M"]) == ["10k", "", "30k", "1M"]
    assert spaced([0, 5, 10], ["a", "b", "c"]) == ["a", "b", "c"]


def test_each_caption_is_of_some_figure() -> None:
    drawn = {path.stem for path in (OUT / "mini").glob("*.p*")}
    used = {caption_pattern(stem) for stem in drawn}
    assert set(CAPTIONS) <= used
    assert "a marker for each family" in caption("families_rate", "mini")
