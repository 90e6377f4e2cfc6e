"""The picture of a supernet: accuracy against latency, every measured subnet a dot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nestling.bench import picture
from nestling.bench.picture import Dot, label_dots, picture_style, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = (picture.BLUE, picture.ORANGE, picture.GREEN, picture.PURPLE)


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
    from matplotlib import pyplot

    panels = list(dict.fromkeys(one.panel for one in series))
    with picture_style():
        figure, axes = pyplot.subplots(
            1,
            len(panels),
            figsize=(max(9.0, 6.2 * len(panels)), 5.2),
            sharey=True,
            squeeze=False,
        )
        parts = [
            (axis, [one for one in series if one.panel == panel])
            for axis, panel in zip(axes[0], panels, strict=True)
        ]
        for axis, part in parts:
            _draw_panel(axis, part)
        axes[0][0].set_ylabel("accuracy on held-out digits")
        _limit_accuracy(axes[0][0], series)
        picture.frame(
            figure, "One file, many networks: each dot is a subnet, switched to and run", note
        )
        for axis, part in parts:
            _label_named(axis, part)
        save_picture(figure, file, dpi=160)


def _draw_panel(axis: Axes, series: Sequence[Series]) -> None:
    from matplotlib.ticker import MultipleLocator, PercentFormatter

    axis.set_title(series[0].panel, loc="left", fontsize=11)
    axis.set_xlabel("latency of one image, microseconds")
    axis.yaxis.set_major_locator(MultipleLocator(0.01))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.grid()
    for color, one in zip(_COLORS, series, strict=False):
        _draw_series(axis, one, color)
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
    dots = [
        Dot(point.name, point.latency_us, point.accuracy, color)
        for color, one in zip(_COLORS, series, strict=False)
        for point in one.points
        if point.name is not None
    ]
    label_dots(axis, sorted(dots, key=lambda dot: dot.x))


def _limit_accuracy(axis: Axes, series: Sequence[Series]) -> None:
    """Leave room above and below, and never show more than is possible."""
    values = [point.accuracy for one in series for point in one.points]
    room = max(0.012, 0.15 * (max(values) - min(values)))
    axis.set_ylim(max(0.0, min(values) - room), min(1.0, max(values)) + 0.3 * room)
