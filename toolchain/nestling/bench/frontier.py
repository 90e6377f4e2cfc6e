"""The picture of a supernet: accuracy against latency, every measured subnet a dot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by people who see few colours, and in print.
_COLORS = ("#0b6e99", "#d9622b", "#5b8c3a", "#8a4f9e")
_INK = "#2b2f36"
_FAINT = "#d9dce1"

# Room that a label takes: share of the panel's latencies, and of accuracy.
_LABEL_WIDTH = 0.09
_LABEL_HEIGHT = 0.004


@dataclass(frozen=True)
class Point:
    """One measured subnet.

    Attributes:
        name: Of the path; None for one of the random subnets.
        latency_us: Median time of a run.
        accuracy: Share of held-out samples that it gets right.
    """

    name: str | None
    latency_us: float
    accuracy: float


@dataclass(frozen=True)
class Series:
    """The subnets of one bundle.

    Attributes:
        panel: Title of the part of the picture that it is drawn in: the network.
        label: What tells it from the others there: the scheme.
        points: In any order.
    """

    panel: str
    label: str
    points: Sequence[Point]


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other one beats in both respects, fastest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.latency_us, -p.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def draw_frontier(series: Sequence[Series], file: Path, *, note: str = "") -> None:
    """Write the picture, one panel a network, as PNG.

    Args:
        series: At least one.
        file: Where to.
        note: Small print below: the machine and what was measured.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = list(dict.fromkeys(one.panel for one in series))
    style = {
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "text.color": _INK,
        "axes.edgecolor": _FAINT,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(
            1,
            len(panels),
            figsize=(max(9.0, 6.2 * len(panels)), 5.2),
            sharey=True,
            squeeze=False,
        )
        for axis, panel in zip(axes[0], panels, strict=True):
            _draw_panel(axis, panel, [one for one in series if one.panel == panel])
        axes[0][0].set_ylabel("accuracy on held-out digits")
        _limit_accuracy(axes[0][0], series)
        figure.suptitle(
            "One file, many networks: each dot is a subnet, switched to and run",
            x=0.012,
            ha="left",
            fontsize=13,
            fontweight="bold",
        )
        figure.text(0.012, 0.012, note, fontsize=8, color="#747a85")
        figure.tight_layout(rect=(0, 0.035, 1, 0.985))
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=160, facecolor="white")
        pyplot.close(figure)


def _draw_panel(axis: Axes, title: str, series: Sequence[Series]) -> None:
    from matplotlib.ticker import MultipleLocator, PercentFormatter

    axis.set_title(title, loc="left", fontsize=11)
    axis.set_xlabel("latency of one image, microseconds")
    axis.yaxis.set_major_locator(MultipleLocator(0.01))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.grid(color=_FAINT, linewidth=0.6, alpha=0.7)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for color, one in zip(_COLORS, series, strict=False):
        _draw_series(axis, one, color)
    _label_named(axis, series)
    axis.set_xlim(left=0)
    axis.legend(loc="lower right", frameon=False, handletextpad=0.3)


def _draw_series(axis: Axes, series: Series, color: str) -> None:
    others = [point for point in series.points if point.name is None]
    named = [point for point in series.points if point.name is not None]
    front = pareto_front(series.points)
    axis.plot(
        [point.latency_us for point in front],
        [point.accuracy for point in front],
        color=color,
        linewidth=1.3,
        alpha=0.55,
        drawstyle="steps-post",
        zorder=2,
    )
    axis.scatter(
        [point.latency_us for point in others],
        [point.accuracy for point in others],
        s=16,
        color=color,
        alpha=0.4,
        linewidths=0,
        zorder=3,
    )
    axis.scatter(
        [point.latency_us for point in named],
        [point.accuracy for point in named],
        s=70,
        color=color,
        edgecolors="white",
        linewidths=1.2,
        zorder=4,
        label=series.label,
    )


def _label_named(axis: Axes, series: Sequence[Series]) -> None:
    """Label the named paths of a panel; where two labels would meet, one goes below its dot."""
    named = [
        (point, color)
        for color, one in zip(_COLORS, series, strict=False)
        for point in one.points
        if point.name is not None
    ]
    named.sort(key=lambda pair: pair[0].latency_us)
    width = max((point.latency_us for one in series for point in one.points), default=1.0)
    above: list[Point] = []
    for point, color in named:
        below = any(
            abs(point.latency_us - other.latency_us) < _LABEL_WIDTH * width
            and abs(point.accuracy - other.accuracy) < _LABEL_HEIGHT
            for other in above
        )
        if not below:
            above.append(point)
        _label(axis, point, color, below=below)


def _label(axis: Axes, point: Point, color: str, *, below: bool) -> None:
    """Write the path's name above and left of its dot, where a good subnet has nothing better."""
    from matplotlib import patheffects

    text: Any = axis.annotate(
        point.name or "",
        (point.latency_us, point.accuracy),
        xytext=(4, -14) if below else (-4, 6),
        textcoords="offset points",
        ha="left" if below else "right",
        fontsize=9,
        fontweight="bold",
        color=color,
        zorder=5,
    )
    text.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])


def _limit_accuracy(axis: Axes, series: Sequence[Series]) -> None:
    """Leave room above and below, and never show more than is possible."""
    values = [point.accuracy for one in series for point in one.points]
    room = max(0.012, 0.15 * (max(values) - min(values)))
    axis.set_ylim(max(0.0, min(values) - room), min(1.0, max(values)) + 0.3 * room)
