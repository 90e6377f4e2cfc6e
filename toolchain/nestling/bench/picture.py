"""What all pictures of measurements have in common: colours, frame, labels that do not overlap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#2b2f36"
FAINT = "#d9dce1"
NOTE = "#747a85"
# Told apart by people who see few colours, and in print.
BLUE, ORANGE, GREEN, PURPLE = "#0b6e99", "#d9622b", "#5b8c3a", "#8a4f9e"

_STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "grid.alpha": 0.7,
    "savefig.facecolor": "white",
}

# Where a label may stand, best first: offset from its dot in points, and which side it ends at.
_SPOTS: tuple[tuple[tuple[int, int], str, str], ...] = (
    ((-5, 5), "right", "bottom"),
    ((5, -5), "left", "top"),
    ((5, 5), "left", "bottom"),
    ((-5, -5), "right", "top"),
)
_DOT_POINTS = 4.5


@dataclass(frozen=True)
class Dot:
    """A dot that wants a label.

    Attributes:
        label: Text.
        x: In the axes' data.
        y: In the axes' data.
        color: Of the text.
    """

    label: str
    x: float
    y: float
    color: str


@contextmanager
def picture_style(**changes: object) -> Iterator[None]:
    """Draw without a screen, in the style of all pictures; `changes` are matplotlib's settings."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context({**_STYLE, **changes}):
        yield


def frame(figure: Figure, title: str, note: str) -> None:
    """Put a title above and small print below, and lay out what is between."""
    figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold")
    figure.text(0.012, 0.012, note, fontsize=8, color=NOTE)
    figure.tight_layout(rect=(0, 0.035, 1, 0.985))


def save_picture(figure: Figure, file: Path, dpi: int = 150) -> None:
    """Write a figure as PNG and forget it."""
    from matplotlib import pyplot

    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=dpi)
    pyplot.close(figure)


def label_dots(axis: Axes, dots: Sequence[Dot]) -> list[Any]:
    """Write labels beside dots, each where it meets no dot and no label before it.

    Above and left of the dot where there is room: a good subnet has nothing better there. Call it
    last, when limits and layout stand.

    Returns:
        The labels, as matplotlib's annotations.
    """
    from matplotlib import patheffects
    from matplotlib.transforms import Bbox

    figure: Any = axis.figure
    renderer = figure.canvas.get_renderer()
    around = _DOT_POINTS * figure.dpi / 72.0
    taken = []
    for dot in dots:
        x, y = axis.transData.transform((dot.x, dot.y))
        taken.append(Bbox.from_extents(x - around, y - around, x + around, y + around))
    labels = []
    for dot in dots:
        label: Any = axis.annotate(
            dot.label,
            (dot.x, dot.y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=9,
            fontweight="bold",
            color=dot.color,
            zorder=5,
        )
        label.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])
        met = []
        for spot in _SPOTS:
            _move(label, spot)
            box = label.get_window_extent(renderer)
            met.append(box.count_overlaps(taken))
            if not met[-1]:
                break
        else:
            _move(label, _SPOTS[met.index(min(met))])
        taken.append(label.get_window_extent(renderer))
        labels.append(label)
    return labels


def _move(label: Any, spot: tuple[tuple[int, int], str, str]) -> None:
    offset, horizontal, vertical = spot
    label.xyann = offset
    label.set_horizontalalignment(horizontal)
    label.set_verticalalignment(vertical)
