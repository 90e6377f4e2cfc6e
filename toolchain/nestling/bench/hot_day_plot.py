"""The picture of a hot day: heat, battery, missed deadlines and paths, hour by hour."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nestling.bench.picture import (
    BLUE,
    GREEN,
    INK,
    NOTE,
    ORANGE,
    PURPLE,
    picture_style,
    save_picture,
)
from nestling_devices.sim import Day

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nestling.bench.hot_day import HotDay

_FULL, _OURS, _DEADLINES, _TINY = ORANGE, BLUE, PURPLE, GREEN
_PATH_COLORS = ("#cfe4ee", "#8fc1d8", "#4a97bb", BLUE, "#08506f", "#053546")
_HOUR_S = 3600.0
_BAR_H = 0.3  # hours, the width of a session's bar


def draw_hot_day(found: HotDay, file: Path) -> None:
    """Write the picture as PNG: the day of the first seed, and medians over all days.

    Args:
        found: What was simulated.
        file: Where to.
    """
    from matplotlib import pyplot

    style = {"font.size": 9.5, "axes.titlelocation": "left", "axes.titlesize": 10.5}
    with picture_style(**style):
        figure = pyplot.figure(figsize=(13.0, 9.2))
        grid = figure.add_gridspec(
            4, 2, width_ratios=(2.6, 1.0), height_ratios=(1.5, 1.0, 1.0, 1.15),
            left=0.055, right=0.975, top=0.90, bottom=0.085, hspace=0.52, wspace=0.36,
        )  # fmt: skip
        days = [figure.add_subplot(grid[row, 0]) for row in range(4)]
        bars = [figure.add_subplot(grid[row, 1]) for row in range(4)]
        for axis in days:
            _draw_sessions(axis, found)
        _draw_temperature(days[0], found)
        _draw_misses(days[1], found)
        _draw_paths(days[2], found)
        _draw_battery(days[3], found)
        _draw_bars(bars, found)
        figure.suptitle(
            f"A {found.weather}: {found.bundle} on a simulated {found.device.name}",
            x=0.012, y=0.975, ha="left", fontsize=13.5, fontweight="bold",
        )  # fmt: skip
        figure.text(
            0.012, 0.938,
            f"{found.device.title}; {found.scenario.used_s / 60:.0f} minutes of use in "
            f"{len(found.scenario.sessions)} sessions (grey); "
            f"{1 / found.scenario.period_s:g} requests a second of {found.inputs} inputs, due in "
            f"{found.scenario.deadline_s * 1e3:g} ms",
            ha="left", color=NOTE,
        )  # fmt: skip
        figure.text(
            0.012, 0.015,
            "Simulated, nothing here was measured on a device: costs from MACs and bytes and from "
            f"profile {found.device.name}; left: seed {found.seeds[0]}, right: medians of "
            f"{len(found.seeds)} day{'s' if len(found.seeds) > 1 else ''}. Cross: empty battery.",
            fontsize=8, color=NOTE,
        )  # fmt: skip
        save_picture(figure, file, dpi=130)


def _colors(found: HotDay) -> dict[str, str]:
    from nestling.bench.hot_day import DEADLINES, POLICY, always

    colors = {
        always(found.paths.names[-1]): _FULL,
        always(found.paths.names[0]): _TINY,
        DEADLINES: _DEADLINES,
        POLICY: _OURS,
    }
    known = {one.name for one in found.contestants}
    return {name: color for name, color in colors.items() if name in known}


def _draw_sessions(axis: Axes, found: HotDay) -> None:
    for start, end in found.scenario.sessions:
        axis.axvspan(start / _HOUR_S, end / _HOUR_S, color="#f1f2f4", linewidth=0, zorder=0)
    axis.set_xlim(found.scenario.start_s / _HOUR_S, found.scenario.end_s / _HOUR_S)
    hours = range(
        math.ceil(found.scenario.start_s / _HOUR_S), int(found.scenario.end_s / _HOUR_S) + 1, 2
    )
    axis.set_xticks(list(hours), [f"{hour}:00" for hour in hours])


def _draw_temperature(axis: Axes, found: HotDay) -> None:
    from nestling.bench.hot_day import POLICY, always

    full = always(found.paths.names[-1])
    axis.set_title("Temperature of the device: each dotted line is a slower clock")
    trace = found.contestant(POLICY).days[0].trace
    hours = trace.time_s / _HOUR_S
    axis.plot(hours, trace.air_c, color=NOTE, linewidth=1.0, linestyle=(0, (4, 2)), label="air")
    for name, color in ((full, _FULL), (POLICY, _OURS)):
        day = found.contestant(name).days[0]
        axis.plot(hours, day.trace.temperature_c, color=color, linewidth=1.3, label=name)
    for level in found.device.levels[1:]:
        if level.throttle_c is None:
            continue
        axis.axhline(level.throttle_c, color=INK, linewidth=0.7, linestyle=":", zorder=1)
        axis.text(
            found.scenario.end_s / _HOUR_S, level.throttle_c + 0.15,
            f"{level.clock_hz / 1e9:.1f} GHz", ha="right", va="bottom", fontsize=8, color=NOTE,
        )  # fmt: skip
    axis.set_ylabel("°C")
    axis.legend(loc="upper left", frameon=False, ncols=3, borderaxespad=0.0)
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.14 * (high - low))


def _missed(day: Day) -> Callable[[slice], float]:
    return lambda requests: 1.0 - float(day.request_in_time[requests].mean())


def _share_of(day: Day, path: int) -> Callable[[slice], float]:
    return lambda requests: float((day.request_path[requests] == path).mean())


def _by_session(found: HotDay, figure: Callable[[slice], float], day: Day) -> list[float]:
    """Return a figure of the requests of each session."""
    borders = [
        slice(int(np.searchsorted(day.request_s, start)), int(np.searchsorted(day.request_s, end)))
        for start, end in found.scenario.sessions
    ]
    return [figure(border) for border in borders]


def _middles(found: HotDay) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([(start + end) / 2 / _HOUR_S for start, end in found.scenario.sessions])


def _draw_misses(axis: Axes, found: HotDay) -> None:
    from matplotlib.ticker import PercentFormatter

    from nestling.bench.hot_day import POLICY, always

    axis.set_title("Requests without an answer in time, by session")
    for shift, name, color in (
        (-0.5, always(found.paths.names[-1]), _FULL),
        (0.5, POLICY, _OURS),
    ):
        day = found.contestant(name).days[0]
        missed = _by_session(found, _missed(day), day)
        middles = _middles(found) + shift * _BAR_H
        axis.bar(middles, missed, width=_BAR_H, color=color, label=name)
        for x, share in zip(middles, missed, strict=True):
            if share < 0.005:
                axis.text(x, 0.02, "0", ha="center", fontsize=8, color=color)
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.legend(loc="upper left", frameon=False, ncols=2, borderaxespad=0.0)


def _draw_paths(axis: Axes, found: HotDay) -> None:
    from matplotlib.ticker import PercentFormatter

    from nestling.bench.hot_day import POLICY

    axis.set_title("What nestling ran, by session")
    day = found.contestant(POLICY).days[0]
    bottom = np.zeros(len(found.scenario.sessions))
    count = len(found.paths.names)
    for path, name in enumerate(found.paths.names):
        color = _PATH_COLORS[round(path * (len(_PATH_COLORS) - 1) / max(1, count - 1))]
        share = np.array(_by_session(found, _share_of(day, path), day), dtype=np.float64)
        axis.bar(
            _middles(found), share, width=1.6 * _BAR_H, bottom=bottom, color=color,
            edgecolor="white", linewidth=0.6, label=name,
        )  # fmt: skip
        bottom += share
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, ncols=count,
        borderaxespad=0.1, handlelength=1.0, columnspacing=1.2,
    )  # fmt: skip


def _draw_battery(axis: Axes, found: HotDay) -> None:
    from matplotlib.ticker import PercentFormatter

    if found.device.battery_wh is None:
        axis.set_title("No battery: it hangs on the mains")
        axis.set_yticks([])
        return
    axis.set_title("Battery")
    for name, color in _colors(found).items():
        trace = found.contestant(name).days[0].trace
        axis.plot(trace.time_s / _HOUR_S, trace.battery, color=color, linewidth=1.5, label=name)
        empty = np.flatnonzero(trace.battery <= 0.0)
        if len(empty):
            hour = trace.time_s[empty[0]] / _HOUR_S
            axis.plot([hour], [0.0], marker="x", color=color, markersize=8, markeredgewidth=2,
                      clip_on=False)  # fmt: skip
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.legend(loc="lower left", frameon=False)


def _draw_bars(axes: Sequence[Axes], found: HotDay) -> None:
    """Draw one small bar chart a figure, all contestants in each."""
    colors = _colors(found)
    metric = found.paths.metric.capitalize()
    figures: list[tuple[str, Callable[[Day], float], str]] = [
        ("Missed deadlines", lambda day: 100 * day.miss_rate, "{:.2f} %"),
        (f"{metric} of answers in time", lambda day: 100 * day.quality, "{:.2f} %"),
        (f"{metric}, missed ones as wrong", lambda day: 100 * day.useful, "{:.1f} %"),
        (
            "Energy of the model, an answer",
            lambda day: 1e3 * day.model_j / max(1, day.in_time),
            "{:.0f} mJ",
        ),
    ]
    for axis, (title, figure, form) in zip(axes, figures, strict=True):
        values = [found.contestant(name).median(figure) for name in colors]
        places = np.arange(len(values))[::-1]
        axis.barh(places, values, color=list(colors.values()), height=0.62)
        low = min(values)
        # Shares that are all near one are told apart only where the axis does not begin at zero.
        left = low - 0.6 * (max(values) - low) if low > 0.9 * max(values) else 0.0
        axis.set_xlim(left, max(values) + 0.28 * (max(values) - left or 1.0))
        for place, value in zip(places, values, strict=True):
            axis.text(value, place, " " + form.format(value), va="center", fontsize=9)
        axis.set_yticks(places, list(colors))
        axis.set_title(title)
        axis.set_xticks([])
        axis.spines["bottom"].set_visible(False)
        axis.tick_params(axis="y", length=0)
