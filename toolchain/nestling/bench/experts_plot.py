"""Pictures of experts: speed and hits against memory, orders of a whole image, drawn digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nestling.bench import picture
from nestling.bench.picture import picture_style, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = {
    "foresight": picture.ORANGE,
    "lru": picture.INK,
    "lfu": picture.GREEN,
    "least-stale": picture.PURPLE,
    "activation": picture.BLUE,
}
_DASHED = (0, (4, 2))


@dataclass(frozen=True)
class MemoryPoint:
    """One measurement with room for some of the experts.

    Attributes:
        storage: Speed of the storage, as the panels name it.
        policy: Which resident expert gives way.
        ahead: Whether the router is applied ahead.
        share: Of all experts that there is room for.
        tokens_per_s: Of generating.
        hit_rate: Share of look-ups that found what they looked for.
    """

    storage: str
    policy: str
    ahead: bool
    share: float
    tokens_per_s: float
    hit_rate: float


def draw_memory(points: Sequence[MemoryPoint], file: Path, note: str) -> None:
    """Write tokens per second (above) and hit rate (below) against memory, a column a storage."""
    from matplotlib import pyplot
    from matplotlib.lines import Line2D
    from matplotlib.ticker import PercentFormatter

    storages = list(dict.fromkeys(point.storage for point in points))
    with picture_style():
        figure, axes = pyplot.subplots(
            2, len(storages), figsize=(5.2 * len(storages), 7.6), sharex=True, squeeze=False
        )
        for column, storage in enumerate(storages):
            part = [point for point in points if point.storage == storage]
            top, bottom = axes[0][column], axes[1][column]
            top.set_title(f"storage of {storage}", loc="left", fontsize=11)
            _draw_lines(top, part, lambda point: point.tokens_per_s)
            _draw_lines(bottom, part, lambda point: point.hit_rate)
            top.set_ylim(bottom=0)
            bottom.set_xlabel("room for so many of the experts")
            bottom.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes[0][0].set_ylabel("tokens a second")
        axes[1][0].set_ylabel("look-ups that hit")
        lines = [Line2D([], [], color=color, label=name) for name, color in _COLORS.items()]
        lines.append(Line2D([], [], color=picture.NOTE, label="router ahead"))
        lines.append(Line2D([], [], color=picture.NOTE, linestyle=_DASHED, label="no prefetch"))
        axes[1][-1].legend(handles=lines, loc="lower right", frameon=False, fontsize=8)
        picture.frame(figure, "More model than memory", note)
        save_picture(figure, file)


def _draw_lines(
    axis: Axes, points: Sequence[MemoryPoint], value: Callable[[MemoryPoint], float]
) -> None:
    for policy in _COLORS:
        for ahead in (True, False):
            line = sorted(
                (p for p in points if p.policy == policy and p.ahead == ahead),
                key=lambda point: point.share,
            )
            axis.plot(
                [point.share for point in line],
                [value(point) for point in line],
                color=_COLORS[policy],
                linestyle="solid" if ahead else _DASHED,
                linewidth=1.5 if ahead else 1.1,
                marker="o",
                markersize=4,
            )
    shares = sorted({point.share for point in points})
    axis.set_xscale("log", base=2)
    axis.set_xticks(shares, [_fraction(share) for share in shares])
    axis.minorticks_off()
    axis.grid()


def _fraction(share: float) -> str:
    return "all" if share == 1.0 else f"1/{round(1.0 / share)}"


@dataclass(frozen=True)
class OrderPoint:
    """A whole image in one run.

    Attributes:
        experts: Of each layer.
        order: `queue` or `cache`.
        seconds: Of a run.
        memory_bytes: Of resident experts at most.
    """

    experts: int
    order: str
    seconds: float
    memory_bytes: int


def draw_orders(points: Sequence[OrderPoint], file: Path, note: str) -> None:
    """Write time of an image and memory of its experts against their number."""
    from matplotlib import pyplot

    with picture_style():
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.0, 4.6))
        for order, color in (("queue", picture.ORANGE), ("cache", picture.INK)):
            line = sorted((p for p in points if p.order == order), key=lambda p: p.experts)
            numbers = [point.experts for point in line]
            milliseconds = [1e3 * point.seconds for point in line]
            left.plot(numbers, milliseconds, "o-", color=color, label=f"{order} order")
            kilobytes = [point.memory_bytes / 1e3 for point in line]
            right.plot(numbers, kilobytes, "o-", color=color, label=f"{order} order")
        left.set_ylabel("an image, milliseconds")
        right.set_ylabel("memory of experts, kB")
        left.set_ylim(bottom=0)
        right.set_ylim(bottom=0)
        numbers = sorted({point.experts for point in points})
        for axis in (left, right):
            axis.set_xscale("log", base=2)
            axis.set_xticks(numbers, [str(number) for number in numbers])
            axis.minorticks_off()
            axis.set_xlabel("experts of a layer")
            axis.grid()
            axis.legend(frameon=False)
        picture.frame(figure, "A whole image with memory for two experts", note)
        save_picture(figure, file)


@dataclass(frozen=True)
class DrawnRow:
    """Digits that one policy has drawn.

    Attributes:
        title: Name and figures.
        images: (digits, 8, 8), from -1 to 1, for 0, 1, 2, ...
    """

    title: str
    images: NDArray[np.float32]


def draw_digits(rows: Sequence[DrawnRow], file: Path, note: str) -> None:
    """Write one row of digits a policy, all from the same noise."""
    from matplotlib import pyplot

    count = len(rows[0].images)
    with picture_style():
        figure, axes = pyplot.subplots(
            len(rows), count, figsize=(0.8 * count + 0.4, 1.15 * len(rows) + 0.9), squeeze=False
        )
        for line, row in zip(axes, rows, strict=True):
            for axis, image in zip(line, row.images, strict=True):
                axis.imshow(-image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
                axis.set_xticks([])
                axis.set_yticks([])
            # It is as long as the row, and must not widen its first digit.
            place = line[0].transAxes
            line[0].text(0, 1.12, row.title, transform=place, fontsize=9, in_layout=False)
        picture.frame(figure, "The step number chooses what is computed", note)
        save_picture(figure, file)


def draw_tasks(
    images: NDArray[np.float32], answers: Mapping[str, Sequence[str]], file: Path, note: str
) -> None:
    """Write images with what each task says of them.

    Args:
        images: (rows, images, 8, 8): what the tasks were shown, and what `repair` made of it.
        answers: Of each task, one an image, written below.
        file: Where to.
        note: Small print.
    """
    from matplotlib import pyplot

    lines, count = images.shape[:2]
    with picture_style():
        figure, axes = pyplot.subplots(
            lines, count, figsize=(0.95 * count + 0.4, 1.0 * lines + 1.6), squeeze=False
        )
        for line, part in zip(axes, images, strict=True):
            for axis, image in zip(line, part, strict=True):
                axis.imshow(-image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
                axis.set_xticks([])
                axis.set_yticks([])
        for index, axis in enumerate(axes[-1]):
            axis.set_xlabel("\n".join(said[index] for said in answers.values()), fontsize=8)
        picture.frame(figure, "One backbone, four tasks, another one for each image", note)
        save_picture(figure, file)
